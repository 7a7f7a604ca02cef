"""`trine-study calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import fail_cleanly, note, say
from trine_research.study.commands.options import exact


@fail_cleanly
def calibrate(
    model: Annotated[str, typer.Argument(help="Name of a shipped record, or hf:…, pypi:… or file:…")],
    out: Annotated[Path, typer.Option(help="Folder for the policy and the report.", file_okay=False)] = Path("study"),
    prompt_file: Annotated[
        Path | None, typer.Option(help="Prompts to use first: a JSON list of strings and chats.", exists=True)
    ] = None,
    prompts: Annotated[int, typer.Option(help="Prompts that honest variants answer.")] = 120,
    cheat_prompts: Annotated[int, typer.Option(help="How many of them every cheat answers.")] = 40,
    tokens: Annotated[int, typer.Option(help="Longest answer.")] = 96,
    seed: Annotated[int, typer.Option(help="Chooses the prompts.")] = 0,
    dtypes: Annotated[str, typer.Option(help="Precisions of honest machines, with commas.")] = "fp32,bf16,fp16",
    temperatures: Annotated[str, typer.Option(help="Of the answers, with commas; 0 is greedy.")] = "0",
    adversaries: Annotated[str, typer.Option(help="Names with commas, or module:attribute; all if empty.")] = "",
    cheat_dtype: Annotated[str, typer.Option(help="Precision that cheats run in and claim; bf16 if empty.")] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Threads of a pass; one a core by default.", min=1, max=1024)
    ] = None,
    observed: Annotated[
        Path | None,
        typer.Option(help="Observations of an earlier run, to fit and judge anew.", dir_okay=False, exists=True),
    ] = None,
    accept_sigmas: Annotated[float, typer.Option(help="Standard deviations to the accept bound.")] = 4.0,
    reject_sigmas: Annotated[float, typer.Option(help="Standard deviations to the reject bound.")] = 5.0,
    margins_of: Annotated[
        str, typer.Option(help="A shipped record: no bound of a margin is narrower than its own.")
    ] = "",
) -> None:
    """Runs honest variants and cheats, fits thresholds, writes policy, observations and a report with plots."""
    from trine_research.adversaries import ADVERSARIES
    from trine_research.study import calibrate as study

    options = study.Options(
        model=model,
        prompt_file=prompt_file,
        prompts=prompts,
        cheat_prompts=cheat_prompts,
        tokens=tokens,
        seed=seed,
        dtypes=study.parse_list(dtypes),
        temperatures=tuple(float(exact(each)) for each in study.parse_list(temperatures)),
        adversaries=study.parse_list(adversaries) if adversaries else tuple(ADVERSARIES),
        cheat_dtype=cheat_dtype,
        device=device,
        threads=threads,
        accept_sigmas=accept_sigmas,
        reject_sigmas=reject_sigmas,
        margins_of=margins_of,
    )
    study.calibrate(options, out, note, observed)
    say(f"policy and report: {out}/policy.json, {out}/report.md")
