"""What a calibration found, for people and machines: tables, plots and JSON. It measures and decides nothing."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from trine.protocol.policy import Policy
from trine.protocol.verdict import Outcome
from trine_research.study.fit import MIN_LEAVES, PairFit, auc, clopper_pearson, false_reject_rate
from trine_research.study.observe import Leaf

LEAF_TOKENS = (16, 32, 64)


@dataclass(frozen=True, slots=True)
class Rates:
    """How leaves of one prover and length fared under a policy; shares with their 95 % intervals."""

    prover: str
    honest: bool
    verifier: str
    tokens: int
    leaves: int
    accepted: int
    rejected: int
    rejected_low: float
    rejected_high: float
    by_margin: int
    smallest: float  # relative deviations
    median: float
    largest: float
    missed_by_fit: float | None  # chance that the fingerprint alone does not reject, if deviations are lognormal


def rates(leaves: Sequence[Leaf], policy: Policy, lengths: Sequence[int] = LEAF_TOKENS) -> list[Rates]:
    """By prover, verifier and length of leaf. A leaf is a window; `tokens` 0 is whole answers, however long."""
    grouped: dict[tuple[bool, str, str], list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        grouped[not leaf.honest, leaf.prover, leaf.verifier].append(leaf)
    found = []
    for (cheats, prover, verifier), members in sorted(grouped.items()):
        for tokens in (*lengths, 0):
            windows = [w for leaf in members for w in leaf.windows(tokens)] if tokens else members
            if not windows:
                continue
            verdicts = [w.judge(policy) for w in windows]
            outcomes = [v.outcome for v in verdicts]
            rejected = outcomes.count(Outcome.REJECT)
            deviations = [w.relative_deviation() for w in windows]
            found.append(
                Rates(
                    prover,
                    not cheats,
                    verifier,
                    tokens,
                    len(windows),
                    outcomes.count(Outcome.ACCEPT),
                    rejected,
                    *clopper_pearson(rejected, len(windows)),
                    sum(v.outcome is Outcome.REJECT and v.reason == "margin" for v in verdicts),
                    float(np.min(deviations)),
                    float(np.median(deviations)),
                    float(np.max(deviations)),
                    _missed(members[0], deviations, tokens, policy),
                )
            )
    return found


def _missed(leaf: Leaf, deviations: Sequence[float], tokens: int, policy: Policy) -> float | None:
    """None for whole answers, which have no one bound, for fewer than MIN_LEAVES leaves, and uncalibrated pairs."""
    bounds = policy.bounds(leaf.claim.engine_class, leaf.verifier)
    if not tokens or bounds is None or len(deviations) < MIN_LEAVES or min(deviations) <= 0:
        return None
    logs = np.log(deviations)
    bound = math.log(bounds.deviation_bound(tokens, policy.reject_sigmas / 1e3))
    return float(stats.norm.cdf(bound, logs.mean(), max(logs.std(ddof=1), 1e-9)))


def honest_summary(leaves: Sequence[Leaf], policy: Policy) -> dict[str, Any]:
    """Whole honest answers, every prover against every verifier."""
    outcomes = [leaf.judge(policy).outcome for leaf in leaves if leaf.honest]
    rejected = outcomes.count(Outcome.REJECT)
    return {
        "leaves": len(outcomes),
        "accepted": outcomes.count(Outcome.ACCEPT),
        "inconclusive": outcomes.count(Outcome.INCONCLUSIVE),
        "rejected": rejected,
        "rejected_upper_bound_95": clopper_pearson(rejected, len(outcomes), 0.90)[1],
        "false_reject_rate_of_the_fit": false_reject_rate(policy),
    }


def write(folder: Path, document: dict[str, Any], leaves: Sequence[Leaf], policy: Policy, fits: list[PairFit]) -> None:
    """policy.json, report.json, report.md and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    table = rates(leaves, policy)
    document = {
        **document,
        "policy": json.loads(policy.to_bytes()),
        "pairs": [asdict(fit) for fit in fits],
        "honest": honest_summary(leaves, policy),
        "rates": [asdict(row) for row in table],
    }
    (folder / "policy.json").write_bytes(policy.to_bytes() + b"\n")
    (folder / "report.json").write_text(json.dumps(document, indent=1, default=str) + "\n", "utf-8")
    (folder / "report.md").write_text(_markdown(document, table, fits), "utf-8")
    tokens = max((n for n in (1, 8, 16, 32) if any(len(leaf) >= n for leaf in leaves)), default=1)
    plot_deviations(leaves, policy, folder / "deviations.png", tokens)
    plot_roc(leaves, folder / "roc.png", tokens)
    plot_margins(leaves, folder / "margins.png")


def _markdown(document: dict[str, Any], table: list[Rates], fits: list[PairFit]) -> str:
    honest = document["honest"]
    lines = [
        f"# Calibration of {document['model']}",
        "",
        f"`{document['command']}`",
        "",
        *[f"- {name}: {value}" for name, value in document["conditions"].items()],
        "",
        f"Honest leaves: {honest['leaves']}, accepted {honest['accepted']}, inconclusive {honest['inconclusive']}, "
        f"rejected {honest['rejected']} (at most {honest['rejected_upper_bound_95']:.2%} with 95 % confidence; "
        f"{honest['false_reject_rate_of_the_fit']:.1e} by the fit).",
        "",
        "| pair | widest variant | typical | floor | scatter | margins | leaves | widened | worst, sigmas |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for fit in fits:
        b = fit.bounds
        lines.append(
            f"| {fit.prover} against {fit.verifier} | {fit.variant} "
            f"| {b.deviation_typical / 1e3:.3f} | {b.deviation_floor / 1e3:.3f} "
            f"| {b.deviation_scatter / 1e3:.3f} | {b.margin_accept / 1e3:.2f}, {b.margin_reject / 1e3:.2f} "
            f"| {fit.leaves} | {fit.widened:.2f} | {fit.worst_sigmas:.1f} |"
        )
    lines += [
        "",
        "Relative deviations: least, median, most. Tokens 0: whole answers. Missed, by the fit: the chance that the "
        "fingerprint alone does not reject such a leaf, were the logarithms of these deviations normal.",
        "",
        "| prover | verifier | tokens | leaves | deviation | accepted | rejected | 95 % interval | by margin "
        "| missed, by the fit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table:
        missed = "" if row.honest or row.missed_by_fit is None else f"{row.missed_by_fit:.1e}"
        lines.append(
            f"| {row.prover} | {row.verifier} | {row.tokens} | {row.leaves} | {row.smallest:.2f} {row.median:.2f} "
            f"{row.largest:.2f} | {row.accepted} | {row.rejected / row.leaves:.2%} | {row.rejected_low:.2%} to "
            f"{row.rejected_high:.2%} | {row.by_margin} | {missed} |"
        )
    return (
        "\n".join([*lines, "", "![deviations](deviations.png)", "", "![ROC](roc.png)", "", "![margins](margins.png)"])
        + "\n"
    )


def _windows(leaves: Sequence[Leaf], tokens: int) -> dict[tuple[bool, str], list[Leaf]]:
    grouped: dict[tuple[bool, str], list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        grouped[not leaf.honest, leaf.prover].extend(leaf.windows(tokens))
    return {key: windows for key, windows in sorted(grouped.items()) if windows}


def plot_deviations(leaves: Sequence[Leaf], policy: Policy, file: Path, tokens: int) -> None:
    """Relative deviations of every prover, with the bounds of the noisiest pair."""
    plt = _pyplot()
    grouped = _windows(leaves, tokens)
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.28 * len(grouped)), layout="constrained")
    for height, ((cheats, _), windows) in enumerate(reversed(grouped.items())):
        values = np.maximum([w.relative_deviation() for w in windows], 0.02)
        jitter = np.random.default_rng(height).uniform(-0.3, 0.3, len(values))
        axes.plot(values, height + jitter, ".", ms=3, alpha=0.5, color="tab:red" if cheats else "tab:blue")
    axes.set_yticks(range(len(grouped)), [prover for _, prover in reversed(grouped)])
    limits = [bounds.deviation_bound(tokens, policy.reject_sigmas / 1e3) for *_, bounds in policy.pairs]
    axes.axvline(max(limits), color="black", lw=1, label=f"reject, laxest pair ({max(limits):.2f})")
    axes.set(xscale="log", xlabel=f"relative deviation of windows of {tokens} tokens (1: what rounding to bf16 causes)")
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def plot_roc(leaves: Sequence[Leaf], file: Path, tokens: int) -> None:
    """Cheats against all honest windows together."""
    plt = _pyplot()
    grouped = _windows(leaves, tokens)
    honest = [w.relative_deviation() for (cheats, _), ws in grouped.items() if not cheats for w in ws]
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    thresholds = np.sort(honest)[::-1]
    for (cheats, prover), windows in grouped.items():
        if cheats:
            values = np.array([w.relative_deviation() for w in windows])
            hits = [(values > t).mean() for t in thresholds]
            rates_ = (np.arange(len(thresholds)) + 0.5) / len(thresholds)
            axes.plot(rates_, hits, lw=1, label=f"{prover} ({auc(honest, list(values)):.4f})")
    axes.set(
        xscale="log", xlabel="honest windows over the threshold", ylabel="cheating windows over it", ylim=(0, 1.02)
    )
    axes.set_title(f"Deviation alone, windows of {tokens} tokens (area under the curve)")
    if axes.lines:
        axes.legend(fontsize=7, loc="lower right")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def plot_margins(leaves: Sequence[Leaf], file: Path) -> None:
    """How often a token lies so far below the verifier's best."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    grouped: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for leaf in leaves:
        grouped[not leaf.honest, leaf.prover].extend(leaf.own.weighed_margins())
    for (cheats, prover), margins in sorted(grouped.items()):
        ordered = np.sort([m for m in margins if m > 1e-6])[::-1]
        if len(ordered):
            shares = np.arange(1, len(ordered) + 1) / len(margins)
            axes.plot(ordered, shares, lw=1, ls="-" if cheats else "--", label=prover)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(1e-1, None),
        xlabel="margin, logits over the noise of the position",
        ylabel="share of tokens beyond it",
    )
    axes.legend(fontsize=6, loc="lower left")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
