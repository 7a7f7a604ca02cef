"""Which texts an answer may be: a grammar that the client signs, and the engine that makes token masks of it.

A grammar is part of the signed input, as text, with the name and release of the engine that reads it: which tokens are
allowed after which is that engine's to say, and another release may say otherwise. Node and verifiers compute the same
mask from the grammar and the answer's tokens so far; a token outside of it is rejected, and margins count the tokens
inside only.

This module says what a request asks for and what of it is in bounds, without the engine: it parses no grammar. Bounds
are on bytes, depth and words, never on time, so that all agree on them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from trine.errors import InvalidField, InvalidInput
from trine.protocol.members import RepeatedMember, each_once
from trine.protocol.schemas import INSTEAD, fault_of, in_enforced_words, referred

ENGINE = "llguidance-1.9.1+compact"
"""Library and release, which deploy/requirements pins, and how JSON is written: without blanks between its parts."""
MAX_BYTES: Mapping[str, int] = {"choice": 1 << 16, "grammar": 1 << 13, "json_schema": 1 << 16, "regex": 1 << 12}
"""Of a grammar's text, by its kind. `grammar`: context-free, in Lark's notation or llama.cpp's GBNF."""
MAX_DEPTH = 64
"""Of lists and objects within one another in a JSON schema."""
MAX_LEVELS = 512
"""Of schemas within one another, when everything that is referred to stands where it is referred to first."""
MAX_MULTIPLES = 10_000
"""Of the numbers of a schema's `multipleOf`, without their powers of ten: their sum, and their least common multiple.
The engine keeps a state for each remainder, and none of its counters counts them."""
MAX_PATTERNS = 64
"""Of property names in a schema."""
MAX_CHOICES = 1024
MAX_CHOICE_CHARACTERS = 1024
ANY_OBJECT = '{"type":"object"}'

FIELDS = ("guided_choice", "guided_grammar", "guided_json", "guided_regex", "response_format", "structured_outputs")
"""OpenAI's, vLLM's older four and vLLM's newer one."""
SPELLED: Mapping[str, str] = {
    "choice": "guided_choice",
    "grammar": "guided_grammar",
    "json_schema": "guided_json",
    "regex": "guided_regex",
}
"""The field that says a kind of grammar as it is signed."""

_ENGINE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_KIND = re.compile(r"[a-z][a-z_]{0,31}")
_UNHEEDED = re.compile(r"^\s*[!?]*[\w.-]+\s*\[[^\]\n]*temperature", re.MULTILINE)
_KINDS_OF_STRUCTURED = {"choice": "choice", "grammar": "grammar", "json": "json_schema", "regex": "regex"}

CONSTRAINING = frozenset(
    {
        *("$ref", "additionalProperties", "allOf", "anyOf", "const", "enum", "exclusiveMaximum", "exclusiveMinimum"),
        *("format", "items", "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength"),
        *("minProperties", "minimum", "multipleOf", "oneOf", "pattern", "patternProperties", "prefixItems"),
        *("properties", "required", "type"),
    }
)
"""JSON Schema's keywords that the engine enforces, or refuses where it cannot."""
ANNOTATING = frozenset(
    {
        *("$anchor", "$comment", "$defs", "$id", "contentEncoding", "contentMediaType", "default"),
        *("definitions", "deprecated", "description", "discriminator", "enumDescriptions", "enumNames", "example"),
        *("examples", "externalDocs", "id", "markdownDescription", "readOnly", "title", "writeOnly", "xml"),
    }
)
"""Keywords that allow and forbid nothing, or hold schemas to refer to. So do those that begin with `x-`."""
_SCHEMA = frozenset({"additionalProperties", "items"})
_SCHEMAS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_NAMED_SCHEMAS = frozenset({"$defs", "definitions", "patternProperties", "properties"})


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer's text must be. Of another engine or kind than is known here it can be read, and not be used."""

    kind: str
    text: str
    engine: str = ENGINE

    def __post_init__(self) -> None:
        if not (isinstance(self.engine, str) and _ENGINE.fullmatch(self.engine)):
            raise InvalidInput("grammar: engine must be a library and its release, such as " + ENGINE)
        if not (isinstance(self.kind, str) and _KIND.fullmatch(self.kind)):
            raise InvalidInput(f"grammar: kind must be one of {', '.join(MAX_BYTES)}")
        if not isinstance(self.text, str):
            raise InvalidInput("grammar: text must be a string")

    def document(self) -> dict[str, str]:
        """What is signed. A schema is text in it, for the order of its properties is that of the answer."""
        return {"engine": self.engine, "kind": self.kind, "text": self.text}

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """Raises InvalidInput."""
        if not isinstance(document, dict) or set(document) != {"engine", "kind", "text"}:
            raise InvalidInput("grammar: it must name an engine, a kind, a text and nothing else")
        return cls(**document)

    def fault(self) -> str | None:
        """Why it cannot be used, as far as that is known without its engine; None if it may be."""
        if self.engine != ENGINE:
            return f"it is for the grammar engine {self.engine}, this release has {ENGINE}"
        limit = MAX_BYTES.get(self.kind)
        if limit is None:
            return f"its kind is {self.kind!r}, expected one of {', '.join(MAX_BYTES)}"
        try:
            size = len(self.text.encode())
        except UnicodeEncodeError:
            return "it holds a lone surrogate, which no text does"
        if not 0 < size <= limit:
            return f"it has {size} bytes, expected 1 to {limit}"
        if self.kind not in ("json_schema", "choice"):
            if self.kind == "grammar" and "%json" in self.text:
                return "%json is not served within a grammar: send a schema by itself"
            if _UNHEEDED.search(self.text) and self.kind == "grammar":
                return "a rule has a temperature, which nothing heeds: leave it out"
            return "it holds the character U+0000" if "\0" in self.text else None
        try:
            read = json.loads(self.text)
            if _spelled(read) != self.text:
                return "its text is not JSON without needless blanks and escapes"
        except (ValueError, RecursionError):
            return "its text is not JSON"
        return _choices_fault(read) if self.kind == "choice" else schema_fault(read)

    def fields(self) -> dict[str, Any]:
        """The same as a field of a request, which `requested` reads back as the same."""
        return {SPELLED.get(self.kind, self.kind): json.loads(self.text) if self.kind == "choice" else self.text}


def requested(fields: Mapping[str, Any]) -> Grammar | None:
    """What a request's `FIELDS` ask for; None if for nothing. Null is as good as absent.

    `response_format` of type text asks for nothing. Raises InvalidField naming the field, and a keyword of a schema
    that nothing would heed.
    """
    asked = [(field, grammar) for field, grammar in _asked(fields) if grammar is not None]
    if len(asked) > 1:
        said = f"{asked[0][0]} and {asked[1][0]} both say what the answer must be: send one of them"
        raise InvalidField(said, field=asked[1][0])
    if not asked:
        return None
    [(field, grammar)] = asked
    if fault := grammar.fault():
        raise InvalidField(f"{field}: {fault}", field=field, code="unsupported_value")
    return grammar


def field_of(fields: Mapping[str, Any]) -> str | None:
    """The field by which a request asks for what `requested` makes of it. Raises InvalidField."""
    return next((field for field, grammar in _asked(fields) if grammar is not None), None)


def schema_fault(schema: Any) -> str | None:
    """What of a JSON schema that was read is out of bounds, or would not be heeded; None if nothing.

    That it can be enforced, only the engine knows.
    """
    if not isinstance(schema, dict):
        return "a schema must be an object"
    if _depth(schema) > MAX_DEPTH:
        return f"the schema is nested more than {MAX_DEPTH} deep"
    named: dict[str, Any] = {}
    for part, where in _schemas_and_named(schema):
        for keyword, value in part.items():
            if keyword == "$ref":
                if not (isinstance(value, str) and (value == "#" or value.startswith("#/"))):
                    return f"{where}: $ref leads outside of the schema: put what it names into $defs"
                named[value] = referred(schema, value)
            if keyword == "$schema":  # the engine would read other keywords by it, and leave some out
                return f"{where}: $schema is not heeded within a schema: leave it out"
            if keyword == "x-guidance" or not (keyword in CONSTRAINING | ANNOTATING or keyword.startswith("x-")):
                instead = INSTEAD.get(keyword, "leave it out")
                return f"{where}: the keyword {keyword[:64]!r} is not enforced: {instead}"
        if fault := fault_of(part):
            return f"{where}: {fault}"
    if sum(_levels(part) for part in (schema, *named.values())) > MAX_LEVELS:
        return f"the schema and what it refers to are more than {MAX_LEVELS} levels deep"
    return _too_much(part for part, _ in _schemas_and_named(schema))


def _too_much(parts: Iterable[Mapping[str, Any]]) -> str | None:
    """What of schemas, together, is more than the engine can be trusted to bound by itself; None if nothing."""
    total, common, patterns = 0, 1, 0
    for part in parts:
        if isinstance(names := part.get("patternProperties"), dict):
            patterns += len(names)
        if "multipleOf" not in part:
            continue
        value = part["multipleOf"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return "multipleOf must be a number above 0"
        number = int("".join(map(str, Decimal(str(value)).normalize().as_tuple().digits)))
        total, common = total + number, math.lcm(common, number)
        if max(total, common) > MAX_MULTIPLES:
            return (
                f"its multipleOf are too much: their sum, and their least common multiple, are {MAX_MULTIPLES} at most"
            )
    return f"it has more than {MAX_PATTERNS} patterns of names" if patterns > MAX_PATTERNS else None


def _asked(fields: Mapping[str, Any]) -> Iterator[tuple[str, Grammar | None]]:
    yield "response_format", _of_response_format(fields.get("response_format"))
    for kind, field in SPELLED.items():
        yield field, _guided(kind, fields.get(field), field)
    structured = fields.get("structured_outputs")
    if structured is None:
        return
    if not isinstance(structured, dict):
        raise InvalidField("structured_outputs must be an object", field="structured_outputs")
    for option, value in structured.items():
        where = f"structured_outputs.{option[:64]}"
        if value is None or value is False:
            continue
        if option == "json_object" and value is True:
            yield where, Grammar("json_schema", ANY_OBJECT)
        elif option in _KINDS_OF_STRUCTURED:
            yield where, _guided(_KINDS_OF_STRUCTURED[option], value, where)
        else:
            raise InvalidField(f"{where} is not served: leave it out", field=where, code="unsupported_value")


def _of_response_format(wanted: Any) -> Grammar | None:
    field = "response_format"
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    members = {"text": {"type"}, "json_object": {"type"}, "json_schema": {"type", "json_schema"}}
    if not isinstance(kind, str) or kind not in members:
        said = "response_format must be an object whose type is text, json_object or json_schema"
        raise InvalidField(said, field=field, code="unsupported_value")
    _require_members(wanted, members[kind], field)
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar("json_schema", ANY_OBJECT)
    field = "response_format.json_schema"
    described = wanted.get("json_schema")
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        raise InvalidField(f"{field} must be an object with a name and a schema", field=field)
    _require_members(described, {"description", "name", "schema", "strict"}, field)
    strict = described.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise InvalidField(f"{field}.strict must be true or false", field=f"{field}.strict")
    return _guided("json_schema", described["schema"], f"{field}.schema")


def _guided(kind: str, value: Any, field: str) -> Grammar | None:
    """`value` as vLLM takes it: a schema as JSON or its text, choices as a list, regex and grammar as text."""
    if value is None:
        return None
    if kind == "json_schema" and isinstance(value, str):
        if len(value) > MAX_BYTES[kind]:
            raise InvalidField(f"{field}: it has more than {MAX_BYTES[kind]} bytes", field=field)
        try:
            value = json.loads(value, object_pairs_hook=each_once)
        except RepeatedMember as error:
            raise InvalidField(f"{field}: {error}", field=field, code="repeated_field") from None
        except (ValueError, RecursionError):
            raise InvalidField(f"{field} must be a JSON schema: its text is not JSON", field=field) from None
    expected = {"json_schema": dict, "choice": list}.get(kind, str)
    if not isinstance(value, expected):
        named = {dict: "a JSON schema, an object or its text", list: "a list of strings", str: "a string"}[expected]
        raise InvalidField(f"{field} must be {named}", field=field)
    if isinstance(value, dict) and isinstance(value.get("$schema"), str):  # all drafts are read as one
        value = {keyword: inner for keyword, inner in value.items() if keyword != "$schema"}
    if isinstance(value, dict) and _depth(value) <= MAX_DEPTH:
        value = in_enforced_words(value)
    try:
        return Grammar(kind, value if isinstance(value, str) else _spelled(value))
    except (ValueError, RecursionError):
        raise InvalidField(f"{field} holds what is not JSON", field=field) from None


def _spelled(value: Any) -> str:
    """JSON with members in the order that they came in. Raises ValueError, RecursionError."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _require_members(given: Mapping[str, Any], known: set[str], field: str) -> None:
    for member, value in given.items():
        if member not in known and value is not None:
            shown = f"{field}.{member[:64]}"
            raise InvalidField(f"{shown} is not served: leave it out", field=shown, code="unknown_parameter")


def _choices_fault(choices: Any) -> str | None:
    if not isinstance(choices, list) or not 1 <= len(choices) <= MAX_CHOICES:
        return f"there must be 1 to {MAX_CHOICES} choices"
    if not all(isinstance(each, str) and 1 <= len(each) <= MAX_CHOICE_CHARACTERS for each in choices):
        return f"a choice must be a text of 1 to {MAX_CHOICE_CHARACTERS} characters"
    return None


def _depth(value: Any) -> int:
    """Of lists and objects within one another, by breadth: no recursion on what strangers send."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _levels(schema: Any) -> int:
    return max((level for _, _, level in _schemas(schema)), default=0)


def _schemas_and_named(schema: Any) -> Iterator[tuple[Mapping[str, Any], str]]:
    """All schemas within one, and within what its references name, wherever that stands; each once."""
    left: list[tuple[Any, str]] = [(schema, "schema")]
    seen: set[int] = set()
    while left:
        root, name = left.pop()
        for part, where, _ in _schemas(root, seen):
            reference = part.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                left.append((referred(schema, reference), reference[:200]))
            yield part, where.replace("schema", name, 1)


def _schemas(schema: Any, seen: set[int] | None = None) -> Iterator[tuple[Mapping[str, Any], str, int]]:
    """All schemas within one, itself first, each with a path that people understand and its level, from 1. Those
    in `seen` are left out, and what is found is added to it."""
    left: list[tuple[Any, str, int]] = [(schema, "schema", 1)]
    while left:
        part, where, level = left.pop()
        if not isinstance(part, dict) or (seen is not None and id(part) in seen):
            continue
        if seen is not None:
            seen.add(id(part))
        yield part, where, level
        for keyword, value in part.items():
            at = f"{where}.{keyword}"[:200]
            if keyword in _NAMED_SCHEMAS and isinstance(value, dict):
                left += [(inner, f"{at}.{name}"[:200], level + 1) for name, inner in value.items()]
            elif keyword in _SCHEMAS and isinstance(value, list):
                left += [(inner, f"{at}[{number}]", level + 1) for number, inner in enumerate(value)]
            elif keyword in _SCHEMA:
                left.append((value, at, level + 1))
