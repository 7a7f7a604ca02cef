"""Watches draws, checks, signs or commits and reveals, settles, finalizes. A restart goes on from store and chain."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import partial

import structlog

from trine.chain import Ballot, Batch, BatchState, Chain, Parameters, Seat
from trine.chain.transactions import Call
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted, TrineError
from trine.protocol.calibration import challenge_prompts
from trine.protocol.policy import Policy
from trine.protocol.signing import FALL_BACK_SHARE, MINED_SHARE, Do, Why
from trine.protocol.verdict import Verdict
from trine_node.engines.base import Engine
from trine_operator.apart import Apart
from trine_operator.lingering import moving_on
from trine_operator.outbox import Act, Due, Guard, Submits
from trine_operator.outbox.acts import NOT_DUE, batch_names
from trine_operator.outbox.protection import vote_guard
from trine_operator.staying import Staying
from trine_verifier.appeals import Appealing
from trine_verifier.checking import MAX_DETAIL, Challenged, check_batch, vote_of, withheld
from trine_verifier.checks import Checks, check_in_time
from trine_verifier.dissent import Dissenting, leaves_in
from trine_verifier.duties import (
    FINALIZE_GRACE_SECONDS,
    MAX_PAUSE_SECONDS,
    Duty,
    evidence_deadline,
    listening,
)
from trine_verifier.gathering import Gathering, anchor_of
from trine_verifier.lost import LostVotes, committed_as
from trine_verifier.seats import Seats, shows_no_draw
from trine_verifier.signing import Signing
from trine_verifier.store import StoredVote, VerifierStore

log = structlog.get_logger()


def next_duty(
    batch: Batch,
    seats: tuple[Seat, ...],
    me: str,
    round_: int,
    terms: Parameters,
    *,
    voted: bool,
    now: int,
    under_appeal: bool = False,
) -> Duty:
    """Pure: from the chain's view of the batch and whether our vote is stored. `now` is the chain's time.

    A settled batch waits for appeals that are open, and `batch.clock` moves when one turns a verdict.
    """
    mine = next((index for index, seat in enumerate(seats) if seat.verifier == me), None)
    if batch.state in (BatchState.NONE, BatchState.FINAL, BatchState.VOID) or batch.round != round_ or mine is None:
        return Duty.OVER
    if batch.state == BatchState.ANCHORED:
        return Duty.WAIT
    if batch.state == BatchState.SETTLED:
        window = 0 if batch.is_calibration else terms.appeal_window_seconds
        patience = FINALIZE_GRACE_SECONDS * (1 + mine)
        return Duty.FINALIZE if now > batch.clock + window + patience and not under_appeal else Duty.WAIT
    ballot = batch.ballot(mine)
    late = batch.can_settle(now, terms.reveal_seconds)
    if ballot == Ballot.NOTHING and now <= batch.clock:
        return Duty.COMMIT if voted else Duty.CHECK
    if ballot == Ballot.COMMITTED and batch.is_revealing(now) and not late:
        return Duty.REVEAL
    return Duty.SETTLE if late else Duty.WAIT


class Voting:
    """The seats of one verifier account. Dishonest ones replace `advance`, `judge` or `vote`.

    Transactions are queued, and what became of them is seen at the chain: no seat waits for another's.
    """

    def __init__(
        self,
        chain: Chain,
        store: VerifierStore,
        outbox: Submits,
        engine: Engine,
        model_id: bytes,
        stop: threading.Event,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called when there is a new vote to send: the next step need not wait for a block."""
        self.chain = chain
        self.store = store
        self.outbox = outbox
        self.engine = engine
        self.model_id = model_id
        self.stop = stop
        self.checks = Checks()
        self.seats = Seats(chain, store, model_id)
        self.wake = wake
        self._apart = Apart(MAX_PAUSE_SECONDS)
        self.gathering = Gathering(chain, store)
        self.dissenting = Dissenting(chain, store, outbox)
        self.signing: Signing | None = None  # without it, every seat votes on the chain
        self._appealing = Appealing(
            chain, store, outbox, engine, model_id, stop, self.checks, self.seats, self.gathering, wake
        )
        self._asleep: dict[tuple[bytes, int], int] = {}  # settled batches: the chain's time until nothing is due
        self._in_flight: frozenset[str] = frozenset()  # what was, before the chain was asked
        self._lost = LostVotes(store)
        self._staying = Staying(chain)

    def step(self) -> None:
        """Does what is due at this block, each part whatever becomes of the others. Raises TrineError."""
        self._apart.run("events", self.seats.read, part="events")
        self._in_flight = self.outbox.open_names()
        self._apart.run("draws", partial(self.seats.draw_late, self._draw), part="late draws")
        now = self.chain.timestamp()
        due = [duty for duty in self.store.duties() if now > self._asleep.get(duty, 0)]
        with self.chain.reading_ahead([("Batches", "batchOf", (batch_id,)) for batch_id, _ in due]):
            for batch_id, round_ in due:
                advance = partial(self.advance, batch_id, round_)
                self._apart.run((batch_id, round_), advance, batch=batch_id.hex(), round=round_)
        self._appealing.step()
        self.dissenting.step()

    def close(self) -> None:
        """Waits for checks that run; `stop` must be set."""
        self.checks.close()

    def _draw(self, batch: Batch, last_block: int) -> bool:
        """Whether it was not on its way already. Raises TransactionReverted."""
        fixed_at = self.chain.fixed_at(batch.batch_id)
        call = self.chain.with_seed(CALLS.draw(batch.known_header), batch.clock, fixed_at)
        return call is not None and self._submit("draw", batch.batch_id, call, Due(block=last_block))

    def advance(self, batch_id: bytes, round_: int) -> None:
        """Does what the seat in this round has to do now, if anything. Raises TransactionReverted."""
        chain = self.chain
        batch = chain.batch(batch_id)
        seats = chain.seats(batch)
        terms = chain.parameters(batch.terms) if batch.state != BatchState.NONE else chain.parameters()
        stored = self.store.vote(batch_id, round_)
        now = chain.timestamp()
        open_appeals = chain.marks(batch).open if batch.state == BatchState.SETTLED else 0
        duty = next_duty(
            batch, seats, chain.address, round_, terms,
            voted=stored is not None, now=now, under_appeal=open_appeals != 0,
        )  # fmt: skip
        if duty is Duty.OVER and shows_no_draw(batch, round_) and self.seats.is_drawn(batch_id, round_):
            return  # the events say otherwise: they are newer, or are about to be taken back
        if self.signing and (batch.state is not BatchState.DRAWN or batch.round != round_):
            self.signing.conclude(batch, round_)
        if self._lost.is_lost(batch, seats, chain, stored, duty, terms):
            return
        if duty is Duty.CHECK:
            self.checks.want(
                (batch_id, round_), batch.known_header.node, lambda crowd: self._check(batch, terms, crowd)
            )
            self.signs(batch, seats, None, terms)  # so that others are heard meanwhile
            return
        if duty is Duty.COMMIT and stored and self.signs(batch, seats, stored, terms):
            return
        if duty in (Duty.COMMIT, Duty.REVEAL) and stored:
            self.vote(duty, batch, seats, stored)
        elif duty is Duty.SETTLE:
            self._submit("settle", batch_id, CALLS.settle(batch.known_header, seats))
        elif duty is Duty.FINALIZE:
            self._submit("finalize", batch_id, CALLS.finalize([(batch.known_header, seats)]))
        elif duty is Duty.OVER:
            self._end(batch, round_)
        elif duty is Duty.WAIT and batch.state == BatchState.SETTLED:
            self._wait_for_the_end(batch, round_, seats, stored, terms, open_appeals)

    def _wait_for_the_end(
        self,
        batch: Batch,
        round_: int,
        seats: tuple[Seat, ...],
        stored: StoredVote | None,
        terms: Parameters,
        open_appeals: int,
    ) -> None:
        """While a settled batch may be appealed, or is: appeals our dissents, moves on what others let lie."""
        batch_id = batch.batch_id
        if stored is not None:
            consider = partial(self.dissenting.consider, batch, seats, stored, terms)
            self._apart.run(("dissent", batch_id), consider, batch=batch_id.hex(), part="appeal")
        mine = next(index for index, seat in enumerate(seats) if seat.verifier == self.chain.address)
        for leaf in leaves_in(open_appeals):
            act = moving_on(self.chain, batch, leaf, terms, FINALIZE_GRACE_SECONDS * (1 + mine))
            if act is not None and act.names[0] not in self._in_flight:
                self.outbox.submit(act)
        if not open_appeals and not self.dissenting.watches(batch_id) and self._stays(batch, round_):
            window = 0 if batch.is_calibration else terms.appeal_window_seconds
            self._asleep[batch_id, round_] = batch.clock + window

    def _end(self, batch: Batch, round_: int) -> None:
        """Forgets the seat, once no re-org can ask for its vote again."""
        seat = (batch.batch_id, round_)
        if self._stays(batch, round_):
            self.store.end_duty(*seat)
            self._asleep.pop(seat, None)
            self._apart.forget(seat)

    def _stays(self, batch: Batch, round_: int) -> bool:
        return self._staying.stays((batch.batch_id, round_), (batch.state, batch.round, batch.clock))

    def _submit(
        self, verb: str, batch_id: bytes, call: Call, due: Due = NOT_DUE, guards: tuple[Guard, ...] = (), of: str = ""
    ) -> bool:
        """Queues what is not in flight already. Raises TransactionReverted when it was refused the last time."""
        name = batch_names(verb, [batch_id])[0] + of
        if name in self._in_flight:
            return False
        self.outbox.submit(Act((name,), call, due, guards))
        log.info("duty", batch=batch_id.hex(), action=verb)
        return True

    def signs(self, batch: Batch, seats: tuple[Seat, ...], stored: StoredVote | None, terms: Parameters) -> bool:
        """Whether the seat waits with its commitment, because the three may sign. Sends the settlement when it is its
        turn. Nothing that goes wrong here may cost the time to commit."""
        if self.signing is None:
            return False
        try:
            step = self.signing.advance(batch, seats, stored, terms)
            if step.do is Do.SEND:
                self._settle_signed(self.signing, batch, seats, terms)
        except TransactionReverted as error:
            log.info("signatures_refused", batch=batch.batch_id.hex(), reason=error.reason)
            self.signing.decline(batch.batch_id, batch.round, Why.NOT_TAKEN)
            return False
        except TrineError:
            if stored is None or batch.clock - self.chain.timestamp() > FALL_BACK_SHARE * terms.commit_seconds:
                raise
            log.warning("signing_failed", batch=batch.batch_id.hex(), exc_info=True)
            return False
        except Exception:
            log.exception("signing_failed", batch=batch.batch_id.hex())
            return False
        return stored is not None and step.do is not Do.VOTE

    def _settle_signed(self, signing: Signing, batch: Batch, seats: tuple[Seat, ...], terms: Parameters) -> None:
        made = signing.settlement(batch.batch_id, batch.round)
        call = CALLS.settle_signed(batch.known_header, seats, made.epoch, made.result, made.keys, made.signature)
        due = Due(at=batch.clock - round(MINED_SHARE * terms.commit_seconds))
        self._submit("settle-signed", batch.batch_id, call, due, of=f"/{batch.round}")

    def _check(self, batch: Batch, terms: Parameters, crowd: int) -> None:
        """Keeps the vote, which is committed at the next step."""
        verdicts = self.judge(batch, terms, crowd)
        if verdicts is not None and self.store.vote(batch.batch_id, batch.round) is None:
            self.store.save_vote(batch.batch_id, batch.round, vote_of(verdicts), secrets.token_bytes(32), verdicts)
            self.wake()

    def vote(self, duty: Duty, batch: Batch, seats: tuple[Seat, ...], stored: StoredVote) -> None:
        """Commits or reveals what is stored."""
        chain, of = self.chain, f"/{batch.round}"
        seat = next(index for index, each in enumerate(seats) if each.verifier == chain.address)
        if duty is Duty.REVEAL:
            call = CALLS.reveal(batch.known_header, seats, seat, stored.vote, stored.distance_ppm, stored.salt)
            # The clock is the deadline of commitments, or when all had committed.
            terms = chain.parameters(batch.terms)
            due = Due(at=batch.clock + terms.reveal_seconds)
            try:
                self._submit("reveal", batch.batch_id, call, due, of=of)
            except TransactionReverted as error:
                self._lost.note_refusal(error, terms, batch=batch.batch_id.hex(), round=batch.round)
                raise
            return
        committed = committed_as(chain, batch, stored)
        guard = vote_guard(batch.batch_id, batch.round, committed)
        call = CALLS.commit(batch.batch_id, seats, seat, committed)
        self._submit("commit", batch.batch_id, call, Due(at=batch.clock), (guard,), of)

    def judge(self, batch: Batch, terms: Parameters, crowd: int) -> list[Verdict] | None:
        """Verdicts by leaf; None to try again later, because the evidence is not there yet. In a thread of its own.

        `crowd`: how many checks of the same node want time, this one included.
        """
        header = batch.known_header
        if header.model_id != self.model_id:
            log.warning("foreign_model", batch=batch.batch_id.hex())
            return None
        anchor = anchor_of(self.chain, batch)
        patience = listening(batch.clock, terms, header.tokens, self.chain.timestamp(), crowd)
        gathered = self.gathering.batch(batch, anchor, patience)
        if gathered.missing and self.chain.timestamp() < evidence_deadline(batch.clock, terms, header.tokens):
            log.info("evidence_missing", batch=batch.batch_id.hex(), leaves=gathered.missing, error=gathered.why)
            return None
        if gathered.shown is None:
            return withheld(batch.leaf_count, gathered.why[:MAX_DETAIL])
        anchoring = self.chain.anchoring(batch.batch_id)
        policy = Policy.from_bytes(self.chain.policy_at(header.model_id, anchoring.block, anchoring.log_index))
        challenge = self._challenge(anchoring.challenge_id) if batch.is_calibration else None
        with self.checks.turns.turn(batch.clock) as let_others_go_first:

            def between() -> None:
                if self.stop.is_set():
                    raise InterruptedError
                let_others_go_first()

            in_time = partial(check_in_time, self.chain, self.checks.pace, batch.clock, terms)
            verdicts = check_batch(gathered.shown, anchor, self.engine, policy, challenge, between, in_time)
        for leaf, verdict in enumerate(verdicts):
            log.info(
                "verdict",
                batch=batch.batch_id.hex(),
                leaf=leaf,
                outcome=verdict.outcome.value,
                reason=verdict.reason.value,
                deviation=round(verdict.deviation, 6),
                margin=round(verdict.worst_margin, 4),
                detail=verdict.detail,
            )
        return verdicts

    def _challenge(self, challenge_id: bytes) -> Challenged:
        challenge = self.chain.challenge(challenge_id)
        model = self.chain.model(challenge.model_id)
        asked = (model.prompts, model.prompt_count, challenge.seed, challenge_id, challenge.leaves)
        prompts = challenge_prompts(*asked)
        return Challenged(prompts, self.chain.claimed_tokens(challenge_id))
