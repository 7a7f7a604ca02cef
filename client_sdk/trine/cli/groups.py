"""What keeps the command line quick: groups that are imported when they are run or listed, and help without rich.

Rich's frames around a help text would take twice the processor time of everything else that `--help` does.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from trine.cli.output import complain

_OPERATOR = ("client_sdk", "operators")
_GATEWAY = (*_OPERATOR, "gateway")
_NODE = (*_OPERATOR, "node")
_VERIFIER = (*_NODE, "verifier")
_DEVNET = (*_GATEWAY, "node", "verifier", "deploy")
FOLDERS = {
    "deploy": _DEVNET,
    "devnet": _DEVNET,
    "engine": _NODE,
    "examiner": _VERIFIER,
    "gateway": _GATEWAY,
    "model": _NODE,
    "node": _NODE,
    "verifier": _VERIFIER,
}
"""Groups that other distributions bring, and the folders of a checkout that hold these and what they stand on.

No package index has them: a name that is nobody's there may be a stranger's tomorrow, so none is told.
"""

WIDEST = 120
"""Columns of a help text in a wide terminal; click's own limit is 80."""

Command = TyperCommand | TyperGroup


class LazyGroup(TyperGroup):
    """A group that may hold entry points instead of commands."""

    def get_command(self, ctx: Any, cmd_name: str) -> Command | None:
        found: Any = self.commands.get(cmd_name)
        if isinstance(found, EntryPoint):
            self.commands[cmd_name] = found = _load(found)
        return cast("Command | None", found)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0].startswith("-"):
            return super().parse_args(ctx, args)
        # The group's own options would come first. Typer would read those that are not given as well, with pydantic,
        # whose import takes longer than all the rest of a `--help`.
        own, self.params, self.add_help_option = (self.params, self.add_help_option), [], False
        try:
            return super().parse_args(ctx, args)
        finally:
            self.params, self.add_help_option = own

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if ctx.invoked_subcommand not in FOLDERS:
                raise
            complain(_needs(ctx.invoked_subcommand, error.name))
            raise typer.Exit(3) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """With whole sentences; click cuts them."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(sys.maxsize)) for name, command in commands if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def group(help: str, *, no_args_is_help: bool = True, invoke_without_command: bool = False) -> typer.Typer:
    """An empty group."""
    return typer.Typer(
        cls=LazyGroup,
        help=help,
        no_args_is_help=no_args_is_help,
        invoke_without_command=invoke_without_command,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"max_content_width": WIDEST},
    )


def from_elsewhere() -> dict[str, Command | EntryPoint]:
    """The groups that other packages bring, not imported yet; those that are not installed say so."""
    points = {point.name: point for point in entry_points(group="trine.commands")}
    absent = {name: _missing(name) for name in FOLDERS.keys() - points.keys()}
    return dict(sorted({**points, **absent}.items()))


def _load(point: EntryPoint) -> Command:
    try:
        app: typer.Typer = point.load()
    except ImportError as error:
        return _missing(point.name, error.name)
    outer = group("")
    outer.add_typer(app, name=point.name)
    return cast(Command, get_group(outer).commands[point.name])


def _missing(name: str, needed: str | None = None) -> Command:
    """In place of a group whose packages are not installed: it says what to install."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command(
        name,
        help=f"(needs more packages: {_install(name)})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def explain() -> None:
        complain(_needs(name, needed))
        raise typer.Exit(3)

    return cast(Command, get_command(app))


def _needs(name: str, needed: str | None) -> str:
    return f"`trine {name}` needs {needed or 'more packages'}: {_install(name)}"


def _install(name: str) -> str:
    folders = FOLDERS.get(name)
    if folders is None:
        return "install it where this command is"
    return f"in a checkout of Trine, pip install {' '.join(f'./{folder}' for folder in folders)}"
