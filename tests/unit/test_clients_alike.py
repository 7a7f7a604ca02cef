"""`Client` waits for `AsyncClient`: the same names, kept connections, and nothing goes on when nobody waits for it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from eth_account import Account as EthAccount
from test_client_parallel import FakeChain, client_of
from test_failover import asking, odd, silent
from test_node_support import serving

from trine import AsyncClient, Client
from trine._core import Core
from trine._http import Http
from trine._loop import LoopThread
from trine._options import Options, wanted
from trine.errors import InvalidInput, NodeError, PaymentRequired

ONLY_ASYNC = {"in_threads"}
"""What is about an event loop."""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_running=4, max_waiting=1000) as served:
        yield served


def surface(kind):
    methods = {name: value for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")}
    return {name: inspect.signature(method).parameters for name, method in methods.items()}


def test_both_clients_have_the_same_names_with_the_same_parameters():
    waiting, awaited = surface(Client), surface(AsyncClient)
    assert set(awaited) - ONLY_ASYNC == set(waiting)
    for name, parameters in waiting.items():
        assert parameters == awaited[name], name


def test_both_clients_are_made_with_the_same_options():
    from trine import ClientOptions

    made = set(inspect.signature(AsyncClient.__init__).parameters) - {"self"}
    assert made == set(ClientOptions.__annotations__)
    with pytest.raises(TypeError, match="rpc_url"):
        Client(deployment="d.json")
    with pytest.raises(TypeError, match="rpcurl"):
        Client(rpcurl="", rpc_url="", deployment="d.json")


def test_every_option_of_an_order_is_read_and_others_are_refused():
    from trine._ordering import Drawing

    read = set(inspect.signature(wanted).parameters) - {"messages", "drawing"}
    assert read | set(Drawing.__annotations__) == set(Options.__annotations__) | set(Drawing.__annotations__)
    with pytest.raises(TypeError, match="temprature"):
        wanted("Hi", temprature=1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"messages": 5},
        {"messages": []},
        *({name: value} for name in ("max_tokens", "max_cost_wei") for value in ("3", 1.5, True, -1, float("nan"))),
        *(
            {name: value}
            for name in ("timeout", "hedge_after")
            for value in ("3", True, -1, float("nan"), float("inf"))
        ),
        {"max_tokens": None},
        {"idempotency_key": 5},
        {"idempotency_key": ""},
        {"idempotency_key": "x" * 256},
    ],
    ids=str,
)
def test_a_wrong_option_is_named_before_anything_is_signed(options):
    with pytest.raises(InvalidInput):
        wanted(**{"messages": "Hi", "max_cost_wei": 10**18, **options})


def test_one_address_is_no_list_of_letters():
    assert wanted("Hi", without="0x" + "1" * 40).without == {"0x" + "1" * 40}


def test_who_has_no_deposit_is_told_what_makes_one(node, monkeypatch):
    monkeypatch.setattr(node.chain, "balance", 5)
    with client_of(node) as client, pytest.raises(PaymentRequired, match="deposit more; `deposit_wei=`"):
        client.chat("For nothing?", max_tokens=2)


def test_a_client_keeps_its_connections(node):
    with client_of(node) as client:
        opened = client._async._http._client._transport._pool.connections
        for number in range(4):
            client.chat(f"Question {number}?", max_tokens=2)
            "".join(client.stream(f"And {number}?", max_tokens=2))
        assert len(opened) <= 2


def test_a_plain_text_goes_on_without_a_template(node):
    with client_of(node) as client:
        answer = client.complete("Once upon a time", max_tokens=3)
        assert answer.text
        assert answer.receipt.prompt_tokens < client.chat("Once upon a time", max_tokens=3).receipt.prompt_tokens


def test_who_is_interrupted_ends_what_it_waits_for(node):
    with odd(silent) as first, asking(node, first.url) as client:
        client._core._node = first.url
        with pytest.raises(KeyboardInterrupt):
            _interrupt_once(client, lambda: client.chat("Who?", max_tokens=2))
        ledger = client._core.ledger("0x" + f"{1:040x}")
        _eventually(lambda: not ledger._taken)


def _interrupt_once(client, ask):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background ignores it
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    timer.start()
    try:
        ask()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def _eventually(holds):
    for _ in range(400):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("not within 20 s")


def test_closing_a_client_ends_what_other_threads_wait_for(node):
    with odd(silent) as first, asking(node, first.url) as client, ThreadPoolExecutor(1) as pool:
        client._core._node = first.url
        waiting = pool.submit(client.chat, "Who?", max_tokens=2)
        _eventually(lambda: first.orders)
        client.close()
        with pytest.raises(NodeError, match="was closed"):
            waiting.result(timeout=20)
        with pytest.raises(InvalidInput, match="closed: make another"):
            client.chat("And now?", max_tokens=2)
        client.close()


def test_a_client_that_is_forgotten_leaves_no_thread(node):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name.startswith("trine-client")}

    before = threads()
    with client_of(node) as client:
        client.chat("Who?", max_tokens=2)
        assert threads() - before
    other = forgotten(node)
    loop = LoopThread()
    loop.run(_nothing())
    loop.close()
    del client
    gc.collect()
    _eventually(lambda: not threads() - before)
    assert other == []  # nor a connection: a warning of one that was left open fails the tests


def forgotten(node):
    """The connections of a client that nobody has closed, once it is gone."""
    chain = FakeChain(node, EthAccount.create())
    waiting = object.__new__(AsyncClient)
    waiting._set(chain, Core(chain, None, 0), Http(60.0), 60.0)
    waiting._core.nodes = lambda *_: [(node.chain.address, node.url)]
    client = object.__new__(Client)
    client._wait_for(waiting)
    client.chat("Who?", max_tokens=2)
    pool = waiting._http._client._transport._pool
    assert pool.connections
    del client
    gc.collect()
    return pool.connections


async def _nothing():
    pass


def test_a_stream_is_ended_by_who_has_opened_it(node):
    with client_of(node) as client, client.stream("Tell me more.", max_tokens=50) as stream:
        assert next(iter(stream))
    assert client._core.ledger(node.chain.address)._taken == {}
    stream.close()


def test_a_stream_is_not_ordered_twice_by_who_reads_it_twice(node):
    with client_of(node) as client:
        stream = client.stream("Who?", max_tokens=2)
        assert "".join(stream) == stream.answer.text
        owed = node.store.owed(client.chain.address)
        with pytest.raises(InvalidInput, match="read once"):
            list(stream)
        assert node.store.owed(client.chain.address) == owed

    async def twice():
        with client_of(node, AsyncClient) as client:
            async with client, client.stream("Who?", max_tokens=2) as stream:
                assert "".join([text async for text in stream])
                with pytest.raises(InvalidInput, match="read once"):
                    [text async for text in stream]

    asyncio.run(twice())


def test_a_stream_is_left_in_the_middle_or_read_after_its_client_was_closed(node):
    with client_of(node) as client:
        pieces = iter(client.stream("Tell me more.", max_tokens=50))
        assert next(pieces)
        client.close()
        with pytest.raises((NodeError, InvalidInput), match="closed"):
            list(pieces)
