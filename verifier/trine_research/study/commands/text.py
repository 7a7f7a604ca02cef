"""`trine-study text`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import fail_cleanly, note, say


@fail_cleanly
def text(
    prompts: Annotated[int, typer.Option(min=4, max=64, help="How many; half of them only calibrate.")] = 36,
    tokens: Annotated[int, typer.Option(min=8, max=512, help="The longest answer.")] = 40,
    beams: Annotated[int, typer.Option(min=2, max=16)] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256)] = 1,
    json: Annotated[Path | None, typer.Option(help="Where to write every comparison.", dir_okay=False)] = None,
    plot: Annotated[Path | None, typer.Option(help="Where to draw the distributions.", dir_okay=False)] = None,
) -> None:
    """What comparing texts alone can and cannot detect, beside the protocol's own verdict."""
    from json import dumps

    from trine_research.study import text as study
    from trine_research.study import text_report

    found = study.run(prompts, tokens, beams, seed, threads)
    for line in text_report.tables(found):
        say(line)
    if json:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(dumps(found.to_json(), indent=1), "utf-8")
        note(f"every comparison is in {json}")
    if plot:
        text_report.plot(found, plot)
        note(f"the distributions are drawn in {plot}")
