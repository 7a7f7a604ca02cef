"""View functions asked without web3: as web3 asks and reads them. What is no plain answer goes through web3."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from eth_abi.abi import encode
from eth_abi.tools import get_abi_strategy
from eth_utils.abi import get_abi_input_types, get_abi_output_types
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trine.chain import Chain, Deployment, views
from trine.chain.deployment import CONTRACTS, abi
from trine.chain.records import Result
from trine.errors import ChainError, ChainUnreachable, InvalidInput, TransactionReverted, WrongChain

CHAIN_ID = 31337
ADDRESS = "0x" + "11" * 20
VIEWS = [
    (contract, item)
    for contract in CONTRACTS
    for item in abi(contract)
    if item["type"] == "function" and item["stateMutability"] in ("view", "pure") and item["outputs"]
]


class Node(ThreadingHTTPServer):
    """Answers everything but the chain's id as it is told, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.says = {"result": "0x"}
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        says = {"result": hex(CHAIN_ID)} if asked["method"] == "eth_chainId" else self.server.says
        self.server.asked.append(asked)
        body = says if isinstance(says, bytes) else json.dumps({"jsonrpc": "2.0", "id": asked["id"], **says}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def node():
    with Node() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chain(node):
    return Chain.connect(Deployment.bundled(CHAIN_ID), node.url)


def checksummed(value):
    """Values as callers of `Chain` write them."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(checksummed, value))
    return to_checksum_address(value) if isinstance(value, str) and value.startswith("0x") else value


def _calls(node):
    return [asked["params"] for asked in node.asked if asked["method"] == "eth_call"]


def plain(value):
    return tuple(map(plain, value)) if isinstance(value, (list, tuple)) else value


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(VIEWS), st.data())
def test_question_and_answer_are_those_of_web3(node, chain, view, data):
    contract, item = view
    arguments = [checksummed(data.draw(get_abi_strategy(kind))) for kind in get_abi_input_types(item)]
    returned = get_abi_output_types(item)
    values = [data.draw(get_abi_strategy(kind)) for kind in returned]
    block = data.draw(st.none() | st.integers(0, 2**40))
    node.says = {"result": "0x" + encode(returned, values).hex()}
    node.asked.clear()
    ours = chain._views.call(contract, chain.deployment.address(contract), item["name"], tuple(arguments), block)
    theirs = chain._read_by_web3(contract, item["name"], *arguments, block=block)
    assert plain(ours) == plain(theirs)
    asked = [(call["to"], call["data"], at) for call, at in _calls(node)]
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_looking_something_up_does_not_import_web3(node):
    node.says = {"result": "0x" + encode(["uint256"] * 4 + ["bool"] * 2, [1, 5, 2, 8, True, False]).hex()}
    code = (
        "import sys\n"
        "from trine.chain import Chain, Deployment\n"
        "chain = Chain.connect(Deployment.bundled(int(sys.argv[1])), sys.argv[2])\n"
        "print(chain.result(bytes(32)), {'web3', 'eth_account', 'requests', 'py_ecc.bls'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(CHAIN_ID), node.url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout == f"{Result(1, 5, 2, 8, True, False)} set()\n"


def test_a_revert_names_its_error(node, chain):
    error = keccak(text="ModelRegistryUnknownModel(bytes32)")[:4] + bytes([7]) * 32
    node.says = {"error": {"code": 3, "message": "execution reverted", "data": "0x" + error.hex()}}
    with pytest.raises(TransactionReverted, match=r"ModelRegistryUnknownModel\(0x0707"):
        chain.model(bytes([7]) * 32)


@pytest.mark.parametrize(
    "says",
    [
        {"result": "0x"},
        {"result": "0x12"},
        {"result": None},
        {"result": "0xzz"},
        {"result": {"a": 1}},
        {"error": {"code": -32000, "message": "header not found"}},
        b"<html>busy</html>",
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_an_error(node, chain, says):
    node.says = says
    with pytest.raises(ChainError):
        chain.result(bytes(32))


def test_another_chain_is_refused(node):
    deployment = Deployment(1, 0, Deployment.bundled(CHAIN_ID).contracts)
    with pytest.raises(WrongChain, match="serves chain 31337, the deployment is on 1"):
        Chain.connect(deployment, node.url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://["])
def test_an_endpoint_that_does_not_answer_is_unreachable(url):
    with pytest.raises(ChainUnreachable):
        Chain.connect(Deployment.bundled(CHAIN_ID), url)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8545", "ws://127.0.0.1:8545", "http://a,ws://b"])
def test_an_endpoint_is_asked_over_http_and_nothing_else(url):
    with pytest.raises(InvalidInput, match="begins with http:// or https://"):
        Chain.connect(Deployment.bundled(CHAIN_ID), url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("https://user:hunter2@localhost:1/v3/hunter2?key=hunter2#hunter2", "https://localhost:1"),
        ("http://[::1]:1/hunter2", "http://[::1]:1"),
        ("http://127.0.0.1:hunter2", "malformed"),
    ],
)
def test_the_endpoint_that_does_not_answer_is_named_without_its_secrets(url, shown):
    with pytest.raises(ChainUnreachable) as caught:
        Chain.connect(Deployment.bundled(CHAIN_ID), url)
    assert shown in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_attack_an_endpoint_that_is_no_utf8_spoils_no_page_of_operators():
    """`Staking.setEndpoint` takes any bytes, of anybody who was ever an operator."""
    _, _, gives = views._signature("Directory", "operators")
    operators = [(ADDRESS, b"http://a", True, 1, 1, 1), (ADDRESS, b"http://\xff", True, 1, 1, 1)]
    answer = encode([kind.replace("string", "bytes") for kind in gives], [operators, 2])
    read = views._values_in(views.Question("Directory", ADDRESS, "operators", ()), {"result": "0x" + answer.hex()})
    assert read is not None
    assert [operator[1] for operator in read[0]] == ["http://a", "http://\ufffd"]


def test_attack_an_endpoint_that_is_no_utf8_is_read_by_web3_too(node, chain):
    node.says = {"result": "0x" + encode(["bytes"], [b"http://\xff"]).hex()}
    assert chain.endpoint_of(ADDRESS) == "http://\ufffd"
    assert chain._web3.codec is views.CODEC
