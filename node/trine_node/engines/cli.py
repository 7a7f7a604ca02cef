"""`trine engine …`: what this machine's engine promises, and how fast it is."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, note, say
from trine.errors import NotReady

app = group("Try out the engine on this machine.")

Model = Annotated[str, typer.Argument(help="Name of a shipped record, or hf:…, pypi:… or file:…")]
Dtype = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="Of a pass; one a core by default.", min=1, max=1024)]

DEFAULT_MODEL = "smollm2-135m-instruct"


@app.command()
@fail_cleanly
def selftest(
    model: Model = DEFAULT_MODEL,
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    threads: Threads = None,
    tokens: Annotated[int, typer.Option(help="Longest answer.", min=2, max=4096)] = 32,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the findings.")] = None,
) -> None:
    """Answers the same prompts in every way that must not matter, and compares the bits. Fails if one does."""
    from trine_node.engines.selftest import Loader, selftest

    loader = Loader(folder_of(model), dtype, device, threads or os.cpu_count() or 1)
    findings = []
    for finding in selftest(loader, tokens, lambda message: note(f"… {message}")):
        findings.append(finding)
        detail = f" ({finding.detail})" if finding.detail and not finding.same else ""
        say(f"{'same' if finding.same else 'DIFFERENT':<11}{finding.what}{detail}")
    if json_file:
        json_file.write_text(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n", "utf-8")
    different = [finding.what for finding in findings if not finding.same]
    where = f"{device}-{dtype}"
    if different:
        raise NotReady(f"{where}: no promise of equal bits on this machine; different: {'; '.join(different)}")
    say(f"{where}: token ids, fingerprints, hidden states and logits are the same to the last bit in all of these")


@app.command("compile")
@fail_cleanly
def compile_command() -> None:
    """Compiles the CPU kernels for this machine, once; operators would do it when they start."""
    from trine_node.engines.compilation import compile_kernels

    compile_kernels(note)
    say("the CPU kernels are compiled for this machine")


def folder_of(model: str) -> Path:
    """The prepared model of a shipped record's name or a source."""
    from trine.models import load_record
    from trine_node.models import prepare

    return prepare(model if ":" in model else load_record(model).source, progress=note)


@app.command()
@fail_cleanly
def tune(
    model: Model = DEFAULT_MODEL,
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    tokens: Annotated[int, typer.Option(help="Longest answer.", min=2, max=4096)] = 48,
    store_url: Annotated[str, typer.Option(help="Database that keeps what was found.")] = "sqlite:///trine.sqlite",
) -> None:
    """Tries execution settings, keeps those that give the same bits, and says which are fastest here."""
    from trine_node.engines.selftest import Loader
    from trine_node.engines.tuning import Choice, Features, Trial, Tunings, in_other_precisions, tune

    loader = Loader(folder_of(model), dtype, device, os.cpu_count() or 1)
    features = Features.of(loader())
    tunings = Tunings(store_url)
    start = Choice("invariant" if device == "cpu" else "triton", os.cpu_count() or 1)
    if known := tunings.nearest(features):
        name, start, distance = known
        say(f"begins with what was best for {name} (distance {distance:.1f})")

    def progress(message: str) -> None:
        note(f"… {message}")

    def show(what: str, trial: Trial) -> None:
        speed = f"{trial.one:6.1f} tokens/s alone, {trial.many:6.1f} together" if trial.same else "other bits: left out"
        say(f"{what:<62}{speed}")

    trials = []
    for trial in tune(loader, start, tokens, progress):
        trials.append(trial)
        show(", ".join(f"{key} {value}" for key, value in asdict(trial.choice).items()), trial)
    sound = [trial for trial in trials if trial.same]
    if not sound:
        raise NotReady("no setting gave the same bits twice: see `trine engine selftest`")
    best = max(sound, key=lambda trial: trial.score)
    tunings.add(model, features, best)
    tunings.close()
    say("\nthe best of these in other precisions, which are other classes with bounds of their own:")
    for other, trial in in_other_precisions(loader, best.choice, tokens, progress):
        show(other, trial)
    say("\nfor the operator's settings:")
    say(f'dtype = "{dtype}"\ndevice = "{device}"\nthreads = {best.choice.threads}')
    say(f"engine_rows = {best.choice.rows}\nengine_prompt_tokens = {best.choice.prompt_tokens}")
