"""A verifier's seats on appealed leaves: check one answer, commit, reveal, resolve, conclude.

Whoever appealed has the committee drawn. Everything else is as in `voting`, for one leaf.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from trine.appeal import LEVELS, committees
from trine.chain import AppealCase, AppealPhase, Chain, Parameters, Seat
from trine.chain.transactions import Call
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted
from trine.protocol.appeals import VOTES
from trine.protocol.policy import Policy
from trine.protocol.verdict import Verdict
from trine_node.engines.base import Engine
from trine_operator.apart import Apart
from trine_operator.outbox import Act, Due, Guard, Submits
from trine_operator.outbox.acts import NOT_DUE
from trine_operator.outbox.protection import appeal_guard
from trine_operator.staying import Staying
from trine_verifier.checking import MAX_DETAIL, check_shown_leaf, withheld
from trine_verifier.checks import Checks, check_in_time
from trine_verifier.duties import FINALIZE_GRACE_SECONDS, MAX_PAUSE_SECONDS, Duty, evidence_deadline, listening
from trine_verifier.gathering import Gathering, anchor_of
from trine_verifier.lost import LostVotes, committed_on_appeal
from trine_verifier.seats import Seats, shows_no_appeal_draw
from trine_verifier.store import AppealSeat, VerifierStore

log = structlog.get_logger()


def next_appeal_duty(
    case: AppealCase, seats: Sequence[Seat], me: str, seat: AppealSeat, terms: Parameters, *, voted: bool, now: int
) -> Duty:
    """Pure: from the chain's view of the case, the committee of the seat's level, and whether our vote is stored."""
    mine = next((index for index, each in enumerate(seats) if each.verifier == me), None)
    if case.phase in (AppealPhase.NONE, AppealPhase.CONCLUDED) or mine is None or case.level < seat.level:
        return Duty.OVER
    if case.levels[seat.level - 1].round != seat.round:
        return Duty.OVER
    if case.phase == AppealPhase.RESOLVED:
        window = terms.appeal_window_seconds if case.level < LEVELS else 0
        due = case.clock + window + FINALIZE_GRACE_SECONDS * mine
        return Duty.FINALIZE if now > due else Duty.WAIT
    if case.phase != AppealPhase.DRAWN or case.level != seat.level:
        return Duty.WAIT
    level, bit, size = case.current, 1 << mine, len(seats)
    late = case.can_resolve(size, now, terms.reveal_seconds)
    if not level.committed & bit and now <= case.clock:
        return Duty.COMMIT if voted else Duty.CHECK
    if level.committed & bit and not level.revealed & bit and case.is_revealing(size, now) and not late:
        return Duty.REVEAL
    return Duty.SETTLE if late else Duty.WAIT


class Appealing:
    """The seats of one verifier account on appealed leaves."""

    def __init__(
        self,
        chain: Chain,
        store: VerifierStore,
        outbox: Submits,
        engine: Engine,
        model_id: bytes,
        stop: threading.Event,
        checks: Checks,
        drawn: Seats,
        gathering: Gathering,
        wake: Callable[[], None],
    ) -> None:
        self.chain = chain
        self.store = store
        self.outbox = outbox
        self.engine = engine
        self.model_id = model_id
        self.stop = stop
        self.checks = checks
        self._drawn = drawn
        self.gathering = gathering
        self.wake = wake
        self._apart = Apart(MAX_PAUSE_SECONDS)
        self._in_flight: frozenset[str] = frozenset()  # what was, before the chain was asked
        self._lost = LostVotes(store)
        self._staying = Staying(chain)

    def step(self) -> None:
        self._in_flight = self.outbox.open_names()
        due = self.store.appeal_duties()
        with self.chain.reading_ahead([("Appeals", "caseOf", (seat.batch_id, seat.leaf)) for seat in due]):
            for seat in due:
                advance = partial(self._advance, seat)
                self._apart.run(seat, advance, batch=seat.batch_id.hex(), leaf=seat.leaf, level=seat.level)

    def _advance(self, seat: AppealSeat) -> None:
        chain = self.chain
        case = chain.appeal_case(seat.batch_id, seat.leaf)
        seats = chain.appeal_seats(case, seat.level) if case.level >= seat.level else ()
        terms = chain.parameters(case.terms) if case.terms else chain.parameters()
        now = chain.timestamp()
        stored = self.store.appeal_vote(seat)
        duty = next_appeal_duty(case, seats, chain.address, seat, terms, voted=stored is not None, now=now)
        if duty is Duty.OVER and shows_no_appeal_draw(case, seat) and self._drawn.is_drawn_on_appeal(seat):
            return  # the events say otherwise: they are newer, or are about to be taken back
        if self._lost.is_lost_on_appeal(case, seats, chain, seat, stored, duty, terms):
            return
        header = chain.batch(seat.batch_id).known_header
        if duty is Duty.CHECK:
            self.checks.want(seat, header.node, lambda crowd: self._check(seat, case, terms, crowd))
            return
        if duty in (Duty.COMMIT, Duty.REVEAL):
            self._vote(duty, case, seats, terms)
        elif duty is Duty.SETTLE:
            self._submit("resolve appeal", seat, CALLS.resolve_appeal(header, seat.leaf, seats))
        elif duty is Duty.FINALIZE:
            call = CALLS.conclude_appeal(header, seat.leaf, committees(chain, case))
            self._submit("conclude appeal", seat, call)
        elif duty is Duty.OVER and self._staying.stays(seat, (case.phase, case.level, case.clock)):
            self.store.end_appeal_duty(seat)
            self._apart.forget(seat)

    def _submit(
        self, verb: str, seat: AppealSeat, call: Call, due: Due = NOT_DUE, guards: tuple[Guard, ...] = ()
    ) -> None:
        """Queues what is not in flight already. Raises TransactionReverted when it was refused the last time."""
        name = f"{verb} {seat.batch_id.hex()}/{seat.leaf}/{seat.level}/{seat.round}"
        if name not in self._in_flight:
            self.outbox.submit(Act((name,), call, due, guards))
            log.info("appeal_duty", batch=seat.batch_id.hex(), leaf=seat.leaf, level=seat.level, action=verb)

    def _vote(self, duty: Duty, case: AppealCase, seats: Sequence[Seat], terms: Parameters) -> None:
        chain = self.chain
        seat = AppealSeat(case.batch_id, case.leaf, case.level, case.current.round)
        stored = self.store.appeal_vote(seat)
        if stored is None:
            return
        vote, salt = stored
        index = next(i for i, each in enumerate(seats) if each.verifier == chain.address)
        if duty is Duty.REVEAL:
            call = CALLS.reveal_appeal(case.batch_id, case.leaf, seats, index, vote, salt)
            try:
                self._submit("reveal appeal", seat, call, Due(at=case.clock + terms.reveal_seconds))
            except TransactionReverted as error:
                self._lost.note_refusal(error, terms, batch=seat.batch_id.hex(), leaf=seat.leaf, level=seat.level)
                raise
            return
        committed = committed_on_appeal(chain, seat, vote, salt)
        guard = appeal_guard(seat.batch_id, seat.leaf, seat.level, seat.round, committed)
        call = CALLS.commit_appeal(case.batch_id, case.leaf, seats, index, committed)
        self._submit("commit appeal", seat, call, Due(at=case.clock), (guard,))

    def _check(self, seat: AppealSeat, case: AppealCase, terms: Parameters, crowd: int) -> None:
        """Keeps the vote, which is committed at the next step. In a thread of its own."""
        verdict = self._judge(case, terms, crowd)
        if verdict is not None and self.store.appeal_vote(seat) is None:
            self.store.save_appeal_vote(seat, VOTES[verdict.outcome], secrets.token_bytes(32), verdict)
            self.wake()

    def _judge(self, case: AppealCase, terms: Parameters, crowd: int) -> Verdict | None:
        """None to try again later, because the evidence is not there yet."""
        chain = self.chain
        batch = chain.batch(case.batch_id)
        header = batch.known_header
        if header.model_id != self.model_id:
            log.warning("foreign_model", batch=batch.batch_id.hex())
            return None
        anchor = anchor_of(chain, batch)
        patience = listening(case.clock, terms, header.tokens, chain.timestamp(), crowd)
        gathered = self.gathering.leaf(batch, case.leaf, anchor, patience)
        if gathered.shown is None:
            if chain.timestamp() < evidence_deadline(case.clock, terms, header.tokens):
                log.info("evidence_missing", batch=batch.batch_id.hex(), leaf=case.leaf, error=gathered.why)
                return None
            return withheld(1, gathered.why[:MAX_DETAIL])[0]
        anchoring = chain.anchoring(batch.batch_id)
        policy = Policy.from_bytes(chain.policy_at(header.model_id, anchoring.block, anchoring.log_index))
        with self.checks.turns.turn(case.clock):
            if self.stop.is_set():
                raise InterruptedError
            in_time = partial(check_in_time, chain, self.checks.pace, case.clock, terms)
            verdict = check_shown_leaf(gathered.shown, case.leaf, anchor, self.engine, policy, in_time)
        log.info(
            "appeal_verdict",
            batch=batch.batch_id.hex(),
            leaf=case.leaf,
            outcome=verdict.outcome.value,
            reason=verdict.reason.value,
            deviation=round(verdict.deviation, 6),
            margin=round(verdict.worst_margin, 4),
            detail=verdict.detail,
        )
        return verdict
