"""How many calls a chain is asked: providers bill them, and who asks more than needed is throttled first."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from bare_chain import bare_chain
from eth_abi import encode
from eth_account import Account
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector
from rpc_proxy import proxied
from sqlalchemy import select
from test_node_support import MESSAGES, NAME, PRICE_WEI, RECORD, RecordingOutbox, serving, wait_for

from trine import Client
from trine.chain import Chain, Deployment
from trine.chain.calls import topic_of
from trine.chain.deployment import abi
from trine.protocol.messages import Domain
from trine_operator.batcher import Batcher
from trine_operator.inclusion import Claims
from trine_operator.tables import ClaimRow
from trine_verifier.store import VerifierStore
from trine_verifier.voting import Voting

YEAR_BLOCKS = 5_000_000
OPERATORS = 700
BLOCKS = 36


@pytest.fixture(scope="module")
def bare():
    with bare_chain() as chain:
        yield chain


@pytest.fixture
def proxy(bare):
    with proxied(bare.url) as opened:
        yield opened


@pytest.fixture
def store(tmp_path):
    opened = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def operator(bare, proxy, store):
    """(chain, a step of all that an operator does at each block)"""
    chain = bare.chain(proxy.url, signer=Account.create())
    outbox = RecordingOutbox(chain)  # an idle one asks every half minute how many transactions there are
    voting = Voting(chain, store, outbox, None, RECORD.model_id, threading.Event())
    batcher = Batcher(store, chain, outbox, RECORD.model_id, max_leaves=1, max_wait_seconds=0)

    def step():
        voting.step()
        batcher.step()

    yield chain, step
    voting.close()


def idle_for(bare, chain, step, blocks, count):
    """Steps once a block."""
    for _ in range(count):
        seen = blocks.wait(-1, 0)
        bare.mine()
        wait_for(lambda seen=seen: chain.block_number() > seen)
        step()


def test_an_idle_operator_that_is_told_of_blocks_asks_nothing_but_for_events_now_and_then(bare, proxy, operator):
    chain, step = operator
    blocks = chain.follow(3_600.0)
    try:
        bare.emit("Staking", "EndpointChanged", operator="0x" + "11" * 20, endpoint="x")
        wait_for(lambda: chain.block_number() == bare.number)
        step()
        proxy.forget()
        idle_for(bare, chain, step, blocks, BLOCKS)
    finally:
        blocks.stop()
    asked = Counter(proxy.calls)
    assert set(asked) <= {"eth_getLogs"}
    assert asked["eth_getLogs"] <= BLOCKS / 12 + 1


def test_an_idle_operator_that_polls_asks_once_a_block(bare, proxy, operator):
    proxy.announces = False
    chain, step = operator
    blocks = chain.follow(3_600.0)
    try:
        bare.emit("Staking", "EndpointChanged", operator="0x" + "11" * 20, endpoint="x")
        blocks.refresh()
        step()
        proxy.forget()
        for _ in range(BLOCKS):
            bare.mine()
            blocks.refresh()  # a poll
            step()
    finally:
        blocks.stop()
    asked = Counter(proxy.calls)
    assert asked.pop("eth_getBlockByNumber") == BLOCKS
    assert asked.pop("eth_getLogs", 0) <= BLOCKS / 12 + 1
    assert not asked


def test_an_operator_on_a_chain_that_stands_still_asks_for_the_newest_block_alone(bare, proxy, operator):
    proxy.announces = False
    chain, step = operator
    blocks = chain.follow(3_600.0)
    try:
        step()
        proxy.forget()
        for _ in range(20):
            blocks.refresh()
            step()
    finally:
        blocks.stop()
    assert Counter(proxy.calls) == {"eth_getBlockByNumber": 20}


def test_open_duties_are_read_in_one_request(proxy, operator, store):
    _, step = operator
    step()
    seated(store, 30)
    proxy.edit = without_batches
    proxy.forget()
    step()
    assert max(proxy.sizes) == 30


def test_where_batches_are_refused_each_is_asked_alone(bare, proxy, operator, store):
    proxy.takes_batches = False
    proxy.edit = without_batches
    _, step = operator
    step()
    seated(store, 5)
    step()
    bare.mine()
    proxy.forget()
    step()
    assert Counter(proxy.calls)["eth_call"] >= 5
    assert proxy.sizes == []  # nobody tries batches every time


def seated(store, count):
    with store.writing() as session:
        store.note_seats(session, [(bytes([number]) * 32, 0) for number in range(count)], [])


def without_batches(method, params, result):
    """As the contracts answer that know no batch."""
    for contract, function in (("Batches", "batchOf"), ("Parameters", "current")):
        if method == "eth_call" and params[0]["data"].startswith(selector_of(contract, function)):
            return "0x" + "00" * 32 * sum(map(words_in, function_of(contract, function)["outputs"]))
    return result


@pytest.fixture
def old_chain(bare, proxy):
    """Looks a year old: no range of more than 10,000 blocks is given, and hundreds of operators have passed."""

    def ask(method, params):
        if method == "eth_getBlockByNumber" and params[0] != "latest":
            return [hex(max(int(params[0], 16) - YEAR_BLOCKS, 0)), *params[1:]]
        return params

    def refuse(method, params):
        if method != "eth_getLogs":
            return None
        first, last = (int(params[0][end], 16) for end in ("fromBlock", "toBlock"))
        too_wide = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "block range is too wide"}}'
        return (200, too_wide) if last - first >= 10_000 else None

    proxy.ask, proxy.refuse = ask, refuse
    return proxy


def test_a_client_that_has_never_seen_an_old_chain_gets_its_first_answer_in_few_calls(bare, old_chain, tmp_path):
    deployment = Deployment(bare.deployment.chain_id, 1, bare.deployment.contracts)
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False) as node:
        node.chain.domain = Domain(deployment.chain_id, deployment.address("Batches"))
        node.chain.payments_domain = Domain(deployment.chain_id, deployment.address("Payments"))
        old_chain.edit = _year_old(node)
        node.chain.seconds = int(bare.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        old_chain.forget()
        with Client(rpc_url=old_chain.url, deployment=deployment, account=Account.create(), node=node.url) as client:
            first = client.chat(MESSAGES, max_tokens=2)
            assert client.chain.block_number() > YEAR_BLOCKS
            assert len(old_chain.calls) <= 10
            assert len(client.nodes()) == OPERATORS
            assert "eth_getLogs" not in old_chain.calls  # so it may be as many events as it likes
            for _ in range(3):
                old_chain.forget()
                again = client.chat(MESSAGES, max_tokens=2)
                assert len(old_chain.calls) <= 2
    assert first.receipt.node == again.receipt.node == node.chain.address


def test_a_new_store_looks_for_claims_in_the_time_to_answer_only_and_at_many_in_one_request(bare, old_chain, store):
    chain = Chain.connect(
        Deployment(bare.deployment.chain_id, 1, bare.deployment.contracts), old_chain.url, Account.create()
    )
    chain._epoch_blocks = 128
    asked, claims = [], 100
    old_chain.ask, old_chain.edit = _of_claims(chain.address, asked, claims)
    claims_of_ours = Claims(store, chain, RecordingOutbox(chain))
    old_chain.forget()
    claims_of_ours.step()
    counted = Counter(old_chain.calls)
    assert 6 * 3_600 <= 2 * sum(last - first + 1 for first, last, _ in asked) <= 2 * 6 * 3_600 + 4_000
    assert {tuple(topics[1:]) for *_, topics in asked} == {(None, "0x" + bytes(12).hex() + chain.address[2:].lower())}
    assert counted["eth_getLogs"] <= 6  # of 500 since the deployment
    assert counted["eth_getBlockByNumber"] <= 15
    claims_of_ours.step()
    assert old_chain.sizes == [32, 32, 32, 4]
    with store.reading() as session:
        assert len(session.scalars(select(ClaimRow)).all()) == claims


def _of_claims(node, asked, count):
    """A chain of two-second blocks a year old, with claims against the node half an hour ago; six hours to answer."""
    newest, now = YEAR_BLOCKS, 2_000_000_000
    claimed_at = newest - 900
    signature = topic_of("Inclusion", "InclusionClaimed")

    def ask(method, params):
        if method == "eth_getBlockByNumber":
            return ["0x0", *params[1:]]
        return [{**params[0], "fromBlock": "0x0", "toBlock": "0x0"}] if method == "eth_getLogs" else params

    def edit(method, params, result):
        if method == "eth_blockNumber":
            return hex(newest)
        if method == "eth_getBlockByNumber":
            number = newest if params[0] == "latest" else int(params[0], 16)
            return {**result, "number": hex(number), "timestamp": hex(now - 2 * (newest - number))}
        if method == "eth_getLogs":
            first, last = (int(params[0][end], 16) for end in ("fromBlock", "toBlock"))
            asked.append((first, last, params[0]["topics"]))
            return [log(number) for number in range(count)] if first <= claimed_at <= last else []
        data = params[0]["data"] if method == "eth_call" else ""
        if data.startswith(selector_of("Inclusion", "answerSeconds")):
            return encoded("Inclusion", "answerSeconds", [6 * 3_600])
        if data.startswith(selector_of("Inclusion", "claimOf")):
            return encoded("Inclusion", "claimOf", [(1, now + 1_000, bytes(32))])
        return result

    def log(number):
        return {
            "address": Deployment.bundled(31337).address("Inclusion"),
            "topics": [signature, f"0x{number:064x}", *["0x" + bytes(12).hex() + node[2:].lower()] * 2],
            "data": f"0x{now + 1_000:064x}",
            "blockNumber": hex(claimed_at),
            "transactionHash": "0x" + "22" * 32,
            "transactionIndex": "0x0",
            "blockHash": "0x" + "33" * 32,
            "logIndex": hex(number),
            "removed": False,
        }

    return ask, edit


def _year_old(node):
    """Answers in place of the contracts: one model, and hundreds of nodes, the first of which is real."""
    here = (node.chain.address, node.url, True, 2**40, 10_000, 10**18)
    others = [(f"0x{n:040x}", f"https://{n}.example", True, 2**40, 5_000, 10**18) for n in range(1, OPERATORS)]

    def edit(method, params, result):
        if method == "eth_blockNumber":
            return hex(int(result, 16) + YEAR_BLOCKS)
        if method == "eth_getBlockByNumber":
            return {**result, "number": hex(int(result["number"], 16) + YEAR_BLOCKS)}
        data = params[0]["data"] if method == "eth_call" else ""
        if data.startswith(selector_of("Directory", "models")):
            return encoded("Directory", "models", [[(RECORD.model_id, NAME, PRICE_WEI, 1)], 1])
        if data.startswith(selector_of("Parameters", "current")):
            return encoded("Parameters", "current", [(10**18, *([1] * 26))])
        if data.startswith(selector_of("Directory", "operators")):
            start, count = (int(data[at : at + 64], 16) for at in (10 + 128, 10 + 192))
            return encoded("Directory", "operators", [[here, *others][start : start + count], OPERATORS])
        return result

    return edit


def function_of(contract, function):
    (item,) = (each for each in abi(contract) if each["type"] == "function" and each["name"] == function)
    return item


def selector_of(contract, function):
    return "0x" + function_abi_to_4byte_selector(function_of(contract, function)).hex()


def encoded(contract, function, values):
    kinds = [collapse_if_tuple(each) for each in function_of(contract, function)["outputs"]]
    return "0x" + encode(kinds, values).hex()


def words_in(output):
    return sum(map(words_in, output["components"])) if output["type"] == "tuple" else 1
