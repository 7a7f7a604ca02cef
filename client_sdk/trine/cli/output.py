"""How the command talks: data on stdout, everything else on stderr, an exit code for every kind of failure.

`out` and `err` are rich's consoles, for tables, bars and colours. They are made when a command first names them: rich
takes longer to import than `--help` takes without it. A line of text needs neither: `say` and `note`.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from trine.errors import ChainError, InvalidInput, NotReady, ProtocolError, TransactionReverted, TrineError

if TYPE_CHECKING:
    from rich.console import Console

    out: Console
    err: Console
else:

    def __getattr__(name: str) -> Console:
        if name not in ("out", "err"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from rich.console import Console

        return globals().setdefault(name, Console(stderr=name == "err"))


P = ParamSpec("P")
R = TypeVar("R")

EXIT_CODES: list[tuple[type[TrineError], int]] = [
    (ProtocolError, 7),
    (InvalidInput, 3),
    (NotReady, 4),
    (ChainError, 5),
]
"""First match wins; any other TrineError is 1. Usage errors are 2."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def program() -> str:
    """How the command was called, so that what is printed can be typed: in a checkout it is on no PATH."""
    called = sys.argv[0]
    return called if called.rpartition("/")[2] == "trine" else "trine"


def fail_cleanly(command: Callable[P, R]) -> Callable[P, R]:
    """Turns a TrineError into its message and exit code: people see sentences, not stack traces."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except TrineError as error:
            complain(_sentence(error))
            code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
            raise typer.Exit(code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


def _sentence(error: TrineError) -> str:
    if isinstance(error, TransactionReverted):
        from trine.chain.reasons import explained

        return explained(error.reason) or str(error)
    return str(error)


def say(message: str) -> None:
    """What was asked for, on stdout."""
    typer.echo(_shown(message))


def note(message: str) -> None:
    """What happens meanwhile, on stderr."""
    typer.echo(_shown(message), err=True)


def complain(message: str) -> None:
    from trine.cli.output import err

    err.print(f"error: {_shown(message)}", markup=False, highlight=False, style="red", soft_wrap=True)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def tokens(wei: int) -> str:
    """Wei of an 18-decimals token, for people."""
    return f"{wei / 10**18:,.4f}".rstrip("0").rstrip(".")


def _shown(message: str) -> str:
    """Without control codes: text from elsewhere may hold them, and a terminal would obey."""
    return _CONTROLS.sub("", message)
