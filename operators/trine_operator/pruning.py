"""Takes from a store what nobody can need any more, a little at a time: neither privacy nor disk depends on age.

Evidence is people's prompts and answers: it goes when its batch has been final for `keep_evidence_days`. Times are the
chain's. Decides what is old; what may go at all is the store's to know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from trine_operator.store import Store

log = structlog.get_logger()

DAY_SECONDS = 86_400
IDLE_SECONDS = 60.0
"""Until the next look when nothing was left to do."""
BATCHES_AT_ONCE = 4
NOTED_AT_ONCE = 256
FREE_PAGES_AT_ONCE = 1_000
"""Of a SQLite file, 4 kB each, given back to the system in a step."""

Part = Callable[[int], bool]
"""Prunes a bounded number of rows at the chain's time; whether more may be left."""


class Timed(Protocol):
    """A chain, as far as this room knows one."""

    def timestamp(self) -> int: ...


class Pruning:
    """One store's. `step` is to be repeated; it is short. `clock` measures pauses, in seconds."""

    def __init__(
        self,
        store: Store,
        chain: Timed,
        *,
        keep_evidence_days: float,
        more: Sequence[Part] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._chain = chain
        self._keep_seconds = round(keep_evidence_days * DAY_SECONDS)
        self._parts = (self._evidence, *more)
        self._clock = clock
        self._not_before = 0.0
        self._after: tuple[int, bytes] | None = None  # batches up to here were looked at in this round

    def step(self) -> None:
        """Raises StoreError or what the chain raises."""
        if self._clock() < self._not_before:
            return
        now = self._chain.timestamp()
        more = [part(now) for part in self._parts]
        if not any(more):
            self._not_before = self._clock() + IDLE_SECONDS

    def _evidence(self, now: int) -> bool:
        noted = self._store.note_ended(now, NOTED_AT_ONCE)
        page = self._store.prunable(now - self._keep_seconds, self._after, BATCHES_AT_ONCE)
        for _, batch_id in page:
            answers = self._store.prune(batch_id)
            if answers:
                log.info("evidence_pruned", batch=batch_id.hex(), answers=answers)
                self._store.forget_log()
        given_back = self._store.give_back(FREE_PAGES_AT_ONCE)
        self._after = page[-1] if len(page) == BATCHES_AT_ONCE else None
        return noted == NOTED_AT_ONCE or self._after is not None or given_back == FREE_PAGES_AT_ONCE
