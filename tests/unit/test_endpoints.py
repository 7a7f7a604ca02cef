"""Several RPC endpoints of which one is dead, busy, late, lying or of another chain: what is read stays right."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import socket
import threading

import pytest
from bare_chain import bare_chain
from eth_account import Account
from rpc_proxy import proxied
from test_node_support import RECORD, wait_for

from trine.chain import Chain
from trine.chain.confirmations import NO_TAGS_SECONDS, Confirmations, Confirming
from trine.chain.endpoint import MAX_ENDPOINTS, addresses_of, origin_of, without_secrets
from trine.chain.endpoints import BEHIND_SECONDS, Endpoints
from trine.chain.follower import Follower, Head
from trine.chain.health import Fault, HeadSeen, common_block, faults_of_blocks, faults_of_heads, missing_logs
from trine.chain.transport import MAX_ANSWER_BYTES, EndpointFailed, Transport
from trine.errors import ChainError, ChainUnreachable, InvalidInput, WrongChain
from trine_verifier.seats import Seats
from trine_verifier.store import VerifierStore

KEY = "s3cr3tk3y0123456789"
DEAD = f"http://127.0.0.1:9/{KEY}"
ACCOUNT = Account.create()
ME = ACCOUNT.address
FIRST, SECOND = bytes([1]) * 32, bytes([2]) * 32


@pytest.fixture(scope="module")
def bare():
    with bare_chain() as chain:
        yield chain


@pytest.fixture
def two(bare):
    bare.mine(20)
    with proxied(bare.url) as first, proxied(bare.url) as second:
        yield first, second


@pytest.fixture
def store(tmp_path):
    opened = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    yield opened
    opened.close()


def status(code, body=b"{}"):
    return lambda _method, _params: (code, body)


def compare(chain):
    chain._endpoints.compare(sorted(chain.deployment.contracts.values()), chain.deployment.block)


def reads_from(chain, proxy):
    return chain._endpoints.current.startswith(proxy.url)


def with_latest(number):
    return lambda _method, params: [hex(number), *params[1:]] if params[:1] == ["latest"] else params


def lagging(bare, proxy, blocks):
    """Has no block that is newer than so many below the newest of now."""
    behind = bare.number - blocks
    proxy.ask = with_latest(behind)
    proxy.edit = lambda method, _params, result: hex(behind) if method == "eth_blockNumber" else result


def well(proxy):
    proxy.ask = lambda _method, params: params
    proxy.edit = lambda _method, _params, result: result
    proxy.refuse = lambda _method, _params: None
    proxy.silent_seconds = 0.0


# What is believed, as tables

HERE = 31337


def head(number, chain_id=HERE, seconds_a_block=12):
    return HeadSeen(chain_id, number, number * seconds_a_block)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ([head(100), head(100)], [None, None]),
        ([head(100), head(98)], [None, None]),
        ([head(97), head(100)], [Fault.LAGS, None]),
        ([head(97), None], [None, None]),  # nobody to lag behind
        ([head(100), head(1_000, 1)], [None, Fault.WRONG_CHAIN]),
        ([head(1, 1), head(1, 1)], [Fault.WRONG_CHAIN, Fault.WRONG_CHAIN]),
        ([head(100), head(100), head(10**6)], [None, None, None]),  # who alone is far ahead is no measure
        ([head(100), head(10**6), head(10**6)], [Fault.LAGS, None, None]),
        ([head(97, seconds_a_block=0), head(100, seconds_a_block=0)], [None, None]),  # several blocks a second
        ([], []),
    ],
)
def test_what_heads_tell(heads, expected):
    assert faults_of_heads(heads, HERE) == expected


def test_the_block_that_all_should_have_is_below_all_heads_that_are_well():
    heads = [head(100), head(98), head(3), None]
    assert common_block(heads, [None, None, Fault.LAGS, None]) == 94
    assert common_block(heads, [None, Fault.LAGS, Fault.LAGS, None]) is None
    assert common_block([head(1), head(2)], [None, None]) == 0


@pytest.mark.parametrize(
    ("hashes", "heads", "expected"),
    [
        ({0: "a", 1: "a", 2: "b"}, {0: 9, 1: 9, 2: 99}, {2: Fault.FORKED}),  # the larger group
        ({0: "a", 1: "b"}, {0: 9, 1: 10}, {0: Fault.FORKED}),  # of two, the longer chain
        ({0: "a", 1: "b"}, {0: 9, 1: 9}, {1: Fault.FORKED}),  # of chains that are as long, what is named first
        ({0: "a", 1: None}, {0: 9, 1: 9}, {1: Fault.LACKS_BLOCK}),
        ({0: None, 1: None}, {0: 9, 1: 9}, {}),
        ({0: "a", 1: "a"}, {0: 9, 1: 9}, {}),
    ],
)
def test_what_the_block_that_all_should_have_tells(hashes, heads, expected):
    assert faults_of_blocks(hashes, heads) == expected


def test_events_that_only_others_show_are_missing():
    one, other = ("b", "t", 0), ("b", "u", 1)
    assert missing_logs({0: frozenset({one}), 1: frozenset({one, other})}) == {0: {other}}
    assert missing_logs({0: frozenset({one})}) == {}


# The setting


@pytest.mark.parametrize(
    "given", ["http://a,http://b", " http://a\n http://b ", "http://a, http://b,", ["http://a", "http://b", "http://a"]]
)
def test_several_addresses_are_one_setting(given):
    assert addresses_of(given) == ("http://a", "http://b")


@pytest.mark.parametrize("given", ["", " , ", [], [f"http://{n}" for n in range(MAX_ENDPOINTS + 1)]])
def test_no_address_is_none_and_too_many_are_too_many(given):
    with pytest.raises(InvalidInput, match="RPC endpoint"):
        addresses_of(given)


def test_of_several_addresses_only_the_origins_are_shown():
    setting = f"https://user:{KEY}@a.example/{KEY} https://b.example/v3/{KEY}?k={KEY}"
    assert origin_of(setting) == "https://a.example, https://b.example"
    assert KEY not in without_secrets(f"no: {setting} ({KEY})", setting)


# Failing over


@pytest.mark.parametrize(
    "answer",
    [
        (503, b""),
        (429, b'{"error": "too many requests"}'),
        (401, b"no key"),
        (302, b""),
        (200, b"<html>"),
        (200, b"\xff\xfe"),
        (200, b"[" * 200_000),
        (200, b'{"a":' * 50_000),
        (200, b"7"),
        (200, b"null"),
        (200, b"[]"),
        (200, b'{"jsonrpc": "2.0", "id": 1}'),
        (200, b" " * (MAX_ANSWER_BYTES + 1)),
        (200, json.dumps({"error": {"code": -32005, "message": "limit"}}).encode()),
        (200, json.dumps({"error": {"code": -32000, "message": "header not found"}}).encode()),
    ],
)
def test_an_endpoint_that_gives_no_answer_is_gone_over(bare, two, answer):
    first, second = two
    chain = bare.chain([first.url, second.url])
    first.refuse = lambda _method, _params: answer
    assert chain.block_number() == bare.number
    assert chain.gas_balance(ME) == 0  # through web3
    assert chain.block_hash(bare.number) == chain.head().hash


def test_an_endpoint_that_is_not_there_is_gone_over_and_its_key_is_in_no_log(bare, two, caplog):
    with caplog.at_level(logging.WARNING):
        chain = bare.chain(f"{DEAD},{two[0].url}")
        assert chain.gas_balance(ME) == 0
    assert "reading from http://127.0.0.1:" in caplog.text
    assert KEY not in caplog.text


def test_a_silent_endpoint_is_waited_for_once(bare, two, monkeypatch):
    monkeypatch.setattr("trine.chain.endpoints.FAILOVER_SECONDS", 0.3)
    first, second = two
    chain = bare.chain([first.url, second.url])
    first.silent_seconds = 60.0
    first.forget()
    for _ in range(20):
        assert chain.block_number() == bare.number
    assert reads_from(chain, second)


def test_an_endpoint_that_drips_is_not_listened_to_for_long(bare):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                while not ended.wait(0.05):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(EndpointFailed, match="too long") as caught:
            Transport(f"http://127.0.0.1:{server.getsockname()[1]}").post({}, 0.5)
        ended.set()
        thread.join(20)
    assert caught.value.silent


def test_what_is_wrong_with_each_endpoint_is_said(bare, two):
    chain = bare.chain([proxy.url for proxy in two])
    two[0].refuse, two[1].refuse = status(503), status(429)
    with pytest.raises(ChainUnreachable, match=r"status 503.*status 429"):
        chain.block_number()


def test_a_storm_of_429_ends_in_a_bounded_number_of_calls(bare, two):
    chain = bare.chain(two[0].url)
    two[0].refuse = status(429)
    two[0].forget()
    with pytest.raises(ChainUnreachable):
        chain.block_number()
    assert len(two[0].calls) <= 6
    well(two[0])
    assert chain.block_number() == bare.number


def test_reads_do_not_go_back_to_an_endpoint_that_is_behind(bare, two, store):
    """It is not asked before it has got to where the other was; then nothing is missed."""
    first, second = two
    chain = bare.chain([first.url, second.url], signer=ACCOUNT)
    seats = Seats(chain, store, RECORD.model_id)
    seats.read()
    bare.draw(FIRST, ME)
    bare.mine(2)
    seats.read()
    lagging(bare, second, 3)
    first.refuse = status(503)
    with pytest.raises(ChainUnreachable, match=r"behind: at block \d+, \d+ was seen"):
        chain.block_number()
    well(second)
    bare.draw(SECOND, ME)
    seats.read()
    assert store.duties() == [(FIRST, 0), (SECOND, 0)]
    assert reads_from(chain, second)


def test_when_nobody_gets_to_where_the_chain_was_it_has_shrunk(bare, two, caplog):
    first, second = two
    now = [0.0]
    endpoints = Endpoints([first.url, second.url], 5.0, clock=lambda: now[0])
    endpoints.note_head(bare.number + 5)
    first.refuse = status(503)
    with pytest.raises(EndpointFailed, match="behind"):
        endpoints.call("eth_blockNumber", ())
    now[0] += BEHIND_SECONDS + 1
    with caplog.at_level(logging.WARNING):
        assert endpoints.call("eth_blockNumber", ())["result"] == hex(bare.number)
    assert "no endpoint shows block" in caplog.text


def test_an_endpoint_of_another_chain_is_never_read_from(bare, two):
    first, second = two
    first.edit = lambda method, _params, result: "0x1" if method == "eth_chainId" else result
    chain = bare.chain([first.url, second.url])
    first.forget()
    assert chain.block_number() == bare.number
    second.refuse = status(503)
    with pytest.raises(ChainUnreachable, match="serves another chain"):
        chain.block_number()
    assert "eth_getBlockByNumber" not in first.calls
    second.edit = first.edit
    well(second)
    second.edit = first.edit
    with pytest.raises(WrongChain, match="serves chain 1"):
        bare.chain([first.url, second.url])


def test_transactions_go_to_all_endpoints(bare, two):
    first, second = two
    bare.rpc.call("anvil_setBalance", ME, hex(10**20))
    chain = bare.chain([first.url, second.url], signer=ACCOUNT)
    transaction = {
        "to": ME, "value": 1, "nonce": chain._web3.eth.get_transaction_count(ME), "gas": 21_000,
        "gasPrice": 10**10, "chainId": HERE,
    }  # fmt: skip
    signed = ACCOUNT.sign_transaction(transaction)
    first.refuse = lambda method, _params: (503, b"") if method == "eth_sendRawTransaction" else None
    assert chain.broadcast(bytes(signed.raw_transaction)) == bytes(signed.hash)
    bare.mine()
    assert chain.gas_used(bytes(signed.hash)) == 21_000
    well(first)
    first.forget()
    second.forget()
    with pytest.raises(ChainError):
        chain.broadcast(bytes(signed.raw_transaction))  # its nonce is used
    wait_for(lambda: "eth_sendRawTransaction" in first.calls and "eth_sendRawTransaction" in second.calls)


# Comparing


def test_an_endpoint_that_lags_is_left_and_taken_back(bare, two, caplog):
    first, second = two
    chain = bare.chain([f"{first.url}/{KEY}", second.url])
    lagging(bare, first, 3)
    with caplog.at_level(logging.WARNING):
        compare(chain)
        assert reads_from(chain, first)  # once may be chance
        compare(chain)
        assert reads_from(chain, second)
        assert chain.block_number() == bare.number
        well(first)
        compare(chain)
        assert reads_from(chain, first)
    assert f"{first.url} is left: it lags behind" in caplog.text
    assert f"{first.url} is well again" in caplog.text
    assert KEY not in caplog.text


def test_an_endpoint_on_another_fork_than_the_rest_is_left(bare, two, caplog):
    first, second = two

    def forked(method, _params, result):
        return {**result, "hash": "0x" + "77" * 32} if method == "eth_getBlockByNumber" and result else result

    chain = bare.chain([first.url, second.url, bare.url])
    first.edit = forked
    with caplog.at_level(logging.WARNING):
        compare(chain)
    assert reads_from(chain, second)
    assert f"{first.url} is left: it is on another fork than the rest" in caplog.text


def test_events_that_an_endpoint_left_out_are_read_from_another(bare, two, store, caplog):
    first, second = two
    chain = bare.chain([first.url, second.url], signer=ACCOUNT)
    seats = Seats(chain, store, RECORD.model_id)
    seats.read()
    first.edit = lambda method, _params, result: [] if method == "eth_getLogs" else result
    bare.draw(FIRST, ME)
    bare.mine(30)
    seats.read()
    bare.mine()
    seats.read()
    assert store.duties() == []
    with caplog.at_level(logging.WARNING):
        compare(chain)
    assert f"{first.url} is left: it leaves out events" in caplog.text
    seats.read()
    assert store.duties() == [(FIRST, 0)]


def test_events_that_somebody_made_up_accuse_nobody(bare, two):
    first, second = two
    bare.draw(FIRST, ME)
    bare.mine(10)
    chain = bare.chain([first.url, second.url])
    chain.deployment = bare.deployment

    def made_up(method, _params, result):
        if method != "eth_getLogs":
            return result
        return [*result, {**result[0], "transactionHash": "0x" + "55" * 32, "logIndex": "0x63"}]

    second.edit = made_up
    compare(chain)
    assert reads_from(chain, first)
    first.refuse = status(503)
    assert chain.block_number() == bare.number  # nor is the other left: nothing shows which of them is wrong


def test_who_does_not_answer_has_not_shown_that_it_is_well(bare, two):
    first, second = two
    chain = bare.chain([first.url, second.url])
    lagging(bare, first, 3)
    for _ in range(2):
        compare(chain)
    first.refuse = status(503)
    compare(chain)
    assert reads_from(chain, second)
    assert [endpoint.fault for endpoint in chain._endpoints._all] == [Fault.LAGS, None]


@pytest.mark.parametrize("garbage", [7, [], {}, "x", {"number": "0x" + "f" * 64, "timestamp": "0x1"}, [[]] * 1000])
def test_endpoints_that_answer_anything_can_be_compared(bare, two, garbage):
    first, second = two
    chain = bare.chain([first.url, second.url])
    first.edit = lambda method, _params, result: result if method == "eth_chainId" else garbage
    compare(chain)
    well(first)
    compare(chain)
    compare(chain)
    assert chain.block_number() == bare.number


def test_a_process_that_follows_compares_by_itself(bare, two):
    first, second = two
    chain = bare.chain([first.url, second.url])
    first.edit = lambda method, _params, result: "0x1" if method == "eth_chainId" else result
    blocks = chain.follow(3_600.0)
    try:
        wait_for(lambda: reads_from(chain, second))
    finally:
        blocks.stop()


# Blocks that are announced


def block(number, fork=0):
    return Head(number, 1_000 + number, bytes([number, fork % 256]) * 16, bytes([number - 1, 0]) * 16)


@pytest.mark.parametrize(
    ("heads", "newest"),
    [
        ((block(8), block(9), block(10), block(9)), block(10)),  # again
        ((block(8), block(10), block(9)), block(10)),  # out of order
        ((block(8), block(9), block(9, 1)), block(9, 1)),  # a re-org to the same height
        ((block(8), block(9), block(8, 1)), block(8, 1)),  # to a lower one
        ((block(8), block(9), block(8, 1), block(9, 1)), block(9, 1)),
    ],
)
def test_heads_may_come_out_of_order(heads, newest):
    told, ended = threading.Event(), threading.Event()

    def announced():
        yield from heads[1:]
        told.set()  # all of them have been taken
        ended.wait(20)

    follower = Follower(lambda: heads[0], 3_600.0, announced)
    follower.start()
    try:
        assert told.wait(20)
        assert follower.latest() == newest
    finally:
        follower.stop()
        ended.set()


def test_who_waits_is_woken_by_a_re_org_to_the_same_height():
    forks = itertools.count()
    follower = Follower(lambda: block(9, next(forks)), 0.01)
    follower.start()
    try:
        assert follower.wait(9, 600) == 9
    finally:
        follower.stop()


# Confirmations, and chains that are otherwise


@pytest.mark.parametrize(("setting", "depth", "tag"), [(0, 0, None), ("12", 12, None), ("safe", 32, "safe")])
def test_confirmations_are_a_depth_or_a_tag(setting, depth, tag):
    assert Confirmations.of(setting) == Confirmations(depth, tag)


@pytest.mark.parametrize("setting", [-1, "latest", "", 10**9, "1.5"])
def test_other_confirmations_are_refused(setting):
    with pytest.raises(InvalidInput, match="confirmations"):
        Confirmations.of(setting)


def test_a_depth_costs_no_call(bare, two):
    chain = bare.chain(two[0].url, confirmations=3)
    chain.follow(3_600.0).stop()
    two[0].forget()
    assert chain.confirmed_block() == chain.block_number() - 3
    assert two[0].calls == []


def test_a_tag_is_asked_for_now_and_then(bare, two):
    bare.mine(70)
    chain = bare.chain(two[0].url, confirmations="finalized")
    chain.follow(3_600.0).stop()
    two[0].forget()
    confirmed = {chain.confirmed_block() for _ in range(10)}
    assert confirmed == {int(bare.rpc.call("eth_getBlockByNumber", "finalized", False)["number"], 16)}
    assert len(two[0].calls) == 1


def test_without_tags_a_depth_stands_for_them():
    now, asked = [0.0], []
    confirming = Confirming(Confirmations.of("safe"), asked.append, lambda: now[0])
    assert [confirming.block(number) for number in (10, 100, 101)] == [-1, 68, 69]
    now[0] += NO_TAGS_SECONDS
    confirming.block(102)
    assert asked == ["safe", "safe"]


def test_blocks_of_a_proof_of_authority_chain_are_read(bare, two):
    proxy, _ = two

    def sealed(method, _params, result):
        return {**result, "extraData": "0x" + "ab" * 97} if method.startswith("eth_getBlockBy") else result

    proxy.edit = sealed
    chain = bare.chain(proxy.url)
    assert chain.block_number() == bare.number
    assert chain._web3.eth.get_block("latest")["number"] == bare.number


@pytest.fixture
def layered(bare, two):
    """A chain whose RPC numbers blocks otherwise than its contracts do."""
    proxy, _ = two

    def shifted(method, _params, result):
        if method == "eth_getBlockByNumber" and result:
            return {**result, "number": hex(int(result["number"], 16) + 10**8)}
        return hex(int(result, 16) + 10**8) if method == "eth_blockNumber" else result

    proxy.edit = shifted
    return proxy


def test_what_contracts_count_in_is_asked_of_them_where_it_differs(bare, layered):
    chain = bare.chain(layered.url)
    assert chain.block_number() == bare.number + 10**8
    assert chain.contracts_block_number() == bare.number
    assert not chain.has_own_numbers


def test_what_a_block_says_of_it_is_not_asked_for(bare, two):
    proxy, _ = two
    proxy.edit = lambda m, _p, r: {**r, "l1BlockNumber": "0x1234"} if m == "eth_getBlockByNumber" else r
    chain = bare.chain(proxy.url)
    proxy.forget()
    assert chain.contracts_block_number() == 0x1234
    assert proxy.calls == ["eth_getBlockByNumber"]


def test_where_contracts_count_as_the_chain_does_it_is_asked_once(bare, two):
    chain = bare.chain(two[0].url)
    chain.follow(3_600.0).stop()
    assert chain.contracts_block_number() == bare.number
    two[0].forget()
    assert chain.contracts_block_number() == bare.number
    assert two[0].calls == []


def test_one_endpoint_is_never_compared_or_left(bare, two):
    chain: Chain = bare.chain(two[0].url)
    lagging(bare, two[0], 3)
    two[0].forget()
    compare(chain)
    assert two[0].calls == []


def test_a_transaction_is_sent_and_waited_for_over_whoever_answers(bare, two):
    """Its endpoint falls silent between the sending and the receipt."""
    first, second = two
    bare.rpc.call("anvil_setBalance", ME, hex(10**20))
    bare.rpc.call("anvil_setCode", bare.deployment.address("TrineToken"), "0x00")  # takes any call
    chain = bare.chain([first.url, second.url], signer=ACCOUNT)

    def dies(method, _params):
        if method == "eth_sendRawTransaction":
            first.refuse = status(503)
        return

    first.refuse = dies
    bare.rpc.call("evm_setAutomine", True)
    try:
        receipt = chain.transfer(ME, 1)
    finally:
        bare.rpc.call("evm_setAutomine", False)
    assert receipt["status"] == 1
    assert reads_from(chain, second)
