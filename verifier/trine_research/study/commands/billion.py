"""`trine-study billion`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import fail_cleanly
from trine.errors import InvalidInput
from trine_research.study.commands.options import JsonFile, PlotFile


@fail_cleanly
def billion(
    fingerprints: Annotated[
        Path | None, typer.Option(help="What `trine-study fingerprints` wrote.", dir_okay=False)
    ] = None,
    random: Annotated[
        str | None, typer.Option(metavar="N,M", help="Compare N with M random words instead: for speed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random words.")] = 0,
    threshold: Annotated[
        list[int] | None,
        typer.Option(help="Largest distance that passes; may be repeated. Default: all honest matched pairs pass."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Keep the counts here after every block; go on where it stopped.")
    ] = None,
    block_pairs: Annotated[int, typer.Option(help="Pairs in a block.")] = 1 << 26,
    threads: Annotated[int, typer.Option(help="Blocks side by side. 0: one for every core.")] = 0,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use this Ray cluster; `local` starts one here.")
    ] = None,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Compare all pairs of 256-bit fingerprints: who passes, who is detected, how often others collide."""
    if (fingerprints is None) == (random is None):
        raise InvalidInput(
            "what to compare? Make a file with `trine-study fingerprints` and name it with --fingerprints FILE.npz, "
            "or take --random N,M for random words"
        )
    from trine_research.study import billion as study
    from trine_research.study import billion_report, fingerprint_file, writing

    if fingerprints:
        prints = fingerprint_file.load(fingerprints)
    else:
        prints = fingerprint_file.random_words(*_two_numbers(random or ""), seed)
    thresholds = study.thresholds_for(prints, threshold or [])
    threads = threads or os.cpu_count() or 1
    run = study.ray_runner(prints, ray, threads) if ray else study.threads_runner(prints, threads)
    with billion_report.progress_bar() as on_block:
        progress = study.compare(prints, run=run, block_pairs=block_pairs, state_file=state, on_block=on_block)
    report = study.evaluate(prints, progress.counts, thresholds) | {
        "seconds": progress.seconds,
        "pairs_per_second": prints.pairs / progress.seconds if progress.seconds else 0.0,
        "ran_on": f"Ray at {ray}" if ray else f"{threads} threads",
    }
    billion_report.show(report)
    if json_file:
        writing.write_json(report, json_file)
    if plot_file:
        billion_report.plot(report, plot_file)


def _two_numbers(text: str) -> tuple[int, int]:
    left, comma, right = text.partition(",")
    if not (comma and left.isdecimal() and right.isdecimal() and len(text) < 32):
        raise InvalidInput(f"--random takes two numbers such as 10000,100000, not {text!r}")
    return int(left), int(right)
