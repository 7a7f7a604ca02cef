"""All strategies in one table, how far honesty is ahead of each role's best deviation, and where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

from trine.errors import InvalidInput
from trine.protocol.settlement import SEATS
from trine_research.study.incentives import ABSTAIN, ALWAYS_ACCEPT, ETHER, HONEST, gain, lazy, rarest_canaries
from trine_research.study.tournament import bribes, coalitions, juries, nodes, others, seats
from trine_research.study.tournament.coalitions import Plot
from trine_research.study.tournament.world import CHECK_PER_TOKEN, MIN_POOL, Play, World

MAX_VALUES = 16
THIRD = Fraction(1, 3)
SHARES = (Fraction(1, 20), Fraction(1, 10), Fraction(1, 5), THIRD)
CURVE_CANARIES = tuple(Fraction(1, 1 << exponent) for exponent in range(2, 18))
CURVE_COSTS = tuple(CHECK_PER_TOKEN * part // 4 for part in (2, 4, 6))
CROWDS = (10, 50, 100, 150, 200)
LENGTHS = (64, 256, 1024, 4096, 16_384, 65_536)
WRONG_VERDICTS = (Fraction(1, 10_000), Fraction(1, 1000), Fraction(1, 100), Fraction(1, 10))

Value = int | Fraction | None
ROLES: dict[str, Callable[[World], list[Play]]] = {
    "verifier": seats.plays,
    "ring": seats.ring_plays,
    "node": nodes.node_plays,
    "appellant": juries.appellant_plays,
    "juror": juries.juror_plays,
    "delegator": lambda _: others.delegator_plays(),
    "client": others.client_plays,
    "examiner": lambda world: others.examiner_plays(world) + others.examiner_and_seat(world),
    "coalition": lambda world: coalition_plays(world, THIRD, 1),
}
SWEEPS: dict[str, Sequence[Value]] = {
    "price_per_token": [10**14 * part for part in (1, 2, 4, 16, 64)],
    "tokens": [16, 64, 256, 1024, 4096, 16_384, 65_536],
    "cheats": [Fraction(0), Fraction(1, 1000), Fraction(1, 100), Fraction(1, 10), Fraction(1, 2)],
    "pool": [MIN_POOL, 30, 50, 100, None],
    "check_per_token": [CHECK_PER_TOKEN * part // 4 for part in (1, 2, 4, 6, 8, 9)],
    "canaries": [Fraction(0), *(Fraction(1, one_in) for one_in in (10_000, 6000, 5000, 4000, 1000, 100, 2))],
    "canary_appealed": [Fraction(0), Fraction(1, 100), Fraction(1, 10), Fraction(1)],
    "appealed": [Fraction(0), Fraction(1, 100), Fraction(1, 10), Fraction(1)],
    "dissents": [Fraction(0), Fraction(1, 2), Fraction(1)],
    "again": [Fraction(0), Fraction(1)],
    "blind": [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(1)],
    "right_appeals": [Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(999, 1000), Fraction(1)],
    "common": [Fraction(0), Fraction(1, 2), Fraction(1)],
    "claimed": [Fraction(0), Fraction(1, 100), Fraction(1, 2), Fraction(1)],
}
"""Each is varied by itself."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is reckoned."""

    world: World
    shares: Sequence[Fraction] = SHARES
    cheated: Sequence[int] = (1, 256)
    """Leaves of a coalition's batch, at most all there are."""
    sweeps: Mapping[str, Sequence[Value]] = field(default_factory=lambda: SWEEPS)
    crowds: Sequence[int] = CROWDS
    lengths: Sequence[int] = LENGTHS
    """Of leaves, tokens, at which canaries are looked for."""
    curve_canaries: Sequence[Fraction] = CURVE_CANARIES
    """Rates of canaries at which a verifier's margin is drawn."""

    def __post_init__(self) -> None:
        unknown = set(self.sweeps) - set(World.__dataclass_fields__)
        if unknown:
            raise InvalidInput(f"nothing is called {sorted(unknown)[0]} here")
        if (
            max(
                map(
                    len,
                    (self.shares, self.cheated, self.crowds, self.lengths, self.curve_canaries, *self.sweeps.values()),
                )
            )
            > MAX_VALUES
        ):
            raise InvalidInput(f"at most {MAX_VALUES} values of a kind are possible")


@dataclass(frozen=True, slots=True)
class Margin:
    """How far honesty is ahead of a role's best deviation, wei; below 0 it is not the best, at 0 not alone."""

    role: str
    unit: str
    honest: Fraction
    deviation: str
    best: Fraction

    @property
    def value(self) -> Fraction:
        return self.honest - self.best


def margins(plays: Sequence[Play]) -> list[Margin]:
    """Of each role that has an honest strategy and another."""
    found = []
    for role in dict.fromkeys(play.role for play in plays):
        own = [play for play in plays if play.role == role]
        honest = next(play for play in own if play.honest)
        best = max((play for play in own if not play.honest), key=lambda play: play.gain)
        found.append(Margin(role, honest.unit, honest.gain, best.strategy, best.gain))
    return found


def plays(world: World) -> list[Play]:
    return [play for role in ROLES.values() for play in role(world)]


def coalition_plays(world: World, share: Fraction, cheated: int) -> list[Play]:
    """Without a value of cheating but the compute that it saves."""
    cheated = min(cheated, world.leaves)
    plot = Plot(share, cheated)
    role = f"coalition of {_percent(share)}, {cheated} cheated"
    leaves = world.leaves
    return [
        Play(role, "honest", Fraction(0), honest=True),
        Play(
            role, "shows its cheats", coalitions.gain(world, replace(plot, hides=False, redraws=False, appeals=False))
        ),
        Play(role, "hides them where it can", coalitions.gain(world, replace(plot, redraws=False, appeals=False))),
        Play(role, "hides, redraws, appeals", coalitions.gain(world, plot)),
        Play(role, "lets draws expire", coalitions.waiting_gain(world, plot, Fraction(1))),
        Play(f"friends of a node, {_percent(share)}", "check its leaves", Fraction(0), honest=True),
        Play(f"friends of a node, {_percent(share)}", "accept them unseen", coalitions.friend_gain(world, 1)),
        Play(f"baiting, {_percent(share)}", "shows all its good leaves", Fraction(0), honest=True),
        Play(f"baiting, {_percent(share)}", "hides them from a seat", leaves * coalitions.bait_gain(world, share)),
        Play(f"denial, {_percent(share)}", "checks another's leaves", Fraction(0), honest=True),
        Play(f"denial, {_percent(share)}", "says that it was shown none", coalitions.denial_gain(world, share, leaves)),
        Play(
            f"denial, {_percent(share)}",
            "says that of so many as are paid for",
            coalitions.denial_gain(world, share, world.juries_paid),
        ),
    ]


def evaluate(study: Study) -> dict[str, Any]:
    """All figures, ready for JSON: whole tokens."""
    world = study.world
    everybody = plays(world)
    swept = [_sweep(world, name, values) for name, values in study.sweeps.items()]
    return {
        "world": {name: _plain(value) for name, value in asdict(world).items() if name not in ("terms", "appeals")},
        "terms": asdict(world.terms) | {f"appeal_{key}": value for key, value in asdict(world.appeals).items()},
        "leaves": world.leaves,
        "plays": [_play(play) for play in everybody],
        "margins": [_margin(margin) for margin in margins(everybody)],
        "coalitions": [
            _coalition(world, share, cheated)
            for share in study.shares
            for cheated in dict.fromkeys(min(count, world.leaves) for count in study.cheated)
        ],
        "bribes": [_bribe(world, cheated) for cheated in dict.fromkeys((1, min(4, world.leaves), world.leaves))],
        "appeals": _appeals(world),
        "crowds": [
            {"batches": count, **{name: _tokens(value) for name, value in seats.crowded(world, count).items()}}
            for count in study.crowds
        ],
        "herd": [_herd(world, chance) for chance in (Fraction(0), Fraction(1, 100), Fraction(1))],
        "needed_canaries": [_needed(replace(world, tokens=tokens)) for tokens in study.lengths],
        "curves": [_curve(world, cost, study.curve_canaries) for cost in CURVE_COSTS],
        "sweeps": swept,
        "regions": [
            {"parameter": sweep["parameter"], "value": point["value"], **margin}
            for sweep in swept
            for point in sweep["points"]
            for margin in point["margins"]
            if margin["margin"] <= 0
        ],
    }


def _sweep(world: World, name: str, values: Sequence[Value]) -> dict[str, Any]:
    points = []
    for value in values:
        changed = replace(world, **{name: value})  # type: ignore[arg-type]
        points.append({"value": _plain(value), "margins": [_margin(margin) for margin in margins(plays(changed))]})
    return {"parameter": name, "base": _plain(getattr(world, name)), "points": points}


def _curve(world: World, cost: int, canaries: Sequence[Fraction]) -> dict[str, Any]:
    """A verifier's margin over the share of canaries."""
    found = []
    for rate in canaries:
        (margin,) = margins(seats.plays(replace(world, check_per_token=cost, canaries=rate)))
        found.append(_tokens(margin.value))
    return {
        "cost_per_leaf": cost * world.tokens / ETHER, "canaries": [float(rate) for rate in canaries], "margins": found
    }  # fmt: skip


def _coalition(world: World, share: Fraction, cheated: int) -> dict[str, Any]:
    """What a cheated leaf may be worth before cheating pays, by what the coalition may do."""
    plot = Plot(share, cheated)
    shown = replace(plot, hides=False)
    values = {
        "shown": coalitions.safe_value(world, shown),
        "shown_appealed_once": coalitions.safe_value(replace(world, again=Fraction(0)), shown),
        "hidden": coalitions.safe_value(world, plot),
        "hidden_all_appeal_blindly": coalitions.safe_value(replace(world, blind=Fraction(1)), plot),
        "nobody_appeals": coalitions.safe_value(replace(world, dissents=Fraction(0), appealed=Fraction(0)), shown),
    }
    values["no_seat_has_draws_made"] = coalitions.safe_value(world, plot, coalitions.undrawn_gain)
    drawn = world.seated(share, SEATS)
    return {
        "share": _plain(share),
        "cheated": cheated,
        "captures": _plain(sum(drawn[2:], Fraction(0))),
        "denial": {
            "gain_of_few": _tokens(coalitions.denial_gain(world, share, world.juries_paid)),
            "gain_of_all": _tokens(coalitions.denial_gain(world, share, world.leaves)),
            "node_pays": _tokens(coalitions.denial_cost(world, world.leaves)),
        },
        "gain": _tokens(coalitions.gain(world, plot)),
        "bait_a_leaf_if_all_appeal_blindly": _tokens(coalitions.bait_gain(replace(world, blind=Fraction(1)), share)),
        "safe_below": {name: None if value is None else value / ETHER for name, value in values.items()},
    }


def _bribe(world: World, cheated: int) -> dict[str, Any]:
    stages = bribes.stages(world, cheated)
    return {
        "cheated": cheated,
        "stages": [
            {
                "stage": bribe.stage, "seats": bribe.seats, "each": bribe.each / ETHER, "direct": bribe.direct / ETHER,
                "escrow": bribe.escrow / ETHER,
            }
            for bribe in stages
        ],
        "direct": sum(bribe.direct for bribe in stages) / ETHER,
        "escrow": sum(bribe.escrow for bribe in stages) / ETHER,
        "if_only_clients_appeal": _tokens(bribes.unappealed(world, cheated)),
    }  # fmt: skip


def _appeals(world: World) -> dict[str, Any]:
    return {
        "needed_belief": _plain(juries.needed_belief(world)),
        "needed_belief_of_the_outvoted": _plain(juries.needed_belief(world, juries.OUTVOTED)),
        "needed_belief_of_hidden": _plain(juries.needed_belief_of_hidden(world)),
        "most_false_alarms": {str(_plain(share)): _plain(juries.alarm_limit(world, share)) for share in WRONG_VERDICTS},
        "honest_false_alarms": _plain(world.setting.false_reject),
    }


def _needed(world: World) -> dict[str, Any]:
    """The rarest canaries that make checking the only best, by a leaf's tokens."""
    strategies = (HONEST, lazy(Fraction(9, 10)), ALWAYS_ACCEPT, ABSTAIN)
    return {
        "tokens": world.tokens,
        "leaves": world.leaves,
        "one_in": rarest_canaries(strategies, world.setting),
    }


def _herd(world: World, canary_appealed: Fraction) -> dict[str, Any]:
    """A seat where the two others accept everything unseen."""
    setting = replace(world.setting, others=ALWAYS_ACCEPT, canary_appealed=canary_appealed)
    return {
        "canary_appealed": _plain(canary_appealed),
        "honest": _tokens(gain(HONEST, setting)),
        "always accept": _tokens(gain(ALWAYS_ACCEPT, setting)),
    }


def _play(play: Play) -> dict[str, Any]:
    return {
        "role": play.role, "strategy": play.strategy, "gain": _tokens(play.gain), "unit": play.unit,
        "honest": play.honest,
    }  # fmt: skip


def _margin(margin: Margin) -> dict[str, Any]:
    return {
        "role": margin.role, "unit": margin.unit, "honest": _tokens(margin.honest), "deviation": margin.deviation,
        "best": _tokens(margin.best), "margin": _tokens(margin.value),
    }  # fmt: skip


def _tokens(value: Fraction | int) -> float:
    return float(Fraction(value) / ETHER)


def _plain(value: Value) -> float | int | None:
    return float(value) if isinstance(value, Fraction) else value


def _percent(share: Fraction) -> str:
    return f"{float(share):.0%}"
