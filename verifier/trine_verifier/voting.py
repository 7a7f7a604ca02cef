"""Watches draws, checks, commits, reveals, settles. A restart at any point goes on from the store and the chain."""

from __future__ import annotations

import secrets
import threading
from enum import Enum

import structlog

from trine.chain import Batch, BatchState, Chain, Seat
from trine.errors import ChainError, InvalidInput, NodeError, NotReady, TransactionReverted
from trine.protocol.calibration import parse_prompt_set, prompt_indices
from trine.protocol.evidence import Anchor
from trine.protocol.inputs import Input
from trine.protocol.policy import Policy
from trine.protocol.verdict import Verdict
from trine.protocol.votes import commitment
from trine_node.engines.base import Engine
from trine_verifier.checking import check_batch, vote_of, withheld
from trine_verifier.evidence import fetch
from trine_verifier.store import VerifierStore

log = structlog.get_logger()

MAX_BACKOFF_SECONDS = 30.0
EVIDENCE_SHARE = 0.5
"""Evidence that is not shown within this share of the commit window counts as withheld."""


class Duty(Enum):
    """What a seat has to do next."""

    CHECK = "check"
    COMMIT = "commit"
    REVEAL = "reveal"
    SETTLE = "settle"
    OVER = "over"
    WAIT = "wait"


def next_duty(batch: Batch, seats: tuple[Seat, ...], me: str, round_: int, *, voted: bool, now: int) -> Duty:
    """Pure: from the chain's view of the batch and whether our vote is stored. `now` is the chain's time."""
    mine = next((seat for seat in seats if seat.verifier == me), None)
    if batch.state in (BatchState.SETTLED, BatchState.VOID, BatchState.NONE) or batch.round != round_ or mine is None:
        return Duty.OVER
    late = now > batch.deadline
    committed = [seat for seat in seats if any(seat.commitment)]
    if batch.state == BatchState.COMMITTING:
        if any(mine.commitment):
            if not late:
                return Duty.WAIT
            return Duty.REVEAL if len(committed) >= 2 else Duty.SETTLE
        if late:
            return Duty.SETTLE
        return Duty.COMMIT if voted else Duty.CHECK
    if batch.state == BatchState.REVEALING:
        if any(mine.commitment) and not mine.revealed and not late:
            return Duty.REVEAL
        return Duty.SETTLE if late or all(seat.revealed for seat in committed) else Duty.WAIT
    return Duty.WAIT


class Voting:
    """The seats of one verifier account."""

    def __init__(
        self, chain: Chain, store: VerifierStore, engine: Engine, model_id: bytes, stop: threading.Event
    ) -> None:
        self.chain = chain
        self.store = store
        self.engine = engine
        self.model_id = model_id
        self.stop = stop
        self._commit_seconds = chain.parameters().commit_seconds

    def run(self, poll_seconds: float) -> None:
        pause = poll_seconds
        while not self.stop.wait(pause):
            try:
                self.step()
                pause = poll_seconds
            except InterruptedError:
                return
            except (ChainError, NotReady) as error:
                pause = min(pause * 2, MAX_BACKOFF_SECONDS)
                log.warning("voting_paused", error=str(error), seconds=pause)
            except Exception:
                pause = MAX_BACKOFF_SECONDS
                log.exception("voting_failed")

    def step(self) -> None:
        self._note_draws()
        for batch_id, round_ in self.store.duties():
            try:
                self._advance(batch_id, round_)
            except TransactionReverted as error:
                # Another verifier was faster, or a deadline fell: the next step sees which.
                log.info("transaction_refused", batch=batch_id.hex(), reason=error.reason)

    def _note_draws(self) -> None:
        start = self.store.cursor(self.chain.deployment.block)
        end = self.chain.block_number()
        if start > end:
            return
        duties = [
            (bytes(event.args["batchId"]), int(event.args["round"]))
            for event in self.chain.events("Batches", "CommitteeDrawn", from_block=start, to_block=end)
            if self.chain.address in event.args["verifiers"]
        ]
        self.store.note_draws(end + 1, duties)

    def _advance(self, batch_id: bytes, round_: int) -> None:
        chain = self.chain
        batch, seats = chain.batch(batch_id), chain.seats(batch_id)
        stored = self.store.vote(batch_id, round_)
        now = chain.timestamp()
        duty = next_duty(batch, seats, chain.address, round_, voted=stored is not None, now=now)
        if duty is Duty.CHECK:
            verdicts = self._judge(batch, now)
            if verdicts is None:
                return
            self.store.save_vote(batch_id, round_, vote_of(verdicts), secrets.token_bytes(32), verdicts)
            stored = self.store.vote(batch_id, round_)
            duty = Duty.COMMIT
        if duty is Duty.COMMIT and stored:
            chain.commit(
                batch_id,
                commitment(
                    chain.deployment.chain_id, chain.deployment.address("Batches"), batch_id, round_, chain.address,
                    stored.vote, stored.salt,
                ),
            )  # fmt: skip
        elif duty is Duty.REVEAL and stored:
            chain.reveal(batch_id, stored.vote.accepts, stored.vote.rejects, stored.salt)
        elif duty is Duty.SETTLE:
            chain.settle(batch_id)
        elif duty is Duty.OVER:
            self.store.end_duty(batch_id, round_)
        if duty is not Duty.WAIT:
            log.info("duty", batch=batch_id.hex(), action=duty.value)

    def _judge(self, batch: Batch, now: int) -> list[Verdict] | None:
        """Verdicts by leaf; None to try again later, because the evidence is not there yet."""
        if batch.model_id != self.model_id:
            log.warning("foreign_model", batch=batch.batch_id.hex())
            return None
        anchor = Anchor(self.chain.domain, batch.node, batch.model_id, batch.root, batch.leaf_count)
        try:
            shown = fetch(self.chain, batch)
        except (NodeError, InvalidInput) as error:
            if now < batch.deadline - self._commit_seconds * (1 - EVIDENCE_SHARE):
                log.info("evidence_missing", batch=batch.batch_id.hex(), error=str(error))
                return None
            return withheld(batch.leaf_count, str(error))
        policy = Policy.from_bytes(self.chain.policy(batch.model_id, batch.policy_version))
        verdicts = check_batch(shown, anchor, self.engine, policy, self._challenge(batch), self.stop.is_set)
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

    def _challenge(self, batch: Batch) -> list[Input] | None:
        if not batch.is_calibration:
            return None
        challenge = self.chain.challenge(batch.challenge_id)
        model = self.chain.model(batch.model_id)
        prompts = parse_prompt_set(model.prompts)
        indices = prompt_indices(challenge.seed, batch.challenge_id, batch.leaf_count, model.prompt_count)
        return [prompts[i] for i in indices]
