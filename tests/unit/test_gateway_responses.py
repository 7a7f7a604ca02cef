"""OpenAI's Responses API at the gateway: by the stock client, and by the types that OpenAI publishes."""

from __future__ import annotations

import json

import pytest
from gateway_support import bearer, gateway_before
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from test_node_support import NAME, serving, wait_for
from test_tool_answers import ASKED, COUNT, MOST, TWO, node_saying
from tools_support import QUESTION, TOOLS, Knowing, renderer

from trine.protocol.calls import read_calls
from trine.protocol.messages import Receipt

RESPONSES = "/v1/responses"
FLAT = [{"type": "function", "strict": None, "parameters": None, **tool["function"]} for tool in TOOLS]
EVENT = TypeAdapter(ResponseStreamEvent)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_tokens=64) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(node, tmp_path_factory):
    with gateway_before(node, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def caller(tmp_path_factory):
    """A gateway before a node whose model calls two tools."""
    with (
        node_saying(tmp_path_factory.mktemp("caller"), TWO) as node,
        gateway_before(node, tmp_path_factory.mktemp("calls")) as made,
    ):
        yield made


@pytest.fixture
def key(gateway):
    return gateway.key()


@pytest.fixture
def stock(gateway, key):
    with gateway.stock(key) as client:
        yield client


def post(gateway, key, **fields):
    return gateway.http.post(RESPONSES, json={"model": NAME, "input": "Hello", **fields}, headers=bearer(key))


@pytest.mark.parametrize(
    "asked",
    [
        "Name three primary colours.",
        [{"role": "user", "content": "Name three primary colours."}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Name three "}] * 2}],
    ],
)
def test_the_responses_api_gives_the_text_whole_and_streamed(stock, asked):
    whole = stock.responses.create(model=NAME, input=asked, instructions="Be brief.", max_output_tokens=5)
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert whole.usage.output_tokens == 5
    assert whole.output_text
    with stock.responses.stream(model=NAME, input=asked, instructions="Be brief.", max_output_tokens=5) as stream:
        seen = list(stream)
        final = stream.get_final_response() if seen[-1].type == "response.completed" else seen[-1].response
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert final.output[0].content[0].text == whole.output_text
    assert Receipt.from_json(final.model_extra["trine"]["receipt"]).output_tokens == 5


def test_a_response_can_be_sent_back_as_input(stock):
    first = stock.responses.create(model=NAME, input="Hello", max_output_tokens=3)
    back = [{"role": "user", "content": "Hello"}, first.output[0].model_dump(), {"role": "user", "content": "Go on."}]
    assert stock.responses.create(model=NAME, input=back, max_output_tokens=3, store=False).output_text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"verbosity": "low"}}, "text"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0.9}, "top_p"),
        ({"seed": 1}, "seed"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"stream": 1}, "stream"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"role": "user", "content": "x", "weight": 1}]}, "input"),
        ({"input": [{"role": "user", "content": None}]}, "input"),
        ({"instructions": 7}, "instructions"),
    ],
)
def test_what_a_response_cannot_be_is_refused_by_name(gateway, key, fields, param):
    answer = post(gateway, key, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


CALL = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": {}}, "tools", "must be a list"),
        ({"tools": [{"type": "web_search"}]}, "tools", r"tools[0] is of the type 'web_search': only functions"),
        ({"tools": ["add"]}, "tools", "tools[0] is of the type 'add'"),
        ({"tools": TOOLS}, "tools", "tools[0].function is of chat completions"),
        ({"tools": [{**ADD, "name": "a b"}]}, "tools", "tools[0].name must have 1 to 64"),
        ({"tools": [ADD, ADD]}, "tools", "tools[1].name: there is a 'add' already"),
        ({"tools": [{**ADD, "strict": True}]}, "tools", "tools[0].strict is served where tool_choice forces a call"),
        ({"tools": [{**ADD, "defer_loading": True}]}, "tools", "tools[0].defer_loading is not served"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice", "'sub'"),
        ({"tools": [ADD], "tool_choice": {"type": "allowed_tools"}}, "tool_choice", "send auto, none, required"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {}}}, "tool_choice", '"name": …'),
        ({"tool_choice": "required"}, "tool_choice", "there are none"),
        ({"tools": [ADD], "parallel_tool_calls": 1}, "parallel_tool_calls", "true or false"),
        ({"tools": [ADD], "text": {"format": {"type": "json_object"}}}, "tools", "leave out one"),
        ({"input": [OUTPUT]}, "input", "input[0].call_id: there is no function_call 'call_1' before it"),
        ({"input": [CALL]}, "input", "before the end there is none for call_1"),
        ({"input": [CALL, {"role": "user", "content": "x"}, OUTPUT]}, "input", "before input[1] there is none"),
        ({"input": [CALL, OUTPUT, OUTPUT]}, "input", "input[2].call_id: there is no function_call"),
        ({"input": [CALL, CALL, OUTPUT]}, "input", "input[1].call_id: there is a call 'call_1' already"),
        ({"input": [{**CALL, "arguments": {}}, OUTPUT]}, "input", "input[0].arguments must be a text"),
        ({"input": [{**CALL, "name": "a b"}, OUTPUT]}, "input", "input[0].name must have"),
        ({"input": [{**CALL, "call_id": None}, OUTPUT]}, "input", "input[0].call_id must be the id"),
        ({"input": [{**CALL, "namespace": "x"}, OUTPUT]}, "input", "input[0].namespace is not served"),
        ({"input": [CALL, {**OUTPUT, "output": None}]}, "input", "input[1].output must be a text or a list"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input", "input[0] is of the type 'reasoning'"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input", "send the item itself"),
        ({"input": [{"type": ["message"]}]}, "input", "input[0] is of the type"),
        ({"input": ["Hello"]}, "input", "input[0] must be an object"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input", "input[0].role must be one of system"),
        ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens must be a whole number"),
        ({"max_output_tokens": 65}, "max_output_tokens", "max_output_tokens is too large: up to 64 tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format", "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"if": {}}}}}, "text.format", "'if'"),
        ({"input": [{"role": "user", "content": "x"}] * 257}, "input", "at most 256"),
        ({"input": "word " * 5000}, "input", "the prompt and max_output_tokens are longer together"),
        ({"tools": [ADD], "input": [{"role": "user", "content": "x"}]}, "tools", "no place for tools"),
    ],
)
def test_a_refusal_names_fields_of_the_responses_api(gateway, key, fields, param, words):
    body = json.dumps({"model": NAME, "input": "Hello", "max_output_tokens": 4, **fields})
    answer = gateway.http.post(RESPONSES, content=body, headers=bearer(key))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]
    assert not {"messages[", "max_tokens", "response_format", ".function."} & set(error["message"].split(" "))
    wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")


def test_a_budget_that_is_used_up_is_said_with_the_responses_apis_fields(gateway):
    key = gateway.key(budget_wei=5)
    error = post(gateway, key, max_output_tokens=4).json()["error"]
    assert (error["code"], "lower max_output_tokens" in error["message"]) == ("insufficient_quota", True)


def test_what_clients_send_by_default_is_taken(gateway, key):
    harmless = {
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "include": ["reasoning.encrypted_content"],
        "metadata": {"a": "b"},
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "auto",
        "store": False,
        "stream": False,
        "stream_options": None,
        "temperature": None,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "top_logprobs": 0,
        "top_p": 1,
        "truncation": "disabled",
        "user": "somebody",
    }
    answer = post(gateway, key, max_output_tokens=4, **harmless)
    assert answer.status_code == 200, answer.text
    Response.model_validate(answer.json(), strict=True)


def test_functions_are_called_whole_and_streamed_as_openai_publishes_it(caller):
    expected = read_calls(TWO, ASKED)
    asked = {"model": NAME, "input": QUESTION, "tools": FLAT, "max_output_tokens": MOST}
    with caller.stock() as stock:
        raw = stock.responses.with_raw_response.create(**asked)
        whole = Response.model_validate(json.loads(raw.text), strict=True)
        said, *calls = whole.output
        assert (whole.status, whole.output_text, said.type) == ("completed", "Let me see.", "message")
        assert [(c.type, c.call_id, c.name, c.arguments, c.status) for c in calls] == [
            ("function_call", c.id, c.name, c.arguments, "completed") for c in expected.calls
        ]
        assert [tool.name for tool in whole.tools] == ["get_weather", "add"]
        assert whole.model_extra["trine"]["text"] == TWO

        with stock.responses.stream(**asked) as stream:  # the client puts the events together, and minds their order
            events = list(stream)
            final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [(c.call_id, c.name, c.arguments) for c in final.output[1:]] == [
        (c.id, c.name, c.arguments) for c in expected.calls
    ]
    kinds = [event.type for event in events]
    assert kinds[-1] == "response.completed"
    assert [kind for kind in kinds if "function_call" in kind] == [
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    ] * len(expected.calls)
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert deltas == [c.arguments for c in expected.calls]
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    assert [event.output_index for event in added] == [event.output_index for event in done] == [0, 1, 2]
    assert [event.item.id for event in added] == [item.id for item in final.output]


@pytest.mark.parametrize("text", [TWO, TWO.removeprefix("Let me see."), "Nothing to call.", ""])
def test_each_event_is_of_a_published_type(tmp_path, text):
    with node_saying(tmp_path, text) as node, gateway_before(node, tmp_path) as gateway:
        key = gateway.key()
        asked = {"input": QUESTION, "tools": FLAT, "max_output_tokens": MOST}
        told = post(gateway, key, stream=True, **asked).text
        whole = post(gateway, key, **asked).json()
    events = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line.startswith("data: ")]
    for event in events:
        EVENT.validate_python(event, strict=True)
    last = events[-1]["response"]
    assert [item["type"] for item in last["output"]] == [item["type"] for item in whole["output"]]
    begun, ended = set(), set()
    for event in events:  # nothing is said of an item before it is there, or after it is done
        item = event.get("item_id") or event.get("item", {}).get("id")
        if event["type"] == "response.output_item.added":
            begun.add(item)
        elif item:
            assert item in begun - ended
            if event["type"] == "response.output_item.done":
                ended.add(item)
    assert begun == ended == {item["id"] for item in last["output"]}


def test_what_was_called_is_sent_back_with_outputs(caller):
    with caller.stock() as stock:
        asked = {"model": NAME, "tools": FLAT, "max_output_tokens": MOST}
        first = stock.responses.create(input=QUESTION, **asked)
        calls = [item for item in first.output if item.type == "function_call"]
        outputs = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "21 °C"} for call in reversed(calls)
        ]
        outputs[0]["output"] = [{"type": "input_text", "text": "21 "}, {"type": "input_text", "text": "°C"}]
        for said in (first.output, [item.model_dump() for item in first.output]):
            again = stock.responses.create(input=[*QUESTION, *said, *outputs], **asked)
            assert [item.type for item in again.output] == ["message", "function_call", "function_call"]
    message = {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {"id": c.call_id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls
        ],
    }
    results = [{"role": "tool", "tool_call_id": output["call_id"], "content": "21 °C"} for output in outputs]
    prompt = renderer("qwen2.5").chat([*QUESTION, message, *results], TOOLS)
    assert again.usage.input_tokens == len(prompt), "the model is shown what a chat shows it"


def test_calls_one_after_the_other_are_messages_of_their_own(caller):
    items = [
        *QUESTION,
        {**CALL, "call_id": "a"},
        {**OUTPUT, "call_id": "a"},
        {**CALL, "call_id": "b", "id": "fc_b", "status": "completed"},
        {**OUTPUT, "call_id": "b"},
    ]
    call = {"type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = list(QUESTION)
    for name in "ab":
        messages.append({"role": "assistant", "content": "", "tool_calls": [{"id": name, **call}]})
        messages.append({"role": "tool", "tool_call_id": name, "content": "2"})
    answer = post(caller, caller.key(), input=items, tools=FLAT, max_output_tokens=4).json()
    assert answer["usage"]["input_tokens"] == len(renderer("qwen2.5").chat(messages, TOOLS))


def test_one_call_where_no_more_were_asked_for_and_none_where_none_may_be(caller):
    asked = {"model": NAME, "input": QUESTION, "tools": FLAT, "max_output_tokens": MOST}
    with caller.stock() as stock:
        one = stock.responses.create(**asked, parallel_tool_calls=False)
        assert [(item.type, one.parallel_tool_calls) for item in one.output[1:]] == [("function_call", False)]
        none = stock.responses.create(**asked, tool_choice="none")
    assert [item.type for item in none.output] == ["message"]
    assert none.output_text == TWO


def test_a_call_that_is_forced_is_made(node, tmp_path):
    tool = {"type": "function", "name": "count", "strict": True, "parameters": COUNT}
    with (
        serving(f"sqlite:///{tmp_path}/n.sqlite", engine_=Knowing(), allow_unsigned=False) as able,
        gateway_before(able, tmp_path) as gateway,
        gateway.stock() as stock,
    ):
        for choice in ("required", {"type": "function", "name": "count"}):
            response = stock.responses.create(
                model=NAME, input="Count.", tools=[tool], tool_choice=choice, max_output_tokens=64
            )
            (call,) = response.output
            assert (call.type, call.name, set(json.loads(call.arguments))) == ("function_call", "count", {"n"})
            assert response.tool_choice == choice or response.tool_choice.name == "count"
