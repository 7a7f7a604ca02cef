"""The study of majorities: which cases are computed and simulated, and how people see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from trine.cli.output import out, say
from trine.errors import InvalidInput
from trine_research.study.attack import Prices, price
from trine_research.study.intervals import Proportion
from trine_research.study.majority import CHAIN, Model, Rates, Verdict, chain
from trine_research.study.majority_simulation import simulate
from trine_research.study.writing import write

MAX_SHARES = 32
DOUBT = 0.01
"""Chance that any of a report's intervals misses the truth: each has its part of it (Bonferroni)."""

COURTS: tuple[tuple[str, tuple[int, ...], bool], ...] = (
    *((f"{seats} seats", (seats,), False) for seats in CHAIN),
    ("3, 7, 15: harmed side appeals", CHAIN, False),
    ("3, 7, 15: both sides appeal", CHAIN, True),
)
"""Name, committees, whether colluders appeal, too."""


@dataclass(frozen=True, slots=True)
class Study:
    """`answers`: what single verifiers do with a cheating and with an honest answer, by name."""

    model: Model
    answers: dict[str, Rates]
    shares: Sequence[float]
    captures: Sequence[float]
    prices: Prices
    trials: int
    seed: int

    def __post_init__(self) -> None:
        for values in (self.shares, self.captures):
            if not 1 <= len(values) <= MAX_SHARES or not all(0 <= value <= 1 for value in values):
                raise InvalidInput(f"1 to {MAX_SHARES} shares and chances are possible, each 0 to 1")


def evaluate(study: Study) -> dict[str, Any]:
    """All figures, ready for JSON."""
    cases = [
        (answer, replace(study.model, rates=rates, share=share), *court)
        for answer, rates in study.answers.items()
        for share in study.shares
        for court in COURTS
        if study.model.verifiers is None or study.model.verifiers >= sum(court[1])
    ]
    confidence = 1 - DOUBT / len(cases)
    rows = []
    for number, (answer, model, court, sizes, both) in enumerate(cases):
        exact = chain(model, sizes, both_appeal=both)
        counts = simulate(model, sizes, study.trials, study.seed + number, both_appeal=both)
        wrong = Proportion.estimate(counts[Verdict.WRONG], study.trials, confidence)
        rows.append(
            {
                "answer": answer,
                "share": model.share,
                "court": court,
                "exact": asdict(exact),
                "wrong_if_independent": chain(replace(model, common=0), sizes, both_appeal=both).wrong,
                "simulated": wrong.document("wrong"),
                "inside": exact.wrong in wrong,
            }
        )
    cheating = replace(study.model, rates=next(iter(study.answers.values())))
    return {
        "model": {key: value for key, value in asdict(study.model).items() if key not in ("rates", "share")},
        "rates": {name: asdict(rates) for name, rates in study.answers.items()},
        "prices": asdict(study.prices),
        "trials": study.trials,
        "seed": study.seed,
        "confidence_of_each": confidence,
        "rows": rows,
        "outside": sum(not row["inside"] for row in rows),
        "attack": [price(cheating, study.prices, chance) for chance in study.captures],
        "curves": _curves(study),
    }


def show(report: dict[str, Any]) -> None:
    model = report["model"]
    pool = f"{model['verifiers']} equal verifiers" if model["verifiers"] else "many verifiers"
    say(f"{pool}; common errors {model['common']:g} of {model['classes']} class(es); {report['trials']:,} trials a row")
    for answer, rates in report["rates"].items():
        title = (
            f"{answer}: a verifier is wrong {rates['wrong']:g}, inconclusive {rates['inconclusive']:g}, "
            f"silent {rates['silent']:g}"
        )
        table = _table(title, "colluding", "judged by", "wrong", "if independent", "simulated", "bounds", "neither")
        for row in report["rows"]:
            if row["answer"] == answer:
                simulated = row["simulated"]
                table.add_row(
                    f"{row['share']:.0%}",
                    row["court"],
                    f"{row['exact']['wrong']:.3g}",
                    f"{row['wrong_if_independent']:.3g}",
                    f"{simulated['rate']:.3g}",
                    f"{simulated['low']:.2g} to {simulated['high']:.2g}" + ("" if row["inside"] else " OUTSIDE"),
                    f"{row['exact']['neither'] + row['exact']['void']:.3g}",
                )
        out.print(table)
    say(f"Exact values outside their interval: {report['outside']} of {len(report['rows'])}.")

    prices = report["prices"]
    table = _table(
        f"buying verdicts: {prices['honest_stake']:,.0f} tokens are honest; one cheated leaf a batch",
        "capture", "share", "tokens to buy", "batches", "slashed a batch", "pays above", "reckless: above",
        "with appeals: chance", "pays above",
    )  # fmt: skip
    for line in report["attack"]:
        once, reckless, appealed = line["without_appeals"], line["reckless"], line["with_appeals"]
        table.add_row(
            f"{line['chance']:g}",
            f"{line['share']:.3f}",
            f"{line['stake_to_buy']:,.0f}",
            _number(once["batches"]),
            _number(once["slashed_a_batch"]),
            _number(once["break_even_value"]),
            _number(reckless["break_even_value"]),
            f"{appealed['chance']:.3g}",
            _number(appealed["break_even_value"]),
        )
    out.print(table)


def plot(report: dict[str, Any], path: Path) -> None:
    """Chance of a wrong verdict over the colluding share: lines are exact, bars the simulation's intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    answers = list(report["rates"])
    fig, axes = plt.subplots(1, len(answers), figsize=(7 * len(answers), 5), sharey=True, layout="constrained")
    for axis, answer in zip(np.atleast_1d(axes), answers, strict=True):
        for number, (court, values) in enumerate(report["curves"]["wrong"][answer].items()):
            axis.plot(report["curves"]["shares"], values, color=f"C{number}", label=court)
            rows = [row for row in report["rows"] if (row["answer"], row["court"]) == (answer, court)]
            seen = [row for row in rows if row["simulated"]["wrong"]]
            rates = np.array([row["simulated"]["rate"] for row in seen])
            lows = rates - [row["simulated"]["low"] for row in seen]
            highs = [row["simulated"]["high"] for row in seen] - rates
            style = {"fmt": "o", "markersize": 3, "capsize": 3, "color": f"C{number}"}
            axis.errorbar([row["share"] for row in seen], rates, yerr=[lows, highs], **style)
        axis.set(yscale="log", ylim=(1e-6, 1.5), xlim=(0, 1), xlabel="colluding share of the weight", title=answer)
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("chance of a wrong verdict")
    np.atleast_1d(axes)[0].legend(loc="lower right")
    write(path, lambda: fig.savefig(path, dpi=120))
    plt.close(fig)


def _curves(study: Study) -> dict[str, Any]:
    """By answer and court, the exact chance of a wrong verdict at shares from 0 to 1."""
    shares = np.linspace(0, 1, 41).tolist()
    courts = [court for court in COURTS if study.model.verifiers is None or study.model.verifiers >= sum(court[1])]
    return {
        "shares": shares,
        "wrong": {
            answer: {
                name: [
                    chain(replace(study.model, rates=rates, share=share), sizes, both_appeal=both).wrong
                    for share in shares
                ]
                for name, sizes, both in courts
            }
            for answer, rates in study.answers.items()
        },
    }


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "judged by" else "right")
    return table


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
