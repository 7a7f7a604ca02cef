"""Delegators, clients and examiners. `Staking`, `Payments`, `Inclusion` and `Canaries` have the rules."""

from __future__ import annotations

from fractions import Fraction

from trine.errors import InvalidInput
from trine_research.study.incentives import ETHER, Leaf
from trine_research.study.tournament.nodes import fate
from trine_research.study.tournament.seats import told_of_canaries
from trine_research.study.tournament.world import (
    INCLUSION_BOND,
    RELEASE_SECONDS,
    UNBONDING_SECONDS,
    Play,
    World,
    binomial,
)

DAY = 86_400


def income_of_stay(amount: Fraction, stake: int, pool: int, seconds: int) -> Fraction:
    """Of an income that the pool of so much stake gets just after `stake` has joined it, what is released to that until
    it leaves: evenly over seven days (`Staking._released`), by shares. Wei."""
    if min(stake, pool, seconds) < 0 or stake + pool == 0:
        raise InvalidInput("stake and stays are not negative, and a pool is not empty")
    return amount * Fraction(min(seconds, RELEASE_SECONDS), RELEASE_SECONDS) * Fraction(stake, stake + pool)


def delegator_plays(income: int = 100 * ETHER, stake: int = 200 * ETHER, pool: int = 1000 * ETHER) -> list[Play]:
    """Of an income, for every day that the stake is not its holder's: it waits to be free, too."""
    stays = {"stays seven days": RELEASE_SECONDS, "stays a day": DAY, "passes through in an hour": 3600}
    return [
        Play(
            "delegator",
            name,
            income_of_stay(Fraction(income), stake, pool, seconds) * DAY / (seconds + UNBONDING_SECONDS),
            "day",
            honest=seconds == RELEASE_SECONDS,
        )
        for name, seconds in stays.items()
    ]


def client_plays(world: World) -> list[Play]:
    """Against an honest node. What an answer is worth to its client is the same in all and left out."""
    honest = Fraction(-world.price)
    return [
        Play("client", "pays", honest, "answer", honest=True),
        Play("client", "claims an answer that is anchored", honest - INCLUSION_BOND, "answer"),
        # The node opens the leaf instead and collects from the deposit (`Payments`): it pays the gas.
        Play("client", "acknowledges nothing", honest, "answer"),
    ]


def examiner_plays(world: World) -> list[Play]:
    """Canaries are a node's leaves: each costs the verifiers' fee and, being a cheat, a tenth of the compute. Only
    confirmed ones are paid for, and no more than there are at the rate."""
    leaves = world.leaves
    budget = -(-world.canaries.numerator * leaves // world.canaries.denominator)
    confirmed = 1 - fate(world, Leaf.CANARY, 0)[0]
    rates = {"plants none": Fraction(0), "plants at the rate": world.canaries, "plants only canaries": Fraction(1)}
    cost = world.fee + world.compute - world.saved
    found = []
    for name, rate in rates.items():
        paid = sum(
            (chance * min(count, budget) for count, chance in enumerate(binomial(leaves, rate * confirmed))),
            Fraction(0),
        )
        gain = paid * world.examiner_reward - rate * leaves * cost
        found.append(Play("examiner", name, gain, honest=name == "plants at the rate"))
    return found


def examiner_and_seat(world: World) -> list[Play]:
    """The examiner's seat knows the canaries, and so need not check."""
    told = told_of_canaries(world)
    return [
        Play("examiner with a seat", "keeps them from its seat", Fraction(0), honest=True),
        Play("examiner with a seat", "tells its seat which are canaries", told),
    ]
