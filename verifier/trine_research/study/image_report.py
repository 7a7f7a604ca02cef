"""Runs the image study and shows it: progress, tables, histograms, a sheet of samples. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from rich.progress import Progress, TaskID
from rich.table import Table

from trine.cli.output import err, out, print_json, say
from trine.errors import InvalidInput
from trine_research.images.pipeline import PinnedPipeline, id_of
from trine_research.images.training import Recipe, train_once
from trine_research.study import images
from trine_research.study.images import Collected, Sizes

MODEL_NAME = "trine-image-study"
SHEET_COLUMNS = 12
SHEET_SCALE = 2
OTHER_MODELS_SHARE = 3
"""The other model trains for a third of the steps: time is better spent on the one that is studied."""
DETECTS, BLIND = 0.99, 0.05
"""Shares of a cheat's pictures that are rejected, above and below which the tables say yes and no."""


def trained(seed: int, steps: int | None, threads: int) -> Path:
    """The folder of the recipe's model, trained now where it is missing."""
    torch.set_num_threads(threads)
    disable_progress_bar()
    recipe = Recipe(seed=seed) if steps is None else Recipe(seed=seed, steps=steps)
    with _bar(f"training, seed {seed}", recipe.steps) as (progress, task):
        return train_once(recipe, lambda step, loss: progress.update(task, completed=step))


def run(
    sizes: Sizes,
    seed: int,
    steps: int | None,
    threads: int,
    pictures: Path | None,
    plot: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Trains what is missing, makes the pictures or reads them, judges and shows. Raises InvalidInput."""
    for target in (pictures, plot, sheet):
        if target and not target.absolute().parent.is_dir():
            raise InvalidInput(f"{target}: there is no such folder")
    folder = trained(seed, steps, threads)
    model_id = id_of(folder, MODEL_NAME)
    if pictures and pictures.exists():
        collected = images.load(pictures, model_id)
    else:
        other = PinnedPipeline.load(trained(seed + 1, max(1, (steps or Recipe().steps) // OTHER_MODELS_SHARE), threads))
        with _bar("pictures", None) as (progress, task):
            collected = images.collect(
                PinnedPipeline.load(folder),
                model_id,
                other,
                sizes,
                lambda name, done, total: progress.update(task, description=name, completed=done, total=total),
            )
        if pictures:
            images.save(collected, model_id, pictures)
    report = images.analyse(collected)
    if sheet:
        _draw_sheet(collected, sheet)
    if plot:
        _draw_histograms(collected, plot)
    if as_json:
        print_json(report)
    else:
        _show(report)


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
    with Progress(console=err, transient=True) as progress:
        yield progress, progress.add_task(title, total=total)


def _show(report: dict[str, Any]) -> None:
    published = report["published"]
    for name, found in report["statistics"].items():
        out.print(_cheat_table(name, found))
        for pair, bounds in found["bounds"].items():
            honest = found["honest"][pair]
            say(
                f"{name}, {pair}: accept to {bounds['accept']:g}, reject over {bounds['reject']:g}; honest at most "
                f"{honest['distance']['most']:.4g}, not accepted {_share(honest['not_accepted'])}"
            )
        headline = found["headline"]
        collision = found["collisions"]["intra_class"]["mixed precision"]
        say(
            f"{name}: another picture rejected by two of three {_share(headline['whole_picture_detection'])}; "
            f"published {published['detection']:.2%}"
        )
        say(f"{name}: any other picture of the reference {_share(headline['any_other_picture_detection'])}")
        say(f"{name}: every cheat of the table together {_share(headline['all_cheats_detection'])}")
        say(
            f"{name}: pairs of one class taken for the same {_share(collision)}; published "
            f"{published['intra_class_collision']:.4%}"
        )
        say("")


def _cheat_table(name: str, found: dict[str, Any]) -> Table:
    table = Table(title=f"{name}: distance from the verifier's own picture, and what becomes of it")
    for column in (
        "maker",
        "least",
        "median",
        "most",
        "AUC fp32",
        "AUC mixed",
        "fp32 rejects",
        "two of three reject",
        "two of three accept",
        "detects",
    ):
        table.add_column(column)
    for maker, row in found["cheats"].items():
        distance, settled = row["distance"], row["majority"]
        rejected = settled["rejected"]["share"]
        word = "yes" if rejected >= DETECTS else "no" if rejected <= BLIND else "partly"
        table.add_row(
            maker,
            *(f"{distance[key]:.3g}" for key in ("least", "median", "most")),
            f"{row['auc_same']:.4f}",
            f"{row['auc_mixed']:.4f}",
            f"{row['rejected_same']['share']:.1%}",
            f"{rejected:.1%}",
            f"{settled['accepted']['share']:.1%}",
            word,
        )
    return table


def _share(rate: dict[str, Any]) -> str:
    return f"{rate['share']:.4%} ({rate['events']} of {rate['of']}; 95%: {rate['low']:.4%} to {rate['high']:.4%})"


def _draw_sheet(collected: Collected, path: Path) -> None:
    pool = collected[images.POOL][:, :SHEET_COLUMNS]
    rows = [np.concatenate(list(pictures), axis=1) for pictures in pool]
    whole = Image.fromarray(np.concatenate(rows))
    whole.resize((whole.width * SHEET_SCALE, whole.height * SHEET_SCALE), Image.Resampling.NEAREST).save(path, "PNG")


def _draw_histograms(collected: Collected, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = images.samples(collected)
    figure = Figure(figsize=(10, 3.2 * len(samples)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, groups) in zip(np.atleast_1d(figure.subplots(len(samples))), samples.items(), strict=True):
        edges = np.linspace(0, max(float(values.max()) for values in groups.values()) + 1, 60)
        for group, values in groups.items():
            axes.hist(values, bins=edges, density=True, histtype="step", label=group)
        axes.set(title=name, xlabel="distance", ylabel="density", yscale="log")
        axes.legend(fontsize="small")
    figure.savefig(path)
