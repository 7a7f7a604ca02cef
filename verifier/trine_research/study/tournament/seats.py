"""A verifier's strategies in a batch's committee."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from trine.errors import InvalidInput
from trine.protocol.settlement import SEATS
from trine_research.study.incentives import (
    ABSTAIN,
    ALWAYS_ACCEPT,
    ALWAYS_REJECT,
    ALWAYS_UNAVAILABLE,
    COPY,
    HONEST,
    SILENT,
    Setting,
    Strategy,
    gain,
    lazy,
    outcomes,
    ring_gain,
)
from trine_research.study.tournament.world import MIN_VERIFIER_STAKE, Play, World, binomial

LAZY = (Fraction(1, 2), Fraction(9, 10))
STRATEGIES = (
    HONEST, ABSTAIN, ALWAYS_ACCEPT, ALWAYS_REJECT, ALWAYS_UNAVAILABLE, SILENT, COPY, *map(lazy, LAZY),
)  # fmt: skip


def plays(world: World, strategies: Sequence[Strategy] = STRATEGIES) -> list[Play]:
    """One seat alone, its two neighbours honest."""
    return [
        Play("verifier", strategy.name, gain(strategy, world.setting), honest=strategy == HONEST)
        for strategy in strategies
    ]


def ring_plays(world: World) -> list[Play]:
    """A ring of two or three in one committee, whose members could all check by themselves instead."""
    setting, found = world.setting, []
    for ring in range(2, SEATS + 1):
        role = f"ring of {ring}"
        found += [
            Play(role, "all check", ring * gain(HONEST, setting), honest=True),
            Play(role, "one checks for all", ring_gain(HONEST, setting, ring)),
            Play(role, "accepts all unseen", ring_gain(ALWAYS_ACCEPT, setting, ring)),
            Play(role, "abstains", ring_gain(ABSTAIN, setting, ring)),
        ]
    return found


def told_of_canaries(world: World) -> Fraction:
    """Of a seat that knows which leaves are canaries, rejects these, and accepts all others unseen: wei a batch more
    than honest checking."""
    setting = world.setting
    blind = Setting(
        cost=setting.cost, cheats=setting.cheats, appealed=setting.appealed, common=setting.common,
        leaves=setting.leaves, tokens=setting.tokens, terms=setting.terms,
    )  # fmt: skip
    # Canaries that it knows are leaves on which it is right: not less than others bring.
    return gain(ALWAYS_ACCEPT, blind) - gain(HONEST, setting)


def crowded(world: World, batches: int, stake: int = MIN_VERIFIER_STAKE) -> dict[str, Fraction]:
    """A verifier with that stake that sits in so many batches at once, before any is final: fines end where its stake
    does, and fees come by the batch. Wei of all together.

    Only canaries are reckoned: they are most of what accepting everything costs.
    """
    if batches < 1 or stake < 0:
        raise InvalidInput("a verifier sits in a batch at least, and has no negative stake")
    setting = world.setting
    caught = 1 - (1 - outcomes(ALWAYS_ACCEPT, setting).canary) ** setting.leaves
    # Rounded up to a millionth of a millionth: exact powers of it would have a million digits.
    caught = Fraction(-(-caught.numerator * 10**12 // caught.denominator), 10**12)
    fines = sum(
        chance * min(stake, count * setting.terms.canary_penalty)
        for count, chance in enumerate(binomial(batches, caught))
    )
    clean = Setting(cost=setting.cost, leaves=setting.leaves, tokens=setting.tokens, terms=setting.terms)
    return {
        "honest": batches * gain(HONEST, setting),
        "always accept": batches * gain(ALWAYS_ACCEPT, clean) - fines,
    }
