"""Votes that were committed and cannot be revealed, because the store that held their salts was lost or is a backup.

What the chain or the protection record shows is never voted against. It is said once a seat, with what it costs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import structlog

from trine.chain import AppealCase, AppealPhase, Ballot, Batch, BatchState, Chain, Parameters, Seat
from trine.errors import TransactionReverted
from trine.protocol import appeals, votes
from trine.protocol.appeals import LeafVote
from trine_operator.outbox.protection import appeal_guard, recorded, vote_guard
from trine_verifier.duties import Duty
from trine_verifier.store import AppealSeat, StoredVote, VerifierStore

log = structlog.get_logger()

TOKEN = 10**18
HINT = (
    "this store is a backup from before the vote, or a new one: put the store back that was in use then, before the "
    "time to reveal is over; no other vote is committed for the seat"
)


def committed_as(chain: Chain, batch: Batch, stored: StoredVote) -> bytes:
    """The commitment of a stored vote in the batch's round."""
    return votes.commitment(
        chain.deployment.chain_id, chain.deployment.address("Batches"), batch.batch_id, batch.round, chain.address,
        stored.vote, stored.distance_ppm, stored.salt,
    )  # fmt: skip


def committed_on_appeal(chain: Chain, seat: AppealSeat, vote: LeafVote, salt: bytes) -> bytes:
    return appeals.commitment(
        chain.deployment.chain_id, chain.deployment.address("Appeals"), seat.batch_id, seat.leaf, seat.level,
        seat.round, chain.address, vote, salt,
    )  # fmt: skip


def is_lost(*, on_chain: bool, on_record: bytes | None, stored: bytes | None) -> bool:
    """Pure: whether a seat has a commitment that is not that of the stored vote."""
    if on_record is not None:
        return stored != on_record
    return on_chain and stored is None


class LostVotes:
    """Of one verifier account."""

    def __init__(self, store: VerifierStore) -> None:
        self._store = store
        self._told: set[Hashable] = set()

    def is_lost(
        self,
        batch: Batch,
        seats: Sequence[Seat],
        chain: Chain,
        stored: StoredVote | None,
        duty: Duty,
        terms: Parameters,
    ) -> bool:
        """Whether our seat's vote in the batch's round can be neither committed nor revealed. Says so, once."""
        mine = next((index for index, seat in enumerate(seats) if seat.verifier == chain.address), None)
        if batch.state != BatchState.DRAWN or mine is None or not _votes(duty):
            return False
        if batch.ballot(mine) >= Ballot.ASSENT:
            return False  # revealed
        lost = is_lost(
            on_chain=batch.ballot(mine) == Ballot.COMMITTED,
            on_record=self._recorded("vote", vote_guard(batch.batch_id, batch.round, b"").subject),
            stored=committed_as(chain, batch, stored) if stored else None,
        )
        if lost:
            self._tell((batch.batch_id, batch.round), terms, batch=batch.batch_id.hex(), round=batch.round)
        return lost and duty is not Duty.WAIT

    def is_lost_on_appeal(
        self,
        case: AppealCase,
        seats: Sequence[Seat],
        chain: Chain,
        seat: AppealSeat,
        stored: tuple[LeafVote, bytes] | None,
        duty: Duty,
        terms: Parameters,
    ) -> bool:
        """As `is_lost`, for a seat on an appealed leaf."""
        mine = next((index for index, each in enumerate(seats) if each.verifier == chain.address), None)
        if case.phase != AppealPhase.DRAWN or case.level != seat.level or mine is None or not _votes(duty):
            return False
        if case.current.revealed >> mine & 1:
            return False
        lost = is_lost(
            on_chain=bool(case.current.committed >> mine & 1),
            on_record=self._recorded(
                "appeal-vote", appeal_guard(seat.batch_id, seat.leaf, seat.level, seat.round, b"").subject
            ),
            stored=committed_on_appeal(chain, seat, *stored) if stored else None,
        )
        if lost:
            self._tell(seat, terms, batch=seat.batch_id.hex(), leaf=seat.leaf, level=seat.level, round=seat.round)
        return lost and duty is not Duty.WAIT

    def note_refusal(self, error: TransactionReverted, terms: Parameters, **seat: object) -> None:
        """Of a reveal: says so if the chain has another commitment than the stored vote's."""
        if "CommitmentMismatch" in error.reason:
            self._tell(tuple(seat.items()), terms, **seat)

    def _recorded(self, kind: str, subject: str) -> bytes | None:
        value = recorded(self._store, kind, subject)
        return bytes.fromhex(value) if value else None

    def _tell(self, key: Hashable, terms: Parameters, **what: object) -> None:
        if key not in self._told:
            self._told.add(key)
            log.error("vote_lost", costs_tokens=terms.no_reveal_penalty / TOKEN, hint=HINT, **what)


def _votes(duty: Duty) -> bool:
    """Whether the duty is about a vote, or waits while one may be on its way."""
    return duty in (Duty.CHECK, Duty.COMMIT, Duty.REVEAL, Duty.WAIT)
