"""The best node does not answer: the next best is asked, a few at most, and nothing is paid twice unseen. Real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_client_parallel import client_of
from test_node_support import serving

from trine import AsyncClient, Client
from trine._failover import MAX_NODES
from trine._ledger import RESERVED_SECONDS, Ledger
from trine._nodes import REST_SECONDS
from trine._reading import MAX_BODY_BYTES
from trine.errors import NodeRefused, NodeUnreachable, TrineError, VerificationFailed

FIRST = "0x" + "aa" * 20
ACCOUNT = {"owedWei": "0", "voucher": None, "acknowledged": None, "orders": [], "asOf": 0}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_running=4, max_waiting=1000) as served:
        yield served


class Odd(ThreadingHTTPServer):
    """A node that answers orders as `answer(handler)` does, and everything else well."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.orders, self.over = answer, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        say(self, 200, ACCOUNT)

    def do_POST(self):
        self.server.orders.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.close_connection = True
        self.server.answer(self)

    def log_message(self, *_):
        pass


def say(handler, status, document, **headers):
    body = json.dumps(document).encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def events(handler, *lines):
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.end_headers()
    for line in lines:
        handler.wfile.write(line.encode() + b"\n\n")
        handler.wfile.flush()


def text(what):
    return "data: " + json.dumps({"choices": [{"delta": {"content": what}}]})


@contextmanager
def odd(answer):
    with Odd(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join(20)


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def refusing(status, **headers):
    return lambda handler: say(handler, status, {"error": {"message": "no", "code": "x"}}, **headers)


def silent(handler):
    handler.server.over.wait(30)


def dripping(handler):
    events(handler)
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b": still here\n\n")
        handler.wfile.flush()


def hanging_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def breaking_off(handler):
    events(handler, "data: " + json.dumps({"choices": [{"delta": {"role": "assistant", "content": ""}}]}))


def failing_in_the_stream(handler):
    events(handler, 'data: {"error": {"message": "out of memory"}}')


@contextmanager
def asking(node, *before, kind=Client, timeout=60.0):
    """A client whose best nodes are those."""
    with client_of(node, kind, timeout=timeout) as client:
        places = [(f"0x{number:040x}", url) for number, url in enumerate(before, 1)]
        client._core.nodes = lambda *_: [*places, (node.chain.address, node.url)]
        yield client


def chatted(client):
    return client.chat("Who is there?", max_tokens=3)


def streamed(client):
    stream = client.stream("Who is there?", max_tokens=3)
    assert "".join(stream) is not None
    return stream.answer


def asked_async(how):
    def ask(node, *before):
        async def run():
            with asking(node, *before, kind=AsyncClient) as client:
                async with client:
                    if how == "chat":
                        return client, await client.chat("Who is there?", max_tokens=3)
                    stream = client.stream("Who is there?", max_tokens=3)
                    async for _ in stream:
                        pass
                    return client, stream.answer

        return asyncio.run(run())

    return ask


def asked_sync(how):
    def ask(node, *before):
        with asking(node, *before) as client:
            return client, how(client)

    return ask


WAYS = {
    "chat": asked_sync(chatted),
    "stream": asked_sync(streamed),
    "async chat": asked_async("chat"),
    "async stream": asked_async("stream"),
}


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS.keys())
def test_a_node_that_is_down_is_left_for_the_next_best_at_no_cost(node, ask):
    dead = f"http://127.0.0.1:{closed_port()}"
    client, answer = ask(node, dead)
    assert answer.receipt.node == node.chain.address
    (tried,) = answer.tried
    assert (tried.node_url, tried.may_cost_wei) == (dead, 0)
    assert client._core.ledger(tried.node).reserved_wei == 0


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize(
    "answer",
    [refusing(500), refusing(502), refusing(503, retry_after="5"), hanging_up],
    ids=["500", "502", "503", "hangs up"],
)
def test_what_a_node_may_have_begun_stays_promised_there_and_is_told(node, ask, answer):
    with odd(answer) as first:
        client, answer = ask(node, first.url)
    (tried,) = answer.tried
    worst = int(first.orders[0]["trine"]["request"]["maxFeeWei"])
    assert tried.may_cost_wei == worst > 0
    ledger = client._core.ledger(tried.node)
    assert ledger.reserved_wei == worst
    ledger.learn(0)
    assert ledger.take(7, 10**12).cumulative_wei == worst + 7  # what the first could still ask, and this


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("answer", [refusing(429, retry_after="60"), refusing(404)], ids=["429", "404"])
def test_a_node_that_is_busy_for_long_or_has_lost_its_model_is_left_and_owed_nothing(node, ask, answer):
    with odd(answer) as first:
        client, answer = ask(node, first.url)
    (tried,) = answer.tried
    assert tried.may_cost_wei == client._core.ledger(tried.node).reserved_wei == 0
    assert client._core.ledger(tried.node)._taken == {}


@pytest.mark.parametrize("answer", [silent, dripping, breaking_off, failing_in_the_stream])
@pytest.mark.parametrize("ask", [WAYS["stream"], WAYS["async stream"]], ids=["stream", "async stream"])
def test_a_stream_without_a_token_is_left(node, ask, answer, monkeypatch):
    monkeypatch.setattr("trine._failover.FIRST_TOKEN_SECONDS", 0.4)
    with odd(answer) as first:
        _, answer = ask(node, first.url)
    assert answer.tried[0].may_cost_wei > 0


def test_a_node_that_says_soon_is_waited_for(node):
    busy = []

    def now_and_then(handler):
        busy.append(1)
        refusing(429, retry_after="0")(handler)

    with odd(now_and_then) as first, asking(node, first.url, timeout=60.0) as client:
        answer = chatted(client)
    assert len(busy) > 3  # and then no longer
    assert answer.receipt.node == node.chain.address


@pytest.mark.parametrize("how", [chatted, streamed])
def test_a_node_that_did_not_answer_is_not_the_first_to_be_asked_for_a_while(node, how):
    with odd(refusing(500)) as first, asking(node, first.url) as client:
        assert how(client).tried
        assert not how(client).tried
        assert len(first.orders) == 1
        resting = client._core._resting  # whoever turned the clock would stop the node's, too
        resting.update({rested: until - REST_SECONDS - 1 for rested, until in resting.items()})
        assert how(client).tried
        assert len(first.orders) == 2


@pytest.mark.parametrize("how", [chatted, streamed])
def test_so_many_nodes_are_asked_and_no_more(node, how):
    with odd(refusing(500)) as bad:
        more = [bad.url] * MAX_NODES
        with asking(node, *more) as client, pytest.raises(NodeUnreachable, match=f"none of {MAX_NODES} nodes"):
            how(client)
        assert len(bad.orders) == MAX_NODES
        digests = {order["trine"]["signature"] for order in bad.orders}
        assert len(digests) == MAX_NODES  # each is an order of its own


@pytest.mark.parametrize("how", [chatted, streamed])
def test_a_node_that_is_named_is_the_only_one(node, how):
    with odd(refusing(500)) as first, asking(node, first.url) as client:
        client._core._node = first.url
        with pytest.raises(NodeRefused, match="500"):
            how(client)
        assert len(first.orders) == 1


def test_after_text_was_shown_nothing_goes_elsewhere(node):
    with odd(lambda handler: events(handler, text("I am"))) as first, asking(node, first.url) as client:
        shown = []
        with pytest.raises(TrineError):
            shown.extend(client.stream("Who?", max_tokens=3))
        assert node.store.owed(client.chain.address) == 0


@pytest.mark.parametrize("how", [chatted, streamed])
def test_a_node_that_lies_is_not_asked_to_be_replaced_unseen(node, how):
    """A receipt that does not hold is no outage: whoever asked is told."""
    done = {"choices": [{"message": {"content": "x"}, "delta": {"content": "x"}, "finish_reason": "stop"}], "trine": {}}

    def lying(handler):
        body = json.dumps(done)
        events(handler, f"data: {body}") if how is streamed else say(handler, 200, done)

    with odd(lying) as first, asking(node, first.url) as client:
        with pytest.raises(VerificationFailed, match="receipt"):
            how(client)
        assert node.store.owed(client.chain.address) == 0


def _delta(content, reason=None):
    choice = {"index": 0, "finish_reason": reason, "delta": {"content": content}}
    return "data: " + json.dumps({"choices": [choice]}) + "\n\n"


def _without_end(said):
    return said.replace("data: [DONE]\n\n", "")


STREAMS = {
    "goes on after the receipt": lambda said: _without_end(said) + _delta(" SEND MONEY") + "data: [DONE]\n\n",
    "ends twice": lambda said: _without_end(said) + _delta("", "stop") + "data: [DONE]\n\n",
    "begins with a lone surrogate": lambda said: _delta("\ud800") + said,
    "says another end": lambda said: re.sub(r'"finish_reason": "\w+"', '"finish_reason": "tool_calls"', said),
}
WHOLE = {
    **{f"content {content!r}": {"message": {"content": content}} for content in (None, ["x"], 7, "\ud800")},
    **{f"end {reason!r:.20}": {"finish_reason": reason} for reason in ("tool_calls", {"a": 1}, 7, None, "x" * 100_000)},
}


@contextmanager
def relayed(node, answer):
    """A client whose node answers what the real one does, changed by `answer(handler, what it said)`."""

    def relaying(handler):
        said = httpx2.post(node.url + handler.path, json=handler.server.orders[-1], timeout=60)
        answer(handler, said)

    with odd(relaying) as first, asking(node) as client:
        client._core.nodes = lambda *_: [(node.chain.address, first.url)]
        yield client


@pytest.mark.parametrize("how", STREAMS)
def test_attack_a_stream_shows_nothing_that_nobody_signed(node, how):
    with relayed(node, lambda handler, said: events(handler, STREAMS[how](said.text).strip())) as client:
        shown = []
        with pytest.raises(VerificationFailed):
            shown.extend(client.stream("Who is there?", max_tokens=3))
        assert "MONEY" not in "".join(shown)


@pytest.mark.parametrize("how", WHOLE)
def test_attack_a_whole_answer_that_is_no_text_or_ends_otherwise(node, how):
    def answer(handler, said):
        document = said.json()
        document["choices"][0] |= WHOLE[how]
        say(handler, 200, document)

    with relayed(node, answer) as client, pytest.raises(VerificationFailed):
        chatted(client)


def test_a_node_that_only_passes_on_what_another_says_is_believed(node):
    """So the tests above fail for what was changed."""
    with relayed(node, lambda handler, said: say(handler, 200, said.json())) as client:
        assert chatted(client).finish_reason in ("stop", "length")
    with relayed(node, lambda handler, said: events(handler, said.text.strip())) as client:
        assert streamed(client).text is not None


def test_attack_a_node_that_drips_for_ever_ends_when_the_client_said(node):
    with odd(dripping) as first, asking(node, first.url, timeout=0.6) as client:
        client._core._node = first.url
        begun = time.monotonic()
        with pytest.raises(NodeUnreachable, match="within"):
            streamed(client)
        assert time.monotonic() - begun < 20


def _dripping_after(beginning):
    def answer(handler):
        handler.wfile.write(beginning)
        with suppress(OSError):
            for _ in range(500):  # who waits for its end says that it was cut off
                if handler.server.over.wait(0.02):
                    return
                handler.wfile.write(b"x")
                handler.wfile.flush()

    return answer


DRIPS = {
    "the head": b"HTTP/1.1 200 OK\r\nx: ",
    "the length of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
    "the head of an error": b"HTTP/1.1 500 No\r\nx: ",
    "the body of an error": b"HTTP/1.1 500 No\r\ncontent-length: 9000\r\n\r\n",
}


@pytest.mark.parametrize("drip", DRIPS)
@pytest.mark.parametrize("how", ["chat", "stream"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_attack_whatever_drips_ends_when_the_client_said(node, kind, how, drip):
    async def ask(client):
        async with client:
            if how == "chat":
                await chatted(client)
            else:
                async for _ in client.stream("Who is there?", max_tokens=3):
                    pass

    def run(client):
        client._core._node = first.url
        if isinstance(client, AsyncClient):
            asyncio.run(ask(client))
        else:
            {"chat": chatted, "stream": streamed}[how](client)

    with (
        odd(_dripping_after(DRIPS[drip])) as first,
        asking(node, first.url, kind=kind, timeout=0.6) as client,
        pytest.raises(NodeUnreachable, match=r"did not end in time|did not end within|no token within"),
    ):
        run(client)


def _compressed(handler):
    body = gzip.compress(bytes(64 << 20))
    handler.send_response(200)
    handler.send_header("content-encoding", "gzip")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _endless(handler):
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while not handler.server.over.is_set():
            handler.wfile.write(b" " * (1 << 20))


def _endless_text(handler):
    events(handler)
    piece = (text("x" * (1 << 18)) + "\n\n").encode()
    with suppress(OSError):
        while not handler.server.over.is_set():
            handler.wfile.write(piece)


@pytest.mark.parametrize("how", [chatted, streamed])
@pytest.mark.parametrize("answer", [_compressed, _endless, _endless_text])
def test_attack_a_bomb_costs_a_client_bounded_memory(node, how, answer):
    with odd(answer) as first, asking(node, first.url) as client:
        client._core._node = first.url
        with pytest.raises(VerificationFailed, match=r"compressed|longer than|more than"):
            how(client)


@pytest.mark.parametrize("where", ["account", "refusal"])
def test_attack_a_bomb_where_little_is_expected(node, where, monkeypatch):
    if where == "account":
        monkeypatch.setattr(_Handler, "do_GET", lambda handler: _endless(handler))
        answer = refusing(500)
    else:

        def answer(handler):
            handler.send_response(500)
            handler.end_headers()
            with suppress(OSError):
                handler.wfile.write(b" " * (MAX_BODY_BYTES + (2 << 20)))

    with odd(answer) as first, asking(node, first.url) as client:
        client._core._node = first.url
        with pytest.raises(VerificationFailed, match="longer"):
            streamed(client)


# The ledger


@given(deadline=st.integers(1, 10**6), later=st.integers(-10, 10), worst=st.integers(1, 9))
def test_what_is_reserved_is_in_every_later_voucher_until_its_time_is_over(deadline, later, worst):
    ledger = Ledger()
    ledger.learn(100)
    taken = ledger.take(worst, deadline)
    ledger.reserve(taken.number)
    ledger.give_back(taken.number, 0)  # twice is once
    assert ledger.take(1, deadline + 10**7).cumulative_wei == 100 + worst + 1
    ledger.acknowledge(50, deadline + 1)
    assert ledger.acknowledged == (0, 0)  # the order could still be opened: it would be paid twice
    ledger.expire(deadline + RESERVED_SECONDS + later)
    assert (ledger.reserved_wei == 0) is (later > 0)
    assert ledger.is_known is (later <= 0)  # the node can prove what it is owed, and is asked
