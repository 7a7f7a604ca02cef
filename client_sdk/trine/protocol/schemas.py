"""JSON Schemas as people and their libraries write them, in the words that are enforced. Pure.

`in_enforced_words` says the same of every value with fewer keywords: what forbids nothing is left out, alternatives of
`oneOf` that cannot hold at once become those of `anyOf`, and so on. What it makes of a schema is what is signed. Where
it is not certain that nothing changes, it changes nothing; then the schema is refused by name (`fault_of`), with what
to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import unquote

FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"})
"""Of texts, as the engine enforces them."""
FREE_FORMATS = frozenset({"binary", "directory-path", "file-path", "multiline", "password", "path", "textarea"})
"""Of texts: what they say is about where a text is typed or goes, and not about which it may be."""
FREE_NUMBERS = frozenset({"double", "float"})
MAX_EXACT = (1 << 53) - 1
"""Of numbers: beyond it the engine compares doubles, and so do most readers of JSON."""
INTEGERS: Mapping[str, tuple[int, int]] = {
    **{
        f"int{bits}": (max(-(1 << bits - 1), -MAX_EXACT), min((1 << bits - 1) - 1, MAX_EXACT))
        for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": (0, min((1 << bits) - 1, MAX_EXACT)) for bits in (8, 16, 32, 64)},
}
MAX_ALTERNATIVES = 64
"""Of a `oneOf` that is looked at here: each is compared with each."""
MAX_COMPARED = 20_000
"""Alternatives, and what each lists (values, types, names), every time that they are compared: some 30 ms. References
let a few bytes name what takes long to compare, so neither a schema's size nor MAX_ALTERNATIVES bounds it."""
MAX_OPTIONAL = 250
"""Of an object's properties: of more the engine comes to the end of its counters within the answer."""
MAX_NAMES, MAX_COPIED = 64, 16
"""Of an enumeration of names that become properties, and parts of the schema that each of them then has."""
TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})

_MOVED = re.compile(r"/(oneOf|additionalItems|propertyNames|additionalProperties)(/|$)|/items/[0-9]")

INSTEAD: Mapping[str, str] = {
    "additionalItems": "say items and prefixItems",
    "contains": "say items for all elements, or prefixItems for the first ones",
    "dependentRequired": "say the cases as an anyOf of objects",
    "dependentSchemas": "say the cases as an anyOf of objects",
    "dependencies": "say the cases as an anyOf of objects",
    "else": "say the cases as an anyOf of objects",
    "if": "say the cases as an anyOf of objects",
    "maxContains": "say maxItems",
    "minContains": "say minItems",
    "not": "say what may be, by enum, pattern or anyOf",
    "nullable": 'say "null" among the types, or an anyOf with {"type": "null"}',
    "propertyNames": "name the properties, or say patternProperties and additionalProperties false",
    "propertyOrdering": "write properties in that order: answers keep to it",
    "then": "say the cases as an anyOf of objects",
    "unevaluatedItems": "say items",
    "unevaluatedProperties": "say additionalProperties false in each of the objects",
    "uniqueItems": "leave it out, and drop what comes twice yourself",
}
"""What to write in place of keywords that are not enforced."""


class Comparisons:
    """What may still be compared, of one request: counted and not timed, so that everybody comes to the same end."""

    def __init__(self) -> None:
        self._left = MAX_COMPARED

    def may(self, *parts: Mapping[str, Any]) -> bool:
        """Whether these may be compared, too."""
        self._left -= 1 + sum(
            len(listed)
            for part in parts
            for keyword in ("enum", "required", "type")
            if isinstance(listed := part.get(keyword), list)
        )
        return self._left >= 0


@dataclass(frozen=True, slots=True)
class _Whole:
    schema: Any
    comparisons: Comparisons


def in_enforced_words(schema: Any, comparisons: Comparisons | None = None) -> Any:
    """An equal schema. Recursive: only for those that are not too deep. One with a reference to what would be written
    differently stays as it is. `comparisons`: shared by the schemas of one request."""
    if any(map(_MOVED.search, _references(schema))):
        return schema
    return _said(schema, _Whole(schema, comparisons or Comparisons()))


def fault_of(part: Mapping[str, Any]) -> str | None:
    """What of one schema, without those within it, is no JSON Schema, or would not be enforced; None if nothing."""
    for keyword, value in part.items():
        expected = _VALUES.get(keyword)
        if expected is not None and not expected[0](value):
            return f"{keyword} must be {expected[1]}"
    named = part.get("format")
    if named is not None and named not in FORMATS:
        return (
            f"the format {named[:64]!r} is not enforced: leave it out, or say it by pattern, minimum or maximum; "
            f"enforced are {', '.join(sorted(FORMATS))}"
        )
    for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if abs(part.get(keyword, 0)) > MAX_EXACT:
            return f"{keyword} must be from -{MAX_EXACT} to {MAX_EXACT}, where numbers are exact"
    names = part.get("required", ())
    if len(part.get("properties", {}).keys() - set(names)) > MAX_OPTIONAL:
        return (
            f"an object has more than {MAX_OPTIONAL} properties that are not required: require some, or leave them out"
        )
    if part.get("minProperties", 0) > max(1, len(set(names))):
        return "minProperties above 1 is not enforced, because names may come twice: name what is required"
    return None


def referred(schema: Any, reference: str) -> Any:
    """What a reference of this document names; None if nothing."""
    found = schema
    for step in filter(None, unquote(reference[1:]).split("/")):
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and len(step) < 6:
            found = found[int(step)] if int(step) < len(found) else None
        else:
            return None
    return found


def _references(schema: Any) -> Iterator[str]:
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if isinstance(reference := part.get("$ref"), str):
                yield unquote(reference)
            left += part.values()
        elif isinstance(part, list):
            left += part


def _said(part: Any, whole: _Whole) -> Any:
    if not isinstance(part, dict):
        return part
    said: dict[str, Any] = {}
    for keyword, value in part.items():
        if keyword in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, dict):
            said[keyword] = {name: _said(inner, whole) for name, inner in value.items()}
        elif keyword in ("allOf", "anyOf", "oneOf", "prefixItems", "items") and isinstance(value, list):
            said[keyword] = [_said(inner, whole) for inner in value]
        elif keyword in ("items", "additionalProperties", "additionalItems", "propertyNames"):
            said[keyword] = _said(value, whole)
        else:
            said[keyword] = value
    for step in (_without_what_is_free, _tuples, _formats, _names, _alternatives):
        said = step(said, whole)
    return said


def _without_what_is_free(part: dict[str, Any], whole: _Whole) -> dict[str, Any]:
    free = {
        "nullable": (False,),
        "propertyNames": (True, {}, {"type": "string"}),
        "unevaluatedItems": (True, {}),
        "unevaluatedProperties": (True, {}),
        "uniqueItems": (False,),
    }
    return {
        keyword: value
        for keyword, value in part.items()
        if not any(
            value == each and isinstance(value, bool) == isinstance(each, bool) for each in free.get(keyword, ())
        )
    }


def _tuples(part: dict[str, Any], whole: _Whole) -> dict[str, Any]:
    """Of older drafts: a list of `items`, and `additionalItems` after it, or without a meaning."""
    if "additionalItems" not in part and not isinstance(part.get("items"), list):
        return part
    said: dict[str, Any] = {}
    for keyword, value in part.items():
        if keyword == "items" and isinstance(value, list) and "prefixItems" not in part:
            said["prefixItems"] = value
            if "additionalItems" in part:
                said["items"] = part["additionalItems"]
        elif keyword != "additionalItems":
            said[keyword] = value
    return said


def _formats(part: dict[str, Any], whole: _Whole) -> dict[str, Any]:
    kind, named = part.get("type"), part.get("format")
    if isinstance(kind, list) and len(kind) == 2 and "null" in kind:
        kind = kind[1] if kind[0] == "null" else kind[0]
    if not isinstance(named, str):
        return part
    rest = {keyword: value for keyword, value in part.items() if keyword != "format"}
    if (kind == "string" and named in FREE_FORMATS) or (kind == "number" and named in FREE_NUMBERS):
        return rest
    if kind != "integer" or named not in INTEGERS:
        return part
    low, high = INTEGERS[named]
    for keyword, bound, tighter in (("minimum", low, max), ("maximum", high, min)):
        given = rest.get(keyword)
        if given is not None and (isinstance(given, bool) or not isinstance(given, int | float)):
            return part
        rest[keyword] = bound if given is None else tighter(given, bound)
    return rest


def _names(part: dict[str, Any], whole: _Whole) -> dict[str, Any]:
    """`propertyNames` that are few, as properties; those of a pattern, as properties of a pattern."""
    names = _resolved(part.get("propertyNames"), whole)
    if not isinstance(names, dict) or not part.keys().isdisjoint({"properties", "patternProperties"}):
        return part
    heeded = {keyword: value for keyword, value in names.items() if keyword not in ("title", "description", "type")}
    if names.get("type", "string") != "string" or len(heeded) != 1:
        return part
    value = part.get("additionalProperties", True)
    [(keyword, said)] = heeded.items()
    if keyword == "const" and isinstance(said, str):
        keyword, said = "enum", [said]
    if keyword == "enum" and _are_texts(said) and 0 < len(said) <= MAX_NAMES and _is_small(value):
        members = {"properties": dict.fromkeys(said, value)}
    elif keyword == "pattern" and isinstance(said, str):
        members = {"patternProperties": {said: value}}
    else:
        return part
    rest = {k: v for k, v in part.items() if k not in ("propertyNames", "additionalProperties")}
    return {**rest, **members, "additionalProperties": False}


def _alternatives(part: dict[str, Any], whole: _Whole) -> dict[str, Any]:
    """`oneOf` as `anyOf`, where no value can be two of them."""
    alternatives = part.get("oneOf")
    if not isinstance(alternatives, list) or not 0 < len(alternatives) <= MAX_ALTERNATIVES:
        return part
    resolved = [_resolved(each, whole) for each in alternatives]
    if not all(isinstance(each, dict) for each in resolved):
        return part
    if not all(_exclude(one, other, whole) for one, other in combinations(resolved, 2)):
        return part
    if "anyOf" not in part:
        return {("anyOf" if keyword == "oneOf" else keyword): value for keyword, value in part.items()}
    if "allOf" in part:
        return part
    return {
        ("allOf" if keyword == "oneOf" else keyword): ([{"anyOf": value}] if keyword == "oneOf" else value)
        for keyword, value in part.items()
    }


def _exclude(one: Mapping[str, Any], other: Mapping[str, Any], whole: _Whole) -> bool:
    """Whether it is certain that no value is both."""
    if not whole.comparisons.may(one, other):
        return False
    kinds, others = _kinds(one), _kinds(other)
    if not kinds & others:
        return True
    values, more = _values(one), _values(other)
    if values is not None and more is not None:
        return not values & more
    shared = kinds & others
    if shared == {"number"}:
        (low, high), (lower, higher) = _range(one), _range(other)
        return _is_before(high, lower) or _is_before(higher, low)
    if shared == {"object"}:
        return _have_other_members(one, other, whole) or _lacks(one, other) or _lacks(other, one)
    return False


def _kinds(part: Mapping[str, Any]) -> set[str]:
    """Types that its values may have; integers are numbers."""
    values = _values(part)
    if values is not None:
        return {name for name, _ in values}
    kind = part.get("type")
    kinds = TYPES if kind is None else {kind} if isinstance(kind, str) else set(kind) if _are_texts(kind) else TYPES
    return {"number" if name == "integer" else name for name in kinds}


def _values(part: Mapping[str, Any]) -> set[tuple[str, Any]] | None:
    """All values that it may be, each with its type, as far as they are texts, numbers and words; None for others."""
    listed = [part["const"]] if "const" in part else part.get("enum")
    if not isinstance(listed, list):
        return None
    values: set[tuple[str, Any]] = set()
    for value in listed:
        if value is None or isinstance(value, bool):
            values.add(("null" if value is None else "boolean", value))
        elif isinstance(value, str):
            values.add(("string", value))
        elif isinstance(value, int | float):
            values.add(("number", value))
        else:
            return None
    return values


def _range(part: Mapping[str, Any]) -> tuple[tuple[float, bool], tuple[float, bool]]:
    """The least and the greatest number that it may be, each with whether that one is left out."""
    lows, highs = [(-math.inf, False)], [(math.inf, False)]
    for keyword, found, is_out in (
        ("minimum", lows, False),
        ("exclusiveMinimum", lows, True),
        ("maximum", highs, False),
        ("exclusiveMaximum", highs, True),
    ):
        value = part.get(keyword)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found.append((value, is_out))
    return max(lows), min(highs, key=lambda bound: (bound[0], not bound[1]))


def _is_before(high: tuple[float, bool], low: tuple[float, bool]) -> bool:
    return high[0] < low[0] or (high[0] == low[0] and (high[1] or low[1]))


def _have_other_members(one: Mapping[str, Any], other: Mapping[str, Any], whole: _Whole) -> bool:
    """Whether a member that both require cannot be the same in both."""
    mine, theirs = one.get("properties"), other.get("properties")
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return False
    for name in _required(one) & _required(other):
        a, b = (_resolved(each.get(name), whole) for each in (mine, theirs))
        if isinstance(a, dict) and isinstance(b, dict):
            if not whole.comparisons.may(a, b):
                return False
            values, more = _values(a), _values(b)
            if not _kinds(a) & _kinds(b) or (values is not None and more is not None and not values & more):
                return True
    return False


def _lacks(closed: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one allows no member that the other requires."""
    known = closed.get("properties", {})
    is_closed = closed.get("additionalProperties") is False and "patternProperties" not in closed
    return is_closed and isinstance(known, dict) and not _required(other) <= known.keys()


def _required(part: Mapping[str, Any]) -> frozenset[str]:
    names: Any = part.get("required")
    return frozenset(names) if _are_texts(names) else frozenset()


def _resolved(part: Any, whole: _Whole) -> Any:
    """What a reference that stands alone names, one step; else the schema itself."""
    reference = part.get("$ref") if isinstance(part, dict) else None
    if isinstance(reference, str) and reference.startswith("#/") and part.keys() <= {"$ref", "title", "description"}:
        return referred(whole.schema, reference)
    return part


def _is_small(value: Any) -> bool:
    left, parts = [value], 0
    while left and parts <= MAX_COPIED:
        part = left.pop()
        parts += 1
        left += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return parts <= MAX_COPIED and len(str(value)) <= 1024


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and 0 <= value < math.inf and value == int(value)


def _are_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _are_named(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_type(value: Any) -> bool:
    return value in TYPES if isinstance(value, str) else _are_texts(value) and bool(value) and TYPES.issuperset(value)


_SCHEMA = (_is_schema, "a schema")
_LIST = (_are_schemas, "a list of schemas")
_NAMED = (_are_named, "an object of schemas")
_NUMBER = (_is_number, "a number")
_COUNT = (_is_count, "a whole number from 0 on")
_TEXT = (lambda value: isinstance(value, str), "a string")
_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "$defs": _NAMED,
    "additionalProperties": _SCHEMA,
    "allOf": _LIST,
    "anyOf": _LIST,
    "definitions": _NAMED,
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of at least one value"),
    "exclusiveMaximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "format": _TEXT,
    "items": _SCHEMA,
    "maxItems": _COUNT,
    "maxLength": _COUNT,
    "maxProperties": _COUNT,
    "maximum": _NUMBER,
    "minItems": _COUNT,
    "minLength": _COUNT,
    "minProperties": _COUNT,
    "minimum": _NUMBER,
    "oneOf": _LIST,
    "pattern": _TEXT,
    "patternProperties": _NAMED,
    "prefixItems": _LIST,
    "properties": _NAMED,
    "required": (_are_texts, "a list of names"),
    "type": (_is_type, f"one or some of {', '.join(sorted(TYPES))}"),
}
