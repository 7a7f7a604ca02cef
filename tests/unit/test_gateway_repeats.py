"""The same asked again, and clients that leave: one answer, one fee, and nothing for what was not begun."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import pytest
from gateway_support import CHAT, bearer, body, gateway_before, kept, post
from sqlalchemy import select
from test_failover import events, odd
from test_node_support import MESSAGES, NAME, SlowEngine, serving, wait_for

from trine_gateway.records import Repeat
from trine_gateway.store import GatewayStore
from trine_gateway.tables import RepeatRow


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


def leave_begun(gateway, key, asked):
    """Hangs up when the gateway has heard the first of an answer."""
    host, port = gateway.url.removeprefix("http://").split(":")
    sent = json.dumps(asked).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(sent)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + sent)
        wait_for(lambda: any(running._pieces for running in gateway.app.state.asking._running))


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
            leave_begun(gateway, key, body(30, stream=stream))
            wait_for(lambda: not gateway.app.state.asking._running)
        assert (gateway.usage(key)["answers"], gateway.usage(key)["reservedWei"]) == (2, "0")
        again = {"idempotency-key": "mine"}
        leave_early(gateway, key, body(30), again)
        assert post(gateway, key, headers=again, **body(30)).json()["usage"]["completion_tokens"] == 30
        assert gateway.usage(key)["answers"] == 3
