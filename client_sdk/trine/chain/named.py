"""Contracts' structs as records, by name: an order that changes on one side cannot give a value another's meaning.

The ABI has the names. A field of a record is the member of that name in snake case, with or without its unit `_wei`, or
the one that the field's metadata give as `abi`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from trine.chain.deployment import abi
from trine.errors import ChainError

R = TypeVar("R")


def snake(name: str) -> str:
    """`pricePerTokenWei` -> `price_per_token_wei`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@cache
def members_of(contract: str, function: str) -> tuple[Mapping[str, Any], ...]:
    """What a function returns: the members of its one struct, or its several values. ABI objects."""
    (found,) = (item for item in abi(contract) if item["type"] == "function" and item["name"] == function)
    outputs: Sequence[Any] = found["outputs"]
    alone = outputs[0] if len(outputs) == 1 else {}
    return tuple(alone["components"] if alone.get("type") == "tuple" else outputs)


def record(kind: type[R], members: Sequence[Mapping[str, Any]], values: Sequence[Any], **more: Any) -> R:
    """A record of values that come in the order of `members`; `more` are fields that the chain does not hold.

    Raises ChainError when they are not that many.
    """
    if len(members) != len(values):
        raise ChainError(f"{kind.__name__}: {len(values)} values, the ABI has {len(members)}")
    by_name = {member["name"]: (member, value) for member, value in zip(members, values, strict=True)}
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    filled = dict(more)
    for name, abi_names in fields_of(kind).items():
        if name in more:
            continue
        found = next((by_name[each] for each in by_name if each in abi_names or snake(each) in abi_names), None)
        if found is None:
            raise ChainError(f"{kind.__name__}.{name}: the ABI has no such member")
        filled[name] = _converted(hints[name], *found)
    return kind(**filled)


def fields_of(kind: type[Any]) -> dict[str, tuple[str, ...]]:
    """The names that each field of a record goes by in the ABI."""
    return {
        field.name: (field.metadata["abi"],) if "abi" in field.metadata else (field.name, f"{field.name}_wei")
        for field in fields(kind)
    }


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _converted(hint: Any, member: Mapping[str, Any], value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        try:
            return hint(value)
        except ValueError:
            raise ChainError(f"{member['name']}: {value} is no {hint.__name__} that this version knows") from None
    if "components" in member and get_args(hint):
        return tuple(record(get_args(hint)[0], member["components"], each) for each in value)
    return value
