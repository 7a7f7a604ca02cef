"""Keys of a gateway: who may ask, how often, and for how much, however many answers are asked for at once."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from gateway_support import CHAT, bearer, body, gateway_before, kept, post
from hypothesis import given, settings
from hypothesis import strategies as st
from test_node_support import MESSAGES, NAME, serving, wait_for

from trine.errors import InvalidInput
from trine_gateway.keys import id_of, new_key
from trine_gateway.rates import Rates
from trine_gateway.store import GatewayStore
from trine_operator.refusal import Refusal


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
