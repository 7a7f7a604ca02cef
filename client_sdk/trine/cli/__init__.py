"""The `trine` command. The SDK's own groups are here; node, verifier and devnet bring theirs as entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from trine.cli import appeal, ask, audit, keys, stake
from trine.cli.output import complain

EXTRAS = {"node": "node", "verifier": "verifier", "devnet": "dev"}


def main() -> None:
    """Entry point of the `trine` command."""
    _build()()


def _build() -> typer.Typer:
    app = typer.Typer(
        help="Verifiable inference: ask, serve, verify, audit.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
    )
    app.add_typer(keys.app, name="keys")
    app.add_typer(stake.app, name="stake")
    app.add_typer(audit.app, name="audit")
    app.command("ask")(ask.ask)
    app.command("appeal")(appeal.appeal)
    for point in sorted(entry_points(group="trine.commands"), key=lambda p: p.name):
        try:
            app.add_typer(point.load(), name=point.name)
        except ImportError as error:
            app.add_typer(_missing(point.name, error), name=point.name)
    return app


def _missing(name: str, error: ImportError) -> typer.Typer:
    """A group whose packages are not installed: it says what to install."""
    group = typer.Typer(
        help=f"(needs more packages: pip install 'trine[{EXTRAS.get(name, name)}]')", invoke_without_command=True
    )

    @group.callback(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def explain() -> None:
        complain(f"`trine {name}` needs {error.name or 'more packages'}: pip install 'trine[{EXTRAS.get(name, name)}]'")
        raise typer.Exit(3)

    return group
