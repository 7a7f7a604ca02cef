"""What it costs a briber who owns no stake to have a bad answer accepted: two of three seats, then the juries.

A bribe pays a seat what it loses by the wrong vote, if it is found wrong, and what it would have earned by the right
one, and one wei. A *p + epsilon* bribe is promised for the vote and paid only where that vote loses: a seat that
believes it votes wrong whatever the others do, so that the vote wins and the briber owes next to nothing; all that it
needs is to show that it could pay.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from trine.errors import InvalidInput
from trine.protocol.appeal_settlement import JURIES
from trine.protocol.settlement import SEATS, conclude
from trine.protocol.votes import Vote
from trine_research.study.tournament.coalitions import fines
from trine_research.study.tournament.juries import ACCEPTED, REJECTED, case
from trine_research.study.tournament.world import World, binomial


@dataclass(frozen=True, slots=True)
class Bribe:
    """Amounts in wei."""

    stage: str
    seats: int
    """That must be bribed: a majority."""
    each: int
    """What a bribed seat loses where it is found wrong."""
    direct: int
    """To all of them, whatever happens."""
    escrow: int
    """p + epsilon: to all seats of the committee, if all vote wrong and lose."""


def committee(world: World, leaves: int) -> Bribe:
    """Of a batch with so many bad leaves, all of which appeals would turn."""
    if not 1 <= leaves <= world.leaves:
        raise InvalidInput(f"1 to {world.leaves} leaves of a batch can be bad")
    word = (1 << leaves) - 1
    right = conclude([Vote(0, word)] * SEATS, leaves, world.terms, tokens=leaves * world.tokens).seats[0].paid
    each = fines(world, SEATS, leaves) + right
    return Bribe("batch", SEATS // 2 + 1, each, (SEATS // 2 + 1) * (each + 1), SEATS * (each + 1))


def jury(world: World, level: int) -> Bribe:
    """Of the first appeal (0) or the second (1) of one leaf."""
    size = JURIES[level]
    fee = case(world, ACCEPTED, REJECTED, (REJECTED,) * JURIES[0]).jurors[0][0].paid
    wrong = case(world, ACCEPTED, REJECTED, (ACCEPTED,) + (REJECTED,) * (JURIES[0] - 1)).jurors[0][0].penalty
    each, quorum = wrong + fee, size // 2 + 1
    return Bribe(f"jury of {size}", quorum, each, quorum * (each + 1), size * (each + 1))


def stages(world: World, leaves: int = 1) -> list[Bribe]:
    return [committee(world, leaves), jury(world, 0), jury(world, 1)]


def unappealed(world: World, leaves: int = 1) -> Fraction:
    """What two of three seats lose in expectation if nobody honest sits with them, or is shown anything: only clients
    appeal. Wei for both, without what is paid for the wrong vote as for any."""
    seats = SEATS // 2 + 1
    each = sum(
        (chance * fines(world, SEATS, count) for count, chance in enumerate(binomial(leaves, world.appealed))),
        Fraction(0),
    )
    return seats * each
