"""The study of incentives: what is reckoned, and how people see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from rich.table import Table

from trine.cli.output import out, say
from trine.errors import InvalidInput
from trine_research.study.incentives import (
    ABSTAIN,
    ALWAYS_ACCEPT,
    ETHER,
    HONEST,
    SILENT,
    Setting,
    Strategy,
    best,
    gain,
    lazy,
    rarest_canaries,
)

MAX_RATES = 16


@dataclass(frozen=True, slots=True)
class Study:
    """`setting` holds for all rows but for its shares of cheats and canaries."""

    setting: Setting
    cheats: Sequence[Fraction]
    canaries: Sequence[Fraction]
    lazy: Sequence[Fraction]

    def __post_init__(self) -> None:
        for rates in (self.cheats, self.canaries, self.lazy):
            if not 1 <= len(rates) <= MAX_RATES:
                raise InvalidInput(f"1 to {MAX_RATES} values of a kind are possible")

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        return (HONEST, *(lazy(checks) for checks in self.lazy), ALWAYS_ACCEPT, ABSTAIN, SILENT)


def evaluate(study: Study) -> dict[str, Any]:
    """All figures, ready for JSON: gains in whole tokens a batch."""
    rows = []
    for cheats in study.cheats:
        for canaries in study.canaries:
            setting = replace(study.setting, cheats=cheats, canaries=canaries)
            gains = {strategy.name: gain(strategy, setting) for strategy in study.strategies}
            top = [name for name, value in gains.items() if value == max(gains.values())]
            rows.append(
                {
                    "cheats": float(cheats),
                    "canaries": float(canaries),
                    "gains": {name: float(value / ETHER) for name, value in gains.items()},
                    "best": " and ".join(top),
                    "honest_is_best": top == [HONEST.name],
                }
            )
    return {
        "cost_per_leaf": study.setting.cost / ETHER,
        "leaves": study.setting.leaves,
        "tokens": study.setting.tokens,
        "appealed": float(study.setting.appealed),
        "rows": rows,
        "needed_canaries": [_needed(study, cheats) for cheats in study.cheats],
    }


def _needed(study: Study, cheats: Fraction) -> dict[str, Any]:
    setting = replace(study.setting, cheats=cheats, canaries=Fraction(0))
    without = best(study.strategies, setting) == HONEST
    one_in = None if without else rarest_canaries(study.strategies, setting)
    return {"cheats": float(cheats), "honest_without": without, "one_in": one_in}


def show(report: dict[str, Any]) -> None:
    say(
        f"{report['leaves']} leaves, {report['tokens']:,} tokens, checking a leaf costs {report['cost_per_leaf']:g}; "
        "expected gain of one seat a batch, in tokens"
    )
    names = list(report["rows"][0]["gains"])
    table = Table("cheats", "canaries", *names, "best")
    for row in report["rows"]:
        gains = [f"{row['gains'][name]:.3f}" for name in names]
        table.add_row(f"{row['cheats']:g}", f"{row['canaries']:.3g}", *gains, row["best"])
    out.print(table)
    for line in report["needed_canaries"]:
        where = f"with {line['cheats']:g} of all leaves cheats"
        if line["honest_without"]:
            say(f"{where}, honest checking is the best without canaries")
        elif line["one_in"] is None:
            say(f"{where}, no share of canaries makes honest checking the best")
        else:
            say(f"{where}, one canary in {line['one_in']:,} leaves is enough for honest checking to be the best")
