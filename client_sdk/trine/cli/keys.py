"""`trine keys …`: encrypted keys of accounts; BLS keys are in `bls_keys`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trine.cli import bls_keys
from trine.cli.groups import group
from trine.cli.options import new_password
from trine.cli.output import fail_cleanly, say
from trine.errors import InvalidInput

app = group("Create and inspect encrypted keys: of accounts, and BLS keys.")
app.add_typer(bls_keys.app, name="bls")


@app.command()
@fail_cleanly
def new(
    path: Annotated[Path, typer.Argument(help="Where to write the keystore; must not exist.")],
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password.")] = None,
) -> None:
    """Creates a new key, encrypted as Web3 Secret Storage, and prints its address."""
    from trine.chain import create_keystore

    say(create_keystore(path, new_password(password_file)))


@app.command()
@fail_cleanly
def address(path: Annotated[Path, typer.Argument(help="A keystore file.")]) -> None:
    """Prints the address of a keystore without opening it."""
    try:
        say("0x" + str(json.loads(path.read_text())["address"]).removeprefix("0x"))
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"{path} is no keystore") from None
