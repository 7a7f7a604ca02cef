"""Named orders in a file: a client that is killed, and the next one, which asks again and does not pay twice. A real
node, and clients that are processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from eth_account import Account
from test_client_parallel import client_of
from test_failover import events, odd, say
from test_node_support import SlowEngine, serving, wait_for

from trine._core import Core
from trine._kept_orders import KeptOrders
from trine._repeats import Repeats
from trine.errors import InvalidInput, NodeUnreachable
from trine.protocol.messages import Domain
from trine_node.orders import MAX_LIFETIME_SECONDS

HERE = Path(__file__).parent
QUESTION = "Who is there?"
CHILD = """
import json, sys
from types import SimpleNamespace
from eth_account import Account
from test_client_parallel import client_of
from test_node_support import RecordingChain

given = json.loads(sys.argv[1])
chain = RecordingChain(signer=Account.from_key(given["node_key"]), seconds=given["seconds"])
node = SimpleNamespace(chain=chain, url=given["url"])
with client_of(node, account=Account.from_key(given["key"]), state=given["state"]) as client:
    client.chat(given["question"], max_tokens=given["max_tokens"], **given["options"])
"""


@contextmanager
def process(node, account, url, state, *, max_tokens, **options):
    """A client that asks, in a process of its own."""
    given = {
        "node_key": "0x" + node.chain.signer.key.hex().removeprefix("0x"),
        "key": "0x" + account.key.hex().removeprefix("0x"),
        "seconds": node.chain.now(),
        "url": url,
        "state": str(state),
        "question": QUESTION,
        "max_tokens": max_tokens,
        "options": options,
    }
    command = [sys.executable, "-c", CHILD, json.dumps(given)]
    with subprocess.Popen(command, cwd=HERE, env={**os.environ, "PYTHONPATH": "."}) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def asking(node, account, state, url=None, **options):
    """A client in this process."""
    with client_of(node, account=account, state=state, **options) as client:
        if url is not None:
            client._core.nodes = lambda *_: [(node.chain.address, url)]
        yield client


@pytest.fixture
def node(tmp_path):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False) as served:
        yield served


@pytest.fixture
def account():
    return Account.create()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}])
def test_a_client_that_is_killed_when_its_node_has_answered_pays_once(node, account, tmp_path, options):
    """Nobody has heard the answer, and who asks again, even long after, has it and owes nothing more."""
    state = tmp_path / "orders.sqlite"

    holds = threading.Event()
    holds.set()

    def holds_back(handler):
        answer = httpx2.post(node.url + handler.path, json=handler.server.orders[-1], timeout=60)
        if holds.is_set():
            handler.server.over.wait(60)
        else:
            say(handler, answer.status_code, answer.json())

    named = {"max_tokens": 3, "idempotency_key": "order 7", **options}
    with odd(holds_back) as relay:
        with process(node, account, relay.url, state, **named) as child:
            wait_for(lambda: node.store.owed(account.address), 120)
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        holds.clear()
        owed = node.store.owed(account.address)
        node.chain.seconds += 2 * MAX_LIFETIME_SECONDS  # the order's deadline is over
        with asking(node, account, state, relay.url) as client:
            answer = client.chat(QUESTION, **named)
            assert answer.receipt.fee_wei == owed == node.store.owed(account.address)
            assert answer.receipt == node.store.answer_to(answer.receipt.request_hash).receipt
            other = client.chat(QUESTION, max_tokens=3, idempotency_key="order 8", **options)
            assert other.digest != answer.digest
            assert node.store.owed(account.address) == owed + other.receipt.fee_wei
    with asking(node, account, state) as client:  # the answer is kept, too: no node is asked
        client._core.nodes = lambda *_: []
        again = client.chat(QUESTION, **named)
        assert (again.digest, again.text, again.sampling) == (answer.digest, answer.text, answer.sampling)
        with pytest.raises(InvalidInput, match="another question"):
            client.chat("Another?", **named)
    with client_of(node, account=account) as client:  # without the file it is another order
        assert client.chat(QUESTION, **named).digest != answer.digest


@pytest.mark.slow
def test_a_client_that_is_killed_while_its_node_answers_pays_once(account, tmp_path):
    slow, state = SlowEngine(0.2), tmp_path / "orders.sqlite"
    named = {"max_tokens": 12, "idempotency_key": "order 7"}
    with serving(f"sqlite:///{tmp_path}/node.sqlite", engine_=slow, allow_unsigned=False) as node:
        with process(node, account, node.url, state, **named) as child:
            wait_for(lambda: slow.produced, 120)
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        with asking(node, account, state) as client:
            answer = client.chat(QUESTION, **named)
        assert len(node.store.unbatched(10)) == 1
        assert node.store.owed(account.address) == answer.receipt.fee_wei


@pytest.mark.parametrize("how", ["chat", "stream"])
def test_a_client_after_another_one_sends_the_same_order(node, account, tmp_path, how):
    """As after a crash, in one process."""
    lose = [True]

    def relaying(handler):
        order = handler.server.orders[-1]
        answer = httpx2.post(node.url + handler.path, json=order, timeout=60)
        if lose[0]:
            return
        if order.get("stream"):
            events(handler, answer.text.strip())
        else:
            say(handler, answer.status_code, answer.json())

    def asked(client):
        if how == "chat":
            return client.chat(QUESTION, max_tokens=3, idempotency_key="lost")
        stream = client.stream(QUESTION, max_tokens=3, idempotency_key="lost")
        assert "".join(stream) == stream.answer.text
        return stream.answer

    state = tmp_path / "orders.sqlite"
    with odd(relaying) as relay:
        with asking(node, account, state, relay.url) as client, pytest.raises(NodeUnreachable):
            asked(client)
        lose[0] = False
        with asking(node, account, state, relay.url) as client:
            answer = asked(client)
            assert client.chat("And you?", max_tokens=3).text  # its voucher covers what was owed before
        orders = [order["trine"]["signature"] for order in relay.orders]
        assert len(set(orders[:-1])) == 1
        with asking(node, account, state, relay.url) as client:
            assert asked(client).digest == answer.digest
        assert len(relay.orders) == len(orders)


@pytest.mark.parametrize("how", ["chat", "stream"])
@pytest.mark.parametrize("shared", ["client", "file"])
def test_of_those_who_ask_under_one_name_at_the_same_moment_one_orders(account, tmp_path, monkeypatch, how, shared):
    """Threads of a client, and clients of a file: all have looked before any of them has sent."""
    barrier, looked = threading.Barrier(3), Repeats.earlier

    def look(repeats, wanted):
        found = looked(repeats, wanted)
        barrier.wait(60)
        return found

    def asked(client):
        if how == "chat":
            return client.chat(QUESTION, max_tokens=6, idempotency_key="order 7")
        stream = client.stream(QUESTION, max_tokens=6, idempotency_key="order 7")
        assert "".join(stream) == stream.answer.text
        return stream.answer

    monkeypatch.setattr(Repeats, "earlier", look)
    state = tmp_path / "orders.sqlite"
    with ExitStack() as opened:
        node = opened.enter_context(
            serving(f"sqlite:///{tmp_path}/node.sqlite", engine_=SlowEngine(0.1), allow_unsigned=False)
        )
        if shared == "client":
            clients = [opened.enter_context(client_of(node, account=account))] * 3
        else:
            clients = [opened.enter_context(asking(node, account, state)) for _ in range(3)]
        answers = list(opened.enter_context(ThreadPoolExecutor(3)).map(asked, clients))
        assert len({answer.digest for answer in answers}) == 1
        assert len({answer.text for answer in answers}) == 1
        assert len(node.store.unbatched(10)) == 1
        assert node.store.owed(account.address) == answers[0].receipt.fee_wei
        barrier.abort()
        if shared == "client":
            assert clients[0].spent_wei == answers[0].receipt.fee_wei
        monkeypatch.undo()
        assert clients[-1].chat("And you?", max_tokens=3).text


def test_an_order_that_was_never_begun_is_made_anew_once_its_deadline_is_over(node, account, tmp_path):
    state, heard = tmp_path / "orders.sqlite", threading.Event()

    def hears_later(handler):
        if heard.is_set():
            answer = httpx2.post(node.url + handler.path, json=handler.server.orders[-1], timeout=60)
            say(handler, answer.status_code, answer.json())

    with odd(hears_later) as relay:
        with asking(node, account, state, relay.url) as client, pytest.raises(NodeUnreachable):
            client.chat(QUESTION, max_tokens=3, idempotency_key="n")
        heard.set()
        node.chain.seconds += 2 * MAX_LIFETIME_SECONDS
        with asking(node, account, state, relay.url) as client:
            assert client.chat(QUESTION, max_tokens=3, idempotency_key="n").text
    assert len(node.store.unbatched(10)) == 1


def test_a_node_that_has_moved_meanwhile_is_asked_where_it_is(node, account, tmp_path):
    state = tmp_path / "orders.sqlite"

    def loses(handler):
        httpx2.post(node.url + handler.path, json=handler.server.orders[-1], timeout=60)

    asked = {"max_tokens": 3, "idempotency_key": "n"}
    with (
        odd(loses) as relay,
        asking(node, account, state, relay.url) as client,
        pytest.raises(NodeUnreachable),
    ):
        client.chat(QUESTION, **asked)
    with asking(node, account, state) as client:
        answer = client.chat(QUESTION, **asked)
    assert node.store.owed(account.address) == answer.receipt.fee_wei
    assert len(node.store.unbatched(10)) == 1


def test_calls_and_grammars_are_kept_with_their_answers(node, account, tmp_path):
    state = tmp_path / "orders.sqlite"
    asked = {"max_tokens": 40, "idempotency_key": "n", "guided_choice": ["red", "green"]}
    with asking(node, account, state) as client:
        first = client.chat(QUESTION, **asked)
    with asking(node, account, state) as client:
        again = client.chat(QUESTION, **asked)
        client._core.nodes = lambda *_: []
        assert client.batch_of(again) is None
    assert (again.digest, again.text, again.grammar, again.salt, again.receipt_signature) == (
        first.digest, first.text, first.grammar, first.salt, first.receipt_signature,
    )  # fmt: skip


def test_accounts_and_deployments_have_names_of_their_own_and_the_file_is_its_owners(node, account, tmp_path):
    state = tmp_path / "orders.sqlite"
    asked = {"max_tokens": 3, "idempotency_key": "n"}
    with asking(node, account, state) as client, asking(node, Account.create(), state) as other:
        assert client.chat(QUESTION, **asked).digest != other.chat("Another?", **asked).digest
    elsewhere = KeptOrders(state, account.address, Domain(1, node.chain.domain.verifying_contract))
    assert elsewhere.find("n") is None
    assert KeptOrders(state, account.address, node.chain.domain).find("n") is not None
    assert state.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_keep_an_order_keeps_it_from_being_sent(node, account, tmp_path):
    state = tmp_path / "orders.sqlite"
    asked = {"max_tokens": 3, "idempotency_key": "n"}
    with asking(node, account, state) as client:
        with sqlite3.connect(state) as file:
            file.execute("DROP TABLE named_orders")
        with pytest.raises(InvalidInput, match=r"state: .*orders\.sqlite cannot be used"):
            client.chat(QUESTION, **asked)
        assert client.spent_wei == 0
    assert node.store.unbatched(10) == []
    for made, words in (
        (lambda: asking(node, account, tmp_path).__enter__(), "cannot keep orders in .*Is a directory"),
        (lambda: asking(node, account, tmp_path / "none" / "x").__enter__(), "No such file"),
    ):
        with pytest.raises(InvalidInput, match=words):
            made()
    state.write_text("no database at all, but a text that is long enough to be told from one" * 20)
    with pytest.raises(InvalidInput, match="cannot be used: file is not a database"):
        asking(node, account, state).__enter__()


def test_what_another_version_has_kept_is_not_paid_for_twice(node, account, tmp_path):
    state = tmp_path / "orders.sqlite"
    asked = {"max_tokens": 3, "idempotency_key": "n"}
    with asking(node, account, state) as client:
        client.chat(QUESTION, **asked)
    for kept in ("{", "[]", '{"place": ["a"]}', '{"answer": {}}', '{"answer": 1}', "null"):
        with sqlite3.connect(state) as file:
            file.execute("UPDATE named_orders SET kept = ?", (kept,))
        with asking(node, account, state) as client, pytest.raises(InvalidInput, match="may have been paid for"):
            client.chat(QUESTION, **asked)
    assert len(node.store.unbatched(10)) == 1


def test_only_so_many_orders_are_kept(node, account, tmp_path, monkeypatch):
    monkeypatch.setattr("trine._kept_orders.MOST", 3)
    state = tmp_path / "orders.sqlite"
    with asking(node, account, state) as client:
        for number in range(5):
            client.chat(QUESTION, max_tokens=1, idempotency_key=str(number))
    kept = KeptOrders(state, account.address, node.chain.domain)
    assert [kept.find(str(number)) is not None for number in range(5)] == [False, False, True, True, True]


def test_a_file_needs_an_account():
    chain = SimpleNamespace(has_account=False)
    with pytest.raises(InvalidInput, match="pass `account=`, too"):
        Core(chain, None, 0, state="orders.sqlite")
