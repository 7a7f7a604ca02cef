"""Schemas as libraries write them: served and enforced, or refused by a sentence that says what to write.

`jsonschema` is the judge: what the engine allows, it finds valid.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import json
import pathlib
import random
import uuid
from typing import Annotated, Any, Literal

import llguidance
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field

from trine.errors import InvalidField
from trine.protocol.grammar import requested
from trine.protocol.schemas import INSTEAD, MAX_COMPARED, Comparisons, in_enforced_words
from trine_node.engines.grammar_source import compiled, first_line

LETTERS = b'"{}[],:0123456789.-eEtrufalsn abcxyzAB\\'
TRIES = 6


@functools.cache
def letters() -> Any:
    """A vocabulary of bytes: masks of it take microseconds."""
    return llguidance.LLTokenizer("byte")


def matcher_of(schema: Any) -> Any:
    """None where it is refused."""
    try:
        grammar = requested({"guided_json": schema})
    except InvalidField:
        return None
    assert grammar is not None
    matcher = compiled(letters(), grammar.kind, grammar.text)
    return None if matcher.is_error() else matcher


def answers(schema: Any, seed: int, tokens: int = 160) -> list[str]:
    """Texts that keep to the grammar of a schema, by a model that knows nothing; those that come to their end."""
    found = []
    for number in range(TRIES):
        drawn, text = random.Random(seed * TRIES + number), bytearray()
        matcher = matcher_of(schema)
        while matcher is not None and len(text) < tokens:
            permitted = int.from_bytes(matcher.compute_bitmask(), "little")
            if matcher.is_error():
                break
            among = [token for token in range(256) if permitted >> token & 1]
            if matcher.is_accepting() and (not among or drawn.random() < 0.4):
                found.append(text.decode(errors="replace"))
                break
            closing = [each for each in among if each in b'"}],:']
            usual = [each for each in among if each in LETTERS]
            among = closing if closing and drawn.random() < 0.5 else usual or among
            token = drawn.choice(among)
            matcher.consume_token(token)
            text.append(token)
    return found


NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(-20, 20)
VALUES = st.none() | st.booleans() | NUMBERS | st.sampled_from(["a", "b", "", "a b"])


def numbers() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number", ["integer", "null"]])},
        optional={
            "minimum": NUMBERS,
            "maximum": NUMBERS,
            "exclusiveMinimum": NUMBERS,
            "exclusiveMaximum": NUMBERS,
            "format": st.sampled_from(["int32", "uint8", "double", "decimal"]),
        },
    )
    steps = st.fixed_dictionaries({"type": st.just("integer"), "multipleOf": st.integers(1, 7)})
    return bounds | steps


def texts() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 3),
            "maxLength": st.integers(0, 5),
            "pattern": st.sampled_from(["^[a-c]+$", "a", "^a|b$", "[0-9]{2}", "^\\S*$", "^\\w\\W?$"]),
            "nullable": st.booleans(),
        },
    )


def others(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(NAMES, inner, max_size=3)
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": named,
            "required": st.lists(NAMES, unique=True, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "^x_"]), inner, max_size=1),
            "minProperties": st.integers(0, 2),
            "maxProperties": st.integers(0, 3),
            "propertyNames": st.sampled_from([{"enum": ["a", "c"]}, {"type": "string"}, {"pattern": "^[ab]$"}, {}]),
        },
    )
    lists = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": inner | some,
            "prefixItems": some,
            "additionalItems": st.booleans() | inner,
            "minItems": st.integers(0, 3),
            "maxItems": st.integers(0, 4),
            "uniqueItems": st.booleans(),
        },
    )
    several = st.builds(lambda keyword, parts: {keyword: parts}, st.sampled_from(["anyOf", "allOf", "oneOf"]), some)
    beside = st.builds(lambda one, other: {**one, **other}, objects | lists | numbers(), several)
    return objects | lists | several | beside


SCHEMAS = st.recursive(
    st.just({})
    | st.sampled_from(["string", "integer", "null", "boolean", "number"]).map(lambda kind: {"type": kind})
    | VALUES.map(lambda value: {"const": value})
    | st.lists(VALUES, min_size=1, max_size=3).map(lambda values: {"enum": values})
    | numbers()
    | texts(),
    others,
    max_leaves=6,
)


def older(schema: Any) -> bool:
    """Whether it is of an older draft, which the judge reads otherwise."""
    text = json.dumps(schema)
    return '"items": [' in text or '"additionalItems"' in text


@given(SCHEMAS, st.integers(0, 1000))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_what_is_taken_is_enforced(schema: Any, seed: int) -> None:
    assume(isinstance(schema, dict) and not older(schema))
    judge = Draft202012Validator(schema)
    for text in answers(schema, seed):
        judge.validate(json.loads(text))


@given(SCHEMAS, VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(NAMES, VALUES, max_size=3))
@settings(deadline=None)
def test_the_same_in_other_words_forbids_the_same(schema: Any, value: Any) -> None:
    assume(not older(schema))
    same = in_enforced_words(schema)
    if '"format": "int32"' in json.dumps(schema) or '"format": "uint8"' in json.dumps(schema):
        return  # more than an annotation here
    assert Draft202012Validator(same).is_valid(value) == Draft202012Validator(schema).is_valid(value)
    assert in_enforced_words(same) == same


# As they come from libraries and documents.


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Tree(BaseModel):
    value: Annotated[int, Field(ge=0, lt=100, multiple_of=5)]
    children: list[Tree] = []


class Everyday(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: uuid.UUID
    at: datetime.datetime
    day: datetime.date
    price: decimal.Decimal
    colour: Colour
    score: Annotated[float, Field(gt=0, le=1)] | None
    mixed: Literal["a", 1, None, True]
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pair: tuple[int, str]
    of_colours: dict[Colour, int]
    counts: dict[str, int]
    raw: bytes
    path: pathlib.Path
    code: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    few: Annotated[list[int], Field(min_length=1, max_length=3)]
    anything: Any


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TAKEN = {
    "pydantic: everyday fields": Everyday.model_json_schema(),
    "pydantic: a model that refers to itself": Tree.model_json_schema(),
    "OpenAI: steps of a solution": closed(
        steps={"type": "array", "items": closed(explanation=TEXT, output=TEXT)}, final_answer=TEXT
    ),
    "OpenAI: a form that refers to itself by #": closed(
        type={"enum": ["div", "button"]}, label=TEXT, children={"type": "array", "items": {"$ref": "#"}}
    ),
    "OpenAI: null instead of optional": closed(location=TEXT, unit={"type": ["string", "null"], "enum": ["F", None]}),
    "zod 3: tuple": {"type": "array", "minItems": 2, "maxItems": 2, "items": [TEXT, {"type": "number"}]},
    "zod 3: a tuple and no more": {"type": "array", "items": [TEXT], "additionalItems": False, "minItems": 1},
    "zod 3: record": {"type": "object", "additionalProperties": WHOLE, "propertyNames": TEXT},
    "zod 4: integers": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
    "zod 4: record of an enum": {
        "type": "object",
        "propertyNames": {"type": "string", "enum": ["a", "b"]},
        "additionalProperties": {"type": "number"},
        "required": ["a", "b"],
    },
    "oneOf: numbers apart": {"oneOf": [{"type": "number", "maximum": 0}, {"type": "number", "exclusiveMinimum": 0}]},
    "oneOf: numbers": {"oneOf": [{"const": 1, "title": "low"}, {"const": 2, "title": "high"}]},
    "oneOf: told apart by a number": {"oneOf": [closed(v={"const": n}, x=TEXT) for n in (1, 2)]},
    "oneOf: references told apart": {
        "$defs": {"a": closed(a=TEXT), "b": closed(b=WHOLE)},
        "oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
    },
    "oneOf beside anyOf": {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "oneOf": [{"const": 1}, {"const": 2}, {"const": "a"}],
    },
    "OpenAPI: int32": {"type": "integer", "format": "int32"},
    "OpenAPI: int64 or null": {"type": ["integer", "null"], "format": "int64", "minimum": 0},
    "OpenAPI: double": {"type": "number", "format": "double", "nullable": False},
    "LangChain: a function": {
        "title": "multiply",
        "description": "Multiply a and b.",
        "type": "object",
        "properties": {"a": {"title": "A", "type": "integer"}, "b": WHOLE},
        "required": ["a", "b"],
    },
    "MCP: a function without arguments": {"type": "object", "properties": {}},
}
REFUSED = {
    "a set of pydantic's": ({"type": "array", "items": TEXT, "uniqueItems": True}, "'uniqueItems'"),
    "an intersection of zod's": ({"allOf": [{}], "unevaluatedProperties": False}, "additionalProperties false in each"),
    "an e-mail of zod's": ({"type": "string", "pattern": "^(?!\\.)[a-z.]+@[a-z.]+$"}, "look-ahead"),
    "nullable of OpenAPI": ({"type": "string", "nullable": True}, '"null" among the types'),
    "a telephone number": ({"type": "string", "format": "phone"}, "pattern"),
    "a decimal": ({"type": "number", "format": "decimal"}, "'decimal' is not enforced"),
    "types of another notation": ({"type": "STRING"}, "type must be"),
    "required of draft 3": ({"properties": {"a": {"type": "string", "required": True}}}, "required must be a list"),
    "bounds of draft 4": ({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, "must be a number"),
    "bounds past what is exact": ({"type": "integer", "maximum": 1 << 60}, "where numbers are exact"),
    "alternatives that may both hold": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "say anyOf"),
    "optional members of which one must be there": (
        {"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1},
        "say what is required",
    ),
    "members that may come twice": ({"type": "object", "minProperties": 2}, "because names may come twice"),
    **{f"the keyword {keyword}": ({keyword: {}}, said) for keyword, said in INSTEAD.items() if keyword != "nullable"},
}
del REFUSED["the keyword propertyNames"], REFUSED["the keyword unevaluatedItems"]
del REFUSED["the keyword unevaluatedProperties"], REFUSED["the keyword additionalItems"]


def named_often(alternatives: list[dict[str, Any]], times: int) -> dict[str, Any]:
    one = {"oneOf": [{"$ref": f"#/$defs/{number}"} for number in range(len(alternatives))]}
    named = {str(number): each for number, each in enumerate(alternatives)}
    return {"$defs": named, "type": "array", "prefixItems": [one] * times}


NAMES = [f"a{number}" for number in range(10)]
ATTACKS = {
    "objects that differ in one member of many": [
        {
            "type": "object",
            "required": [*NAMES, "k"],
            "properties": {**{name: {"type": "string"} for name in NAMES}, "k": {"const": number}},
        }
        for number in range(64)
    ],
    "long lists of values": [{"enum": [64 * value + number for value in range(100)]} for number in range(64)],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_alternatives_that_are_named_often_are_not_compared_without_end(name: str) -> None:
    """Seconds of everybody's time for one request, when comparisons were bounded by MAX_ALTERNATIVES alone."""
    few, often = (named_often(ATTACKS[name][:4], 2), named_often(ATTACKS[name], 40))
    assert "oneOf" not in str(in_enforced_words(few)), "these cannot hold at once"
    counted = Counted()
    said = in_enforced_words(often, counted)
    assert counted.asked <= MAX_COMPARED + 40, "each that is looked at is given up at once from there on"
    assert "oneOf" in said["prefixItems"][-1], "what nobody has compared is left as it was, and refused"


class Counted(Comparisons):
    asked = 0

    def may(self, *parts: Any) -> bool:
        self.asked += 1
        return super().may(*parts)


@pytest.mark.parametrize("name", TAKEN)
def test_everyday_schemas_are_served_and_enforced(name: str) -> None:
    schema = TAKEN[name]
    judge = Draft202012Validator({} if older(schema) else schema)
    found = [text for seed in range(4) for text in answers(schema, seed, tokens=800)]
    assert found
    for text in found:
        judge.validate(json.loads(text))


def refusal(schema: Any) -> str:
    """By the protocol, or by the engine."""
    try:
        grammar = requested({"guided_json": schema})
    except InvalidField as error:
        return str(error)
    assert grammar is not None
    return first_line(compiled(letters(), grammar.kind, grammar.text).get_error())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_enforced_is_refused_with_what_to_write(name: str) -> None:
    schema, said = REFUSED[name]
    assert said in refusal(schema)


def test_pairs_of_another_draft_are_held_to_it() -> None:
    for schema in (TAKEN["zod 3: tuple"], TAKEN["zod 3: a tuple and no more"]):
        for text in answers(schema, 7):
            first, *rest = json.loads(text)
            assert isinstance(first, str)
            assert len(rest) == schema["minItems"] - 1
            assert all(isinstance(each, int | float) for each in rest)


def test_a_reference_to_what_would_move_keeps_all_in_its_place() -> None:
    schema = {"oneOf": [{"const": 1}, {"$ref": "#/oneOf/0"}]}
    assert in_enforced_words(schema) == schema


def test_attack_few_names_do_not_become_much_text() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(20):
        names = {"enum": [f"n{number}" for number in range(30)]}
        schema = {"type": "object", "propertyNames": names, "additionalProperties": schema}
    assert len(json.dumps(in_enforced_words(schema))) < 1 << 16
