"""An event loop in a thread of its own, for callers that have none.

A thread that reads a socket cannot be ended; a task can, whatever the other side sends how slowly. So synchronous
clients wait for tasks, which keep connections, end on time and are cancelled with whoever waits for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, TypeVar

from trine.errors import InvalidInput, NodeError

T = TypeVar("T")
THREADS = 64
"""Orders that read the chain or sign at the same moment; more wait for one another."""


class LoopThread:
    """Started when there is something to do. Thread-safe."""

    def __init__(self, at_end: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """`at_end`: closes what was opened on the loop, whoever ends it."""
        self._at_end = at_end
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_closed = False
        self._ending: asyncio.Future[None] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work ends with. Who is interrupted while it waits, cancels it. Raises InvalidInput once closed."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._started())
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise NodeError("the client was closed while this was on its way") from None
        except BaseException:
            future.cancel()
            raise

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """As `run`, but does not wait on the loop's own thread, where garbage may be collected, too."""
        if threading.current_thread() is self._thread:
            self._ending = asyncio.ensure_future(work)
        else:
            self.run(work)

    def iterate(self, pieces: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """The generator's pieces; it ends with whoever reads them."""
        with closing(_Pull(self, pieces)) as pull:
            yield from pull

    def close(self) -> None:
        """Cancels what is on its way and ends the thread. Twice is once."""
        with self._lock:
            self.is_closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            if thread is not threading.current_thread():
                thread.join()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.is_closed:
                raise InvalidInput("this client is closed: make another one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="trine-client"))
                arguments = self._loop, self._at_end
                self._thread = threading.Thread(target=_live, args=arguments, name="trine-client", daemon=True)
                self._thread.start()
            return self._loop


class _Pull:
    """Reads a generator piece by piece from another thread."""

    def __init__(self, loop: LoopThread, pieces: AsyncGenerator[T, None]) -> None:
        self._loop = loop
        self._pieces: AsyncGenerator[Any, None] = pieces
        self._reading: asyncio.Task[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        end = object()
        while (piece := self._loop.run(self._next(end))) is not end:
            yield piece

    def close(self) -> None:
        with suppress(InvalidInput):  # the client is closed, and so is this
            self._loop.finish(self._end())

    async def _next(self, end: object) -> Any:
        self._reading = asyncio.current_task()
        return await anext(self._pieces, end)

    async def _end(self) -> None:
        reading = self._reading
        if reading is not None and not reading.done():  # who waited for it was interrupted
            reading.cancel()
            await asyncio.wait([reading])
        await self._pieces.aclose()


def _live(loop: asyncio.AbstractEventLoop, at_end: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if at_end is not None:
            loop.run_until_complete(at_end())
            loop.run_until_complete(asyncio.sleep(0))  # connections end in the loop's next turn
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
