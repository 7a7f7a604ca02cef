"""Calls through node, SDK and gateway: told to stock clients as OpenAI tells them, and none that nobody signed."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import contextmanager

import pytest
from gateway_support import gateway_before
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from test_client_parallel import client_of
from test_failover import events, odd, relayed, say
from test_node_support import NAME, RECORD, serving
from test_sampled_answers import LAX
from tools_support import CALLED, QUESTION, TOOLS, Knowing, Saying, renderer

from trine import AsyncClient, NodeRefused, VerificationFailed
from trine.protocol import merkle
from trine.protocol.calls import read_calls
from trine.protocol.evidence import Anchor
from trine.protocol.inputs import chat_input
from trine.protocol.messages import text_hash
from trine.protocol.salts import read_salt
from trine.protocol.tools import offered
from trine.protocol.verdict import Outcome, Reason
from trine_operator.service import completions
from trine_verifier.checking import check_leaf, examine

CHAT = "/v1/chat/completions"
PLACE = '{"place": "Zürich </tool_call> {\\"x\\": \\"é\\"}"}'
ONE = f'<tool_call>\n{{"name": "get_weather", "arguments": {PLACE}}}\n</tool_call>'
TWO = f'Let me see.\n{ONE}\n<tool_call>\n{{"name": "add", "arguments": {{}}}}\n</tool_call>'
ASKED = chat_input(QUESTION, tools=offered({"tools": TOOLS}))
MOST = 200


@contextmanager
def node_saying(tmp_path, text, **options):
    url = f"sqlite:///{tmp_path}/node.sqlite"
    with serving(url, engine_=Saying(text), **{"allow_unsigned": False, **options}) as node:
        yield node


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with node_saying(tmp_path_factory.mktemp("node"), TWO, allow_unsigned=True) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(node, tmp_path_factory):
    with gateway_before(node, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(params=["node", "gateway"])
def stock(request, node, gateway):
    import openai

    if request.param == "gateway":
        yield gateway.stock()
    else:
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client:
            yield client


def joined(chunks):
    """The message that a stream's deltas make, and why it ends."""
    content, calls, reason = None, {}, None
    for chunk in chunks:
        for choice in chunk.choices:
            assert reason is None, "nothing comes after the end"
            reason = choice.finish_reason
            if choice.delta.content:
                content = (content or "") + choice.delta.content
            for delta in choice.delta.tool_calls or ():
                call = calls.setdefault(delta.index, {"id": delta.id, "name": delta.function.name, "arguments": ""})
                assert delta.id is None or delta.function.name, "the name comes with the id, and first"
                call["arguments"] += delta.function.arguments
    assert sorted(calls) == list(range(len(calls)))
    return content, [calls[number] for number in sorted(calls)], reason


def test_a_stock_client_is_told_calls_whole_and_streamed(stock):
    asked = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "max_tokens": MOST}
    raw = stock.chat.completions.with_raw_response.create(**asked)
    ChatCompletion.model_validate(json.loads(raw.text), strict=True)
    answer = raw.parse()
    message, promise = answer.choices[0].message, answer.model_extra["trine"]
    expected = read_calls(TWO, ASKED)
    assert (message.content, answer.choices[0].finish_reason) == ("Let me see.", "tool_calls")
    assert [(c.type, c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == [
        ("function", c.id, c.name, c.arguments) for c in expected.calls
    ]
    assert promise["text"] == TWO
    salt = read_salt(promise["salt"]) if "salt" in promise else b""
    assert promise["receipt"]["textHash"] == "0x" + text_hash(TWO, salt).hex()

    chunks = list(stock.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk.model_dump_json(), strict=True)
    *_, last, usage = chunks
    calls = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in expected.calls]
    assert joined(chunks) == ("Let me see.", calls, "tool_calls")
    assert (last.model_extra["trine"]["text"], usage.usage.completion_tokens) == (TWO, answer.usage.completion_tokens)
    with stock.chat.completions.stream(**asked) as stream:  # the client's own way of putting deltas together
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == PLACE


def test_what_was_called_is_sent_back_with_results(stock):
    asked = {"model": NAME, "tools": TOOLS, "max_tokens": MOST}
    message = stock.chat.completions.create(messages=QUESTION, **asked).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "21 °C"} for call in message.tool_calls]
    for said in (message, message.model_dump(), message.model_dump(exclude_none=True)):
        again = stock.chat.completions.create(messages=[*QUESTION, said, *results], **asked)
        assert again.choices[0].finish_reason == "tool_calls"
        assert {c.id for c in again.choices[0].message.tool_calls}.isdisjoint(c.id for c in message.tool_calls)
    prompt = renderer("qwen2.5").chat([*QUESTION, *_plain(message), *results], TOOLS)
    assert again.usage.prompt_tokens == len(prompt)


def _plain(message):
    calls = [call.model_dump() for call in message.tool_calls]
    return [{"role": "assistant", "content": message.content, "tool_calls": calls}]


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}])
def test_where_nothing_is_offered_the_text_is_what_it_is(stock, fields):
    answer = stock.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=MOST, **fields)
    assert (answer.choices[0].message.content, answer.choices[0].message.tool_calls) == (TWO, None)
    assert (answer.choices[0].finish_reason, "text" in answer.model_extra["trine"]) == ("stop", False)


def test_one_call_where_no_more_were_asked_for(stock):
    asked = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "max_tokens": MOST, "parallel_tool_calls": False}
    message = stock.chat.completions.create(**asked).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather"]
    _, calls, _ = joined(stock.chat.completions.create(**asked, stream=True))
    assert [call["id"] for call in calls] == [message.tool_calls[0].id]


def test_what_is_cut_off_is_text_and_its_end_is_the_limit(stock):
    whole = len(renderer("qwen2.5").text(f"Let me see.\n{ONE}"))
    asked = {"model": NAME, "messages": QUESTION, "tools": TOOLS}
    for limit, count in ((whole - 12, 0), (whole + 6, 1)):
        answer = stock.chat.completions.create(**asked, max_tokens=limit).choices[0]
        assert (len(answer.message.tool_calls or ()), answer.finish_reason) == (count, "length")
        content, calls, reason = joined(stock.chat.completions.create(**asked, max_tokens=limit, stream=True))
        assert (content, len(calls), reason) == (answer.message.content, count, "length")
        assert content.startswith("Let me see." if count else "Let me see.\n<tool_call>")


def test_a_call_and_nothing_else_has_no_content(tmp_path):
    with node_saying(tmp_path, ONE) as node, client_of(node) as client:
        answer = client.chat(QUESTION, max_tokens=MOST, tools=TOOLS)
        assert (answer.content, answer.text, answer.finish_reason) == (None, ONE, "tool_calls")
        assert answer.message == {
            "role": "assistant",
            "content": None,
            "tool_calls": [call.to_json() for call in read_calls(ONE, ASKED).calls],
        }
        stream = client.stream(QUESTION, max_tokens=MOST, tools=TOOLS)
        assert list(stream) == []
        assert stream.answer.tool_calls == answer.tool_calls
        result = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "21"}
        assert client.chat([*QUESTION, answer.message, result], max_tokens=MOST, tools=TOOLS).tool_calls


def test_both_clients_give_calls_typed_and_text_beside_them(node):
    expected = read_calls(TWO, ASKED)

    async def asked_async():
        with client_of(node, AsyncClient) as client:
            async with client:
                answer = await client.chat(QUESTION, max_tokens=MOST, tools=TOOLS)
                stream = client.stream(QUESTION, max_tokens=MOST, tools=TOOLS)
                return answer, "".join([text async for text in stream]), stream.answer

    with client_of(node) as client:
        answer = client.chat(QUESTION, max_tokens=MOST, tools=TOOLS)
        stream = client.stream(QUESTION, max_tokens=MOST, tools=TOOLS)
        shown = "".join(stream)
    for one, text in ((answer, "Let me see."), (stream.answer, shown), *[asyncio.run(asked_async())[:2]]):
        assert (one.tool_calls, one.content, text) == (expected.calls, "Let me see.", "Let me see.")
        assert one.text == TWO


def test_a_template_without_tools_refuses_them_by_name(tmp_path):
    with serving(f"sqlite:///{tmp_path}/node.sqlite") as node, gateway_before(node, tmp_path) as gateway:
        for http, headers in ((node.http, {}), (gateway.http, {"authorization": f"Bearer {gateway.key()}"})):
            body = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "max_tokens": 2}
            for stream in (False, True):
                response = http.post(CHAT, json={**body, "stream": stream}, headers=headers)
                error = response.json()["error"]
                assert (response.status_code, error["param"], error["code"]) == (400, "tools", "tools_not_supported")
                assert "chat template has no place for tools" in error["message"]
            assert http.post(CHAT, json={**body, "tool_choice": "none"}, headers=headers).status_code == 200
            response = http.post(CHAT, json={**body, "tools": None, "messages": CALLED}, headers=headers)
            assert response.json()["error"]["code"] == "tools_not_supported"


def test_a_template_that_refuses_messages_is_told_by_name(tmp_path):
    first, second = ({**CALLED[1]["tool_calls"][0], "id": call_id} for call_id in ("a", "b"))
    results = [{"role": "tool", "tool_call_id": call_id, "content": "1"} for call_id in ("a", "b")]
    messages = [*QUESTION, {"role": "assistant", "tool_calls": [first, second]}, *results]
    url = f"sqlite:///{tmp_path}/node.sqlite"
    with serving(url, engine_=Saying("", "llama-like")) as node, gateway_before(node, tmp_path) as gateway:
        for http, headers in ((node.http, {}), (gateway.http, {"authorization": f"Bearer {gateway.key()}"})):
            response = http.post(CHAT, json={"model": NAME, "messages": messages}, headers=headers)
            error = response.json()["error"]
            assert (response.status_code, error["param"], error["code"]) == (400, "messages", "template_refused")
            assert ("single tool-calls" in error["message"]) == (http is node.http)


def test_an_answer_is_had_again_with_its_calls(node, gateway):
    key = gateway.key()
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "calls"}
    body = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "max_tokens": MOST}
    first, again = (gateway.http.post(CHAT, json=body, headers=headers).json() for _ in range(2))
    assert again["choices"] == first["choices"]
    assert again["trine"]["receipt"] == first["trine"]["receipt"]
    assert gateway.usage(key)["answers"] == 1


def test_a_stream_that_may_become_a_call_has_begun_and_stays_open(tmp_path, monkeypatch):
    """What is held back is no silence: a client does not take the node for dead, and neither does a proxy."""
    monkeypatch.setattr(completions, "KEEP_ALIVE_SECONDS", 0.05)
    slow = Saying("<tool_call>" + " " * 400)
    generate = slow.generate

    def slowly(*arguments):
        import time

        for step in generate(*arguments):
            time.sleep(0.01)
            yield step

    slow.generate = slowly
    with serving(f"sqlite:///{tmp_path}/node.sqlite", engine_=slow) as node:
        body = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "max_tokens": 40, "stream": True}
        said = node.http.post(CHAT, json=body).text
    lines = [line for line in said.split("\n\n") if line]
    assert json.loads(lines[1].removeprefix("data: "))["choices"][0]["delta"] == {"content": ""}
    assert ": still here" in lines


def _renamed(said):
    return said.replace('"name": "add"', '"name": "get_weather"')


def _other_arguments(said):
    return re.sub(r'"arguments": "\{\}"', '"arguments": "{\\\\"a\\\\": 1}"', said)


def _other_id(said):
    return re.sub(r"call_[0-9a-f]{24}", "call_" + "0" * 24, said, count=1)


LIES = {
    "another tool": _renamed,
    "other arguments": _other_arguments,
    "another id": _other_id,
    "other text beside": lambda said: said.replace('"content": "Let', '"content": "Not'),
    "no end of calls": lambda said: said.replace('"finish_reason": "tool_calls"', '"finish_reason": "stop"'),
    "another text": lambda said: re.sub(r'"text": "Let me see', '"text": "Let me be', said),
    "no text": lambda said: re.sub(r'"text": "Let me see', '"text_": "Let me see', said),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("streamed", [False, True])
def test_attack_a_node_that_shows_other_calls_than_it_signed_is_caught(node, lie, streamed):
    def answer(handler, said):
        changed = LIES[lie](json.dumps(said.json()) if not streamed else said.text)
        assert changed != (said.text if streamed else json.dumps(said.json()))
        if streamed:
            events(handler, changed.strip())
        else:
            say(handler, 200, json.loads(changed))

    with relayed(node, answer) as client:
        ask = client.stream if streamed else lambda *args, **fields: [client.chat(*args, **fields)]
        with pytest.raises(VerificationFailed):
            list(ask(QUESTION, max_tokens=MOST, tools=TOOLS))


def test_a_node_that_only_passes_on_calls_is_believed(node):
    """So the tests above fail for what was changed."""
    with relayed(node, lambda handler, said: say(handler, 200, json.loads(json.dumps(said.json())))) as client:
        assert len(client.chat(QUESTION, max_tokens=MOST, tools=TOOLS).tool_calls) == 2
    with relayed(node, lambda handler, said: events(handler, said.text.strip())) as client:
        assert list(client.stream(QUESTION, max_tokens=MOST, tools=TOOLS))


@pytest.mark.parametrize(
    "calls",
    [
        [{"index": 1, "id": "x", "function": {"name": "add", "arguments": "{}"}}],
        [{"index": -1, "id": "x", "function": {"name": "add", "arguments": "{}"}}],
        [{"index": True, "id": "x", "function": {"name": "add", "arguments": "{}"}}],
        [{"index": 0, "id": "x", "function": {"name": "add", "arguments": 7}}],
        [{"index": 0, "id": "x", "function": {"arguments": "{}"}}],
        [{"index": number, "id": "x", "function": {"name": "add", "arguments": "{}"}} for number in range(200)],
        [{"id": "x"}],
        [7],
        7,
        {"index": 0},
    ],
)
def test_attack_calls_that_are_none_end_a_stream(node, calls):
    line = "data: " + json.dumps({"choices": [{"delta": {"tool_calls": calls}, "finish_reason": None}]})
    end = "data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}], "trine": {}})
    with odd(lambda handler: events(handler, line, end)) as liar, client_of(node) as client:
        client._core.nodes = lambda *_: [(node.chain.address, liar.url)]
        with pytest.raises(VerificationFailed):
            list(client.stream(QUESTION, max_tokens=MOST, tools=TOOLS))


def test_attack_calls_without_end_are_cut_off(node):
    piece = {"index": 0, "id": "x", "function": {"name": "add", "arguments": "x" * (1 << 20)}}
    line = "data: " + json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]})
    with odd(lambda handler: events(handler, *[line] * 20)) as liar, client_of(node) as client:
        client._core.nodes = lambda *_: [(node.chain.address, liar.url)]
        with pytest.raises(VerificationFailed, match="longer than"):
            list(client.stream(QUESTION, max_tokens=MOST, tools=TOOLS))


def test_attack_a_gateway_shows_no_call_that_nobody_signed(node, tmp_path):
    import httpx2

    def lying(handler):
        said = httpx2.post(node.url + handler.path, json=handler.server.orders[-1], timeout=60)
        events(handler, _renamed(said.text).strip())

    with odd(lying) as liar, gateway_before(node, tmp_path, (node.chain.address, liar.url)) as gateway:
        body = {"model": NAME, "messages": QUESTION, "tools": TOOLS, "max_tokens": MOST, "stream": True}
        said = gateway.http.post(CHAT, json=body, headers={"authorization": f"Bearer {gateway.key()}"}).text
        assert '"error"' in said
        assert "tool_calls" not in said


def test_a_refusal_of_tools_is_typed(node):
    reserved = {"type": "function", "function": {"name": "f", "description": "a\U00100000b"}}
    with client_of(node) as client, pytest.raises(NodeRefused) as refused:
        client.chat(QUESTION, max_tokens=4, tools=[reserved])
    assert refused.value.status == 400


COUNT = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
FORCED = [{"type": "function", "function": {"name": name, "parameters": COUNT}} for name in ("rise", "fall")]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "fall"}}])
def test_a_forced_call_is_one_whatever_the_model_would_say_and_is_verified(tmp_path, choice):
    url = f"sqlite:///{tmp_path}/node.sqlite"
    with serving(url, engine_=Knowing(), allow_unsigned=False) as node, client_of(node) as client:
        given = client.chat(QUESTION, max_tokens=MOST, tools=FORCED, tool_choice=choice)
        evidence = node.store.answer_to(given.receipt.request_hash).evidence
        leaf = merkle.leaf_hash(0, given.receipt)
        anchor = Anchor(node.chain.domain, node.chain.address, RECORD.model_id, merkle.root([leaf]), 1)
        verdict = check_leaf(evidence, 0, leaf, anchor, Knowing(), LAX)
        with gateway_before(node, tmp_path) as gateway, gateway.stock() as stock:
            asked = {"model": NAME, "messages": QUESTION, "tools": FORCED, "tool_choice": choice, "max_tokens": MOST}
            message = stock.chat.completions.create(**asked).choices[0].message
    [call] = given.tool_calls
    assert (given.content, given.finish_reason) == (None, "tool_calls")
    assert call.name == "fall" if choice != "required" else call.name in ("rise", "fall")
    assert json.loads(call.arguments)["n"] in (1, 2)
    assert verdict.outcome is Outcome.ACCEPT
    assert [each.id for each in message.tool_calls] == [call.id]


class Hiding(Saying):
    """Charges for tools, and does not show them to its model."""

    def encode_chat(self, messages, tools=()):
        return super().encode_chat(messages)


class Renaming(Saying):
    def encode_chat(self, messages, tools=()):
        return super().encode_chat(messages, json.loads(json.dumps(tools).replace("get_weather", "get_whether")))


@pytest.mark.parametrize(("kind", "reason"), [(Saying, None), (Hiding, Reason.PROMPT), (Renaming, Reason.PROMPT)])
def test_attack_a_node_that_shows_its_model_other_tools_is_rejected(tmp_path, kind, reason):
    url = f"sqlite:///{tmp_path}/node.sqlite"
    with serving(url, engine_=kind(TWO), allow_unsigned=False) as node, client_of(node) as client:
        given = client.chat(QUESTION, max_tokens=MOST, tools=TOOLS)
        evidence = node.store.answer_to(given.receipt.request_hash).evidence
        leaf = merkle.leaf_hash(0, given.receipt)
        anchor = Anchor(node.chain.domain, node.chain.address, RECORD.model_id, merkle.root([leaf]), 1)
        found = examine(evidence, 0, leaf, anchor, Saying(""))
    assert getattr(found, "reason", None) == reason
    assert given.receipt.input_hash == ASKED.salted(given.salt).hash()
