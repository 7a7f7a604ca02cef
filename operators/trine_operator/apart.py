"""Parts of a loop's step that must not hurt each other: one that fails is logged, and tried less and less often.

A batch, a seat, an appeal are parts. What concerns all of them, like a chain that does not answer, ends the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

import structlog

from trine.errors import ChainUnreachable, NotReady, TransactionReverted, TrineError
from trine_operator.logs import trace_of

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 1.0
REMEMBERED = 4096
"""Parts that failed."""
UNREACHABLE_IN_A_ROW = 2
"""So many parts after each other without an answer: it is the chain, and each further one would wait for a time-out."""


class Apart:
    """Runs parts by name. One thread uses it. `clock` is in seconds."""

    def __init__(self, max_pause_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_pause_seconds = max_pause_seconds
        self._clock = clock
        self._pauses: dict[Hashable, tuple[float, float]] = {}  # of those that failed: how long, until when
        self._unreachable = 0

    def run(self, key: Hashable, part: Callable[[], None], /, **what: object) -> None:
        """Runs the part unless it is to wait after a failure. `what` names it in the log.

        Raises InterruptedError when the part does, ChainUnreachable when several parts in a row do.
        """
        pause, until = self._pauses.get(key, (0.0, 0.0))
        if self._clock() < until:
            return
        try:
            part()
        except InterruptedError:
            raise
        except Exception as error:
            pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), self._max_pause_seconds)
            self._pauses[key] = (pause, self._clock() + pause)
            while len(self._pauses) > REMEMBERED:  # of parts that are gone nobody says so
                self._pauses.pop(next(iter(self._pauses)))
            self._tell(error, pause, what)
            self._unreachable = self._unreachable + 1 if isinstance(error, ChainUnreachable) else 0
            if self._unreachable >= UNREACHABLE_IN_A_ROW:
                self._unreachable = 0
                raise
        else:
            self._unreachable = 0
            self._pauses.pop(key, None)

    def forget(self, key: Hashable) -> None:
        """The part is over."""
        self._pauses.pop(key, None)

    def _tell(self, error: Exception, pause: float, what: dict[str, object]) -> None:
        if isinstance(error, (TransactionReverted, NotReady)):
            # Often somebody else was faster, or the chain is not ready for it: the next try sees which.
            notify = log.warning if pause == self._max_pause_seconds else log.info
            notify("postponed", reason=str(error), seconds=pause, **what)
        else:
            # A failure that is no TrineError was not foreseen: with its trace.
            if not isinstance(error, TrineError):
                what = {**what, "trace": trace_of(error)}
            log.warning("failed", error=str(error) or type(error).__name__, seconds=pause, **what)
