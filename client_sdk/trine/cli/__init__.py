"""The `trine` command. The SDK's own groups are here; node, verifier and devnet bring theirs as entry points.

A module of commands imports typer and little else. What a command works with is imported when it runs, so that a help
text costs no more than itself.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from trine.cli import appeal, ask, audit, certificate, claim, identity, keys, relay, request, stake, verify
from trine.cli.groups import from_elsewhere, group
from trine.cli.output import say


def main() -> None:
    """Entry point of the `trine` command."""
    build()()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"trine {version('trine')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def build() -> TyperGroup:
    """The command with all its groups."""
    app = group("Verifiable inference: ask, serve, verify, audit.")
    app.callback(help="Verifiable inference: ask, serve, verify, audit.")(_options)
    app.command("ask")(ask.ask)
    app.command("appeal")(appeal.appeal)
    app.command("claim")(claim.claim)
    app.command("verify")(verify.verify)
    app.add_typer(keys.app, name="keys")
    app.add_typer(stake.app, name="stake")
    app.add_typer(audit.app, name="audit")
    app.add_typer(certificate.app, name="certificate")
    app.add_typer(relay.app, name="relay")
    app.add_typer(request.app, name="request")
    app.add_typer(identity.app, name="identity")
    command = cast(TyperGroup, get_command(app))
    command.commands |= cast(Any, from_elsewhere())
    return command
