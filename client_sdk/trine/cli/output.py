"""How the command talks: data on stdout, everything else on stderr, an exit code for every kind of failure."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from trine.errors import ChainError, InvalidInput, NotReady, ProtocolError, TrineError

P = ParamSpec("P")
R = TypeVar("R")

out = Console()
err = Console(stderr=True)

EXIT_CODES: list[tuple[type[TrineError], int]] = [
    (ProtocolError, 7),
    (InvalidInput, 3),
    (NotReady, 4),
    (ChainError, 5),
]
"""First match wins; any other TrineError is 1. Usage errors are 2."""


def fail_cleanly(command: Callable[P, R]) -> Callable[P, R]:
    """Turns a TrineError into its message and exit code: people see sentences, not stack traces."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except TrineError as error:
            complain(str(error))
            code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
            raise typer.Exit(code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped


def say(message: str) -> None:
    out.print(message, markup=False, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    err.print(f"error: {message}", markup=False, highlight=False, style="red", soft_wrap=True)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def tokens(wei: int) -> str:
    """Wei of an 18-decimals token, for people."""
    return f"{wei / 10**18:,.4f}".rstrip("0").rstrip(".")
