"""Tables and the picture of the text study. Computes intervals and ranks; runs nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from scipy.stats import mannwhitneyu

from trine.protocol.verdict import Outcome
from trine_research.study.fit import clopper_pearson
from trine_research.study.text import CLAIMED, FALSE_REJECTS, HONEST, Study
from trine_research.text.decision import Decoding

RELATIONS = {"same": "claims the verifier's class", "cross": "claims another class"}
METHODS: dict[Decoding | None, str] = {
    Decoding.GREEDY: "text, greedy",
    Decoding.NEAREST_BEAM: "text, nearest beam",
    Decoding.BEAM: "text, beam on both sides",
    None: "fingerprint and margin",
}


def auc(honest: list[float], cheating: list[float]) -> float:
    """The chance that an honest index lies above a cheat's, ties half: 0.5 tells nothing."""
    return float(mannwhitneyu(honest, cheating).statistic) / (len(honest) * len(cheating))


def tables(study: Study) -> Iterator[str]:
    """Markdown, line by line."""
    yield ", ".join(f"{name} {value}" for name, value in study.conditions.items())
    yield from _jaccards(study)
    yield from _bounds(study)
    for relation in RELATIONS:
        yield from _verdicts(study, relation)
    yield from _agreements(study)
    yield from _lookups(study)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _header(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield _row(*["---"] * len(cells))


def _provers(study: Study) -> dict[str, bool]:
    """Name: honest."""
    return {row.prover: row.honest for row in study.compared}


def _jaccards(study: Study) -> Iterator[str]:
    yield "\n### Jaccard index: least, median, most; AUC against honest engines of the same class / of others\n"
    yield from _header("prover", *[METHODS[d] for d in Decoding])
    for prover, honest in _provers(study).items():
        cells = []
        for decoding in Decoding:
            rows = [r for r in study.compared if not r.calibrates and r.decoding is decoding]
            mine = [r.jaccard for r in rows if r.prover == prover]
            if not mine:
                cells.append("not decoded so")
                continue
            cell = f"{min(mine):.2f} {statistics.median(mine):.2f} {max(mine):.2f}"
            if not honest:
                against = [
                    auc([r.jaccard for r in rows if r.honest and HONEST[r.prover] == relation], mine)
                    for relation in CLAIMED
                ]
                cell += "; " + " / ".join(f"{value:.2f}" for value in against)
            cells.append(cell)
        yield _row(prover, *cells)


def _bounds(study: Study) -> Iterator[str]:
    yield "\n### Bounds from the calibrating half\n"
    yield from _header(
        "pair", "decoding", "reject below", "honest answers", "honest answers below it, upper limit 95 %"
    )
    for (relation, decoding), (bound, count) in study.bounds.items():
        # One-sided: the two-sided interval of 90 % leaves 5 % above it.
        _, upper = clopper_pearson(int(FALSE_REJECTS * count), count, 0.90)
        yield _row(f"{relation} class", METHODS[decoding], f"{bound:.3f}", str(count), f"{upper:.1%}")


def _verdicts(study: Study, relation: str) -> Iterator[str]:
    yield f"\n### Verdicts, prover {RELATIONS[relation]}: rejected [95 % interval], inconclusive, accepted\n"
    yield from _header("prover", *METHODS.values())
    for prover in _provers(study):
        cells = []
        for method in METHODS:
            found = [
                r.outcome
                for r in study.judged
                if r.prover == prover and r.relation == relation and r.decoding is method
            ]
            cells.append(_shares(found) if found else "not decoded so")
        if any(r.prover == prover and r.relation == relation for r in study.judged):
            yield _row(prover, *cells)


def _shares(found: list[Outcome]) -> str:
    rejected, inconclusive = found.count(Outcome.REJECT), found.count(Outcome.INCONCLUSIVE)
    low, high = clopper_pearson(rejected, len(found))
    accepted = len(found) - rejected - inconclusive
    return (
        f"{rejected / len(found):.0%} [{low:.0%}, {high:.0%}], "
        f"{inconclusive / len(found):.0%}, {accepted / len(found):.0%}"
    )


def _agreements(study: Study) -> Iterator[str]:
    yield "\n### Three verifiers: prompts on which all agree, two agree, none does\n"
    yield from _header("verifiers; decoding; Jaccard index", "three", "two", "none")
    for name, counts in study.agreements.items():
        yield _row(name, *map(str, counts))


def _lookups(study: Study) -> Iterator[str]:
    yield "\n### Look-up in the index of the verifier's answers, from 0.5\n"
    yield from _header("answers", "found", "of")
    for name, (hits, count) in study.lookup.items():
        yield _row(name, str(hits), str(count))
    kept, of = study.retokenised
    yield f"\n{kept} of {of} answers give back their tokens when their text is tokenised again."


def plot(study: Study, path: Path) -> None:
    """The share of the judged answers at or below each Jaccard index, greedy and best beam."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    shown = ("fp32, in other batches", "bf16", "fp16", "int8 weights", "int4 weights", "1 token swapped")
    for axes, decoding in zip(figure.subplots(1, 2), (Decoding.GREEDY, Decoding.BEAM), strict=True):
        for prover in shown:
            rows = [r for r in study.compared if not r.calibrates and r.decoding is decoding]
            mine = [r.jaccard for r in rows if r.prover == prover]
            if mine:
                axes.ecdf(mine, label=prover, linestyle="-" if prover in HONEST else "--")
        axes.set(title=METHODS[decoding], xlabel="Jaccard index with the fp32 verifier", ylabel="share at or below")
        axes.set_xlim(-0.02, 1.02)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
