"""Which seats and appeals are ours, and which batches wait for a committee: from the events that the chain has now.

What a re-org takes away is taken back: a seat drawn in a block that is gone is no duty until it is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import structlog
from sqlalchemy.orm import Session

from trine.chain import AppealCase, AppealPhase, Batch, BatchState, Chain, Event
from trine.errors import ChainError, NotReady, TransactionReverted
from trine_operator.events import Changes, EventLog
from trine_verifier.store import AppealSeat, OwnAppeal, VerifierStore

log = structlog.get_logger()

WATCHED = (
    ("Batches", "BatchAnchored"),
    ("Batches", "CommitteeDrawn"),
    ("Batches", "CommitteeRedrawn"),
    ("Appeals", "AppealDrawn"),
    ("Appeals", "AppealOpened"),
)
DRAW_SHARE = 0.5
"""A batch that its node has not drawn within this share of the window is drawn by verifiers: a node must not let a
committee that it dislikes expire."""


def shows_no_draw(batch: Batch, round_: int) -> bool:
    """Whether the batch is as before the round was drawn: of an endpoint that is behind, or after a re-org."""
    early = batch.state in (BatchState.NONE, BatchState.ANCHORED)
    return batch.round < round_ or (early and batch.round == round_)


def shows_no_appeal_draw(case: AppealCase, seat: AppealSeat) -> bool:
    """The same for a seat on an appealed leaf."""
    if case.phase == AppealPhase.NONE or case.level < seat.level:
        return True
    drawn_round = case.levels[seat.level - 1].round
    is_open = case.phase == AppealPhase.OPEN and case.level == seat.level
    return drawn_round < seat.round or (is_open and drawn_round == seat.round)


class Seats:
    """The duties of one verifier account, in the store, and what it draws when nobody else has."""

    def __init__(self, chain: Chain, store: VerifierStore, model_id: bytes) -> None:
        self._chain = chain
        self._store = store
        self._model_id = model_id
        self._undrawn: dict[bytes, int] = {}  # batches that wait for a committee: their seed blocks

    def read(self) -> None:
        """Notes what has come since the last time, and takes back what is gone. Raises TrineError."""
        changes = self._events.read(self._note)
        for event in changes.dropped:
            if event.name in ("BatchAnchored", "CommitteeRedrawn"):
                self._undrawn.pop(bytes(event.args["batchId"]), None)
        self._note_undrawn(self._events.events if changes.dropped else changes.read)

    def is_drawn(self, batch_id: bytes, round_: int) -> bool:
        """Whether one of the last blocks has our seat, whatever the batch itself looks like now."""
        return (batch_id, round_) in map(_duty, self._drawn("CommitteeDrawn"))

    def is_drawn_on_appeal(self, seat: AppealSeat) -> bool:
        return seat in map(_appeal_seat, self._drawn("AppealDrawn"))

    def draw_late(self, draw: Callable[[Batch, int], bool]) -> None:
        """Has what is about to expire undrawn drawn, whoever is drawn. `draw` is told the last block for it."""
        chain = self._chain
        if not self._undrawn:
            return
        block, window = chain.contracts_block_number(), chain.draw_window_blocks()
        for batch_id, seed_block in list(self._undrawn.items()):
            if block > seed_block + window:
                del self._undrawn[batch_id]
            elif block > seed_block + window * DRAW_SHARE:
                batch = chain.batch(batch_id)
                if batch.state != BatchState.ANCHORED or batch.known_header.model_id != self._model_id:
                    del self._undrawn[batch_id]
                    continue
                try:
                    if draw(batch, seed_block + window):
                        log.info("drawn_late", batch=batch_id.hex())
                except TransactionReverted as error:
                    log.info("transaction_refused", batch=batch_id.hex(), reason=error.reason)
                except (NotReady, ChainError) as error:
                    log.info("seed_missing", batch=batch_id.hex(), reason=str(error))

    @cached_property
    def _events(self) -> EventLog:
        chain = self._chain
        # What waits for a committee is not stored: it was anchored or redrawn at most a window ago.
        return EventLog(
            self._store,
            chain,
            "seats",
            WATCHED,
            since=lambda: self._store.cursor(chain.deployment.block),
            again_blocks=2 * chain.draw_window_blocks(),
        )

    def _note(self, session: Session, changes: Changes) -> None:
        gone, come = self._ours(changes.dropped), self._ours(changes.added)
        self._store.end_seats(session, *_seats_in(gone))
        self._store.note_seats(session, *_seats_in(come))
        self._store.note_own_appeals(session, self._opened(changes.added), self._opened(changes.dropped))

    def _ours(self, events: Iterable[Event]) -> list[Event]:
        me = self._chain.address
        return [event for event in events if me in [seat["verifier"] for seat in event.args.get("seats", ())]]

    def _opened(self, events: Iterable[Event]) -> list[OwnAppeal]:
        """Appeals of ours: whoever appealed has the committee drawn, whatever else it does."""
        me = self._chain.address
        return [_own_appeal(e) for e in events if e.name == "AppealOpened" and e.args["appellant"] == me]

    def _drawn(self, name: str) -> list[Event]:
        return [event for event in self._ours(self._events.events) if event.name == name]

    def _note_undrawn(self, events: Iterable[Event]) -> None:
        for event in events:
            batch_id = bytes(event.args["batchId"])
            if event.name == "CommitteeRedrawn" or (
                event.name == "BatchAnchored" and bytes(event.args["modelId"]) == self._model_id
            ):
                self._undrawn[batch_id] = int(event.args["seedBlock"])
            elif event.name == "CommitteeDrawn":
                self._undrawn.pop(batch_id, None)


def _seats_in(events: Iterable[Event]) -> tuple[list[tuple[bytes, int]], list[AppealSeat]]:
    """Seats on batches, seats on appealed leaves."""
    found = list(events)
    duties = [_duty(event) for event in found if event.name == "CommitteeDrawn"]
    return duties, [_appeal_seat(event) for event in found if event.name == "AppealDrawn"]


def _duty(event: Event) -> tuple[bytes, int]:
    return bytes(event.args["batchId"]), int(event.args["round"])


def _appeal_seat(event: Event) -> AppealSeat:
    args = event.args
    return AppealSeat(bytes(args["batchId"]), int(args["leafIndex"]), int(args["level"]), int(args["round"]))


def _own_appeal(event: Event) -> OwnAppeal:
    args = event.args
    return OwnAppeal(bytes(args["batchId"]), int(args["leafIndex"]), int(args["level"]), int(args["bond"]))
