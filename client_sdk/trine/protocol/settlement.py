"""What three ballots lead to: words, fees, penalties and the node's loss. The twin of `Batches` and `Finality`.

For batches that two seats at least have voted on, and where everybody has the stake that is taken.
`tests/contracts/Differential.t.sol` holds the contracts to it, to the wei.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from trine.errors import InvalidInput
from trine.protocol.merkle import MAX_LEAVES
from trine.protocol.reputation import OUTCOME
from trine.protocol.votes import Vote, agreed, settle, wrong

SEATS = 3
QUORUM = 2


class Silence(Enum):
    """How a seat can fail to vote."""

    NO_COMMIT = "no commit"
    NO_REVEAL = "no reveal"


Ballot = Vote | Silence


@dataclass(frozen=True, slots=True)
class Terms:
    """Those of the parameters that a settlement follows, in wei."""

    stake_per_leaf: int
    refund_per_leaf: int
    fee_per_leaf: int
    fee_per_token: int
    dissent_fine: int
    """For each leaf that a seat voted on against the final verdict."""
    overturned_fine: int
    """The same for a leaf whose verdict an appeal turned."""
    wrong_vote_penalty: int
    """The most that a seat is fined for its votes in a batch."""
    no_reveal_penalty: int
    no_commit_penalty: int
    canary_penalty: int
    """What accepting an answer that was known to be bad raises a seat's fines to."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What goes into a record of reputation, in millionths of an outcome."""

    accepted: int = 0
    rejected: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Seat:
    """What a verifier gets, for the leaves on which it voted what is final, and loses, for those against it."""

    paid: int
    penalty: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Settlement:
    """Everything that a batch leads to, when nothing can change it any more."""

    settled: Vote
    """As voted."""
    final: Vote
    """The same after appeals."""
    seats: tuple[Seat, ...]
    fee: int
    """Taken from the node when it anchored."""
    fee_burned: int
    """The part of it that nobody earned."""
    node_lost: int
    """Of the node's stake: for rejected leaves, and for those that it did not show."""
    refunds: int
    """The part of that which is kept for the clients of these leaves; the rest is burned."""
    node_counts: Counts


def conclude(
    ballots: Sequence[Ballot],
    leaf_count: int,
    terms: Terms,
    final: Vote | None = None,
    *,
    tokens: int = 0,
    canaries: int = 0,
) -> Settlement:
    """`tokens` are those that the batch's root counts; `final` is the result after appeals, None without any;
    `canaries` are leaves that were opened as known to be bad.

    Raises InvalidInput where the contracts refuse a vote, and where fewer than two seats voted: then another committee
    is drawn.
    """
    if not 1 <= leaf_count <= MAX_LEAVES:
        raise InvalidInput(f"a batch has 1 to {MAX_LEAVES} leaves, not {leaf_count}")
    if len(ballots) != SEATS:
        raise InvalidInput(f"{SEATS} seats judge a batch, not {len(ballots)}")
    votes = [ballot if isinstance(ballot, Vote) else None for ballot in ballots]
    if sum(vote is not None for vote in votes) < QUORUM:
        raise InvalidInput(f"fewer than {QUORUM} seats voted")
    if any(vote and vote.leaves >> leaf_count for vote in votes):
        raise InvalidInput(f"a vote is on more than {leaf_count} leaves")
    settled = settle(votes)
    final = settled if final is None else final
    if final.leaves >> leaf_count:
        raise InvalidInput("no batch can have that result")

    fee = terms.fee_per_leaf * leaf_count + terms.fee_per_token * tokens
    turned = (final.accepts & ~settled.accepts) | (final.rejects & ~settled.rejects)
    seats = tuple(_seat(ballot, leaf_count, final, turned, canaries, fee, terms) for ballot in ballots)
    # The node said beforehand that these are bad: no merit, no fault.
    acceptances = (final.accepts & ~canaries).bit_count()
    # A node that could withhold for less would show its cheats only to committees of its own.
    failures = ((final.rejects | final.unavailable) & ~canaries).bit_count()
    return Settlement(
        settled=settled,
        final=final,
        seats=seats,
        fee=fee,
        fee_burned=fee - sum(seat.paid for seat in seats),
        node_lost=terms.stake_per_leaf * failures,
        refunds=terms.refund_per_leaf * failures,
        node_counts=Counts(accepted=acceptances * OUTCOME, rejected=failures * OUTCOME),
    )


def _seat(ballot: Ballot, leaf_count: int, final: Vote, turned: int, canaries: int, fee: int, terms: Terms) -> Seat:
    """`turned`: leaves whose verdict an appeal has changed; `fee`: of all seats together."""
    if ballot is Silence.NO_COMMIT:
        return Seat(0, terms.no_commit_penalty, Counts(missed=OUTCOME))
    if ballot is Silence.NO_REVEAL:
        return Seat(0, terms.no_reveal_penalty, Counts(missed=OUTCOME))
    right, against = agreed(ballot, final).bit_count(), wrong(ballot, final)
    accepted_canaries = against & ballot.accepts & canaries
    grave = (against & (turned | accepted_canaries)).bit_count()
    light = against.bit_count() - grave
    fine = min(grave * terms.overturned_fine + light * terms.dissent_fine, terms.wrong_vote_penalty)
    if accepted_canaries:
        fine = max(fine, terms.canary_penalty)
    counts = Counts(accepted=right * OUTCOME // leaf_count, rejected=grave * OUTCOME - (-light * OUTCOME // leaf_count))
    return Seat(fee * right // (SEATS * leaf_count), fine, counts)
