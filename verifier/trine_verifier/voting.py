"""Watches draws, checks, commits, reveals, settles, finalizes. A restart at any point goes on from store and chain."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from trine.chain import Ballot, Batch, BatchState, Chain, Event, Parameters, Seat
from trine.chain.transactions import Call
from trine.chain.writes import CALLS
from trine.errors import InvalidInput, NodeError, TransactionReverted
from trine.protocol.calibration import parse_prompt_set, prompt_indices
from trine.protocol.evidence import Anchor
from trine.protocol.policy import Policy
from trine.protocol.verdict import Verdict
from trine_node.engines.base import Engine
from trine_operator.apart import Apart
from trine_operator.outbox import Act, Due, Guard, Submits
from trine_operator.outbox.acts import NOT_DUE, batch_names
from trine_operator.outbox.protection import vote_guard
from trine_verifier.appeals import Appealing
from trine_verifier.checking import Challenged, check_batch, vote_of, withheld
from trine_verifier.checks import Checks, check_in_time
from trine_verifier.duties import (
    FINALIZE_GRACE_SECONDS,
    MAX_PAUSE_SECONDS,
    Duty,
    evidence_deadline,
    fetch_seconds,
)
from trine_verifier.evidence import fetch
from trine_verifier.lost import LostVotes, committed_as
from trine_verifier.store import AppealSeat, StoredVote, VerifierStore

log = structlog.get_logger()

WATCHED = (
    ("Batches", "BatchAnchored"),
    ("Batches", "CommitteeDrawn"),
    ("Batches", "CommitteeRedrawn"),
    ("Appeals", "AppealDrawn"),
)
CURSOR_BLOCKS = 100
"""How far the cursor may lie behind when nothing was found: blocks read twice after a crash instead of writes."""
OVERLAP_BLOCKS = 12
"""Blocks that are read again: an endpoint may know a block before it knows its events, or replace it by another."""
ROLLBACK_BLOCKS = 256
"""Read again when the chain has become shorter; deeper, its hashes are forgotten and nothing can be drawn."""
DRAW_SHARE = 0.5
"""A batch that its node has not drawn within this share of the window is drawn by verifiers: a node must not let a
committee that it dislikes expire."""


def next_duty(
    batch: Batch, seats: tuple[Seat, ...], me: str, round_: int, terms: Parameters, *, voted: bool, now: int
) -> Duty:
    """Pure: from the chain's view of the batch and whether our vote is stored. `now` is the chain's time."""
    mine = next((index for index, seat in enumerate(seats) if seat.verifier == me), None)
    if batch.state in (BatchState.NONE, BatchState.FINAL, BatchState.VOID) or batch.round != round_ or mine is None:
        return Duty.OVER
    if batch.state == BatchState.ANCHORED:
        return Duty.WAIT
    if batch.state == BatchState.SETTLED:
        window = 0 if batch.is_calibration else terms.appeal_window_seconds
        patience = FINALIZE_GRACE_SECONDS * (1 + mine)
        return Duty.FINALIZE if now > batch.clock + window + patience else Duty.WAIT
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
        self.wake = wake
        self._apart = Apart(MAX_PAUSE_SECONDS)
        self._appealing = Appealing(chain, store, outbox, engine, model_id, stop, self.checks, wake)
        self._asleep: dict[tuple[bytes, int], int] = {}  # settled batches: the chain's time until nothing is due
        self._undrawn: dict[bytes, int] = {}  # batches that wait for a committee: their seed blocks
        self._read: int | None = None  # the first block whose events were not read yet
        self._stored = 0  # the same, as it stands in the store
        self._in_flight: frozenset[str] = frozenset()  # what was, before the chain was asked
        self._lost = LostVotes(store)
        self._noted: dict[Any, int] = {}  # seats of the last blocks that are in the store: where they were drawn

    def step(self) -> None:
        """Does what is due at this block, each part whatever becomes of the others. Raises TrineError."""
        self._apart.run("events", self._read_events, part="events")
        self._apart.run("draws", self._draw_late, part="late draws")
        now = self.chain.timestamp()
        for batch_id, round_ in self.store.duties():
            if now > self._asleep.get((batch_id, round_), 0):
                advance = partial(self.advance, batch_id, round_)
                self._apart.run((batch_id, round_), advance, batch=batch_id.hex(), round=round_)
        self._appealing.step()

    def close(self) -> None:
        """Waits for checks that run; `stop` must be set."""
        self.checks.close()

    def _read_events(self) -> None:
        """Notes our seats, and which batches wait for a committee, from all blocks since the last time."""
        chain = self.chain
        end = chain.block_number()
        if self._read is None:
            self._stored = self.store.cursor(chain.deployment.block)
            # What waits for a committee is not stored: it was anchored or redrawn at most a window ago.
            self._read = min(self._stored, max(end - 2 * chain.draw_window_blocks(), chain.deployment.block))
        if end < self._read - 1 - OVERLAP_BLOCKS:
            # By more than one of an endpoint's servers may be behind, and by more than is read again anyway.
            log.warning("chain_rolled_back", was=self._read - 1, now=end)
            self._read = max(end + 1 - ROLLBACK_BLOCKS, chain.deployment.block)
            self._noted.clear()
        if self._read > end:
            return
        events = list(chain.events_of(WATCHED, max(self._read - OVERLAP_BLOCKS, chain.deployment.block), end))
        self._note_undrawn(events)
        seats = [e for e in events if chain.address in [seat["verifier"] for seat in e.args.get("seats", ())]]
        mine = [e for e in seats if (e.block, e.transaction, e.log_index) not in self._noted]
        duties = [(bytes(e.args["batchId"]), int(e.args["round"])) for e in mine if e.name == "CommitteeDrawn"]
        appeals = [
            AppealSeat(bytes(e.args["batchId"]), e.args["leafIndex"], e.args["level"], e.args["round"])
            for e in mine
            if e.name == "AppealDrawn"
        ]
        if duties or appeals or end + 1 - self._stored >= CURSOR_BLOCKS:
            self.store.note_draws(end + 1, duties, appeals)
            self._stored = end + 1
        self._read = end + 1
        kept = {(e.block, e.transaction, e.log_index): e.block for e in seats}
        self._noted = {k: at for k, at in (self._noted | kept).items() if at > end - 2 * OVERLAP_BLOCKS}

    def _note_undrawn(self, events: list[Event]) -> None:
        for event in events:
            batch_id = bytes(event.args["batchId"])
            if event.name == "CommitteeRedrawn" or (
                event.name == "BatchAnchored" and bytes(event.args["modelId"]) == self.model_id
            ):
                self._undrawn[batch_id] = int(event.args["seedBlock"])
            elif event.name == "CommitteeDrawn":
                self._undrawn.pop(batch_id, None)

    def _draw_late(self) -> None:
        """Draws what is about to expire undrawn, whoever is drawn."""
        chain = self.chain
        if not self._undrawn:
            return
        self._in_flight = self.outbox.open_names()
        block, window = chain.block_number(), chain.draw_window_blocks()
        for batch_id, seed_block in list(self._undrawn.items()):
            if block > seed_block + window:
                del self._undrawn[batch_id]
            elif block > seed_block + window * DRAW_SHARE:
                batch = chain.batch(batch_id)
                if batch.state != BatchState.ANCHORED or batch.known_header.model_id != self.model_id:
                    del self._undrawn[batch_id]
                    continue
                try:
                    if self._submit("draw", batch_id, CALLS.draw(batch.known_header), Due(block=seed_block + window)):
                        log.info("drawn_late", batch=batch_id.hex())
                except TransactionReverted as error:
                    log.info("transaction_refused", batch=batch_id.hex(), reason=error.reason)

    def advance(self, batch_id: bytes, round_: int) -> None:
        """Does what the seat in this round has to do now, if anything. Raises TransactionReverted."""
        chain = self.chain
        self._in_flight = self.outbox.open_names()
        batch = chain.batch(batch_id)
        seats = chain.seats(batch)
        terms = chain.parameters(batch.terms) if batch.state != BatchState.NONE else chain.parameters()
        stored = self.store.vote(batch_id, round_)
        now = chain.timestamp()
        duty = next_duty(batch, seats, chain.address, round_, terms, voted=stored is not None, now=now)
        if self._lost.is_lost(batch, seats, chain, stored, duty, terms):
            return
        if duty is Duty.CHECK:
            self.checks.want(
                (batch_id, round_), batch.known_header.node, lambda crowd: self._check(batch, terms, crowd)
            )
            return
        if duty in (Duty.COMMIT, Duty.REVEAL) and stored:
            self.vote(duty, batch, seats, stored)
        elif duty is Duty.SETTLE:
            self._submit("settle", batch_id, CALLS.settle(batch.known_header, seats))
        elif duty is Duty.FINALIZE:
            self._submit("finalize", batch_id, CALLS.finalize([(batch.known_header, seats)]))
        elif duty is Duty.OVER:
            self.store.end_duty(batch_id, round_)
            self._asleep.pop((batch_id, round_), None)
            self._apart.forget((batch_id, round_))
        elif duty is Duty.WAIT and batch.state == BatchState.SETTLED:
            self._asleep[batch_id, round_] = batch.clock + (0 if batch.is_calibration else terms.appeal_window_seconds)

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
        anchor = Anchor(self.chain.domain, header.node, header.model_id, header.root, batch.leaf_count)
        try:
            now = self.chain.timestamp()
            shown = fetch(self.chain, batch, fetch_seconds(batch.clock, terms, header.tokens, now, crowd))
        except (NodeError, InvalidInput) as error:
            if self.chain.timestamp() < evidence_deadline(batch.clock, terms, header.tokens):
                log.info("evidence_missing", batch=batch.batch_id.hex(), error=str(error))
                return None
            return withheld(batch.leaf_count, str(error))
        anchoring = self.chain.anchoring(batch.batch_id)
        policy = Policy.from_bytes(self.chain.policy_at(header.model_id, anchoring.block, anchoring.log_index))
        challenge = self._challenge(anchoring.challenge_id) if batch.is_calibration else None
        with self.checks.turns.turn(batch.clock) as let_others_go_first:

            def between() -> None:
                if self.stop.is_set():
                    raise InterruptedError
                let_others_go_first()

            in_time = partial(check_in_time, self.chain, self.checks.pace, batch.clock, terms)
            verdicts = check_batch(shown, anchor, self.engine, policy, challenge, between, in_time)
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
        prompts = parse_prompt_set(model.prompts)
        indices = prompt_indices(challenge.seed, challenge_id, challenge.leaves, model.prompt_count)
        return Challenged(tuple(prompts[i] for i in indices), self.chain.claimed_tokens(challenge_id))
