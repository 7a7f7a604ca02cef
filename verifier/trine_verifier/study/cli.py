"""`trine-study …`: one command a study. Each imports what it needs when it is called: the packages are heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine_verifier.study.commands import image
from trine_verifier.study.commands.billion import billion
from trine_verifier.study.commands.calibrate import calibrate
from trine_verifier.study.commands.fingerprints import fingerprints
from trine_verifier.study.commands.majority import majority
from trine_verifier.study.commands.text import text

app = typer.Typer(help="Measure what verdicts rest on: thresholds, majorities, collisions.", no_args_is_help=True)
for command in (calibrate, fingerprints, billion, majority, text):
    app.command()(command)
app.add_typer(image.app, name="image")


image = typer.Typer(invoke_without_command=True, help="Image mode: what perceptual hashes tell apart.")
app.add_typer(image, name="image")


@image.callback()
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
    from trine_verifier.study import image_report
    from trine_verifier.study.images import Sizes

    sizes = Sizes(pool=seeds, checked=checked, slow=slow, batch=batch)
    image_report.run(sizes, seed, steps, threads, pictures, plot, sheet, json)


@image.command("train")
@fail_cleanly
def _image_train(
    seed: Annotated[int, typer.Option(help="Decides the weights, on one machine and one release of torch.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; by default the recipe's.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of torch.")] = 1,
) -> None:
    """Train the small diffusion model that the study uses, unless it is there already; print where."""
    from trine.cli.output import say
    from trine_verifier.study import image_report

    say(str(image_report.trained(seed, steps, threads)))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
