"""Appellants and jurors: one appeal of one leaf, before a jury of seven of whom all, or all but one, check honestly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from math import factorial

from trine.errors import InvalidInput
from trine.protocol.appeal_settlement import JURIES, AppealTerms, Case, JurorBallot, Level, bounty, conclude_case
from trine.protocol.appeals import LeafVote
from trine.protocol.settlement import SEATS, Silence, Terms
from trine.protocol.votes import Vote
from trine_research.study.incentives import ACCEPT, HIDDEN, NEITHER, REJECT, Leaf, Setting
from trine_research.study.tournament.world import Play, World

ACCEPTED, REJECTED, INCONCLUSIVE, UNAVAILABLE = LeafVote
_WORDS = {ACCEPTED: ACCEPT, REJECTED: REJECT, UNAVAILABLE: HIDDEN}
_SAYS = {ACCEPT: ACCEPTED, REJECT: REJECTED, NEITHER: INCONCLUSIVE}
JUROR_STRATEGIES: dict[str, JurorBallot | None] = {
    "honest": None,
    "abstain": INCONCLUSIVE,
    "always accept": ACCEPTED,
    "always reject": REJECTED,
    "always unavailable": UNAVAILABLE,
    "silent": Silence.NO_COMMIT,
}


@lru_cache(maxsize=256)
def honest_votes(setting: Setting, leaf: Leaf, seats: int) -> tuple[tuple[Fraction, tuple[JurorBallot, ...]], ...]:
    """All that so many honest jurors may say of a leaf, in no order, and the chances."""
    return tuple(_honest_votes(setting, leaf, seats))


def _honest_votes(setting: Setting, leaf: Leaf, seats: int) -> Iterator[tuple[Fraction, tuple[JurorBallot, ...]]]:
    for weight, says in setting.views(leaf):
        a, r, n = (says.get(vote, Fraction(0)) for vote in (ACCEPT, REJECT, NEITHER))
        for accepts in range(seats + 1):
            for rejects in range(seats + 1 - accepts):
                rest = seats - accepts - rejects
                ways = factorial(seats) // (factorial(accepts) * factorial(rejects) * factorial(rest))
                chance = weight * ways * a**accepts * r**rejects * n**rest
                if chance:
                    yield chance, (*[ACCEPTED] * accepts, *[REJECTED] * rejects, *[INCONCLUSIVE] * rest)


def case(world: World, settled: LeafVote, claim: LeafVote, ballots: tuple[JurorBallot, ...], *, shown: int = 0) -> Case:
    """A first appeal of the only wrong leaf of a batch whose three seats all voted `settled`. `shown`: see
    `conclude_case`."""
    seats = (_WORDS.get(settled, NEITHER),) * SEATS
    return appealed(world.terms, world.appeals, seats, settled, (Level(claim, ballots),), shown=shown)


@lru_cache(maxsize=1 << 14)
def appealed(
    terms: Terms,
    appeals: AppealTerms,
    seats: tuple[Vote, ...],
    settled: LeafVote,
    levels: tuple[Level, ...],
    *,
    shown: int = 0,
) -> Case:
    """A leaf by itself, with what its seats and its node lose for it."""
    verdict = conclude_case(settled, levels, 0, appeals).verdict
    final = _WORDS.get(verdict, NEITHER)
    return conclude_case(settled, levels, bounty(seats, 1, terms, final, 0, 0), appeals, shown=shown)


def appellant_gain(
    world: World, leaf: Leaf, settled: LeafVote, claim: LeafVote, seats: tuple[Vote, ...] | None = None
) -> Fraction:
    """Expected wei of a first appeal; nobody appeals again. `seats` are the batch's votes, all of them `settled` unless
    given."""
    seats = seats or (_WORDS.get(settled, NEITHER),) * SEATS
    total, bond = Fraction(0), world.appeals.bond(0)
    for chance, ballots in honest_votes(world.setting, leaf, JURIES[0]):
        end = appealed(world.terms, world.appeals, seats, settled, (Level(claim, ballots),))
        total += chance * (end.returned[0] + (end.prize if end.winner == 0 else 0) - bond)
    return total


ALL_WRONG = (ACCEPT,) * SEATS
OUTVOTED = (ACCEPT, ACCEPT, REJECT)
BLINDED = (ACCEPT, ACCEPT, HIDDEN)


def needed_belief(world: World, seats: tuple[Vote, ...] = ALL_WRONG) -> Fraction:
    """How sure one must be that an answer is bad which these seats accepted to gain by saying so, from 0 to 1."""
    right = appellant_gain(world, Leaf.CHEAT, ACCEPTED, REJECTED, seats)
    return _belief(right, -appellant_gain(world, Leaf.GOOD, ACCEPTED, REJECTED, seats))


def needed_belief_of_hidden(world: World) -> Fraction:
    """The same of an answer that two accepted, the third was not shown, and the jury will be shown only if it is
    good."""
    hidden = (UNAVAILABLE,) * JURIES[0]
    end = appealed(world.terms, world.appeals, BLINDED, ACCEPTED, (Level(REJECTED, hidden),))
    right = Fraction(end.returned[0] + end.prize - world.appeals.bond(0))
    return _belief(right, -appellant_gain(world, Leaf.GOOD, ACCEPTED, REJECTED, BLINDED))


def _belief(right: Fraction, wrong: Fraction) -> Fraction:
    if right <= 0:
        raise InvalidInput("under these terms nobody gains by a right appeal")
    return wrong / (wrong + right)


def alarm_limit(world: World, wrong_verdicts: Fraction, seats: tuple[Vote, ...] = ALL_WRONG) -> Fraction:
    """The most of good answers that may be taken for bad ones by who appeals whatever it finds bad, if that share of
    accepted answers is bad, and it loses nothing."""
    belief = needed_belief(world, seats)
    return wrong_verdicts * (1 - belief) / (belief * (1 - wrong_verdicts))


def appellant_plays(world: World) -> list[Play]:
    unit = "appeal"
    own = world.setting
    # It checks once, by itself, an answer that the batch's seats accepted.
    bad = world.cheats * own.false_accept**3
    finds = {
        Leaf.CHEAT: bad * (1 - own.false_accept - own.doubt_of_bad),
        Leaf.GOOD: (1 - bad) * own.false_reject,
    }
    shares = {leaf: chance / sum(finds.values()) for leaf, chance in finds.items()}
    checked = sum((shares[leaf] * appellant_gain(world, leaf, ACCEPTED, REJECTED) for leaf in finds), Fraction(0))
    wronged, right, cleared = "appellant of a wrong verdict", "appellant of a right verdict", "node that was wronged"
    return [
        Play(wronged, "appeals", appellant_gain(world, Leaf.CHEAT, ACCEPTED, REJECTED), unit, honest=True),
        Play(wronged, "does not", Fraction(0), unit),
        Play(cleared, "appeals", appellant_gain(world, Leaf.GOOD, REJECTED, ACCEPTED), unit, honest=True),
        Play(cleared, "does not", Fraction(-world.terms.stake_per_leaf - world.price), unit),
        Play(right, "does not", Fraction(0), unit, honest=True),
        Play(right, "frivolous", appellant_gain(world, Leaf.GOOD, ACCEPTED, REJECTED), unit),
        Play(right, "node of its own cheat", appellant_gain(world, Leaf.CHEAT, REJECTED, ACCEPTED), unit),
        Play(right, "whatever one check of its own finds bad", checked, unit),
        Play(right, "calls good what stays hidden", Fraction(_hidden(world)), unit),
    ]


def _hidden(world: World) -> int:
    end = case(world, UNAVAILABLE, ACCEPTED, (UNAVAILABLE,) * JURIES[0])
    return end.returned[0] - world.appeals.bond(0)


def juror_gain(world: World, vote: JurorBallot | None) -> Fraction:
    """Expected wei of a juror among six honest ones: of appeals of accepted answers, so many are right as the world
    says. None: it checks."""
    if isinstance(vote, Silence):
        return Fraction(-world.silence(vote))
    total = Fraction(0)
    parts = {Leaf.CHEAT: world.right_appeals, Leaf.GOOD: 1 - world.right_appeals}
    setting = world.setting
    for leaf, share in parts.items():
        for weight, says in setting.views(leaf):
            own = {vote: Fraction(1)} if vote else {_SAYS[said]: chance for said, chance in says.items()}
            others = _given(setting, leaf, says)
            for mine, first in own.items():
                for chance, rest in others:
                    seat = case(world, ACCEPTED, REJECTED, (mine, *rest)).jurors[0][0]
                    total += share * weight * first * chance * (seat.paid - seat.penalty)
    return total - (setting.cost if vote is None else 0)


def _given(setting: Setting, leaf: Leaf, says: dict[Vote, Fraction]) -> list[tuple[Fraction, tuple[JurorBallot, ...]]]:
    """Six others, once it is known what all checks have in common."""
    if len(says) == 1:
        ((said, _),) = says.items()
        return [(Fraction(1), (_SAYS[said],) * (JURIES[0] - 1))]
    alone = honest_votes(_apart(setting), leaf, JURIES[0] - 1)
    return list(alone)


@lru_cache(maxsize=64)
def _apart(setting: Setting) -> Setting:
    return replace(setting, common=Fraction(0))


def juror_plays(world: World) -> list[Play]:
    return [
        Play("juror", name, juror_gain(world, vote), "appeal", honest=vote is None)
        for name, vote in JUROR_STRATEGIES.items()
    ]
