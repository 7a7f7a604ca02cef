"""A gateway before nodes that lie, and behind clients that mean it ill."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest
from gateway_support import CHAT, bearer, body, gateway_before, post
from test_failover import events, odd, say, text
from test_node_support import MESSAGES, NAME, SlowEngine, serving, wait_for

from trine.errors import ChainUnreachable, NoGasMoney
from trine_gateway.keys import new_key
from trine_gateway.service.refusing import refusal_of
from trine_operator.service import bodies


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
