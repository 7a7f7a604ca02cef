"""Tools with a model whose template knows them, on a network of its own: called, answered, asked on from, certified.

The model (Qwen2.5-Coder-0.5B-Instruct, half a gigabyte to fetch) is not part of set-up: `make tools` prepares it and
runs this; without it these tests are left out.
"""

import json
from functools import partial

import pytest
import waiting

from trine import Client
from trine.chain import Role
from trine.models import source_of
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.options import PARAMETERS
from trine_devnet.reporting import Report
from trine_node.models import prepared

MODEL = "qwen2.5-coder-0.5b-instruct"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city."}},
            "required": ["city"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]
SECONDS = 600.0
"""For a verdict: the model is four times as large as the demo's, and its network shares this machine."""

pytestmark = pytest.mark.skipif(not prepared(source_of(MODEL)), reason=f"{MODEL} is not prepared here: `make tools`")
eventually = partial(waiting.eventually, timeout=SECONDS)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with Devnet(tmp_path_factory.mktemp("devnet") / "home", Report(print), model=MODEL) as network:
        network.start_chain(PARAMETERS)
        network.add([Member(f"verifier-{n}", Role.VERIFIER) for n in (1, 2, 3, 4)])
        network.add([Member("node", Role.NODE)])
        network.wait_ready()
        yield network


@pytest.fixture(scope="module")
def client(net):
    with Client(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=net.create_client(),
        deposit_wei=50 * TOKEN,
    ) as connected:
        yield connected


def certified(client, answer):
    return client.certify(answer, timeout=SECONDS).result


def test_a_tool_is_called_and_what_it_returned_is_answered_from(client):
    first = client.chat(ASKED, tools=[WEATHER], max_tokens=48, timeout=SECONDS)
    (call,) = first.tool_calls
    assert (first.finish_reason, call.name, json.loads(call.arguments)) == (
        "tool_calls",
        "get_weather",
        {"city": "Paris"},
    )
    told = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 7, "sky": "rain"}'}
    second = client.chat([*ASKED, first.message, told], tools=[WEATHER], max_tokens=48, timeout=SECONDS)
    assert not second.tool_calls
    assert "7" in second.content
    assert [certified(client, answer) for answer in (first, second)] == ["accept", "accept"]


def test_a_call_that_is_asked_for_is_made_whatever_the_question(client):
    answer = client.chat("Good morning!", tools=[WEATHER], tool_choice="required", max_tokens=48, timeout=SECONDS)
    assert [set(json.loads(call.arguments)) for call in answer.tool_calls] == [{"city"}]
    assert certified(client, answer) == "accept"


def test_calls_come_as_a_stream_and_are_those_of_the_answer(client):
    stream = client.stream(ASKED, tools=[WEATHER], max_tokens=48, timeout=SECONDS)
    shown = "".join(stream)
    assert stream.answer.tool_calls[0].name == "get_weather"
    assert "get_weather" not in shown  # what is shown is text, and a call is none
    assert certified(client, stream.answer) == "accept"


@pytest.mark.parametrize("drawing", [{}, {"temperature": 0.7, "seed": 11}])
def test_an_answer_of_a_schema_is_certified_greedy_and_drawn(client, drawing):
    answer = client.chat(
        "It is seven degrees in Oslo. Write that as JSON.",
        guided_json=SCHEMA,
        max_tokens=48,
        timeout=SECONDS,
        **drawing,
    )
    assert set(json.loads(answer.text)) == {"city", "degrees"}
    assert certified(client, answer) == "accept"
