"""So many threads, and a queue before them that whoever gives up leaves at once.

`ThreadPoolExecutor` keeps what was cancelled until a thread gets there: with all of them busy for minutes, who orders
and leaves, again and again, would fill the memory with prompts. Knows nothing of what is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Turns:
    """Work in the order in which it comes."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: dict[Future[None], Callable[[], None]] = {}
        self._spare = 0  # turns in the pool's queue whose work has left: the next that come take them over

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """`work` raises nothing that anybody is told."""
        future: Future[None] = Future()
        with self._lock:
            self._waiting[future] = work
            is_spare = self._spare > 0
            self._spare -= is_spare
        if not is_spare:
            self._pool.submit(self._next)
        return future

    def cancel(self, future: Future[None]) -> bool:
        """Whether it was still waiting, and never begins."""
        with self._lock:
            waited = self._waiting.pop(future, None) is not None
            self._spare += waited
        return waited and future.cancel()

    @property
    def queued(self) -> int:
        """What waits for a thread, and turns that nobody has taken over: no more than have ever waited at once."""
        with self._lock:
            return len(self._waiting) + self._spare

    def _next(self) -> None:
        with self._lock:
            if not self._waiting:
                self._spare -= 1
                return
            future = next(iter(self._waiting))
            work = self._waiting.pop(future)
        if not future.set_running_or_notify_cancel():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (handed on, as an executor does)
            future.set_exception(error)
        else:
            future.set_result(None)
