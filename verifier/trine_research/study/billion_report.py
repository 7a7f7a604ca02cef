"""The billion study for people: a progress bar, tables, a picture. All figures come from `billion.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from trine.cli.output import err, out, say
from trine_research.study.writing import write


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Gives what `compare` tells about blocks. On stderr, like all that is not a result."""
    columns = [TextColumn("blocks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("blocks", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def show(report: dict[str, Any]) -> None:
    say(
        f"{report['source']}: {report['pairs']:,} pairs of 256-bit words "
        f"({report['reference']:,} x {report['claimed']:,}) in {report['seconds']:.2f} s, "
        f"{report['pairs_per_second']:.3g} a second"
    )
    for line in report["thresholds"]:
        table = Table(title=f"distance at most {line['threshold']} of 256 bits", title_justify="left")
        for column in ("words", "what", "count", "of", "rate", "95% bounds"):
            table.add_column(column, justify="left" if column in ("words", "what") else "right")
        for row in line["engines"]:
            what = "passed" if row["honest"] else "detected"
            name = f"{row['engine']} ({'honest' if row['honest'] else 'dishonest'})"
            table.add_row(name, what, *_figures(row, what))
        table.add_row("of other tokens", "collided", *_figures(line["collisions"], "collided"))
        if "expected_rate" in line:
            table.add_row("fair bits", "expected", "", "", f"{line['expected_rate']:.3g}", "")
        out.print(table)


def plot(report: dict[str, Any], path: Path) -> None:
    """All histograms, each as shares of its pairs, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(figsize=(10, 5), layout="constrained")
    series = {"other tokens": report["histograms"]["unmatched"]} | report["histograms"]["matched"]
    for name, counts in series.items():
        total = sum(counts)
        if total:
            axes.step(range(len(counts)), [count / total or float("nan") for count in counts], where="mid", label=name)
    for line in report["thresholds"]:
        axes.axvline(line["threshold"] + 0.5, color="black", linestyle=":", linewidth=1)
    axes.set(
        yscale="log",
        xlim=(0, 256),
        xlabel="Hamming distance of 256 bits (dotted: thresholds)",
        ylabel="share of pairs",
        title=f"{report['pairs']:,} pairs of fingerprints ({report['source']})",
    )
    axes.legend()
    axes.grid(alpha=0.3)
    write(path, lambda: fig.savefig(path, dpi=120))
    plt.close(fig)


def _figures(row: dict[str, Any], counted: str) -> tuple[str, str, str, str]:
    rate = "-" if row["rate"] is None else f"{row['rate']:.3g}"
    return f"{row[counted]:,}", f"{row['of']:,}", rate, f"{row['low']:.3g} to {row['high']:.3g}"
