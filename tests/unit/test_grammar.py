"""What a request may ask an answer to be: OpenAI's and vLLM's spellings, what is signed of them, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine._ordering import as_input, prompt_tokens_at_most
from trine.errors import InvalidField, InvalidInput
from trine.protocol.fields import read_wish
from trine.protocol.grammar import ANY_OBJECT, ENGINE, MAX_BYTES, MAX_DEPTH, Grammar, requested
from trine.protocol.inputs import Input, chat_input, parse_input

MESSAGES = [{"role": "user", "content": "Tell me of a person."}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SPELLED = json.dumps(PERSON, separators=(",", ":"))
AS_OPENAI = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}


def nested(depth: int, innermost: Any = None) -> Any:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": None, "guided_json": None, "structured_outputs": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar("json_schema", ANY_OBJECT)),
        ({"response_format": AS_OPENAI}, Grammar("json_schema", SPELLED)),
        ({"guided_json": PERSON}, Grammar("json_schema", SPELLED)),
        ({"guided_json": json.dumps(PERSON, indent=2)}, Grammar("json_schema", SPELLED)),
        ({"guided_regex": "[0-9]+"}, Grammar("regex", "[0-9]+")),
        ({"guided_choice": ["yes", "né"]}, Grammar("choice", '["yes","né"]')),
        ({"guided_grammar": 'start: "a"+'}, Grammar("grammar", 'start: "a"+')),
        ({"structured_outputs": {"json": PERSON, "regex": None}}, Grammar("json_schema", SPELLED)),
        ({"structured_outputs": {"json_object": True}}, Grammar("json_schema", ANY_OBJECT)),
        ({"structured_outputs": {"choice": ["a"], "disable_any_whitespace": False}}, Grammar("choice", '["a"]')),
    ],
)
def test_every_spelling_is_one_grammar(fields: dict[str, Any], expected: Grammar | None) -> None:
    assert requested(fields) == expected
    if expected:
        assert requested(expected.fields()) == expected, "as a client sends on what it has signed"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": ["json_object"]}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": PERSON}}, "response_format.schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON, "strict": 1}}},
            "response_format.json_schema.strict",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON, "examples": []}}},
            "response_format.json_schema.examples",
        ),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[" * 60_000}, "guided_json"),
        ({"guided_json": True}, "guided_json"),
        ({"guided_json": {"maximun": 3}}, "guided_json"),
        ({"guided_json": {"type": "object", "properties": {"a": {"not": {}}}}}, "guided_json"),
        ({"guided_json": {"$defs": {"a": {"if": {}}}}}, "guided_json"),
        ({"guided_json": {"anyOf": [{}, {"items": [{"foo": 1}]}]}}, "guided_json"),
        ({"guided_json": {"$ref": "https://example.com/schema.json"}}, "guided_json"),
        ({"guided_json": {"$ref": "file:///etc/passwd"}}, "guided_json"),
        ({"guided_json": {"x-guidance": {"lenient": True}}}, "guided_json"),
        ({"guided_json": {"enum": nested(MAX_DEPTH)}}, "guided_json"),
        ({"guided_json": {"const": float("nan")}}, "guided_json"),
        ({"guided_json": {"const": "\ud800"}}, "guided_json"),
        ({"guided_json": {"description": "x" * MAX_BYTES["json_schema"]}}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_regex": 7}, "guided_regex"),
        ({"guided_regex": "a" * (MAX_BYTES["regex"] + 1)}, "guided_regex"),
        ({"guided_regex": "é" * (MAX_BYTES["regex"] // 2 + 1)}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", 1]}, "guided_choice"),
        ({"guided_choice": [""]}, "guided_choice"),
        ({"guided_choice": "yes"}, "guided_choice"),
        ({"guided_choice": ["a"] * 1025}, "guided_choice"),
        ({"guided_grammar": "start: \0"}, "guided_grammar"),
        ({"guided_grammar": "x" * (MAX_BYTES["grammar"] + 1)}, "guided_grammar"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
        ({"structured_outputs": []}, "structured_outputs"),
        ({"structured_outputs": {"json": PERSON, "regex": "a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern"),
    ],
)
def test_what_is_out_of_bounds_or_unheard_of_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        requested(fields)
    refused_field = refused.value.field
    assert refused_field == named or refused_field.startswith(named + "."), refused.value


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "multipleOf": 9_999_991}, "multipleOf"),
        ({"allOf": [{"multipleOf": 9_973}, {"multipleOf": 9_967}]}, "multipleOf"),
        ({"properties": {str(n): {"multipleOf": 101} for n in range(100)}}, "multipleOf"),
        ({"properties": {"a": {"$ref": "#/x-a"}}, "x-a": {"multipleOf": 99_991}}, "multipleOf"),
        *(({"multipleOf": value}, "a number above 0") for value in (0, -1, "2", True, None)),
        ({"patternProperties": {f"^a{n}$": {} for n in range(65)}}, "64 patterns"),
        ({"type": "object", "properties": {"a": {"$schema": "http://json-schema.org/draft-04/schema#"}}}, "$schema"),
        ({"$schema": 4, "const": 5}, "$schema"),
        ({"$ref": "#/x-a", "x-a": {"type": "string", "maxLenght": 3}}, "maxLenght"),
        ({"$ref": "#/x-a", "x-a": {"$ref": "#/x-b"}, "x-b": {"x-guidance": {}}}, "x-guidance"),
    ],
)
def test_attack_what_the_engine_would_not_bound_or_not_heed_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidField) as refused:
        requested({"guided_json": schema})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text", ['{"type":"string","type":"integer"}', '{"properties":{"a":{},"b":{},"a":{"const":1}}}']
)
def test_attack_a_schema_says_two_things_of_one_member(text: str) -> None:
    with pytest.raises(InvalidField, match="twice") as refused:
        requested({"guided_json": text})
    assert refused.value.field == "guided_json"
    assert Grammar("json_schema", text).fault()


def test_common_multiples_and_every_draft_are_taken() -> None:
    prices = {"properties": {"a": {"multipleOf": 0.01}, "b": {"multipleOf": 1e-4}, "c": {"multipleOf": 1_000_000}}}
    assert requested({"guided_json": prices})
    for draft in ("http://json-schema.org/draft-04/schema#", "https://json-schema.org/draft/2020-12/schema"):
        assert requested({"guided_json": {"$schema": draft, "const": 5}}) == Grammar("json_schema", '{"const":5}')


@pytest.mark.parametrize(
    "text",
    [
        'start: %json {"type":"string","maxLenght":3}',
        "start: a\n!a[temperature=2.0] : /abc/",
        "start: a\n?a[temperature=2.0] : /abc/",
    ],
)
def test_attack_a_grammar_hides_what_would_be_refused_elsewhere(text: str) -> None:
    with pytest.raises(InvalidField, match="guided_grammar"):
        requested({"guided_grammar": text})


def test_a_keyword_is_told_from_a_property_of_that_name() -> None:
    named = {"type": "object", "properties": {"not": {"type": "string"}, "if": {"enum": [{"not": 1}]}}}
    assert requested({"guided_json": named})
    harmless = {"title": "t", "$comment": "c", "x-order": 1, "default": {"not": 1}, "examples": [{"if": 1}]}
    assert requested({"guided_json": {"type": "integer", **harmless}})


def test_it_is_part_of_what_is_signed() -> None:
    body = {"messages": MESSAGES, "response_format": AS_OPENAI}
    asked = read_wish(body, chat=True, default_max_tokens=9, limit_tokens=9).input
    assert asked.grammar == Grammar("json_schema", SPELLED)
    canonical = asked.canonical()
    assert json.loads(canonical)["grammar"] == {"engine": ENGINE, "kind": "json_schema", "text": SPELLED}
    assert parse_input(canonical) == asked
    plain = chat_input(MESSAGES)
    turned = {**PERSON, "properties": dict(reversed(PERSON["properties"].items()))}  # type: ignore[attr-defined]
    others = [
        plain,
        as_input(MESSAGES, guided_json=turned),
        as_input(MESSAGES, response_format={"type": "json_object"}),
    ]
    assert len({asked.hash(), *(other.hash() for other in others)}) == 4, "the order of properties is the answer's"
    assert b"grammar" not in plain.canonical()
    assert as_input(MESSAGES, response_format=AS_OPENAI) == asked
    assert prompt_tokens_at_most(asked) == prompt_tokens_at_most(plain), "a grammar is no part of the prompt"
    assert as_input(asked).grammar == asked.grammar


def test_another_engines_grammar_can_be_read_and_not_used() -> None:
    later = Grammar("some_kind", "whatever", "llguidance-9.0.0")
    asked = Input(text="x", grammar=later)
    assert parse_input(asked.canonical()) == asked
    assert "llguidance-9.0.0" in (later.fault() or "")


@pytest.mark.parametrize(
    "document",
    [
        {},
        "regex",
        {"engine": ENGINE, "kind": "regex"},
        {"engine": ENGINE, "kind": "regex", "text": "a", "more": 1},
        {"engine": "x" * 65, "kind": "regex", "text": "a"},
        {"engine": ENGINE, "kind": "Regex!", "text": "a"},
        {"engine": ENGINE, "kind": "regex", "text": 1},
    ],
)
def test_a_malformed_grammar_is_no_input(document: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_input(json.dumps({"grammar": document, "prompt": "x"}, separators=(",", ":"), sort_keys=True).encode())


def test_a_misspelt_argument_is_no_constraint() -> None:
    with pytest.raises(TypeError, match="guided_jsn"):
        as_input("x", guided_jsn={})  # type: ignore[call-arg]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "enum", "const", "$ref", "items", "x"]), JSON))
def test_whatever_is_sent_is_a_grammar_or_a_refusal(schema: dict[str, Any]) -> None:
    try:
        grammar = requested({"guided_json": schema})
    except InvalidField:
        return
    assert grammar is not None
    assert requested(grammar.fields()) == grammar
    assert parse_input(Input(text="x", grammar=grammar).canonical()).grammar == grammar
