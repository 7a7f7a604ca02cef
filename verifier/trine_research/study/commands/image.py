"""`trine-study image` and `trine-study image train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, say

app = group("Image mode: what perceptual hashes tell apart.", no_args_is_help=False, invoke_without_command=True)


@app.callback()
@fail_cleanly
def _image(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(help="Seeds of every class in the reference, for collisions.")] = 150,
    checked: Annotated[int, typer.Option(help="Seeds of every class that every engine and cheat makes.")] = 20,
    slow: Annotated[int, typer.Option(help="Seeds of every class by the slow: two threads, the CPU's own bf16.")] = 2,
    batch: Annotated[int, typer.Option(help="Pictures made together.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the model's training; the other model has the next one.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Of the training; by default the recipe's.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of torch.")] = 1,
    pictures: Annotated[Path | None, typer.Option(help="File of pictures: read where it exists, else written.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write histograms of the distances to this PNG or SVG file.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write some pictures of every class to this PNG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
) -> None:
    """Honest engines, cheats, collisions and majorities of three, with pHash, PDQ and bare pixels."""
    if context.invoked_subcommand:
        return
    from trine_research.study import image_report
    from trine_research.study.images import Sizes

    sizes = Sizes(pool=seeds, checked=checked, slow=slow, batch=batch)
    image_report.run(sizes, seed, steps, threads, pictures, plot, sheet, json)


@app.command("train")
@fail_cleanly
def _image_train(
    seed: Annotated[int, typer.Option(help="Decides the weights, on one machine and one release of torch.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; by default the recipe's.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of torch.")] = 1,
) -> None:
    """Train the small diffusion model that the study uses, unless it is there already; print where."""
    from trine_research.study import image_report

    say(str(image_report.trained(seed, steps, threads)))
