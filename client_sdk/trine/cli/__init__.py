"""The `trine` command. The SDK's own groups are here; node, verifier and devnet bring theirs as entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from trine.cli import appeal, ask, audit, keys, stake
from trine.cli.output import complain

DISTRIBUTIONS = {
    "devnet": "trine-devnet",
    "engine": "trine-node",
    "model": "trine-node",
    "node": "trine-node",
    "verifier": "trine-verifier",
}
"""Groups that other distributions bring."""


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
    points = {point.name: point for point in entry_points(group="trine.commands")}
    for name in sorted(DISTRIBUTIONS.keys() | points.keys()):
        try:
            app.add_typer(points[name].load() if name in points else _missing(name), name=name)
        except ImportError as error:
            app.add_typer(_missing(name, error.name), name=name)
    return app


def _missing(name: str, needed: str | None = None) -> typer.Typer:
    """A group whose packages are not installed: it says what to install."""
    install = f"pip install {DISTRIBUTIONS.get(name, name)}"
    group = typer.Typer(help=f"(needs more packages: {install})", invoke_without_command=True)

    @group.callback(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def explain() -> None:
        complain(f"`trine {name}` needs {needed or 'more packages'}: {install}")
        raise typer.Exit(3)

    return group
