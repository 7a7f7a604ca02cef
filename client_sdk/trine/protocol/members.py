"""Objects of JSON whose members stand there once each.

Readers of JSON disagree about what stands there twice: most take the last, some the first. What a request or a schema
says shall be the same for everybody who reads it, so a second one is refused by name.
"""

from __future__ import annotations

import json
from typing import Any

MAX_SHOWN = 64
"""Characters of a name that are repeated to who sent it."""


class RepeatedMember(ValueError):
    """An object has two members of one name."""

    def __init__(self, name: str) -> None:
        self.name = name[:MAX_SHOWN]
        super().__init__(f"{self.name!r} stands there twice: leave one of them out")


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook`. Raises RepeatedMember."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise RepeatedMember(_repeated(pairs))
    return members


def require_each_once(text: str | bytes) -> None:
    """Raises RepeatedMember. `text` is JSON that was read already: nothing else of it is looked at here, and the depth
    to which it is nested is not bounded here."""
    json.loads(text, object_pairs_hook=_only_names, parse_int=len, parse_float=len)


def _only_names(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise RepeatedMember(_repeated(pairs))


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
