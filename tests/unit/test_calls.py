"""Calls in answers: the same whichever way a text comes, never half of one, never of what was not offered."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tools_support import TOOLS

from trine.protocol.calls import CallReader, read_calls
from trine.protocol.inputs import chat_input
from trine.protocol.tools import MAX_CALLS, MAX_DEPTH, ToolCall, offered

MESSAGES = [{"role": "user", "content": "Hello"}]
ASKED = chat_input(MESSAGES, tools=offered({"tools": TOOLS}))
NAMES = ("get_weather", "add")

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
objects = st.dictionaries(
    st.text(max_size=6),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)),
    max_size=4,
)
fragments = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "<tool",
        "<",
        '{"name": "add", "arguments": {"a": 1}}',
        '{"name": "get_weather", "parameters": {"place": "Zürich </tool_call> {"}}',
        '{"name": "other", "arguments": {}}',
        '{"name": "add", "arguments": "{\\"a\\": 2}"}',
        '{"name": "add", "arguments": {"a": 1}',
        '{"name": "add"',
        '"arguments": {}}',
        "{",
        "}",
        '"',
        "\\",
        ";",
        "```",
        "```json\n",
        " \n",
        "\t",
        "Let me see. ",
        "🌍\u2028é",
        "\x00",
    ]
)
texts = st.lists(fragments | st.text(max_size=4), max_size=12).map("".join)


def whole(pieces):
    """(content, calls) of what a reader gave."""
    return "".join(p for p in pieces if isinstance(p, str)), [p for p in pieces if isinstance(p, ToolCall)]


def called(text, asked=ASKED):
    return [(call.name, call.arguments) for call in read_calls(text, asked).calls]


@given(text=texts, cuts=st.lists(st.integers(0, 400), max_size=8))
@example(text='<tool_call>{"name": "add", "arguments": {"a": "\\""}}', cuts=[45])
def test_however_a_text_is_cut_it_says_and_calls_the_same(text, cuts):
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    one_by_one, in_pieces = CallReader(ASKED), CallReader(ASKED)
    single = [piece for character in text for piece in one_by_one.feed(character)] + one_by_one.end()
    pieces = [p for a, b in itertools.pairwise(places) for p in in_pieces.feed(text[a:b])] + in_pieces.end()
    read = read_calls(text, ASKED)
    assert whole(single) == whole(pieces) == (read.content or "", list(read.calls))


@given(text=texts)
def test_what_is_told_is_in_the_text_and_calls_are_of_what_was_offered(text):
    read = read_calls(text, ASKED)
    if not read.calls:
        assert read.content == text
    for call in read.calls:
        assert call.name in NAMES
        assert isinstance(json.loads(call.arguments), dict)
    left = iter(text)
    assert all(character in left for character in read.content or "")  # in its order, and nothing else


@given(text=texts)
def test_where_nothing_is_offered_all_is_text(text):
    assert read_calls(text, chat_input(MESSAGES)) == (
        type(read_calls("", ASKED))(text, ())  # the text itself, calls or not
    )


@given(
    arguments=st.lists(objects, min_size=1, max_size=4),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
    key=st.sampled_from(["arguments", "parameters"]),
)
def test_calls_as_models_write_them_are_read_whatever_their_arguments_hold(arguments, ascii_only, indent, key):
    written = [
        json.dumps({"name": NAMES[number % 2], key: each}, ensure_ascii=ascii_only, indent=indent)
        for number, each in enumerate(arguments)
    ]
    expected = [(NAMES[number % 2], each) for number, each in enumerate(arguments)]
    forms = [
        "Let me see.\n" + "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in written),
        "; ".join(written),
        "\n".join(written),
        "<|python_tag|>" + "; ".join(written),
        "```json\n" + "\n".join(written) + "\n```\n",
        "\n\n".join(f"```\n{call}\n```" for call in written),
    ]
    for text in forms:
        assert [(name, json.loads(given_)) for name, given_ in called(text)] == expected
    assert read_calls(forms[0], ASKED).content == "Let me see."
    assert all(read_calls(text, ASKED).content is None for text in forms[1:])


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "add", "arguments": {"a": 1}',  # cut off
        '<tool_call>{"name": "add", "arguments": {"a": 1',
        '<tool_call>{"name": "add", "arguments": {"a": "',
        '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 01}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 1,}}</tool_call>',
        "<tool_call>{'name': 'add', 'arguments': {}}</tool_call>",
        '<tool_call>{"name": "add", "arguments": {}, }</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": "line\nline"}}</tool_call>',
        '<tool_call>{"name": "add", "name": "get_weather", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {}, "parameters": {}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "1"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": \\"\\\\ud800"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": \\"\\ud800\\"}"}</tool_call>',
        '<tool_call>{"name": "delete_all", "arguments": {}}</tool_call>',
        '<tool_call>{"name": ["add"], "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add"}</tool_call>',
        "<tool_call></tool_call>",
        "<tool_call>{}</tool_call>",
        "<tool_call>[]</tool_call>",
        '{"name": "add", "parameters": {}} is how it is called.',
        '{"name": "Ada", "parameters": {}}',
        'So: ```json\n{"name": "add", "arguments": {}}\n```',
        '```json\n{"name": "add", "arguments": {}}\n``` is it.',
        '```python\n{"name": "add", "arguments": {}}\n```',
        '``{"name": "add", "arguments": {}}``',
        "```json\n```",
        "`",
        f'<tool_call>{{"name": "add", "arguments": {"[" * 2000}{"]" * 2000}}}</tool_call>',
        f'<tool_call>{{"name": "add", "arguments": {{"a": {"9" * 5000}x}}}}</tool_call>',
        "<tool_call>" * 300,
        "{" * 500,
    ],
)
def test_what_is_no_whole_call_stays_text_to_the_last_character(text):
    read = read_calls(text, ASKED)
    assert (read.content, read.calls) == (text, ())


def test_a_call_after_a_broken_one_is_found():
    broken = '<tool_call>\n{"name": "add", "arguments": {"a": 1}\n</tool_call>'
    read = read_calls(f'{broken}\n<tool_call>\n{{"name": "add", "arguments": {{}}}}\n</tool_call> Done.', ASKED)
    assert (read.content, [call.arguments for call in read.calls]) == (broken + "Done.", ["{}"])


def test_the_end_of_a_call_may_be_missing_and_numbers_may_be_long():
    assert called('<tool_call>{"name": "add", "arguments": null}') == [("add", "{}")]
    long = f'{{"a": {"9" * 5000}}}'
    assert called(f'<tool_call>{{"name": "add", "arguments": {long}}}</tool_call>') == [("add", long)]


def test_objects_are_read_to_a_depth_that_is_the_same_everywhere():
    def nested(levels):
        return f'<tool_call>{{"name": "add", "arguments": {{"a": {"[" * levels}{"]" * levels}}}}}</tool_call>'

    assert called(nested(MAX_DEPTH - 2))
    assert not called(nested(MAX_DEPTH - 1))


def test_there_are_so_many_calls_and_no_more():
    one = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    read = read_calls(one * (MAX_CALLS + 1), ASKED)
    assert (len(read.calls), read.content) == (MAX_CALLS, one)


def test_one_call_where_one_was_asked_for():
    single = chat_input(MESSAGES, tools=offered({"tools": TOOLS, "parallel_tool_calls": False}))
    text = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    read = read_calls(text + text.replace("add", "get_weather"), single)
    assert ([call.name for call in read.calls], read.content) == (["add"], None)


def test_ids_are_of_the_question_and_the_call_and_of_nothing_else():
    text = '<tool_call>{"name": "add", "arguments": {}}</tool_call>' * 2
    ids = [call.id for call in read_calls(text, ASKED).calls]
    other = chat_input([{"role": "user", "content": "Hello!"}], tools=offered({"tools": TOOLS}))
    assert ids == [call.id for call in read_calls("Well: " + text, ASKED).calls]
    assert len({*ids, *(call.id for call in read_calls(text, other).calls)}) == 4
    assert all(call_id.startswith("call_") and len(call_id) == 29 for call_id in ids)


@pytest.mark.parametrize(
    "unit", ["<tool_call>{", '<tool_call>{"', '{"name":"add","arguments":{}}', "<tool_call>{}", "<", "```json{", "``` "]
)
def test_attack_a_long_text_is_looked_at_once(unit):
    """Characters that are looked at grow with the length, not with its square."""
    looks = []
    for count in (200, 400):
        reader = CallReader(ASKED)
        following, counted = reader._next, 0

        def counting(following=following):
            nonlocal counted
            counted += 1
            return following()

        reader._next = counting
        text = unit * count
        random.seed(7)
        while text:
            cut = random.randint(1, 40)
            reader.feed(text[:cut])
            text = text[cut:]
        reader.end()
        looks.append(counted)
    assert looks[1] < 3 * looks[0]
