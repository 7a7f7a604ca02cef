"""`trine-study fingerprints`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import fail_cleanly, note, say


@fail_cleanly
def fingerprints(
    out: Annotated[Path, typer.Argument(help="File to write, .npz.", dir_okay=False)],
    model: Annotated[str, typer.Option(help="Name of a shipped record, or hf:…, pypi:… or file:…")] = (
        "smollm2-135m-instruct"
    ),
    prompts: Annotated[int, typer.Option(help="How many are answered.")] = 120,
    tokens: Annotated[int, typer.Option(help="Longest answer.")] = 96,
    seed: Annotated[int, typer.Option(help="Chooses the prompts.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads of a pass; one a core by default.", min=1, max=1024)
    ] = None,
) -> None:
    """Makes the file that `billion` compares: one text, fingerprinted by honest engines and by cheats."""
    from trine_research.study import fingerprint_making as study

    rows = study.make(out, model, prompts, tokens, seed, threads, note)
    say(f"{out}: {rows[0]} reference rows and {rows[1]} claimed ones, {rows[0] * rows[1]:,} pairs")
