"""The gateway as clients see it: stock ones, hostile ones, and before nodes that lie."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import httpx2
import openai
import pytest
from gateway_support import bearer, gateway_before, seal
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import select
from test_failover import ACCOUNT, _Handler, events, odd, say, text
from test_node_support import MESSAGES, NAME, PRICE_WEI, SlowEngine, serving, wait_for

from trine.chain import Result
from trine.errors import ChainError, ChainUnreachable, InvalidInput, NoGasMoney, VerificationFailed
from trine.protocol.messages import Receipt, require_signer, text_hash
from trine.protocol.salts import read_salt
from trine_gateway.keys import hash_of, id_of, new_key
from trine_gateway.rates import Rates
from trine_gateway.service.refusing import refusal_of
from trine_gateway.store import GatewayStore, Kept, Repeat
from trine_gateway.tables import RepeatRow
from trine_gateway.verdicts import LATEST_SECONDS, next_look
from trine_operator.refusal import Refusal
from trine_operator.service import bodies
from trine_operator.store import StoreError

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_running=4, max_waiting=1000) as served:
        yield served


@pytest.fixture
def gateway(node, tmp_path):
    with gateway_before(node, tmp_path) as made:
        yield made


@pytest.fixture
def key(gateway):
    return gateway.key()


@pytest.fixture
def stock(gateway, key):
    with gateway.stock(key) as client:
        yield client


def body(max_tokens=4, **fields):
    return {"model": NAME, "messages": MESSAGES, "max_tokens": max_tokens, **fields}


def post(gateway, key, path=CHAT, headers=None, **fields):
    return gateway.http.post(path, json=fields or body(), headers={**bearer(key), **(headers or {})})


# Stock clients


def test_a_stock_client_chats_and_what_it_is_told_is_what_the_node_signed(node, gateway, stock, key):
    raw = stock.chat.completions.with_raw_response.create(model=NAME, messages=MESSAGES, max_tokens=5)
    answer = raw.parse()
    promise = answer.model_extra["trine"]
    receipt = Receipt.from_json(promise["receipt"])
    signature = bytes.fromhex(promise["signature"][2:])
    require_signer(receipt.digest(node.chain.domain), signature, node.chain.address, "receipt")
    assert receipt.text_hash == text_hash(answer.choices[0].message.content, read_salt(promise["salt"]))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (receipt.prompt_tokens, 5)
    assert raw.headers["x-trine-receipt"] == promise["receiptDigest"]
    assert raw.headers["x-trine-node"] == node.chain.address
    assert raw.headers["x-trine-verdict"] == "pending"
    assert raw.headers["x-ratelimit-limit-requests"] == "10000"
    assert answer._request_id.startswith("req_")
    spent = gateway.usage(key)
    assert spent["spentWei"] == str(receipt.fee_wei)
    assert spent["recent"][0]["receipt"] == promise["receiptDigest"]


def test_a_stream_is_the_same_text_with_usage_and_the_receipt_on_its_last_choice(stock):
    whole = stock.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=6)
    chunks = list(
        stock.chat.completions.create(
            model=NAME, messages=MESSAGES, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )
    *parts, last, usage = chunks
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in parts) == whole.choices[0].message.content
    assert Receipt.from_json(last.model_extra["trine"]["receipt"]).output_tokens == usage.usage.completion_tokens == 6


def test_plain_completions_whole_and_streamed(stock):
    whole = stock.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4, stop=["zzz"])
    chunks = list(stock.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert "trine" in chunks[-1].model_extra


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
    answer = post(gateway, key, "/v1/responses", **{"model": NAME, "input": "Hello", **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_models_are_listed_and_retrieved(stock):
    assert [entry.id for entry in stock.models.list()] == [NAME]
    assert stock.models.retrieve(NAME).model_extra["trine"]["pricePerTokenWei"] == str(PRICE_WEI)
    with pytest.raises(openai.NotFoundError):
        stock.models.retrieve("another")
    with pytest.raises(openai.NotFoundError) as raised:
        stock.chat.completions.create(model="another", messages=MESSAGES)
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.5),
        ("top_p", 0.5),
        ("max_token", 4),
        ("stream", 1),
        ("guided_choice", []),
        ("guided_json", {"maximun": 1}),
        ("guided_regex", "(?=a)b"),
        ("tools", [{"type": "function"}]),
        ("trine", {}),
        ("messages", [{"role": "tool", "content": "x"}]),
    ],
)
def test_fields_that_a_node_refuses_are_refused_alike(gateway, key, field, value):
    answer = post(gateway, key, **{**body(), field: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert gateway.usage(key)["reservedWei"] == "0"


def test_an_answer_is_held_to_a_grammar(stock, gateway, key):
    class Colour(BaseModel):
        name: Literal["red", "green"]

    parsed = stock.chat.completions.parse(model=NAME, messages=MESSAGES, response_format=Colour, max_tokens=60)
    assert parsed.choices[0].message.parsed.name in ("red", "green")
    response = stock.responses.parse(
        model=NAME, input="A colour?", text_format=Colour, max_output_tokens=60, store=False
    )
    assert response.output_parsed.name in ("red", "green")
    refused = post(gateway, key, **body(), guided_json={"type": "string", "format": "nosuch"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "guided_json"), "a node's word for it"
    assert gateway.usage(key)["reservedWei"] == "0"


def test_a_sampled_answer_needs_no_seed_for_the_gateway_signs_one(stock):
    def text(**fields):
        asked = stock.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=12, temperature=1, **fields)
        return asked.choices[0].message.content

    assert text() != text()
    assert text(seed=5) == text(seed=5)
    response = stock.responses.create(
        model=NAME, input="Hello", max_output_tokens=12, temperature=0.9, top_p=0.95, store=False
    )
    assert (response.temperature, response.top_p) == (0.9, 0.95)
    assert response.output_text
    assert response.model_extra["trine"]["sampling"]["seed"]


def test_what_only_the_node_knows_to_refuse_is_passed_on(gateway, key):
    answer = post(gateway, key, **body(2048, messages=[{"role": "user", "content": "word " * 2500}]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")
    assert gateway.usage(key)["spentWei"] == "0"


# Keys, rates, budgets


def test_without_a_good_key_nothing_is_answered(gateway, key):
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    old = gateway.key(expires_at=int(time.time()) - 1)
    for shown in (wrong, new_key().text, "sk-other", "x" * 10_000, "-", old, "sk-trine-" + "é" * 9):
        answer = gateway.http.post(CHAT, json=body(), headers={"authorization": f"Bearer {shown}".encode()})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (401, "invalid_api_key", "invalid_request_error")
        assert shown == "-" or shown not in answer.text
    assert gateway.http.get("/v1/models").status_code == 401
    assert gateway.http.get("/usage").status_code == 401
    with gateway.stock(wrong) as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model=NAME, messages=MESSAGES)
    twice = gateway.http.post(CHAT, json=body(), headers=[("authorization", f"Bearer {k}") for k in (wrong, key)])
    assert twice.status_code == 400


def test_a_revoked_key_ends(gateway):
    key = gateway.key()
    assert post(gateway, key).status_code == 200
    gateway.store.revoke(id_of(key))
    assert post(gateway, key).status_code == 401  # what is remembered of it for a moment spends nothing
    with pytest.raises(InvalidInput, match="there is no key"):
        gateway.store.revoke("nobody")


def test_a_key_asks_as_often_as_it_may_and_is_told_when_again(gateway):
    key = gateway.key(requests_per_minute=2)
    answers = [post(gateway, key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 31
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert post(gateway, gateway.key()).status_code == 200  # others are not kept waiting


@given(st.integers(1, 600), st.lists(st.floats(0, 30), max_size=200))
def test_no_minute_has_more_than_twice_a_keys_rate_and_none_waits_longer_than_said(per_minute, pauses):
    rates, now, taken = Rates(), 0.0, []
    for pause in pauses:
        now += pause
        rate = rates.take("k", per_minute, now)
        if rate.wait_seconds:
            assert rates.take("k", per_minute, now + rate.wait_seconds + 1e-6).wait_seconds == 0
            now += rate.wait_seconds + 1e-6
        taken.append(now)
    for begin in taken:
        assert sum(begin <= at < begin + 60 for at in taken) <= 2 * per_minute + 1


def kept(number, fee=1):
    return Kept(number.to_bytes(32, "big"), "m", "0x" + "11" * 20, "{}", fee)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.lists(st.tuples(st.integers(1, 20), st.integers(0, 100)), min_size=1, max_size=12))
def test_attack_no_budget_is_overspent_however_many_answers_are_asked_for_at_once(tmp_path_factory, budget, asked):
    store = GatewayStore(f"sqlite:///{tmp_path_factory.mktemp('budget')}/g.sqlite")
    key_id, _ = store.add_key("k", budget_wei=budget, requests_per_minute=1)
    spent, refusals = [], []

    def one(number, worst, percent):
        try:
            name = store.reserve(key_id, worst, 60)
        except Refusal as refused:
            refusals.append(refused.code)
            return
        fee = worst * percent // 100
        if percent == 0:
            store.release(name)
        else:
            store.settle(name, key_id, kept(number, fee))
            spent.append(fee)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(one, number, *each) for number, each in enumerate(asked)]:
            done.result()
    (usage,) = store.usage(key_id)
    store.close()
    assert usage.spent_wei == sum(spent) <= budget
    assert usage.reserved_wei == 0
    assert set(refusals) <= {"insufficient_quota"}


def test_a_budget_that_is_used_up_is_said_as_openai_says_it(gateway):
    key = gateway.key(budget_wei=5)
    with gateway.stock(key) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=4)
    assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_attack_orders_sent_together_do_not_overspend_a_key_over_http(gateway):
    worst = asyncio.run(gateway.client.worst_fee_wei(MESSAGES, model=NAME, max_tokens=4))
    key = gateway.key(budget_wei=2 * worst)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(gateway, key), range(8)))
    assert {answer.status_code for answer in answers} == {200, 429}
    usage = gateway.usage(key)
    assert int(usage["spentWei"]) <= 2 * worst
    assert int(usage["spentWei"]) == sum(int(a.json()["trine"]["feeWei"]) for a in answers if a.status_code == 200)


def test_what_a_gateway_that_was_killed_had_reserved_is_free_again_in_time(tmp_path):
    now = [1000.0]
    store = GatewayStore(f"sqlite:///{tmp_path}/g.sqlite", clock=lambda: now[0])
    key_id, _ = store.add_key("k", budget_wei=10, requests_per_minute=1)
    store.reserve(key_id, 10, 60)
    with pytest.raises(Refusal):
        store.reserve(key_id, 1, 60)
    now[0] += 62
    store.reserve(key_id, 10, 60)
    store.close()


def test_attack_who_leaves_while_the_price_is_reserved_leaves_nothing_reserved(gateway):
    key, real, over = gateway.key(), gateway.store.reserve, threading.Event()
    reserved = []

    def slow(*asked):  # a store that is busy
        over.wait(20)
        reserved.append(real(*asked))
        return reserved[-1]

    gateway.store.reserve = slow
    for _ in range(2):
        with pytest.raises(httpx2.TimeoutException), httpx2.Client(base_url=gateway.url, timeout=0.3) as hasty:
            hasty.post(CHAT, json=body(), headers=bearer(key))
    wait_for(lambda: not gateway.app.state.asking._running)
    over.set()
    wait_for(lambda: len(reserved) == 2)
    wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")
    assert gateway.usage(key)["answers"] == 0


# The same again


def test_the_same_with_the_same_key_is_the_same_answer_for_one_fee(gateway, key):
    again = {"idempotency-key": "order 7"}
    first, second = (post(gateway, key, headers=again) for _ in range(2))
    assert first.json()["trine"] == second.json()["trine"]
    assert first.json()["choices"] == second.json()["choices"]
    assert gateway.usage(key)["answers"] == 1
    streamed = post(gateway, key, headers={"idempotency-key": "s"}, **body(stream=True)).text
    repeated = post(gateway, key, headers={"idempotency-key": "s"}, **body(stream=True)).text
    assert json.loads(repeated.split("data: ")[-2])["trine"] == json.loads(streamed.split("data: ")[-2])["trine"]
    other = post(gateway, key, headers=again, **body(5))
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    drawn = [post(gateway, key, headers={"idempotency-key": "d"}, **body(temperature=1)).json() for _ in range(2)]
    assert drawn[0]["trine"] == drawn[1]["trine"]
    elsewhere = post(gateway, gateway.key(), headers=again)
    assert elsewhere.json()["trine"]["receiptDigest"] != first.json()["trine"]["receiptDigest"]


def test_the_same_sent_at_once_is_asked_for_once(node, gateway, key):
    before = len(node.store.unbatched(1000))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(gateway, key, headers={"idempotency-key": "at once"}), range(6)))
    assert len({answer.json()["trine"]["receiptDigest"] for answer in answers}) == 1
    assert len(node.store.unbatched(1000)) == before + 1
    assert gateway.usage(key)["answers"] == 1


def kept_texts(gateway):
    """Texts of answers that may be had again by an Idempotency-Key."""
    with gateway.store.reading() as session:
        return [json.loads(answer)["text"] for answer in session.scalars(select(RepeatRow.answer))]


def test_an_answer_is_had_again_after_a_restart_and_its_text_is_forgotten_in_time(node, tmp_path):
    url = f"sqlite:///{tmp_path}/kept.sqlite"
    with gateway_before(node, tmp_path, store_url=url) as gateway:
        key = gateway.key()
        first = post(gateway, key, headers={"idempotency-key": "x"}).json()
    with gateway_before(node, tmp_path, store_url=url) as gateway:
        assert post(gateway, key, headers={"idempotency-key": "x"}).json()["trine"] == first["trine"]
        assert gateway.usage(key)["answers"] == 1
        assert gateway.store.forget_repeats(3600) == 0
        assert kept_texts(gateway) == [first["choices"][0]["message"]["content"]]
        gateway.store._clock = lambda: time.time() + 3700
        assert gateway.store.forget_repeats(3600) == 1
        assert kept_texts(gateway) == []


def test_two_gateways_of_one_store_ask_once_for_the_same(tmp_path):
    url, again = f"sqlite:///{tmp_path}/shared.sqlite", {"idempotency-key": "both"}
    slow = SlowEngine(0.05)
    with (
        serving(f"sqlite:///{tmp_path}/n.sqlite", engine_=slow, allow_unsigned=False) as node,
        gateway_before(node, tmp_path, store_url=url) as one,
        gateway_before(node, tmp_path, store_url=url) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        key = one.key()
        begun = pool.submit(post, one, key, headers=again, **body(20))
        wait_for(lambda: slow.produced > 0)
        wrong = post(other, key, headers=again, **body(19))
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "idempotency_key_reused")
        same = post(other, key, headers=again, **body(20))
        assert same.json()["trine"] == begun.result().json()["trine"]
        assert one.usage(key)["answers"] == 1
        assert len(node.store.unbatched(10)) == 1


def test_an_idempotency_key_is_free_again_where_no_answer_came_or_its_gateway_was_killed(tmp_path):
    now = [1000.0]
    store = GatewayStore(f"sqlite:///{tmp_path}/g.sqlite", clock=lambda: now[0])
    key_id, _ = store.add_key("k", budget_wei=None, requests_per_minute=1)
    asked = Repeat("name", "body")
    assert store.claim_repeat(key_id, asked, 40) is None
    assert store.claim_repeat(key_id, asked, 40) == ("body", "")
    store.leave_repeat(key_id, "name")
    assert store.claim_repeat(key_id, asked, 40) is None
    now[0] += 39
    store.hold_repeat(key_id, "name")
    now[0] += 39
    assert store.claim_repeat(key_id, asked, 40) == ("body", "")
    now[0] += 2
    assert store.claim_repeat(key_id, asked, 40) is None
    store.settle(store.reserve(key_id, 5, 60), key_id, kept(1), asked, "text")
    store.leave_repeat(key_id, "name")  # too late
    now[0] += 1000
    assert store.claim_repeat(key_id, asked, 40) == ("body", "text")
    store.close()


def leave_early(gateway, key, asked, headers=None):
    """Hangs up in the middle of an answer."""
    begun, headers = time.monotonic(), {**bearer(key), **(headers or {})}
    with (
        suppress(httpx2.TimeoutException),
        httpx2.Client(base_url=gateway.url, timeout=0.7) as impatient,
        impatient.stream("POST", CHAT, json=asked, headers=headers) as response,
    ):
        for _ in response.iter_raw():
            if time.monotonic() - begun > 0.7:
                return


def test_who_leaves_before_a_node_has_begun_ends_what_was_asked_for(tmp_path):
    def silent(handler):
        events(handler)
        handler.server.over.wait(30)

    with odd(silent) as node_, serving(f"sqlite:///{tmp_path}/n.sqlite", allow_unsigned=False) as node:
        place = ("0x" + "aa" * 20, node_.url)
        with gateway_before(node, tmp_path, place) as gateway:
            key = gateway.key()
            for stream in (False, True):
                leave_early(gateway, key, body(500, stream=stream))
            wait_for(lambda: not gateway.app.state.asking._running)
            wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")
            assert (gateway.usage(key)["answers"], gateway.usage(key)["spentWei"]) == (0, "0")
        node_.over.set()


def test_attack_who_reads_a_stream_and_leaves_before_its_last_event_has_paid_for_it(node, gateway):
    worst = asyncio.run(gateway.client.worst_fee_wei(MESSAGES, model=NAME, max_tokens=40))
    key = gateway.key(budget_wei=2 * worst)
    before, shown, refused = len(node.store.unbatched(1000)), 0, []
    for _ in range(8):
        with (
            httpx2.Client(base_url=gateway.url, timeout=30) as reader,
            reader.stream("POST", CHAT, json=body(40, stream=True), headers=bearer(key)) as response,
        ):
            if response.status_code != 200:
                response.read()
                refused.append(response.json()["error"]["code"])
                break
            texts = 0
            for line in response.iter_lines():
                texts += line.startswith("data: {")
                if texts > 1:  # the first one has a role and no text
                    break
            shown += texts > 1
        wait_for(lambda: not gateway.app.state.asking._running)
    usage = gateway.usage(key)
    assert refused == ["insufficient_quota"]
    assert shown == usage["answers"] == len(node.store.unbatched(1000)) - before
    assert 0 < int(usage["spentWei"]) <= 2 * worst


def test_who_leaves_a_slow_answer_has_paid_for_it_and_it_can_be_had_again(tmp_path):
    slow = SlowEngine(0.05)
    with (
        serving(f"sqlite:///{tmp_path}/n.sqlite", engine_=slow, allow_unsigned=False) as node,
        gateway_before(node, tmp_path) as gateway,
    ):
        key = gateway.key()
        for stream in (False, True):
            leave_early(gateway, key, body(30, stream=stream))
        wait_for(lambda: not gateway.app.state.asking._running)
        assert (gateway.usage(key)["answers"], gateway.usage(key)["reservedWei"]) == (2, "0")
        again = {"idempotency-key": "mine"}
        leave_early(gateway, key, body(30), again)
        assert post(gateway, key, headers=again, **body(30)).json()["usage"]["completion_tokens"] == 30
        assert gateway.usage(key)["answers"] == 3


# Verdicts


def judged(node, gateway, key, *, word="accepted", final=False):
    """All the node's answers are in a batch, with this result."""
    batch = seal(node)
    count = len(node.store.batch(batch).leaves)
    words = {"accepted": 0, "rejected": 0, "unavailable": 0, **({word: (1 << count) - 1} if word else {})}
    node.chain.results[batch] = Result(count, **words, is_settled=True, is_final=final)
    return batch


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A node of its own, with a gateway that looks for verdicts at once."""
    monkeypatch.setattr("trine_gateway.store.FIRST_LOOK_SECONDS", 0)
    monkeypatch.setattr("trine_gateway.verdicts.FIRST_LOOK_SECONDS", 0)
    monkeypatch.setattr("trine_gateway.verdicts.LOOK_SECONDS", 0.05)
    with serving(f"sqlite:///{tmp_path}/fresh.sqlite", allow_unsigned=False) as node:
        yield node


def test_verdicts_are_waited_for_and_final_ones_end_it(fresh, tmp_path):
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        fee = int(post(gateway, key).json()["trine"]["feeWei"])
        assert gateway.usage(key)["verdicts"]["pending"] == 1
        batch = judged(fresh, gateway, key)
        wait_for(lambda: gateway.usage(key)["verdicts"]["accept"] == 1)
        assert gateway.usage(key)["recent"][0]["isFinal"] is False
        fresh.chain.results[batch] = replace(fresh.chain.results[batch], is_final=True)
        wait_for(lambda: gateway.usage(key)["recent"][0]["isFinal"])
        assert gateway.store.pending() == 0
        assert gateway.usage(key)["spentWei"] == str(fee)


def test_a_node_whose_answer_was_rejected_is_asked_nothing_and_its_fee_is_given_back(fresh, tmp_path):
    url = f"sqlite:///{tmp_path}/kept.sqlite"
    with gateway_before(fresh, tmp_path, store_url=url) as gateway:
        key, admin = gateway.key(), gateway.key("admin", is_admin=True)
        post(gateway, key)
        batch = judged(fresh, gateway, key, word="rejected")
        wait_for(lambda: gateway.usage(key)["verdicts"]["reject"] == 1)
        wait_for(lambda: gateway.usage(admin)["nodesCutOff"])
        refused = post(gateway, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_node")
        assert fresh.url not in refused.text
    with gateway_before(fresh, tmp_path, store_url=url) as gateway:  # started again, it goes on
        wait_for(lambda: post(gateway, key).status_code == 503)
        fresh.chain.results[batch] = replace(fresh.chain.results[batch], is_final=True)
        wait_for(lambda: gateway.usage(key)["spentWei"] == "0")
        assert gateway.store.pending() == 0


def test_a_store_that_is_away_at_the_start_ends_no_looking_for_verdicts(fresh, tmp_path, monkeypatch):
    real, away = GatewayStore.all_cut_off, threading.Event()
    away.set()

    def all_cut_off(store):
        if away.is_set():
            raise StoreError("the database is away")
        return real(store)

    monkeypatch.setattr(GatewayStore, "all_cut_off", all_cut_off)
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        wait_for(lambda: gateway.http.get("/healthz").status_code == 503)
        assert gateway.http.get("/healthz").json()["reason"] == "verdicts are not looked for: the log says why"
        post(gateway, key)
        judged(fresh, gateway, key, final=True)
        away.clear()
        wait_for(lambda: gateway.usage(key)["verdicts"]["accept"] == 1)
        wait_for(lambda: gateway.http.get("/healthz").status_code == 200)


def test_attack_a_node_that_does_not_know_its_own_receipt_is_asked_nothing(fresh, tmp_path, monkeypatch):
    hides = threading.Event()
    hides.set()

    class Handler(_Handler):
        def do_GET(self):  # noqa: N802
            if "/v1/receipts/" not in self.path:
                return say(self, 200, ACCOUNT)
            if hides.is_set():
                return say(self, 404, {"error": {"message": "no such receipt"}})
            found = httpx2.get(fresh.url + self.path)
            return say(self, found.status_code, found.json())

    def passes_on(handler):
        told = httpx2.post(fresh.url + handler.path, json=handler.server.orders[-1], timeout=60)
        events(handler, *[event for event in told.text.split("\n\n") if event.startswith("data")])

    monkeypatch.setattr("trine_gateway.verdicts.next_look", lambda _: 0)
    with odd(passes_on) as liar, gateway_before(fresh, tmp_path, (fresh.chain.address, liar.url)) as gateway:
        liar.RequestHandlerClass = Handler
        key, admin = gateway.key(), gateway.key("admin", is_admin=True)
        assert post(gateway, key).status_code == 200
        batch = judged(fresh, gateway, key)
        wait_for(lambda: gateway.store.due(1) and gateway.store.due(1)[0].looks > 2)
        assert post(gateway, key).status_code == 200  # it has time until `anchor_by`
        judged(fresh, gateway, key)
        monkeypatch.setattr("trine_gateway.verdicts.LATE_SECONDS", -(10**6))
        wait_for(lambda: gateway.usage(key)["recent"][-1]["verdict"] == "hidden")
        wait_for(lambda: gateway.usage(admin)["nodesCutOff"])
        assert post(gateway, key).status_code == 503
        assert gateway.usage(key)["verdicts"]["pending"] == 2
        digest = bytes.fromhex(gateway.store.all_cut_off()[0][2])
        assert not gateway.store.cut_off(fresh.chain.address, 60, bytes(32), replace=False)
        assert gateway.store.all_cut_off()[0][2] == digest.hex()
        hides.clear()
        wait_for(lambda: gateway.usage(key)["verdicts"]["accept"] == 2)
        wait_for(lambda: post(gateway, key).status_code == 200)
        assert batch


def test_an_appeal_that_turns_a_rejection_lets_the_node_be_asked_again(fresh, tmp_path):
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        post(gateway, key)
        batch = judged(fresh, gateway, key, word="rejected")
        wait_for(lambda: gateway.usage(key)["verdicts"]["reject"] == 1)
        fresh.chain.results[batch] = replace(fresh.chain.results[batch], accepted=1, rejected=0, is_final=True)
        wait_for(lambda: gateway.usage(key)["recent"][0]["isFinal"])
        assert gateway.usage(key)["verdicts"] == {
            "accept": 1, "reject": 0, "unavailable": 0, "inconclusive": 0, "pending": 0,
        }  # fmt: skip
        wait_for(lambda: post(gateway, key).status_code == 200)


def test_a_header_asks_to_wait_for_the_verdict(fresh, tmp_path):
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        late = post(gateway, key, headers={"x-trine-wait": "verdict", "x-trine-wait-seconds": "0"})
        assert (late.headers["x-trine-verdict"], late.json()["trine"]["verdict"]) == ("pending", "pending")
        ended = []
        asked = {"x-trine-wait": "verdict", "x-trine-wait-seconds": "30"}
        threads = [
            threading.Thread(target=lambda s=s: ended.append(post(gateway, key, headers=asked, **body(stream=s))))
            for s in (False, True)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(fresh.store.unbatched(10)) == 3)
        judged(fresh, gateway, key)
        for thread in threads:
            thread.join()
        assert len(ended) == 2
        for answer in ended:
            assert '"verdict":"accept"' in answer.text.replace(" ", "")
            assert '"certificate":' in answer.text
    for wrong in ({"x-trine-wait": "yes"}, {**asked, "x-trine-wait-seconds": "-1"}):
        with gateway_before(fresh, tmp_path) as gateway:
            answer = post(gateway, gateway.key(), headers=wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header")


def test_a_verdict_that_cannot_be_had_takes_no_answer_away(fresh, tmp_path, monkeypatch):
    with gateway_before(fresh, tmp_path, limits={"max_running_per_key": 1}) as gateway:
        key = gateway.key()
        monkeypatch.setattr("trine._flow.placed_certificate", lambda *_: broken("the batch is malformed"))
        answer = post(gateway, key, headers={"x-trine-wait": "verdict", "x-trine-wait-seconds": "5"})
        assert (answer.status_code, answer.headers["x-trine-verdict"]) == (200, "pending")
        monkeypatch.undo()
        asking = gateway.app.state.asking
        finish = asking._end

        def others_wait(running):  # as many as may, when the answer is there
            asking._waiting[object()] = id_of(key)
            finish(running)

        asking._end = others_wait
        full = post(gateway, key, headers={"x-trine-wait": "verdict", "x-trine-wait-seconds": "60"})
        assert (full.status_code, full.headers["x-trine-verdict"]) == (200, "pending")


def broken(said):
    raise VerificationFailed(said)


WAIT = {"x-trine-wait": "verdict", "x-trine-wait-seconds": "20"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [ChainError("the endpoint is away"), RuntimeError("nobody has thought of this")])
def test_a_wait_outlasts_a_chain_that_is_away_and_ends_as_the_answer_where_it_stays_away(
    fresh, tmp_path, error, stream
):
    with gateway_before(fresh, tmp_path, checks_at_once=1) as gateway:
        key, settled, away = gateway.key(), gateway.client._core.settled, [3]

        def hiccup(*asked):
            if away[0] > 0:
                away[0] -= 1
                raise error
            return settled(*asked)

        gateway.client._core.settled = hiccup
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, gateway, key, headers=WAIT, **body(stream=stream))
            wait_for(lambda: fresh.store.unbatched(10))
            judged(fresh, gateway, key)
            assert '"verdict":"accept"' in answer.result().text.replace(" ", "")
        away[0] = 10**9
        late = post(gateway, key, headers={**WAIT, "x-trine-wait-seconds": "1"}, **body(stream=stream))
        assert late.status_code == 200
        assert '"verdict":"pending"' in late.text.replace(" ", "")
        assert gateway.usage(key)["answers"] == 2


def test_a_store_that_fails_at_a_verdict_takes_no_answer_away(fresh, tmp_path, monkeypatch):
    with gateway_before(fresh, tmp_path) as gateway, ThreadPoolExecutor(1) as pool:
        key = gateway.key()
        monkeypatch.setattr(gateway.store, "judge", lambda *_, **__: 1 / 0)
        answer = pool.submit(post, gateway, key, headers=WAIT)
        wait_for(lambda: fresh.store.unbatched(10))
        judged(fresh, gateway, key)
        assert (answer.result().status_code, answer.result().headers["x-trine-verdict"]) == (200, "accept")


def test_attack_who_waits_for_verdicts_takes_room_of_the_key_and_no_thread_of_others(tmp_path):
    many, limits = 12, {"max_running_per_key": 12}
    with (
        serving(f"sqlite:///{tmp_path}/n.sqlite", allow_unsigned=False) as node,
        gateway_before(node, tmp_path, limits=limits) as gateway,
        ThreadPoolExecutor(2 * many) as pool,
    ):
        key, other, over = gateway.key(), gateway.key(), threading.Event()
        named = [{"idempotency-key": str(number)} for number in range(many)]
        for again in named:
            assert post(gateway, key, headers=again).status_code == 200
        judged(node, gateway, key)
        real, asked = gateway.client.chain.verdict, []

        def hangs(*place):
            asked.append(place)
            over.wait(30)
            return real(*place)

        gateway.client.chain.verdict = hangs
        final = {"x-trine-wait": "final", "x-trine-wait-seconds": "60"}
        waits = [pool.submit(post, gateway, key, headers={**again, **final}) for again in named]
        try:
            wait_for(lambda: len(gateway.app.state.asking._waiting) == many)
            wait_for(lambda: asked)
            assert post(gateway, other).status_code == 200
            full = post(gateway, key)
            assert (full.status_code, full.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        finally:
            for batch, result in node.chain.results.items():
                node.chain.results[batch] = replace(result, is_final=True)
            over.set()
        assert {wait.result().headers["x-trine-verdict"] for wait in waits} == {"accept"}
        assert gateway.usage(key)["answers"] == many


def test_many_who_wait_for_one_verdict_have_it_looked_for_once(fresh, tmp_path):
    with gateway_before(fresh, tmp_path, checks_at_once=1) as gateway, ThreadPoolExecutor(20) as pool:
        key, again = gateway.key(), {"idempotency-key": "one"}
        post(gateway, key, headers=again)
        waits = [pool.submit(post, gateway, key, headers={**again, **WAIT}) for _ in range(20)]
        asking = gateway.app.state.asking
        wait_for(lambda: len(asking._waiting) == 20)
        assert len(asking._waits._waits) == 1
        judged(fresh, gateway, key)
        assert {wait.result().headers["x-trine-verdict"] for wait in waits} == {"accept"}
        assert not asking._waiting
        assert not asking._waits._waits


def test_looks_become_rarer_and_have_an_end():
    looks = [next_look(n) for n in range(50)]
    assert looks == sorted(looks)
    assert looks[-1] == LATEST_SECONDS


# Nodes that lie


def promise_nothing(handler):
    events(handler, text("Buy now!"), 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "trine": {}}')


def promise_nothing_late(handler):
    events(handler, text("Buy now!"))
    handler.server.over.wait(0.5)
    handler.wfile.write(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "trine": {}}\n\n')


def test_attack_a_node_that_signs_nothing_is_left_and_no_text_of_its_is_shown(node, tmp_path):
    with (
        odd(promise_nothing) as liar,
        gateway_before(node, tmp_path, ("0x" + "aa" * 20, liar.url), (node.chain.address, node.url)) as gateway,
    ):
        key = gateway.key()
        answer = post(gateway, key).json()
        assert answer["trine"]["node"] == node.chain.address
        assert "Buy now!" not in answer["choices"][0]["message"]["content"]
        assert gateway.usage(key)["answers"] == 1
        assert len(liar.orders) == 1
        post(gateway, key)
        assert len(liar.orders) == 1  # it is asked nothing for a while


def test_attack_a_lying_stream_ends_in_an_error_that_a_stock_client_raises(node, tmp_path):
    place = "0x" + "aa" * 20
    with odd(promise_nothing_late) as liar, gateway_before(node, tmp_path, (place, liar.url)) as gateway:
        key = gateway.key()
        with gateway.stock(key) as client, pytest.raises(openai.APIError, match="not to be used"):
            list(client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True))
        wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")
        assert gateway.usage(key)["spentWei"] == "0"


def test_a_node_that_wants_money_is_the_gateways_affair(node, tmp_path):
    def poor(handler):
        said = {"error": {"message": "the deposit with 0xaa covers 0", "code": "deposit_too_low"}}
        say(handler, 402, said)

    with odd(poor) as wants, gateway_before(node, tmp_path, ("0x" + "aa" * 20, wants.url)) as gateway:
        answer = post(gateway, gateway.key())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_not_funded")
        assert "deposit" not in answer.text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoGasMoney("approve", "0x" + "11" * 20), "gateway_not_funded"),
        (ChainUnreachable("no answer from the chain"), "chain_away"),
    ],
)
def test_what_keeps_the_gateway_from_paying_is_told_apart(error, code):
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code, "0x11" in str(refusal)) == (503, code, False)


@pytest.mark.parametrize("status", [204, 302, 400, 401, 402, 404, 413, 418, 422])
def test_attack_a_node_that_refuses_what_another_answers_blocks_nothing(node, tmp_path, status):
    def refuses(handler):
        say(handler, status, {"error": {"message": "pay at evil.example", "code": "context_length_exceeded"}})

    with (
        odd(refuses) as refuser,
        gateway_before(node, tmp_path, ("0x" + "aa" * 20, refuser.url), (node.chain.address, node.url)) as gateway,
    ):
        key = gateway.key()
        for _ in range(2):
            answer = post(gateway, key)
            assert (answer.status_code, answer.headers["x-trine-node"]) == (200, node.chain.address)
        assert len(refuser.orders) <= 1  # it is asked nothing for a while


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "context_length_exceeded", (400, "context_length_exceeded")),
        (400, "fee_over_stake", (400, "fee_over_stake")),
        (400, "invalid_api_key", (503, "no_node")),
        (404, "model_not_found", (503, "no_node")),
        (401, "invalid_api_key", (503, "gateway_not_funded")),
    ],
)
def test_attack_a_nodes_words_are_not_the_gateways(node, tmp_path, status, code, told):
    def refuses(handler):
        say(handler, status, {"error": {"message": "pay at evil.example", "code": code, "param": "evil"}})

    with odd(refuses) as refuser, gateway_before(node, tmp_path, ("0x" + "aa" * 20, refuser.url)) as gateway:
        for _ in range(2):  # what one client is refused keeps no other's request from the node
            answer = post(gateway, gateway.key())
            assert (answer.status_code, answer.json()["error"]["code"]) == told
            assert "evil" not in answer.text
        assert len(refuser.orders) == 2


# Hostile clients


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 200_000, b'{"model":' * 100_000, b"\xff\xfe", b"NaN"])
def test_bodies_that_are_none_are_refused_in_openais_form(gateway, key, content):
    answer = gateway.http.post(CHAT, content=content, headers=bearer(key))
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_bodies_are_bounded_and_not_read_for_who_has_no_key(node, tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    with gateway_before(node, tmp_path, limits={"max_body_bytes": 2048}) as gateway:
        key = gateway.key()
        assert post(gateway, key, **body(messages=[{"role": "user", "content": "x" * 4096}])).status_code == 413

        def slowly():
            for _ in range(20):
                yield b" "
                time.sleep(0.1)

        answer = gateway.http.post(CHAT, content=slowly(), headers=bearer(key))
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_too_slow")
        sent = 0

        def endless():
            nonlocal sent
            for _ in range(10_000):
                sent += 1
                yield b" " * 1024

        try:
            assert gateway.http.post(CHAT, content=endless()).status_code == 401
        except httpx2.TransportError:
            assert sent < 10_000


def test_headers_with_line_ends_and_thousands_of_wrong_keys_change_nothing(gateway, key):
    import socket

    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        sent = "GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\rx-admin: 1\r\n\r\n"
        raw.sendall(sent.encode())
        assert raw.recv(4096).split(b" ")[1] in (b"400", b"401")
    evil = post(gateway, key, headers={"idempotency-key": "a" * 300})
    assert evil.status_code == 400
    with ThreadPoolExecutor(8) as pool:
        codes = set(pool.map(lambda _: post(gateway, new_key().text).status_code, range(200)))
    assert codes == {401}
    assert post(gateway, key).status_code == 200


def test_more_answers_than_may_be_on_their_way_are_refused(tmp_path):
    slow = SlowEngine(0.05)
    with (
        serving(f"sqlite:///{tmp_path}/n.sqlite", engine_=slow, allow_unsigned=False) as node,
        gateway_before(node, tmp_path, limits={"max_running": 3, "max_running_per_key": 1}) as gateway,
    ):
        key = gateway.key()
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(post, gateway, key, **body(40))
            wait_for(lambda: slow.produced > 0)
            second = post(gateway, key)
            assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert post(gateway, gateway.key()).status_code == 200
            assert first.result().status_code == 200


def test_pages_of_allowed_origins_may_ask(node, tmp_path):
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with gateway_before(node, tmp_path, cors_origins=["https://a.example"]) as gateway:
        good = gateway.http.options(CHAT, headers={"origin": "https://a.example", **asks})
        assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, "https://a.example")
        refused = gateway.http.post(CHAT, json={}, headers={"origin": "https://a.example"})
        assert refused.headers["access-control-allow-origin"] == "https://a.example"
        assert (
            "access-control-allow-origin"
            not in gateway.http.options(CHAT, headers={"origin": "https://b.example", **asks}).headers
        )


# What is shown, and what is not


def test_usage_is_shown_to_its_key_alone_and_all_to_an_admin(gateway, key):
    other, admin = gateway.key("<script>alert(1)</script>"), gateway.key("boss", is_admin=True)
    post(gateway, other)
    assert "keys" not in gateway.usage(key)
    assert gateway.usage(key)["answers"] == 0
    assert {one["name"] for one in gateway.usage(admin)["keys"]} >= {"somebody", "boss"}
    page = gateway.http.get("/usage", auth=("anybody", admin), headers={"accept": "text/html"})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "http" not in page.text.replace("http-equiv", "")  # nothing is loaded from anywhere
    asked = gateway.http.get("/usage", headers={"accept": "text/html"})
    assert (asked.status_code, asked.headers["www-authenticate"][:5]) == (401, "Basic")
    for wrong in ("Basic !!!", "Basic", "Basic " + "QQ==" * 9):
        assert gateway.http.get("/usage", headers={"authorization": wrong}).status_code == 401


@pytest.mark.parametrize(
    ("wei", "shown"),
    [
        (0, "0"),
        (1, "&lt; 0.000001"),
        (10**12, "0.000001"),
        (25 * 10**17, "2.5"),
        (10 * 10**18 - 1, "9.999999"),
        (10 * 10**18, "10"),
        (123_456 * 10**18, "123,456"),
    ],
)
def test_the_page_shows_amounts_as_people_write_them_and_rounds_none_up(gateway, wei, shown):
    key = gateway.key("x" * 64, budget_wei=wei)
    page = gateway.http.get("/usage", auth=("", key), headers={"accept": "text/html"}).text
    assert f'<td class="n">{shown}<' in page


def test_a_key_is_in_no_store_and_no_log(gateway, tmp_path, caplog, capfd):
    key = gateway.key()
    post(gateway, key)
    post(gateway, key[:-1] + "_")
    post(gateway, key, **body(messages=[{"role": "user", "content": "a secret question"}]))
    with caplog.at_level(logging.DEBUG):
        post(gateway, key, headers={"idempotency-key": "k"})
    out, err = capfd.readouterr()
    secret = key[-20:]
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("gateway.sqlite*"))
    assert secret.encode() not in stored
    assert b"a secret question" not in stored
    for told in (caplog.text, out, err):
        assert secret not in told
    assert hash_of(key).encode() in stored
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("gateway.sqlite*")} == {0o600}


def test_the_revisions_make_what_the_tables_declare(database_url):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from trine_gateway.tables import Base
    from trine_operator.database import open_engine

    store = GatewayStore(database_url)
    key_id, text_ = store.add_key("k", budget_wei=5, requests_per_minute=1)
    assert store.key(key_id).hash == hash_of(text_)
    name = store.reserve(key_id, 5, 60)
    store.settle(name, key_id, kept(1, 5), Repeat("a", "b"), "{}")
    store.judge(kept(1).digest, "reject", is_final=True)
    assert store.usage(key_id)[0].spent_wei == 0
    assert store.why_not_ready() is None
    store.close()
    engine = open_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert list(compare_metadata(context, Base.metadata)) == []
    engine.dispose()
