"""Brings stored answers onto the chain: seal, anchor, draw, and what follows until the batch is settled.

Every decision is `next_action`, a pure function of what the store and the chain say, so a restart at any point goes
on where it stopped. A batch's id follows from its header, so anchoring twice is impossible. `finalizing` does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial

import structlog

from trine.chain import Batch, BatchState, Chain, Header
from trine.chain.transactions import Call
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted
from trine_operator.apart import Apart
from trine_operator.committees import can_be_drawn
from trine_operator.credit import Credit
from trine_operator.finalizing import Finalizing
from trine_operator.outbox import Act, Due, Guard, Submits
from trine_operator.outbox.acts import NOT_DUE, batch_names
from trine_operator.outbox.protection import anchor_guards
from trine_operator.payments import collect_earned
from trine_operator.store import Commit, Noting, Store, StoredAnswer, StoredBatch, sealed_batch

log = structlog.get_logger()

SETTLE_GRACE_SECONDS = 5
"""Verifiers settle; the node does when they have not for this long after it was possible."""
MAX_BACKOFF_SECONDS = 30.0


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


def next_action(
    stored_state: str, batch: Batch, block: int, now: int, *, draw_window_blocks: int, reveal_seconds: int
) -> Action:
    """`block` and `now` are the number that contracts see in the newest block, and its time."""
    match batch.state:
        case BatchState.NONE:
            return Action.ANCHOR
        case BatchState.SETTLED | BatchState.FINAL:
            return Action.FINISH
        case BatchState.VOID:
            # A batch that is anchored again is sealed in the store and void on the chain.
            return Action.ANCHOR if stored_state == "sealed" else Action.RETRY
    if stored_state == "sealed":
        return Action.NOTE_ANCHORED
    if batch.state == BatchState.ANCHORED:
        if block > batch.clock + draw_window_blocks:
            return Action.EXPIRE
        return Action.DRAW if block >= batch.clock else Action.WAIT
    return Action.SETTLE if batch.can_settle(now - SETTLE_GRACE_SECONDS, reveal_seconds) else Action.WAIT


def fitting(answers: Sequence[StoredAnswer], max_tokens: int) -> list[StoredAnswer]:
    """The first of the answers that together have no more tokens than a batch may; the very first in any case."""
    fit: list[StoredAnswer] = []
    tokens = 0
    for answer in answers:
        receipt = answer.evidence.receipt
        tokens += receipt.prompt_tokens + receipt.output_tokens
        if fit and tokens > max_tokens:
            break
        fit.append(answer)
    return fit


class Batcher:
    """Owns the batches of one account. `step` does what is due now, and is to be repeated."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        outbox: Submits,
        model_id: bytes,
        *,
        max_leaves: int,
        max_wait_seconds: float,
        credit_target_wei: int = 0,
        commit: Commit | None = None,
        note_final: Noting | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` measures waits and pauses, in seconds; `commit` makes the canary words of nodes that plant some;
        `note_final` is told of batches that nothing changes any more."""
        self.store = store
        self.chain = chain
        self.outbox = outbox
        self.model_id = model_id
        self.max_leaves = max_leaves
        self.max_wait_seconds = max_wait_seconds
        self._commit = commit
        self._credit = Credit(chain, outbox, credit_target_wei)
        self._finalizing = Finalizing(store, chain, outbox, clock, note_final)
        self._clock = clock
        self._first_seen: float | None = None
        self._waiting: set[bytes] = set()  # for enough verifiers
        self._apart = Apart(MAX_BACKOFF_SECONDS, clock)
        store.claim(f"{chain.address} on chain {chain.domain.chain_id} at {chain.domain.verifying_contract}")

    def step(self) -> None:
        """Raises TrineError when nothing can be done at all: no chain, no store."""
        for stored in self.store.open_batches():
            self._try_to_advance(stored)
        self._seal_due()
        self._apart.run("finalizing", self._finalizing.step, part="finalizing")

    def _try_to_advance(self, stored: StoredBatch) -> None:
        """A batch that cannot go on must not hold up the others."""
        self._apart.run(stored.batch_id, partial(self._advance, stored), batch=stored.batch_id.hex())

    def _seal_due(self) -> None:
        waiting = self.store.waiting(self.max_leaves)
        if waiting is None:
            self._first_seen = None
            return
        if self._first_seen is None:
            self._first_seen = self._clock()
        waited = self._clock() - self._first_seen
        model_id, count = waiting
        # Of a model that is not served any more no further answers will come.
        if model_id == self.model_id and count < self.max_leaves and waited < self.max_wait_seconds:
            return
        waiting_answers = self.store.unbatched(self.max_leaves, model_id)
        answers = fitting(waiting_answers, self.chain.parameters().max_batch_tokens)
        if len(answers) == len(waiting_answers):
            self._first_seen = None  # what did not fit has waited long enough
        evidence = [answer.evidence for answer in answers]
        batch = sealed_batch(self.chain.domain, self.chain.address, model_id, evidence, commit=self._commit)
        self.store.seal(batch, [answer.sequence for answer in answers])
        log.info("batch_sealed", batch=batch.batch_id.hex(), answers=len(answers))
        self._try_to_advance(batch)

    def _advance(self, stored: StoredBatch) -> None:
        in_flight = self.outbox.open_names()
        batch = self.chain.batch(stored.batch_id)
        action = next_action(
            stored.state,
            batch,
            self.chain.contracts_block_number(),
            self.chain.timestamp(),
            draw_window_blocks=self.chain.draw_window_blocks(),
            reveal_seconds=self._reveal_seconds(batch),
        )
        if action is Action.ANCHOR and not self._is_drawable(stored):
            action = Action.WAIT
        if _act_name(action, stored) in in_flight:
            return
        handlers: dict[Action, Callable[[StoredBatch, Batch], None]] = {
            Action.ANCHOR: self._anchor,
            Action.NOTE_ANCHORED: self._note_anchored,
            Action.DRAW: self._draw,
            Action.EXPIRE: self._expire,
            Action.SETTLE: self._settle,
            Action.FINISH: self._finish,
            Action.RETRY: self._retry,
            Action.WAIT: lambda _s, _b: None,
        }
        handlers[action](stored, batch)
        if action is not Action.WAIT:
            log.info("batch_step", batch=stored.batch_id.hex(), action=action.value)

    def _anchor(self, stored: StoredBatch, _batch: Batch) -> None:
        if not self._credit.covers(len(stored.leaves), self._header(stored).tokens):
            return
        guards = anchor_guards(stored.batch_id, stored.root, stored.challenge_id)
        if stored.challenge_id is None:
            call = CALLS.anchor(stored.model_id, stored.root, stored.canary, len(stored.leaves))
            self._submit(Action.ANCHOR, stored, call, guards=guards)
            return
        answers = self.store.answers_of(stored.batch_id)
        tokens = sum(answer.evidence.receipt.output_tokens for answer in answers)
        call = CALLS.anchor_calibration(stored.challenge_id, stored.root, stored.canary, tokens)
        due = Due(at=self.chain.challenge(stored.challenge_id).deadline)
        try:
            self._submit(Action.ANCHOR, stored, call, due, guards)
        except TransactionReverted:
            # Too late, or answered otherwise: this challenge is lost, another can be asked for.
            self.store.mark_void(stored.batch_id)
            raise

    def _note_anchored(self, stored: StoredBatch, _batch: Batch) -> None:
        self.store.mark_anchored(stored.batch_id)
        self._advance(replace(stored, state="anchored"))

    def _draw(self, stored: StoredBatch, batch: Batch) -> None:
        due = Due(block=batch.clock + self.chain.draw_window_blocks())
        fixed_at = self.chain.fixed_at(stored.batch_id)
        call = self.chain.with_seed(CALLS.draw(self._header(stored)), batch.clock, fixed_at)
        if call is not None:
            self._submit(Action.DRAW, stored, call, due)

    def _expire(self, stored: StoredBatch, _batch: Batch) -> None:
        self._submit(Action.EXPIRE, stored, CALLS.expire(self._header(stored)))

    def _settle(self, stored: StoredBatch, batch: Batch) -> None:
        self._submit(Action.SETTLE, stored, CALLS.settle(self._header(stored), self.chain.seats(batch)))

    def _submit(
        self, action: Action, stored: StoredBatch, call: Call, due: Due = NOT_DUE, guards: tuple[Guard, ...] = ()
    ) -> None:
        self.outbox.submit(Act((_act_name(action, stored),), call, due, guards))

    def _is_drawable(self, stored: StoredBatch) -> bool:
        """A batch for which no committee can be drawn expires, which costs stake and fees: it waits."""
        drawable = can_be_drawn(self.chain, stored.model_id, calibration=stored.challenge_id is not None)
        if not drawable and stored.batch_id not in self._waiting:
            log.info("waiting_for_verifiers", batch=stored.batch_id.hex())
            self._waiting.add(stored.batch_id)
        if drawable:
            self._waiting.discard(stored.batch_id)
        return drawable

    def _header(self, stored: StoredBatch) -> Header:
        return Header(self.chain.address, stored.model_id, stored.root, stored.canary)

    def _reveal_seconds(self, batch: Batch) -> int:
        """Of the version of the parameters that the batch was anchored under; irrelevant for others than drawn ones."""
        return self.chain.parameters(batch.terms).reveal_seconds if batch.state == BatchState.DRAWN else 0

    def _finish(self, stored: StoredBatch, batch: Batch) -> None:
        result = self.chain.result(batch.batch_id)
        results = [result.on(leaf) for leaf in range(len(stored.leaves))]
        self.store.mark_settled(stored.batch_id, result.accepted, result.rejected, results)
        log.info("batch_settled", batch=stored.batch_id.hex(), accepted=results.count("accept"), of=len(results))
        if stored.challenge_id is None:
            collect_earned(self.store, self.chain, self.outbox)

    def _retry(self, stored: StoredBatch, _batch: Batch) -> None:
        if stored.challenge_id is None:
            self.store.mark_unsent(stored.batch_id)
        else:
            self.store.mark_void(stored.batch_id)


def _act_name(action: Action, stored: StoredBatch) -> str:
    """As `voting` calls it, too: what a verifier does for its own batch is done once."""
    return batch_names(action.value, [stored.batch_id])[0]
