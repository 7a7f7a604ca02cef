"""After a settlement: waits out the time to appeal, then has the chain free or slash stake and pay the verifiers.

Anyone may do that; who anchored a batch does it for its own, several at once, because its stake is locked until then.
A batch waits for its open appeals, and for a second time to appeal once one has turned a verdict (`Batch.clock` moves).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from trine.chain import Batch, BatchState, Chain, Header, Seat
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted
from trine_operator.lingering import moving_on
from trine_operator.outbox import Act, Submits
from trine_operator.outbox.acts import batch_names
from trine_operator.payments import collect_earned
from trine_operator.staying import Staying
from trine_operator.store import Noting, Store

log = structlog.get_logger()

MAX_AT_ONCE = 16
PAUSE_SECONDS = 5.0
"""After a refusal: somebody else was faster."""


class Finalizing:
    """The settled batches of one account."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        outbox: Submits,
        clock: Callable[[], float] = time.monotonic,
        note_final: Noting | None = None,
    ) -> None:
        """`clock` measures pauses, in seconds; `note_final` is told of batches of clients' answers that are final."""
        self.store = store
        self.chain = chain
        self.outbox = outbox
        self._clock = clock
        self._note = note_final
        self._due: dict[bytes, int] = {}  # of verdicts that stay: chain's time before which none can be finalized
        self._staying = Staying(chain)
        self._not_before = 0.0

    def step(self) -> None:
        """Does what is due now."""
        settled = self.store.settled_ids()
        if not settled or self._clock() < self._not_before:
            return
        in_flight, now = self.outbox.open_names(), self.chain.timestamp()
        due: list[tuple[Header, tuple[Seat, ...]]] = []
        names: list[str] = []
        looked_at = [batch_id for batch_id in settled if now > self._due.get(batch_id, 0)]
        with self.chain.reading_ahead([("Batches", "batchOf", (batch_id,)) for batch_id in looked_at]):
            for batch_id in looked_at:
                (name,) = batch_names("finalize", [batch_id])
                batch = self.chain.batch(batch_id)
                if batch.state == BatchState.FINAL:
                    self._note_final(batch)
                elif batch.state != BatchState.SETTLED:
                    self._reopen(batch)
                elif self._is_due(batch, now) and name not in in_flight:
                    open_ = self.chain.marks(batch).open
                    if open_:
                        self._move_on(batch, open_, in_flight)
                        continue
                    due.append((batch.known_header, self.chain.seats(batch)))
                    names.append(name)
        for start in range(0, len(due), MAX_AT_ONCE):
            part = slice(start, start + MAX_AT_ONCE)
            self._finalize(Act(tuple(names[part]), CALLS.finalize(due[part])))

    def _is_due(self, batch: Batch, now: int) -> bool:
        # Calibrations cannot be appealed.
        window = 0 if batch.is_calibration else self.chain.parameters(batch.terms).appeal_window_seconds
        if self._staying.stays(batch.batch_id, batch.clock):
            self._due[batch.batch_id] = batch.clock + window  # until then there is nothing to look for
        return now > batch.clock + window

    def _move_on(self, batch: Batch, leaves: int, in_flight: frozenset[str]) -> None:
        """Sees to appeals that others let lie."""
        terms = self.chain.parameters(batch.terms)
        for leaf in (leaf for leaf in range(batch.leaf_count) if leaves >> leaf & 1):
            act = moving_on(self.chain, batch, leaf, terms)
            if act is not None and act.names[0] not in in_flight:
                self._finalize(act)

    def _reopen(self, batch: Batch) -> None:
        """A re-org has taken the verdict back: the batch is on its way again, from wherever it is."""
        self.store.mark_anchored(batch.batch_id)
        self._staying.forget(batch.batch_id)
        self._due.pop(batch.batch_id, None)
        log.warning("batch_unsettled", batch=batch.batch_id.hex(), state=batch.state.name.lower())

    def _finalize(self, act: Act) -> None:
        try:
            self.outbox.submit(act)
        except TransactionReverted as error:
            self._not_before = self._clock() + PAUSE_SECONDS
            log.info("finalizing_postponed", reason=error.reason)

    def _note_final(self, batch: Batch) -> None:
        result = self.chain.result(batch.batch_id)
        if not result.is_final:
            return  # appeals are still open
        if not self._staying.stays(batch.batch_id, (result.accepted, result.rejected)):
            return  # a re-org may still take it back, and nobody would look any more
        results = [result.on(leaf) for leaf in range(result.leaf_count)]
        note = None if batch.is_calibration else self._note
        self.store.mark_final(batch.batch_id, result.accepted, result.rejected, results, note)
        self._due.pop(batch.batch_id, None)
        log.info("batch_final", batch=batch.batch_id.hex(), accepted=results.count("accept"), of=len(results))
        collect_earned(self.store, self.chain, self.outbox)
