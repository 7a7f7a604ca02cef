"""The faulty RPC endpoint, before a real chain: what each fault does to those who ask, and that it passes."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from chain_support import devnet, funded
from eth_account import Account
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from trine_devnet.faults.endpoint_faults import (
    DEEP,
    FAULTS,
    GARBAGE,
    Cutting,
    Dripping,
    Lagging,
    NarrowLogs,
    OtherChain,
    Refusing,
    Saying,
    Sending,
    Silent,
    WithoutLogs,
)
from trine_devnet.faults.proxy import RpcProxy
from trine_devnet.network import TOKEN

NOBODY = "0x" + "12" * 20
EVERYTHING = {"fromBlock": "0x0", "toBlock": "latest"}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        yield network


@pytest.fixture
def proxy(net):
    with RpcProxy(net.rpc_url) as standing:
        yield standing


def post(proxy, method, *params, timeout=20.0):
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    return httpx2.post(proxy.url, json=body, timeout=timeout, trust_env=False)


def ask(proxy, method, *params, timeout=20.0):
    return post(proxy, method, *params, timeout=timeout).raise_for_status().json()


def result(proxy, method, *params):
    return ask(proxy, method, *params)["result"]


def raw_transfer(net, wei=1):
    """A signed transaction that nobody has sent yet, and its hash."""
    account = Account.create()
    net.rpc.call("anvil_setBalance", account.address, hex(10**20))
    filled = {"to": NOBODY, "value": wei, "gas": 21_000, "gasPrice": 10**10, "nonce": 0, "chainId": 31337}
    signed = account.sign_transaction(filled)
    return "0x" + bytes(signed.raw_transaction).hex(), "0x" + bytes(signed.hash).hex()


def test_without_a_fault_everything_passes(net, proxy):
    assert result(proxy, "eth_chainId") == net.rpc.call("eth_chainId")
    assert result(proxy, "eth_getLogs", EVERYTHING) == net.rpc.call("eth_getLogs", EVERYTHING)
    assert "error" in ask(proxy, "eth_nothing")
    batch = [{"jsonrpc": "2.0", "id": number, "method": "eth_chainId", "params": []} for number in (3, 4)]
    assert [one["id"] for one in httpx2.post(proxy.url, json=batch, trust_env=False).json()] == [3, 4]


def test_a_whole_client_works_through_it(net, proxy):
    from trine.chain import Chain, Deployment

    account = funded(net, TOKEN)
    before = net.admin.token_balance(NOBODY)
    chain = Chain.connect(Deployment.load(net.deployment_file), proxy.url, account)
    chain.transfer(NOBODY, 5)
    assert net.admin.token_balance(NOBODY) == before + 5
    assert len(proxy.sent) == 1


def test_a_silent_endpoint_answers_nobody_until_it_is_well(proxy):
    proxy.inject(Silent())
    with pytest.raises(httpx2.TimeoutException):
        post(proxy, "eth_chainId", timeout=0.3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, proxy, "eth_chainId")
        while proxy.met < 2:
            time.sleep(0.01)
        proxy.lift()
        with pytest.raises(httpx2.TransportError):
            waiting.result(20)
    assert result(proxy, "eth_chainId") == "0x7a69"


@pytest.mark.parametrize("fault", [Refusing(429), Refusing(429, retry_after=3), Refusing(500), Refusing(503, 1)])
def test_a_refusal_has_its_status(proxy, fault):
    proxy.inject(fault)
    answer = post(proxy, "eth_chainId")
    assert answer.status_code == fault.status
    assert answer.headers.get("retry-after") == (None if fault.retry_after is None else str(fault.retry_after))


@pytest.mark.parametrize("fault", [Cutting(), Cutting(10)])
def test_connections_are_cut(proxy, fault):
    proxy.inject(fault)
    with pytest.raises(httpx2.TransportError):
        post(proxy, "eth_chainId")


@pytest.mark.parametrize("fault", [GARBAGE, DEEP])
def test_nonsense_is_no_json(proxy, fault):
    proxy.inject(fault)
    with pytest.raises((ValueError, RecursionError)):
        post(proxy, "eth_chainId").json()


def test_an_answer_is_as_long_as_it_is_told_to_be(proxy):
    proxy.inject(Saying(b"00" * 1024, 700, b'{"jsonrpc":"2.0","id":1,"result":"0x', b'"}'))
    assert len(result(proxy, "eth_chainId")) == 2 + 2048 * 700


def test_a_dripping_endpoint_says_the_same_slowly(proxy):
    proxy.inject(Dripping(200))
    began = time.monotonic()
    assert result(proxy, "eth_chainId") == "0x7a69"
    assert time.monotonic() - began > 0.1  # 40 bytes and more: no slow machine makes it shorter


def test_another_chain_is_named_and_the_rest_passes(net, proxy):
    proxy.inject(OtherChain(5))
    assert (result(proxy, "eth_chainId"), result(proxy, "net_version")) == ("0x5", "5")
    assert result(proxy, "eth_getLogs", EVERYTHING) == net.rpc.call("eth_getLogs", EVERYTHING)


def test_events_are_left_out(net, proxy):
    assert net.rpc.call("eth_getLogs", EVERYTHING)
    proxy.inject(WithoutLogs())
    assert result(proxy, "eth_getLogs", EVERYTHING) == []


def test_wide_ranges_are_refused(net, proxy):
    proxy.inject(NarrowLogs(2))
    assert "at most 2 blocks" in ask(proxy, "eth_getLogs", EVERYTHING)["error"]["message"]
    assert "error" in ask(proxy, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x3"})
    assert "error" not in ask(proxy, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"})


def test_an_endpoint_that_lags_knows_nothing_of_the_last_blocks(net, proxy):
    account = funded(net, 10 * TOKEN)
    net.rpc.call("anvil_mine", hex(5))
    before, at = net.admin.token_balance(NOBODY), net.admin.block_number()
    receipt = net.chain(account).transfer(NOBODY, 7)
    block = receipt["blockNumber"]
    name, sent = "0x" + bytes(receipt["transactionHash"]).hex(), {"fromBlock": hex(block), "toBlock": "latest"}
    late = net.chain().connect(net.chain().deployment, proxy.url)
    proxy.inject(Lagging(100))
    head = int(result(proxy, "eth_blockNumber"), 16)
    assert head < at
    assert int(result(proxy, "eth_getBlockByNumber", "latest", False)["number"], 16) <= head + 1  # the chain goes on
    assert result(proxy, "eth_getBlockByNumber", hex(block), False) is None
    assert result(proxy, "eth_getTransactionReceipt", name) is None
    assert result(proxy, "eth_getTransactionByHash", name)["blockNumber"] is None
    assert result(proxy, "eth_getLogs", sent) == []
    assert "header not found" in ask(proxy, "eth_getBalance", NOBODY, hex(block))["error"]["message"]
    proxy.inject(Lagging(net.admin.block_number() - block + 2))
    assert late.token_balance(NOBODY) == before
    net.rpc.call("anvil_mine", hex(5))
    assert late.token_balance(NOBODY) == before + 7
    assert result(proxy, "eth_getTransactionReceipt", name)["blockNumber"] == hex(block)
    assert len(result(proxy, "eth_getLogs", sent)) == 1


def test_an_endpoint_whose_events_lag_knows_the_newest_block(net, proxy):
    account = funded(net, 10 * TOKEN)
    receipt = net.chain(account).transfer(NOBODY, 7)
    block = receipt["blockNumber"]
    proxy.inject(Lagging(50, logs_only=True))
    assert int(result(proxy, "eth_blockNumber"), 16) >= block
    assert result(proxy, "eth_getLogs", {"fromBlock": hex(block), "toBlock": hex(block)}) == []


def test_a_swallowed_transaction_is_taken_and_never_comes(net, proxy):
    raw, name = raw_transfer(net)
    proxy.inject(FAULTS["swallows transactions"])
    assert result(proxy, "eth_sendRawTransaction", raw) == name
    assert net.rpc.call("eth_getTransactionByHash", name) is None
    assert [bytes.fromhex(raw[2:])] == proxy.sent


@pytest.mark.parametrize("words", ["already known", "nonce too low", "replacement transaction underpriced"])
@pytest.mark.parametrize("forwards", [True, False])
def test_a_transaction_is_refused_whether_or_not_it_gets_on(net, proxy, words, forwards):
    raw, name = raw_transfer(net)
    proxy.inject(Sending(forwards=forwards, error=words))
    assert ask(proxy, "eth_sendRawTransaction", raw)["error"]["message"] == words
    assert (net.rpc.call("eth_getTransactionByHash", name) is not None) is forwards
    assert result(proxy, "eth_chainId") == "0x7a69"


def test_a_transaction_gets_on_and_nobody_says_so(net, proxy):
    raw, name = raw_transfer(net)
    proxy.inject(FAULTS["sends, but tells nothing"])
    with pytest.raises(httpx2.TimeoutException):
        post(proxy, "eth_sendRawTransaction", raw, timeout=1.0)
    assert net.rpc.call("eth_getTransactionByHash", name)


def test_a_chain_that_is_away_cuts_connections():
    with RpcProxy("http://127.0.0.1:9") as before_nothing, pytest.raises(httpx2.TransportError):
        post(before_nothing, "eth_chainId")


# WebSocket


def subscribed(proxy):
    socket = connect(proxy.url.replace("http", "ws"), compression=None)
    socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
    assert "result" in json.loads(socket.recv(10))
    return socket


def hear_all(socket, seconds):
    while True:
        socket.recv(seconds)


def number_of(message):
    return int(json.loads(message)["params"]["result"]["number"], 16)


def test_blocks_are_announced_through_it(net, proxy):
    with subscribed(proxy) as socket:
        mined = threading.Thread(target=net.rpc.call, args=("evm_mine",))
        mined.start()
        assert number_of(socket.recv(10)) > 0
        mined.join()


def test_announcements_lag_with_the_endpoint(net, proxy):
    proxy.inject(Lagging(3))
    with subscribed(proxy) as socket:
        first = net.admin.block_number() + 1
        net.rpc.call("anvil_mine", hex(6))
        told = number_of(socket.recv(10))
        assert told >= first - 1
        assert told <= net.admin.block_number() - 3


def test_a_silent_endpoint_announces_nothing_and_cuts_nobody_off(net, proxy):
    with subscribed(proxy) as socket:
        proxy.inject(Silent())
        net.rpc.call("anvil_mine", hex(2))
        with pytest.raises(TimeoutError):
            hear_all(socket, 1.5)  # what was on its way; then nothing, though a block is mined each second
        proxy.lift()
        assert number_of(socket.recv(10)) > 0


@pytest.mark.parametrize("fault", [Refusing(429), Cutting(), GARBAGE])
def test_announcements_end_with_what_ends_answers(proxy, fault):
    with subscribed(proxy) as socket:
        proxy.inject(fault)
        with pytest.raises(WebSocketException):
            hear_all(socket, 10)
    with pytest.raises((WebSocketException, OSError, EOFError)):
        connect(proxy.url.replace("http", "ws"))


def test_an_endpoint_without_announcements_refuses_them(net):
    with RpcProxy(net.rpc_url, websocket=False) as deaf:
        with pytest.raises(WebSocketException):
            connect(deaf.url.replace("http", "ws"))
        assert result(deaf, "eth_chainId") == "0x7a69"
