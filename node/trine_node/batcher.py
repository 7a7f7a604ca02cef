"""Brings stored answers onto the chain: seal, anchor, draw, and what follows until the batch is settled.

Every decision is `next_action`, a pure function of what the store and the chain say, so a restart at any point goes
on where it stopped. A batch's id follows from its root, so anchoring twice is impossible.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum

import structlog

from trine.chain import Batch, BatchState, Chain
from trine.errors import NotReady, TransactionReverted, TrineError
from trine.protocol import merkle
from trine_node.payments import collect_earned
from trine_node.store import Store, StoredAnswer, StoredBatch, leaves_of, sealed_batch

log = structlog.get_logger()

BLOCKHASH_WINDOW = 256
SETTLE_GRACE_SECONDS = 5
"""Verifiers settle; the node does when they have not for this long after it was possible."""
MAX_BACKOFF_SECONDS = 30.0
SEATS = 3


class Action(Enum):
    """What to do next with a batch."""

    ANCHOR = "anchor"
    NOTE_ANCHORED = "note anchored"
    DRAW = "draw"
    EXPIRE = "expire"
    SETTLE = "settle"
    FINISH = "finish"
    RETRY = "retry"
    WAIT = "wait"


def next_action(stored_state: str, batch: Batch, block: int, now: int) -> Action:
    """`block` and `now` are the chain's newest block number and its time."""
    match batch.state:
        case BatchState.NONE:
            return Action.ANCHOR
        case BatchState.SETTLED:
            return Action.FINISH
        case BatchState.VOID:
            # A batch that is anchored again is sealed in the store and void on the chain.
            return Action.ANCHOR if stored_state == "sealed" else Action.RETRY
    if stored_state == "sealed":
        return Action.NOTE_ANCHORED
    if batch.state == BatchState.ANCHORED:
        if block > batch.seed_block + BLOCKHASH_WINDOW:
            return Action.EXPIRE
        return Action.DRAW if block > batch.seed_block else Action.WAIT
    return Action.SETTLE if now > batch.deadline + SETTLE_GRACE_SECONDS else Action.WAIT


def same_model(waiting: Sequence[StoredAnswer]) -> list[StoredAnswer]:
    """The oldest answer with the others of its model: a batch has one."""
    return [answer for answer in waiting if answer.evidence.receipt.model_id == waiting[0].evidence.receipt.model_id]


class Batcher:
    """Owns the batches of one account. `step` does what is due now; `run` repeats it until stopped."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        model_id: bytes,
        *,
        max_leaves: int,
        max_wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` measures waits and pauses, in seconds."""
        self.store = store
        self.chain = chain
        self.model_id = model_id
        self.max_leaves = max_leaves
        self.max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._first_seen: float | None = None
        self._pauses: dict[bytes, tuple[float, float]] = {}  # of batches that failed: how long, until when
        store.claim(f"{chain.address} on chain {chain.domain.chain_id} at {chain.domain.verifying_contract}")

    def run(self, stop: threading.Event, poll_seconds: float) -> None:
        """Errors are logged and retried with growing pauses; nothing ends the loop but `stop`."""
        pause = poll_seconds
        while not stop.wait(pause):
            try:
                self.step()
                pause = poll_seconds
            except TrineError as error:
                pause = min(pause * 2, MAX_BACKOFF_SECONDS)
                log.warning("batcher_paused", error=str(error), seconds=pause)
            except Exception:
                pause = MAX_BACKOFF_SECONDS
                log.exception("batcher_failed")

    def step(self) -> None:
        """Raises TrineError when nothing can be done at all: no chain, no store."""
        for stored in self.store.open_batches():
            self._try_to_advance(stored)
        self._seal_due()

    def _try_to_advance(self, stored: StoredBatch) -> None:
        """A batch that cannot go on must not hold up the others."""
        pause, until = self._pauses.get(stored.batch_id, (0.0, 0.0))
        if self._clock() < until:
            return
        try:
            self._advance(stored)
            self._pauses.pop(stored.batch_id, None)
        except (TransactionReverted, NotReady) as error:
            # Often somebody else was faster, or the chain is not ready for it: the next try sees which.
            pause = min(max(2 * pause, 1.0), MAX_BACKOFF_SECONDS)
            self._pauses[stored.batch_id] = (pause, self._clock() + pause)
            notify = log.warning if pause == MAX_BACKOFF_SECONDS else log.info
            notify("batch_postponed", batch=stored.batch_id.hex(), reason=str(error), seconds=pause)

    def _seal_due(self) -> None:
        waiting = self.store.unbatched(self.max_leaves)
        if not waiting:
            self._first_seen = None
            return
        if self._first_seen is None:
            self._first_seen = self._clock()
        waited = self._clock() - self._first_seen
        answers = same_model(waiting)
        model_id = answers[0].evidence.receipt.model_id
        # Of a model that is not served any more no further answers will come.
        if model_id == self.model_id and len(answers) < self.max_leaves and waited < self.max_wait_seconds:
            return
        self._first_seen = None
        root = merkle.root(leaves_of([answer.evidence for answer in answers]))
        batch_id = self.chain.batch_id_of(self.chain.address, root)
        batch = sealed_batch(batch_id, model_id, answers)
        self.store.seal(batch, [answer.sequence for answer in answers])
        log.info("batch_sealed", batch=batch_id.hex(), answers=len(answers))
        self._try_to_advance(batch)

    def _advance(self, stored: StoredBatch) -> None:
        batch = self.chain.batch(stored.batch_id)
        action = next_action(stored.state, batch, self.chain.block_number(), self.chain.timestamp())
        handlers: dict[Action, Callable[[StoredBatch, Batch], None]] = {
            Action.ANCHOR: self._anchor,
            Action.NOTE_ANCHORED: lambda s, _: self.store.mark_anchored(s.batch_id),
            Action.DRAW: lambda s, _: _ignore(self.chain.draw(s.batch_id)),
            Action.EXPIRE: lambda s, _: _ignore(self.chain.expire(s.batch_id)),
            Action.SETTLE: lambda s, _: _ignore(self.chain.settle(s.batch_id)),
            Action.FINISH: self._finish,
            Action.RETRY: self._retry,
            Action.WAIT: lambda _s, _b: None,
        }
        handlers[action](stored, batch)
        if action is not Action.WAIT:
            log.info("batch_step", batch=stored.batch_id.hex(), action=action.value)

    def _anchor(self, stored: StoredBatch, _batch: Batch) -> None:
        if stored.challenge_id is None:
            self._require_verifiers(stored.model_id)
            self.chain.anchor(stored.model_id, stored.root, len(stored.leaves))
        else:
            try:
                self.chain.anchor_calibration(stored.challenge_id, stored.root)
            except TransactionReverted:
                # Too late, or answered otherwise: this challenge is lost, another can be asked for.
                self.store.mark_void(stored.batch_id)
                raise
        self.store.mark_anchored(stored.batch_id)

    def _require_verifiers(self, model_id: bytes) -> None:
        """A batch for which no committee can be drawn expires, which costs stake and fees."""
        me = self.chain.address.lower()
        others = sum(1 for verifier, weight in self.chain.pool(model_id) if weight and verifier.lower() != me)
        if others < SEATS:
            raise NotReady(f"{others} calibrated verifiers for this model, {SEATS} are needed: anchoring waits")

    def _finish(self, stored: StoredBatch, batch: Batch) -> None:
        results = [batch.result(leaf) for leaf in range(len(stored.leaves))]
        self.store.mark_settled(stored.batch_id, batch.accepted, batch.rejected, results)
        log.info("batch_settled", batch=stored.batch_id.hex(), accepted=results.count("accept"), of=len(results))
        if stored.challenge_id is None:
            collect_earned(self.store, self.chain)

    def _retry(self, stored: StoredBatch, _batch: Batch) -> None:
        if stored.challenge_id is None:
            self.store.mark_unsent(stored.batch_id)
        else:
            self.store.mark_void(stored.batch_id)


def _ignore(_receipt: object) -> None:
    """Turns a transaction into a handler's None."""
