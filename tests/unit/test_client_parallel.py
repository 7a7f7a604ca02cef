"""Many orders of one client at once: none is refused for another's voucher, none waits for another, none is lost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
from eth_account import Account as EthAccount
from hypothesis import given
from hypothesis import strategies as st
from test_node_support import NAME, PRICE_WEI, RECORD, SlowEngine, serving

from trine import AsyncClient, Client
from trine._core import Core, Stream
from trine._http import Http
from trine._ledger import Ledger
from trine._ordering import as_input
from trine._sse import MAX_EVENT_BYTES, EventDecoder
from trine.chain import ModelEntry
from trine.errors import NodeRefused, NotReady, PaymentRequired, VerificationFailed
from trine.protocol.messages import Domain

ORDERS = 24


@given(data=st.data())
def test_a_voucher_covers_all_that_a_node_may_ask_for(data):
    """The node asks for what is owed, the worst price of what it is answering, and of what it is asked; the highest
    voucher that it has seen counts. Orders reach it in any order."""
    ledger, owed, on_their_way, answering, highest = Ledger(), 0, {}, {}, 0
    for _ in range(data.draw(st.integers(1, 25))):
        what = data.draw(st.sampled_from(["order", "arrive", "answer"]))
        if what == "order":
            if not ledger.is_known:
                ledger.learn(owed)
            worst = data.draw(st.integers(1, 9))
            taken = ledger.take(worst)
            on_their_way[taken.number] = worst, taken.cumulative_wei
        elif what == "arrive" and on_their_way:
            number = data.draw(st.sampled_from(sorted(on_their_way)))
            worst, voucher = on_their_way.pop(number)
            highest = max(highest, voucher)
            assert highest >= owed + sum(answering.values()) + worst
            answering[number] = worst
        elif what == "answer" and answering:
            number = data.draw(st.sampled_from(sorted(answering)))
            fee = data.draw(st.integers(0, answering.pop(number)))
            owed += fee
            ledger.give_back(number, data.draw(st.sampled_from([fee, fee, None])))


def test_what_an_order_did_not_cost_is_given_back_once():
    ledger = Ledger()
    ledger.learn(100)
    taken = ledger.take(50)
    assert taken.cumulative_wei == 150
    ledger.give_back(taken.number, 10)
    ledger.give_back(taken.number, 10)
    assert ledger.take(1).cumulative_wei == 111


class FakeChain:
    """As much of a chain as a client reads, over the node's recording one."""

    def __init__(self, node, account):
        self._node, self._account = node, account
        self.calls = 0
        self.has_account = True
        self.domain, self.payments_domain = node.chain.domain, node.chain.payments_domain
        self.address = account.address

    def sign(self, digest):
        return bytes(self._account.unsafe_sign_hash(digest).signature)

    def now(self):
        return self._node.chain.now()

    def models(self):
        self.calls += 1
        return [ModelEntry(RECORD.model_id, NAME, PRICE_WEI, 1)]

    def parameters(self):
        self.calls += 1
        return self._node.chain.parameters()

    def reading_ahead(self, _questions):
        return nullcontext()

    def result(self, batch_id):
        self.calls += 1
        return self._node.chain.result(batch_id)

    def account(self, payer, payee):
        self.calls += 1
        return self._node.chain.account(payer, payee)


@contextmanager
def client_of(node, kind=Client, account=None, timeout=60.0, **options):
    """A client without a real chain: the node's address and endpoint are given."""
    chain = FakeChain(node, account or EthAccount.create())
    core = Core(chain, None, 0, **options)
    core.nodes = lambda *_: [(node.chain.address, node.url)]
    waiting = object.__new__(AsyncClient)
    waiting._set(chain, core, Http(60.0), timeout)
    made = waiting
    if kind is Client:
        made = object.__new__(Client)
        made._wait_for(waiting)
    try:
        yield made
    finally:
        if kind is Client:
            made.close()


@pytest.fixture
def node(tmp_path):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, max_running=4, max_waiting=1000) as served:
        yield served


def test_threads_share_a_client(node):
    with client_of(node) as client, ThreadPoolExecutor(ORDERS) as pool:
        answers = list(pool.map(lambda n: client.chat(f"Question {n}?", max_tokens=3), range(ORDERS)))
    assert len({answer.digest for answer in answers}) == ORDERS
    assert node.store.owed(client.chain.address) == sum(answer.receipt.fee_wei for answer in answers)
    assert client._core.ledger(node.chain.address)._taken == {}


def test_tasks_share_a_client(node):
    async def run():
        with client_of(node, AsyncClient) as client:
            async with client:
                asked = [client.chat(f"Question {n}?", max_tokens=3) for n in range(ORDERS)]
                return client, await asyncio.gather(*asked)

    client, answers = asyncio.run(run())
    assert node.store.owed(client.chain.address) == sum(answer.receipt.fee_wei for answer in answers)


def test_clients_of_one_account_do_not_refuse_each_other(node):
    account = EthAccount.create()

    def ask(number):
        with client_of(node, account=account) as client:
            return [client.chat(f"Question {number}, {again}?", max_tokens=3) for again in range(3)]

    with ThreadPoolExecutor(6) as pool:
        answers = [answer for some in pool.map(ask, range(6)) for answer in some]
    assert len({answer.digest for answer in answers}) == 18


def test_a_question_in_the_middle_of_a_stream_is_answered(node):
    """`chat` inside `for … in stream()` once waited for ever."""
    with client_of(node) as client:
        texts, answers = [], []
        stream = client.stream("Tell me more.", max_tokens=6)
        for text in stream:
            texts.append(text)
            if len(answers) < 2:
                answers.append(client.chat("And?", max_tokens=2))
    assert "".join(texts) == stream.answer.text
    assert len(answers) == 2


def test_a_stream_that_is_left_owes_nothing_that_the_client_knows_of(node):
    with client_of(node) as client:
        for _ in client.stream("Tell me more.", max_tokens=50):
            break
        ledger = client._core.ledger(node.chain.address)
        assert ledger._taken == {}
        assert not ledger.is_known  # the node is asked
        assert client.chat("And now?", max_tokens=2).text


def test_a_client_whose_clock_is_off_asks_the_chain_and_goes_on(node):
    """A development chain jumps by hours; clients reckon between blocks."""
    late = [True]

    def forget():
        late[0] = False

    with client_of(node) as client:
        client.chain.now = lambda: node.chain.now() - (900 + 60 if late[0] else 0)
        client.chain.forget_time = forget
        assert client.chat("Known?", max_tokens=2).text
        late[0] = True
        assert client.chat("Expired?", max_tokens=2).text
        late[0] = True
        assert "".join(client.stream("And streamed?", max_tokens=2))
        assert not late[0]


def test_later_orders_ask_the_chain_nothing(node):
    with client_of(node) as client:
        client.chat("First?", max_tokens=2)
        asked = client.chain.calls
        for _ in range(5):
            client.chat("Later?", max_tokens=2)
        assert client.chain.calls == asked


def test_a_busy_node_is_asked_again_when_it_says(tmp_path):
    limits = {"max_running": 1, "max_waiting": 1}
    slow = SlowEngine(0.02)
    url = f"sqlite:///{tmp_path}/node.sqlite"
    with (
        serving(url, allow_unsigned=False, engine_=slow, **limits) as node,
        client_of(node) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda n: client.chat(f"Question {n}?", max_tokens=3), range(8)))
    assert len({answer.digest for answer in answers}) == 8


def test_who_cannot_pay_is_told_so_soon(node):
    node.chain.balance = 5
    with client_of(node) as client, pytest.raises(PaymentRequired, match="deposit more"):
        client.chat("For nothing?", max_tokens=2)


def test_an_open_endpoint_of_the_chain_keeps_no_other_client_waiting(node):
    """A node asks the chain what covers an order; while it waits for that, others are served."""
    stuck, going_on = threading.Event(), threading.Event()
    real = node.chain.account

    def account(payer, payee):
        if payer == slow.address:
            stuck.set()
            going_on.wait(20)
        return real(payer, payee)

    slow = EthAccount.create()
    node.chain.account = account
    with client_of(node, account=slow) as first, client_of(node) as second, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.chat, "Slow?", max_tokens=2)
        assert stuck.wait(20)
        assert second.chat("Quick?", max_tokens=2).text
        assert not waiting.done()
        going_on.set()
        assert waiting.result().text


texts = st.lists(st.text(max_size=12), min_size=1, max_size=6)


@given(messages=texts, ends=st.sampled_from(["\n", "\r", "\r\n"]), cuts=st.lists(st.integers(1, 7), max_size=60))
def test_events_are_what_was_sent_wherever_the_connection_cuts_them(messages, ends, cuts):
    sent = "\ufeff"
    for message in messages:
        document = json.dumps(message, ensure_ascii=False)
        sent += f": comment{ends}event: x{ends}data: {document}{ends}id: 7{ends}retry:{ends}{ends}"
    raw, decoder, got = sent.encode(), EventDecoder(), []
    for cut in [*cuts, len(raw)]:
        got += decoder.feed(raw[:cut])
        raw = raw[cut:]
    got += decoder.feed(raw) + decoder.end()
    assert [json.loads(event) for event in got] == messages


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_line_ends_end_lines(separator):
    document = json.dumps({"text": f"a{separator}b"}, ensure_ascii=False)
    assert EventDecoder().feed(f"data: {document}\n\n".encode()) == [document]


def test_data_of_several_lines_is_one_event_and_an_unfinished_one_is_none():
    decoder = EventDecoder()
    assert decoder.feed(b"data:a\ndata\ndata:  b\n\ndata: c\n") == ["a\n\n b"]
    assert decoder.end() == []


def test_an_event_has_a_bound():
    decoder, line = EventDecoder(), b"data: " + b"x" * 65536 + b"\n"
    decoder.feed(line * 100)
    with pytest.raises(VerificationFailed, match="more than"):
        decoder.feed(line * (MAX_EVENT_BYTES // 65536))
    with pytest.raises(VerificationFailed, match="more than"):
        EventDecoder().feed(b"data: " + b"x" * MAX_EVENT_BYTES)


@pytest.mark.parametrize(
    "event", ["{", "[]", "7", '"x"', "[" * 100_000, '{"choices": 7}', '{"choices": [7]}', '{"choices": [{"delta": 1}]}']
)
def test_an_event_that_is_none_fails_the_stream(event):
    class Chain:
        domain = Domain(1, "0x" + "11" * 20)

    class Holder:
        chain = Chain

    class draft:  # noqa: N801
        input = as_input("Hi")

    with pytest.raises(VerificationFailed):
        Stream(Holder, draft, "", "").feed(f"data: {event}\n\n".encode())


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_a_node_sends_no_text_that_other_clients_take_for_an_end_of_line(separator):
    from trine_operator.service.completions import NOT_LINE_ENDS

    sent = json.dumps({"text": f"a{separator}b"}, ensure_ascii=False).translate(NOT_LINE_ENDS)
    assert len(sent.splitlines()) == 1
    assert json.loads(sent) == {"text": f"a{separator}b"}


def test_a_stream_that_waits_says_that_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("trine_operator.service.completions.KEEP_ALIVE_SECONDS", 0.02)
    with serving(f"sqlite:///{tmp_path}/node.sqlite", engine_=SlowEngine(0.2)) as node:
        body = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True}
        lines = node.http.post("/v1/chat/completions", json=body).text.split("\n")
    assert any(line.startswith(":") for line in lines)
    assert "data: [DONE]" in lines


def test_a_node_that_does_not_serve_is_answered_with_those_that_do(node):
    with client_of(node) as client:
        client._core._node = "http://127.0.0.1:9"
        with pytest.raises(NotReady, match=rf"no calibrated node at http://127.0.0.1:9 .* these do: {node.url}"):
            client.chat("Hello?")


def test_a_refusal_says_how_long_to_wait(node):
    with client_of(node) as client:
        core = client._core
    refused = NodeRefused("busy", status=429, retry_after=2.0)
    assert 2.0 <= core.pause_after(refused, "n", 0, time.monotonic() + 60) <= 3.0
    assert core.pause_after(refused, "n", 0, time.monotonic() + 1) is None  # in vain
    at_once = NodeRefused("busy", status=429, retry_after=0.0)
    assert core.pause_after(at_once, "n", 0, time.monotonic() + 60) >= 0.25
    assert core.pause_after(NodeRefused("busy", status=503), "n", 9_999, time.monotonic() + 60) <= 12
    assert core.pause_after(NodeRefused("no", status=400), "n", 0, time.monotonic() + 60) is None
