"""Checks run beside voting, so that no vote is late because a check is long.

Evidence is fetched in many threads at once, for a node may take its time; the model serves one check at a time, the one
that is due first, and between groups of answers a more urgent one goes first.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from trine.chain import Chain, Parameters
from trine.protocol.verdict import Verdict
from trine_operator.logs import trace_of
from trine_verifier.duties import is_time_for

log = structlog.get_logger()

THREADS = 8
"""So many checks have their evidence in memory at once, at most."""
THREADS_PER_NODE = 2
"""A node that dawdles keeps no more of them from the others' checks."""
ENOUGH_TOKENS = 200
"""Fewer tell nothing of the pace."""
FADING = 0.8
REMEMBERED = 1024
"""Checks that failed."""
PAUSES_SECONDS = (1.0, 8.0)
"""After a check that failed: the first, which doubles up to the second."""


class Turns:
    """A lock that goes to who is due first. Deadlines are the chain's seconds."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._taken = False

    @contextmanager
    def turn(self, deadline: int) -> Iterator[Callable[[], None]]:
        """Holds the lock. What it gives lets others go first who are due before."""
        self._take(deadline)
        try:
            yield lambda: self._yield(deadline)
        finally:
            self._give()

    def _yield(self, deadline: int) -> None:
        with self._changed:
            wanted = bool(self._waiting) and self._waiting[0][0] < deadline
        if wanted:
            self._give()
            self._take(deadline)

    def _take(self, deadline: int) -> None:
        with self._changed:
            mine = (deadline, next(self._numbers))
            heapq.heappush(self._waiting, mine)
            self._changed.wait_for(lambda: not self._taken and self._waiting[0] == mine)
            heapq.heappop(self._waiting)
            self._taken = True

    def _give(self) -> None:
        with self._changed:
            self._taken = False
            self._changed.notify_all()


class Pace:
    """How fast this machine checks, reckoned from what it has checked. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._seconds = 0.0

    def seconds(self, tokens: int, otherwise: float) -> float:
        """How long so many tokens will take; by `otherwise` tokens a second while nothing is known."""
        with self._lock:
            known = self._tokens >= ENOUGH_TOKENS and self._seconds > 0
            return tokens * self._seconds / self._tokens if known else tokens / otherwise

    @contextmanager
    def measured(self, tokens: int) -> Iterator[None]:
        """What is done within checks so many tokens. The last checks count most."""
        started = self._clock()
        yield
        # Many short answers take long for their tokens: whoever sends them must not make long ones look hopeless.
        if tokens >= ENOUGH_TOKENS:
            self._note(tokens, self._clock() - started)

    def doubt(self, tokens_per_second: float) -> None:
        """Something was not checked for want of time, so nothing was learnt: a machine that was slow once must come to
        try again. Counts as a check at that pace."""
        self._note(ENOUGH_TOKENS, ENOUGH_TOKENS / tokens_per_second)

    def _note(self, tokens: float, seconds: float) -> None:
        with self._lock:
            self._tokens = self._tokens * FADING + tokens
            self._seconds = self._seconds * FADING + seconds


def check_in_time(
    chain: Chain, pace: Pace, clock: int, terms: Parameters, tokens: int, check: Callable[[], list[Verdict]]
) -> list[Verdict] | None:
    """Runs the check, or gives None when the vote could not be sent after it. `clock` ends the commit window."""
    seconds = pace.seconds(tokens, terms.check_tokens_per_second)
    if not is_time_for(seconds, clock, terms, chain.now()):
        log.warning("no_time_to_check", tokens=tokens, needed_seconds=round(seconds), asked=terms.check_seconds(tokens))
        pace.doubt(terms.check_tokens_per_second)
        return None
    with pace.measured(tokens):
        return check()


Check = Callable[[int], None]
"""Is told how many checks of the same node are wanted, itself included, so that it can leave time to each."""


@dataclass(slots=True)
class _Wanted:
    """A check that waits or runs."""

    key: Hashable
    node: str
    check: Check
    is_running: bool = False


class Checks:
    """Starts checks, each once at a time, nodes in turn. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.turns = Turns()
        self.pace = Pace()
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="check")
        self._lock = threading.Lock()
        self._wanted: dict[Hashable, _Wanted] = {}
        self._pauses: dict[Hashable, tuple[float, float]] = {}

    def want(self, key: Hashable, node: str, check: Check) -> None:
        """Has `check` run soon. Does nothing while it waits or runs, or pauses after a failure.

        `check` keeps what it finds; it raises InterruptedError when the process is to end.
        """
        with self._lock:
            if key in self._wanted or self._clock() < self._pauses.get(key, (0.0, 0.0))[1]:
                return
            self._wanted[key] = _Wanted(key, node, check)
        self._start_next()

    def close(self) -> None:
        """Waits for those that run; they see for themselves that the process is to end."""
        self._threads.shutdown(cancel_futures=True)

    def _start_next(self) -> None:
        with self._lock:
            running = Counter(each.node for each in self._wanted.values() if each.is_running)
            for each in self._wanted.values():
                if running.total() >= THREADS:
                    return
                if not each.is_running and running[each.node] < THREADS_PER_NODE:
                    each.is_running = True
                    running[each.node] += 1
                    try:
                        self._threads.submit(self._run, each)
                    except RuntimeError:
                        return  # closed

    def _run(self, wanted: _Wanted) -> None:
        key = wanted.key
        with self._lock:
            crowd = sum(each.node == wanted.node for each in self._wanted.values())
        try:
            wanted.check(crowd)
            self._pauses.pop(key, None)
        except InterruptedError:
            pass
        except Exception as error:  # noqa: BLE001  (the seat asks again, and others' checks go on)
            pause = min(max(2 * self._pauses.get(key, (0.0, 0.0))[0], PAUSES_SECONDS[0]), PAUSES_SECONDS[1])
            self._pauses[key] = (pause, self._clock() + pause)
            while len(self._pauses) > REMEMBERED:  # of seats that are over nobody says so
                self._pauses.pop(next(iter(self._pauses)), None)
            log.warning("check_failed", check=str(key), error=str(error), seconds=pause, trace=trace_of(error))
        finally:
            with self._lock:
                del self._wanted[key]
            self._start_next()
