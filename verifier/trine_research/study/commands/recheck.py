"""`trine-study recheck`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import fail_cleanly, note, say


@fail_cleanly
def recheck(
    model: Annotated[str, typer.Argument(help="Name of a shipped record, or hf:…, pypi:… or file:…")],
    observed: Annotated[Path, typer.Argument(help="Observations of another machine.", dir_okay=False, exists=True)],
    out: Annotated[Path, typer.Option(help="File for what this machine sees of them.", dir_okay=False)],
    prompts: Annotated[int, typer.Option(help="As many as were answered.")] = 120,
    tokens: Annotated[int, typer.Option(help="Longest answer.")] = 96,
    seed: Annotated[int, typer.Option(help="That chose the prompts.")] = 0,
    dtypes: Annotated[str, typer.Option(help="Precisions of the verifiers, with commas.")] = "fp32,bf16,fp16",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Threads of a pass; one a core by default.", min=1, max=1024)
    ] = None,
) -> None:
    """Checks answers that another machine gave: bounds between two kinds of hardware.

    What comes out is observations, too: `trine-study calibrate --observed` fits both machines' files put together.
    """
    from trine.errors import InvalidInput
    from trine_research.study import observations
    from trine_research.study.calibrate import parse_list
    from trine_research.study.observe import Plan
    from trine_research.study.recheck import recheck as checked_again
    from trine_research.study.subject import Subject, render_all

    if out.exists():
        raise InvalidInput(f"{out} exists: name another file")
    leaves = list(observations.read(observed))
    subject = Subject.find(model, threads)
    verifiers = {dtype: subject.engine(dtype, device=device) for dtype in parse_list(dtypes)}
    rendered = render_all(next(iter(verifiers.values())), subject.prompts(prompts, seed))
    written = 0
    for found in checked_again(Plan(subject, rendered, tokens, verifiers), leaves, note):
        observations.append(out, found)
        written += len(found)
    say(f"{written} observations: {out}")
