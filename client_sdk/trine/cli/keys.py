"""`trine keys …`: encrypted account keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, say
from trine.errors import InvalidInput

app = group("Create and inspect encrypted account keys.")


@app.command()
@fail_cleanly
def new(
    path: Annotated[Path, typer.Argument(help="Where to write the keystore; must not exist.")],
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password.")] = None,
) -> None:
    """Creates a new key, encrypted as Web3 Secret Storage, and prints its address."""
    from trine.chain import create_keystore

    say(create_keystore(path, _password(password_file)))


@app.command()
@fail_cleanly
def address(path: Annotated[Path, typer.Argument(help="A keystore file.")]) -> None:
    """Prints the address of a keystore without opening it."""
    try:
        say("0x" + str(json.loads(path.read_text())["address"]).removeprefix("0x"))
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput(f"{path} is no keystore") from None


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text().splitlines()[0]
        except (OSError, IndexError):
            raise InvalidInput(f"cannot read a password from {file}") from None
    if not sys.stdin.isatty():
        raise InvalidInput("no terminal to ask for a password: pass --password-file")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
