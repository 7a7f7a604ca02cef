"""Answers claims that receipts of ours are in no batch, by showing them in one: in time, or stake is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cached_property

import structlog
from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from trine.chain import BatchState, Chain, ClaimState, Event
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted
from trine_operator.events import Changes, EventLog
from trine_operator.outbox import Act, Due, Submits
from trine_operator.payments import opening_of
from trine_operator.store import Store, StoredAnswer, StoredBatch
from trine_operator.tables import ClaimRow

log = structlog.get_logger()

WATCHED = (("Inclusion", "InclusionClaimed"),)
AGAIN_BLOCKS = 256
LOOK_SECONDS = 15.0
"""Between looks at all claims that are open: there are hours."""
CLAIMS_AT_ONCE = 64
"""Looked at in one step; the next step goes on behind them."""
START = (-1, "")
FAR = (1 << 63) - 1


class Claims:
    """Those against one account. `step` is to be repeated at every block."""

    def __init__(
        self, store: Store, chain: Chain, outbox: Submits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` measures the time between looks, in seconds."""
        self._store = store
        self._chain = chain
        self._outbox = outbox
        self._clock = clock
        self._not_before = 0.0
        self._after = START

    def step(self) -> None:
        """Raises TrineError when the chain or the store cannot be read."""
        if self._events.read(self._note).added:
            self._not_before = 0.0
        if self._clock() < self._not_before:
            return
        rows = self._next()
        if rows:
            self._look_at(rows)
        # Whoever claims many at once must not hide the last behind the first, which stay until their time is over.
        if len(rows) == CLAIMS_AT_ONCE:
            self._after = (rows[-1][1], rows[-1][0].hex())
        else:
            self._after = START
            self._not_before = self._clock() + LOOK_SECONDS

    def _look_at(self, rows: list[tuple[bytes, int]]) -> None:
        in_flight, now = self._outbox.open_names(), self._chain.timestamp()
        waiting = []
        for receipt_hash, answer_by in rows:
            if now > answer_by:
                self._forget(receipt_hash)
            elif _name(receipt_hash) not in in_flight:
                waiting.append((receipt_hash, answer_by))
        with self._chain.reading_ahead([("Inclusion", "claimOf", (receipt_hash,)) for receipt_hash, _ in waiting]):
            # Those that are not open are kept until their time is over: a re-org may take an answer back.
            still_open = [each for each in waiting if self._chain.inclusion_claim(each[0]).state == ClaimState.OPEN]
        shown = [(each, place) for each in still_open if (place := self._place(*each))]
        names = sorted({batch.batch_id for _, (batch, _) in shown})
        with self._chain.reading_ahead([("Batches", "batchOf", (name,)) for name in names]):
            on_chain = {name: self._chain.batch_state(name) for name in names}
        for (receipt_hash, answer_by), (batch, answer) in shown:
            if on_chain[batch.batch_id] not in (BatchState.NONE, BatchState.VOID):  # else it is on its way
                self._answer(receipt_hash, answer_by, batch, answer)

    def _place(self, receipt_hash: bytes, answer_by: int) -> tuple[StoredBatch, StoredAnswer] | None:
        """Where the receipt is in a batch of ours; None while it waits to be sealed."""
        answer = self._store.answer(receipt_hash)
        if answer is None:
            log.error("claimed_receipt_unknown", receipt=receipt_hash.hex(), answer_by=answer_by)
            return None
        batch = self._store.batch(answer.batch_id) if answer.batch_id else None
        return (batch, answer) if batch else None

    def _next(self) -> list[tuple[bytes, int]]:
        key = tuple_(ClaimRow.answer_by, ClaimRow.receipt_hash)
        query = select(ClaimRow).where(key > self._after)
        query = query.order_by(ClaimRow.answer_by, ClaimRow.receipt_hash).limit(CLAIMS_AT_ONCE)
        with self._store.reading() as session:
            return [(bytes.fromhex(row.receipt_hash), row.answer_by) for row in session.scalars(query)]

    def _answer(self, receipt_hash: bytes, answer_by: int, batch: StoredBatch, answer: StoredAnswer) -> None:
        if answer.leaf is None:
            return
        opening = opening_of(batch, answer.leaf, answer.receipt.values())
        act = Act((_name(receipt_hash),), CALLS.answer_inclusion(opening), Due(at=answer_by))
        try:
            self._outbox.submit(act)
        except TransactionReverted as error:
            log.warning("claim_not_answered", receipt=receipt_hash.hex(), reason=error.reason)
        else:
            log.info("claim_answered", receipt=receipt_hash.hex(), batch=batch.batch_id.hex())

    @cached_property
    def _events(self) -> EventLog:
        chain = self._chain
        mine = "0x" + bytes(12).hex() + chain.address.removeprefix("0x").lower()
        return EventLog(
            self._store,
            chain,
            "claims",
            WATCHED,
            # Older claims are over.
            since=lambda: chain.block_before(chain.timestamp() - chain.inclusion_answer_seconds()),
            again_blocks=AGAIN_BLOCKS,
            indexed=(None, mine),
        )

    def _note(self, session: Session, changes: Changes) -> None:
        for receipt_hash, _ in self._ours(changes.dropped):
            session.execute(delete(ClaimRow).where(ClaimRow.receipt_hash == receipt_hash))
        for receipt_hash, answer_by in self._ours(changes.added):
            session.merge(ClaimRow(receipt_hash=receipt_hash, answer_by=min(answer_by, FAR)))
            log.warning("inclusion_claimed", receipt=receipt_hash, answer_by=answer_by)

    def _ours(self, events: Iterable[Event]) -> list[tuple[str, int]]:
        me = self._chain.address.lower()
        return [
            (bytes(event.args["receiptHash"]).hex(), int(event.args["answerBy"]))
            for event in events
            if str(event.args["node"]).lower() == me
        ]

    def _forget(self, receipt_hash: bytes) -> None:
        with self._store.writing() as session:
            session.execute(delete(ClaimRow).where(ClaimRow.receipt_hash == receipt_hash.hex()))


def _name(receipt_hash: bytes) -> str:
    return f"answer claim {receipt_hash.hex()}"
