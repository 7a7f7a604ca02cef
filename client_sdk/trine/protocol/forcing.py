"""`tool_choice` that forces a call: the answer is held to a grammar whose texts are one call each. Pure.

The grammar is signed like any other, beside the tools, so verifiers need no rule of their own for it. It asks for the
form without a marker, which `calls` reads whatever the model is called, with the name first and arguments that keep to
the function's schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trine.errors import InvalidField
from trine.protocol.grammar import Grammar
from trine.protocol.schemas import Comparisons, in_enforced_words
from trine.protocol.tools import Tools

REQUIRED = "required"
_VALUES = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords of JSON Schema whose values are no schemas."""
_NAMED = frozenset({"$defs", "definitions", "patternProperties", "properties"})


def forced(tools: Tools, choice: Any) -> Grammar | None:
    """What `tool_choice` makes of the answer; None where the choice is the model's, or nothing is called.

    Raises InvalidField for a choice that is none, and for a schema that cannot be forced.
    """
    if choice in (None, "auto", "none"):
        return None
    names = _chosen(choice)
    if not tools:
        raise InvalidField("tool_choice is about tools, and there are none", field="tool_choice")
    functions = [tool["function"] for tool in tools.as_list() if not names or tool["function"]["name"] in names]
    if not functions:
        raise InvalidField(f"tool_choice names {names[0]!r:.80}, which is not in tools", field="tool_choice")
    grammar = _grammar(functions)
    if fault := grammar.fault():
        said = f"tool_choice forces arguments to their schema, and it cannot: {fault}; send auto, or another schema"
        raise InvalidField(said, field="tool_choice", code="unsupported_value")
    return grammar


def choice_of(tools: Tools, grammar: Grammar | None) -> Any:
    """The `tool_choice` that makes this grammar of these tools; None where none does."""
    if not tools or grammar is None:
        return None
    functions = [tool["function"] for tool in tools.as_list()]
    if grammar == _grammar(functions):
        return REQUIRED
    named = (function["name"] for function in functions if grammar == _grammar([function]))
    name = next(named, None)
    return None if name is None else {"type": "function", "function": {"name": name}}


def _chosen(choice: Any) -> tuple[str, ...]:
    """The function that is named; none where any will do. Raises InvalidField."""
    if choice == REQUIRED:
        return ()
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if isinstance(function, dict) and isinstance(function.get("name"), str) and choice.keys() == {"type", "function"}:
        return (function["name"],)
    said = f"tool_choice {choice!r:.120} is not served: send auto, none, required or a function of the tools"
    raise InvalidField(said, field="tool_choice", code="unsupported_value")


def _grammar(functions: list[dict[str, Any]]) -> Grammar:
    alone, comparisons = len(functions) == 1, Comparisons()
    calls = [_call(each, "#" if alone else f"#/anyOf/{number}", comparisons) for number, each in enumerate(functions)]
    schema = calls[0] if alone else {"anyOf": calls}
    return Grammar("json_schema", json.dumps(schema, ensure_ascii=False, separators=(",", ":")))


def _call(function: Mapping[str, Any], place: str, comparisons: Comparisons) -> dict[str, Any]:
    """The schema of a call of this function, which stands at `place` of the whole."""
    parameters = {k: v for k, v in function.get("parameters", {}).items() if k not in ("$id", "$schema")}
    arguments = _moved(
        in_enforced_words({"type": "object", **parameters}, comparisons), f"{place}/properties/arguments"
    )
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, place: str, *, has_names: bool = False) -> Any:
    """A schema whose references lead to where they led, now that it stands at `place`; `has_names`: it is an object of
    schemas by name."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {}
    for key, value in schema.items():
        if not has_names and key == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[key] = place + value[1:]
        elif not has_names and key in _VALUES:
            moved[key] = value
        else:
            moved[key] = _moved(value, place, has_names=not has_names and key in _NAMED)
    return moved
