"""How people see the tournament."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from trine.cli.output import out, say
from trine_research.study.writing import write


def show(report: dict[str, Any]) -> None:
    _conditions(report)
    _matrix(report)
    _coalitions(report)
    _bribes(report)
    _appeals(report)
    _crowds(report)
    _needed(report)
    _regions(report)


def plot(report: dict[str, Any], path: Path) -> None:
    """A verifier's margin over canaries, what a cheat may be worth over a coalition's share, the margins of all roles,
    and how often an appellant may be wrong."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    for curve in report["curves"]:
        label = f"checking a leaf costs {curve['cost_per_leaf']:.2g}"
        axes[0, 0].plot(curve["canaries"], curve["margins"], marker=".", label=label)
    axes[0, 0].axhline(0, color="black", linewidth=0.8)
    axes[0, 0].set(xscale="log", xlabel="canaries among the leaves", ylabel="tokens a batch",
                   title="Verifier: honest less best deviation")  # fmt: skip
    axes[0, 0].legend()

    names = {
        "shown": "an honest seat sees the cheat and appeals",
        "hidden_all_appeal_blindly": "hidden from it; it appeals all the same",
        "hidden": "hidden from it",
    }
    alone = min(line["cheated"] for line in report["coalitions"])
    lines = [line for line in report["coalitions"] if line["cheated"] == alone]
    for style, (key, label) in zip(("-", "--", "-"), names.items(), strict=True):
        known = [(line["share"], line["safe_below"][key]) for line in lines if line["safe_below"][key]]
        if known:
            axes[0, 1].plot(*zip(*known, strict=True), style, marker="o", label=label)
    axes[0, 1].set(yscale="log", xlabel="coalition's share of the stake", ylabel="tokens a leaf",
                   title="Node and verifiers: what a cheat may be worth")  # fmt: skip
    axes[0, 1].legend()

    margins = report["margins"][::-1]
    colours = ["C0" if margin["margin"] > 0 else "C3" if margin["margin"] < 0 else "C7" for margin in margins]
    axes[1, 0].barh([margin["role"] for margin in margins], [margin["margin"] for margin in margins], color=colours)
    axes[1, 0].set_xscale("symlog", linthresh=0.1)
    axes[1, 0].axvline(0, color="black", linewidth=0.8)
    axes[1, 0].set(xlabel="tokens (batch, appeal, day or answer)", title="Honest less best deviation, by role")

    limits = report["appeals"]["most_false_alarms"]
    shares = [float(share) for share in limits]
    axes[1, 1].plot(shares, list(limits.values()), marker="o", label="most at which appealing gains")
    rate = report["appeals"]["honest_false_alarms"]
    axes[1, 1].axhline(rate, color="C3", label=f"one honest check: {rate:g}")
    axes[1, 1].set(xscale="log", yscale="log", xlabel="bad answers among the accepted", ylabel="false alarms",
                   title="Who appeals whatever it finds bad")  # fmt: skip
    axes[1, 1].legend()
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    write(path, lambda: fig.savefig(path, dpi=120))
    plt.close(fig)


def _conditions(report: dict[str, Any]) -> None:
    world = report["world"]
    pool = f"{world['pool']} equal verifiers" if world["pool"] else "very many verifiers"
    say(
        f"Shipped parameters; a full batch of {report['leaves']} leaves of {world['tokens']:,} tokens; {pool}. Amounts "
        "are tokens, chances exact."
    )
    per_leaf = {name: world[f"{name}_per_token"] * world["tokens"] / 10**18 for name in ("price", "compute", "check")}
    say(
        f"Assumed: a leaf costs its client {per_leaf['price']:.3g}, its node {per_leaf['compute']:.3g}, checking it "
        f"{per_leaf['check']:.3g}; a cheat saves {world['cheat_saves']:.0%} of the compute; {world['canaries']:g} of "
        f"the leaves are canaries, and {world['canary_appealed']:.0%} of those that are accepted are appealed; clients "
        f"appeal {world['appealed']:.0%} of wrong verdicts, honest seats {world['dissents']:.0%} of those that they "
        f"saw, and {world['blind']:.0%} of what they were not shown; {world['claimed']:.0%} of answers that are in no "
        f"batch are claimed; {world['cheats']:g} of the leaves are cheats, and {world['right_appeals']:.0%} of appeals "
        "right."
    )


def _matrix(report: dict[str, Any]) -> None:
    table = _table("expected gain against an honest rest", "role", "strategy", "gain", "for a", "honest is ahead by")
    honest = {margin["role"]: margin["honest"] for margin in report["margins"]}
    role = ""
    for play in report["plays"]:
        ahead = "" if play["honest"] else f"{honest[play['role']] - play['gain']:,.4g}"
        shown = "" if play["role"] == role else play["role"]
        role = play["role"]
        style = "bold" if play["honest"] else None
        table.add_row(shown, play["strategy"], f"{play['gain']:,.4g}", play["unit"], ahead, style=style)
    out.print(table)


def _coalitions(report: dict[str, Any]) -> None:
    table = _table(
        "a node with a share of the verifiers' stake: cheating loses while a cheated leaf is worth less than",
        "share", "cheated", "captures", "all is shown", "appealed once", "hidden",
        "hidden, all appeal blindly", "nobody appeals", "no seat has draws made",
    )  # fmt: skip
    for line in report["coalitions"]:
        safe = line["safe_below"]
        table.add_row(
            f"{line['share']:.0%}", str(line["cheated"]), f"{line['captures']:.3g}", _number(safe["shown"]),
            _number(safe["shown_appealed_once"]),
            _number(safe["hidden"]), _number(safe["hidden_all_appeal_blindly"]), _number(safe["nobody_appeals"]),
            _number(safe["no_seat_has_draws_made"]),
        )  # fmt: skip
    out.print(table)


def _bribes(report: dict[str, Any]) -> None:
    table = _table(
        "bribes that turn a verdict", "cheated leaves", "stage", "seats", "each", "together", "p + e: escrow"
    )
    for bribe in report["bribes"]:
        for stage in bribe["stages"]:
            table.add_row(
                str(bribe["cheated"]), stage["stage"], str(stage["seats"]), f"{stage['each']:.4g}",
                f"{stage['direct']:.4g}", f"{stage['escrow']:.4g}",
            )  # fmt: skip
        table.add_row(str(bribe["cheated"]), "all three", "", "", f"{bribe['direct']:.4g}", f"{bribe['escrow']:.4g}")
    out.print(table)


def _appeals(report: dict[str, Any]) -> None:
    appeals = report["appeals"]
    say(
        f"Who appeals what three seats accepted gains if it is more than {appeals['needed_belief']:.1%} sure, an "
        f"outvoted seat if it is {appeals['needed_belief_of_the_outvoted']:.1%} sure, and one that was shown nothing "
        f"if it is {appeals['needed_belief_of_hidden']:.1%} sure. Who appeals whatever it finds bad may, of the "
        f"former, be wrong of so many good answers (an honest check is of {appeals['honest_false_alarms']:g}):"
    )
    table = _table("", "bad among accepted", "false alarms at most")
    for share, limit in appeals["most_false_alarms"].items():
        table.add_row(share, f"{limit:.3g}")
    out.print(table)


def _crowds(report: dict[str, Any]) -> None:
    table = _table("a verifier of the least stake in many batches at once", "batches", "honest", "accepts all")
    for line in report["crowds"]:
        table.add_row(str(line["batches"]), f"{line['honest']:.4g}", f"{line['always accept']:.4g}")
    out.print(table)
    table = _table("where both other seats accept all unseen", "accepted canaries appealed", "honest", "accepts all")
    for line in report["herd"]:
        table.add_row(f"{line['canary_appealed']:.0%}", f"{line['honest']:.4g}", f"{line['always accept']:.4g}")
    out.print(table)


def _needed(report: dict[str, Any]) -> None:
    if not report["needed_canaries"]:
        return
    table = _table("the rarest canaries that make checking the only best", "tokens of a leaf", "one in", "batches")
    for line in report["needed_canaries"]:
        one_in = line["one_in"]
        shown = ("none do", "") if one_in is None else (f"{one_in:,}", f"{one_in / line['leaves']:,.1f}")
        table.add_row(f"{line['tokens']:,}", *shown)
    out.print(table)


def _regions(report: dict[str, Any]) -> None:
    base = {margin["role"]: margin["margin"] for margin in report["margins"]}
    for margin in report["margins"]:
        if margin["margin"] <= 0:
            what = "gains as much as" if margin["margin"] == 0 else f"gains {-margin['margin']:.4g} more than"
            say(f"{margin['role']}: '{margin['deviation']}' {what} honesty")
    if not report["sweeps"]:
        return
    table = _table("where else honesty is not the only best", "role", "varied", "at", "deviation", "ahead by")
    for region in report["regions"]:
        if base[region["role"]] < 0 or region["margin"] == base[region["role"]] == 0:
            continue
        value = "many" if region["value"] is None else f"{region['value']:.6g}"
        table.add_row(region["role"], region["parameter"], value, region["deviation"], f"{abs(region['margin']):.4g}")
    out.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
