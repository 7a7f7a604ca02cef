"""Requests that hurt other servers, as their users have reported them, at node and gateway: served as asked, or refused
by a 400 that names the field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway_support import bearer, gateway_before
from jsonschema import Draft202012Validator
from test_node_support import NAME, serving

TOKENS = 96
Ask = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module", params=["node", "gateway"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = tmp_path_factory.mktemp(request.param)
    with serving(f"sqlite:///{folder}/node.sqlite", allow_unsigned=True) as node:

        def said(http: Any, headers: dict[str, str], fields: dict[str, Any]) -> Any:
            messages = [{"role": "user", "content": "Say it."}]
            body = {"model": NAME, "messages": messages, "max_tokens": TOKENS, **fields}
            return http.post("/v1/chat/completions", json=body, headers=headers)

        if request.param == "node":
            yield lambda fields: said(node.http, {}, fields)
        else:
            with gateway_before(node, folder) as gateway:
                headers = bearer(gateway.key())
                yield lambda fields: said(gateway.http, headers, fields)


def as_openai(schema: Any, **more: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, **more}}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9}
    for level in range(depth):
        closed = {"type": "object", "properties": {f"p{level}": schema}, "required": [f"p{level}"]}
        schema = {"oneOf": [{**closed, "additionalProperties": False}, {"type": "null"}]}
    return schema


LONG = {
    "type": "object",
    "properties": {f"field_{n}": {"type": "string", "enum": ["a", "b"], "description": "…" * 30} for n in range(250)},
    "additionalProperties": False,
}
NAMED = {
    "type": "object",
    "properties": {name: {"const": 1} for name in ("a b", "$ref", "日本", "", 'q"q', "back\\slash")},
    "required": ["a b", "$ref", "日本", "", 'q"q', "back\\slash"],
    "additionalProperties": False,
}
SERVED: dict[str, tuple[dict[str, Any], Any]] = {
    "llama.cpp 19051: an escape that needs none": ({"type": "string", "pattern": "^hello there indeed\\!$"}, {}),
    "llama.cpp 22314: a pattern without anchors": (
        {"type": "object", "properties": {"s": {"type": "string", "pattern": "\\S", "maxLength": 9}}},
        {},
    ),
    "llama.cpp 25746: long texts within": (
        {"type": "object", "properties": {"o": {"type": "object", "properties": {"s": {"maxLength": 2000}}}}},
        {},
    ),
    "vllm 54003: oneOf within oneOf": (nested(10), {}),
    "vllm 14151: a thousand lines": (LONG, {}),
    "outlines: names with other letters": (NAMED, {}),
    "sglang: texts with other letters": ({"enum": ['a"b', "é", "日本", "\n", "\\", "<|im_end|>", "🙂"]}, {}),
    "vllm 13260: seen with strict null": ({"type": "object", "additionalProperties": False}, {"strict": None}),
    "xgrammar: whole numbers within bounds": ({"type": "integer", "minimum": -17, "exclusiveMaximum": 105}, {}),
}


@pytest.mark.parametrize("name", SERVED)
def test_it_is_served_and_keeps_to_its_schema(ask: Ask, name: str) -> None:
    schema, more = SERVED[name]
    answered = ask(as_openai(schema, **more))
    assert answered.status_code == 200, answered.text
    [choice] = answered.json()["choices"]
    if choice["finish_reason"] == "stop":
        Draft202012Validator(schema).validate(json.loads(choice["message"]["content"]))
    else:
        assert answered.json()["usage"]["completion_tokens"] == TOKENS


@pytest.mark.parametrize(
    "choices", [["positive", "negative"], ["<|im_end|>", "<|im_start|>user"], ["né\n", '"', "日本"]]
)
def test_a_choice_is_one_of_them_to_the_letter(ask: Ask, choices: list[str]) -> None:
    for fields in ({"guided_choice": choices}, {"structured_outputs": {"choice": choices}}):
        [choice] = ask(fields).json()["choices"]
        assert choice["message"]["content"] in choices
        assert choice["finish_reason"] == "stop"


SQL = """
root ::= "SELECT " column " FROM " table
column ::= "col_1" | "col_2"
table ::= "table_1" | "table_2"
"""
LARK = """
?start: "SELECT " column " FROM " table
column: "col_1" | "col_2"
table: "table_1" | "table_2"
"""


@pytest.mark.parametrize("grammar", [SQL, LARK])
def test_the_grammars_of_vllms_documents_are_served(ask: Ask, grammar: str) -> None:
    [choice] = ask({"guided_grammar": grammar}).json()["choices"]
    assert re.fullmatch("SELECT col_[12] FROM table_[12]", choice["message"]["content"])


CALL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "vllm 17313: no regular expression": ({"guided_regex": "[.*"}, "guided_regex"),
    "vllm 17313: one within a schema": (as_openai({"type": "string", "pattern": "(["}), "response_format"),
    "sglang 4574, tgi 2280: no schema": (as_openai({"type": "objekt"}), "response_format"),
    "sglang 4574: properties that are a list": (
        as_openai({"type": "object", "properties": ["a"]}),
        "response_format",
    ),
    "llama.cpp: no grammar": ({"guided_grammar": "root ::= (("}, "guided_grammar"),
    "llama.cpp 11544: its own field for grammars": ({"grammar": 'root ::= "yes"'}, "grammar"),
    "llama.cpp 24097: its own field for schemas": ({"json_schema": {"type": "object"}}, "json_schema"),
    "sglang: its own fields": ({"regex": "a+", "ebnf": None}, "regex"),
    "vllm 26362: blanks": ({"guided_whitespace_pattern": "[ ]?", "guided_json": {}}, "guided_whitespace_pattern"),
    "vllm: a backend": ({"guided_decoding_backend": "outlines", "guided_json": {}}, "guided_decoding_backend"),
    "together: a schema in another place": (
        {"response_format": {"type": "json_schema", "schema": {"type": "object"}}},
        "response_format.schema",
    ),
    "more optional members than the engine counts": (
        as_openai({"type": "object", "properties": {f"p{n}": {} for n in range(251)}}),
        "response_format",
    ),
    "a schema that nothing keeps to": (as_openai({"type": "integer", "minimum": 3, "maximum": 1}), "response_format"),
    "vllm: tool_choice without tools": ({"tool_choice": "required"}, "tool_choice"),
    "vllm: tool_choice of a tool that is not there": (
        {"tools": [CALL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
    ),
    "vllm: a tool and a schema": ({"tools": [CALL], "guided_json": {}}, "tools"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name_and_the_next_is_served(ask: Ask, name: str) -> None:
    fields, named = REFUSED[name]
    refused = ask(fields)
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert error["param"] == named, error
    assert "Traceback" not in error["message"]
    assert len(error["message"]) < 500
    assert ask({"guided_choice": ["yes"]}).json()["choices"][0]["message"]["content"] == "yes"


@pytest.mark.parametrize("fields", [{"tools": None, "tool_choice": None}, {"tools": [], "tool_choice": "auto"}])
def test_tools_that_are_none_are_none(ask: Ask, fields: dict[str, Any]) -> None:
    assert ask({**fields, "max_tokens": 2}).status_code == 200
