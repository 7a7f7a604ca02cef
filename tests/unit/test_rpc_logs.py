"""Endpoints that limit, throttle, lie or break: events are read all the same, in few calls, and no key is shown."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from eth_utils.crypto import keccak
from web3 import HTTPProvider, Web3

from trine.chain import Chain, Deployment
from trine.chain.deployment import abi
from trine.chain.endpoint import origin_of, without_secrets
from trine.chain.logs import GROW_AFTER, MAX_RANGE, PAUSES_SECONDS, LogReader
from trine.errors import ChainError, ChainUnreachable, TrineError

KEY = "s3cr3tk3y0123456789"
CHAIN_ID = 31337
ADDRESS = Deployment.bundled(CHAIN_ID).address("Staking")
TOPIC = "0x" + keccak(text="EndpointChanged(address,string)").hex()
OPERATOR = "0x" + "11" * 20


class Endpoint:
    """A JSON-RPC server with an event in each of `blocks`. `rule(first, last)` gives a refusal, or None."""

    def __init__(self):
        self.blocks, self.head, self.ranges = [], 200_000, []
        self.rule = lambda _first, _last: None

    def answer(self, method, parameters):
        """(status, headers, body) without id."""
        if method == "eth_chainId":
            return 200, {}, {"result": hex(CHAIN_ID)}
        if method == "eth_getBlockByNumber":
            return 200, {}, {"result": {"number": hex(self.head), "timestamp": "0x1"}}
        assert method == "eth_getLogs", method
        first, last = (int(parameters[0][end], 16) for end in ("fromBlock", "toBlock"))
        self.ranges.append((first, last))
        return self.rule(first, last) or (200, {}, {"result": [log(b) for b in self.blocks if first <= b <= last]})


def log(block):
    text = b"http://node"
    data = (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text.ljust(32, b"\0")
    return {
        "address": ADDRESS,
        "topics": [TOPIC, "0x" + bytes.fromhex(OPERATOR[2:]).rjust(32, b"\0").hex()],
        "data": "0x" + data.hex(),
        "blockNumber": hex(block),
        "transactionHash": "0x" + "22" * 32,
        "transactionIndex": "0x0",
        "blockHash": "0x" + "33" * 32,
        "logIndex": "0x0",
        "removed": False,
    }


@pytest.fixture
def endpoint():
    served = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, body = served.answer(asked["method"], asked["params"])
            raw = (
                body if isinstance(body, bytes) else json.dumps({"jsonrpc": "2.0", "id": asked["id"], **body}).encode()
            )
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_address[1]}/v3/{KEY}"
        yield served
        server.shutdown()
    thread.join(20)


@pytest.fixture
def reading(endpoint):
    """(reader, blocks of the events of a range, pauses that were made)."""
    pauses = []
    reader = LogReader(endpoint.url, pauses.append)
    web3 = Web3(HTTPProvider(endpoint.url, exception_retry_configuration=None))
    contract = web3.eth.contract(address=ADDRESS, abi=abi("Staking"))

    def blocks(first, last, **options):
        return [
            event.block for event in reader.read_kinds(web3, [(contract, "EndpointChanged")], first, last, **options)
        ]

    return reader, blocks, pauses


def rpc_error(message, code=-32000):
    return 200, {}, {"error": {"code": code, "message": message}}


def test_a_busy_endpoint_is_asked_later_not_for_less(endpoint, reading):
    """Six refusals and then none: once 1,289 calls."""
    _, blocks, pauses = reading
    endpoint.blocks = list(range(0, 200_000, 17_000))
    left = [6]

    def rule(_first, _last):
        left[0] -= 1
        return (429, {}, {"error": {"code": -32005, "message": "too many"}}) if left[0] >= 0 else None

    endpoint.rule = rule
    assert blocks(0, 199_999) == endpoint.blocks
    assert len(endpoint.ranges) == 200_000 // MAX_RANGE + 6
    assert pauses == list(PAUSES_SECONDS)


@pytest.mark.parametrize(
    "message",
    [
        "query returned more than 10000 results",
        "exceed maximum block range: 1000",
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
        "block range is too wide",
        "query timeout exceeded",
        "eth_getLogs is limited to a 1000 block range",
    ],
)
def test_a_limit_of_blocks_is_found_and_kept_to(endpoint, reading, message):
    _, blocks, pauses = reading
    endpoint.blocks = list(range(0, 100_000, 3_333))
    endpoint.rule = lambda first, last: rpc_error(message) if last - first >= 1_000 else None
    assert blocks(0, 99_999) == endpoint.blocks
    fewest = 100_000 // (MAX_RANGE >> 4)  # the widest range under the limit that halving leads to
    assert len(endpoint.ranges) <= 4 + fewest * (1 + 1 / GROW_AFTER) + 1
    assert not pauses


def test_refusals_for_size_use_up_no_patience_with_a_busy_endpoint(endpoint, reading):
    _, blocks, pauses = reading
    busy = iter([True])

    def rule(first, last):
        if last - first >= 50:
            return rpc_error("block range is too wide")
        return (429, {}, {}) if next(busy, False) else None

    endpoint.rule = rule
    endpoint.blocks = [7]
    assert blocks(0, 199) == [7]
    assert pauses == [PAUSES_SECONDS[0]]


def test_ranges_grow_again_after_a_stretch_with_many_events(endpoint, reading):
    reader, blocks, _ = reading
    endpoint.rule = lambda first, last: rpc_error("too many results") if first < 5_000 and last - first > 50 else None
    blocks(0, 199_999)
    assert reader._width == MAX_RANGE
    assert len(endpoint.ranges) < 250


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((503, {}, {}), ChainUnreachable),
        ((200, {}, b"<html>"), ChainUnreachable),
        ((200, {}, b"[" * 10_000), ChainUnreachable),
        (rpc_error("compute units per second capacity exceeded", 429), ChainUnreachable),
        (rpc_error("header not found"), ChainUnreachable),
        ((401, {}, {}), ChainError),
        ((403, {}, b"no"), ChainError),
        (rpc_error("block range too large"), ChainError),
    ],
)
def test_a_refusal_that_stays_is_an_error_after_a_bounded_number_of_calls(endpoint, reading, answer, kind, caplog):
    _, blocks, pauses = reading
    endpoint.rule = lambda _first, _last: answer
    with caplog.at_level(logging.WARNING), pytest.raises(kind) as caught:
        blocks(0, 199_999)
    assert len(endpoint.ranges) <= 24
    assert sum(pauses) <= sum(PAUSES_SECONDS)
    assert KEY not in str(caught.value) + caplog.text


def test_who_is_not_patient_waits_for_nothing(endpoint, reading):
    _, blocks, pauses = reading
    endpoint.rule = lambda _first, _last: (429, {}, {})
    with pytest.raises(ChainUnreachable):
        blocks(0, 199_999, patient=False)
    assert (len(endpoint.ranges), pauses) == (1, [])


def test_the_endpoint_may_say_how_long_to_wait(endpoint, reading):
    _, blocks, pauses = reading
    told = iter(["7", "999999", "soon"])

    def rule(_first, _last):
        wait = next(told, None)
        return (429, {"retry-after": wait}, {}) if wait else None

    endpoint.rule = rule
    blocks(0, 9)
    assert pauses == [7.0, 30.0, PAUSES_SECONDS[2]]


@pytest.mark.parametrize(
    "wrong", [{"topics": []}, {"data": "0x"}, {"topics": [TOPIC]}, {"blockNumber": None}, {"address": 7}, {"data": 7}]
)
def test_a_log_that_is_none_is_an_error_of_the_endpoint(endpoint, wrong):
    endpoint.rule = lambda _first, _last: (200, {}, {"result": [{**log(5), **wrong}]})
    chain = Chain(Deployment.bundled(CHAIN_ID), endpoint.url)
    chain._logs._sleep = lambda _seconds: None
    with pytest.raises(TrineError):
        list(chain.events_of((("Staking", "EndpointChanged"),), 0, 10))


@pytest.mark.parametrize("status", [429, 503])
def test_a_key_in_the_address_is_in_no_error(endpoint, status, caplog, capsys):
    endpoint.answer = lambda _method, _parameters: (status, {}, f"no: {endpoint.url}".encode())
    with caplog.at_level(logging.WARNING), pytest.raises(ChainError) as caught:
        Chain.connect(Deployment.bundled(CHAIN_ID), endpoint.url)
    captured = capsys.readouterr()
    assert KEY not in str(caught.value) + caplog.text + captured.out + captured.err
    assert "http://127.0.0.1:" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (f"https://user:{KEY}@rpc.example:8443/{KEY}/x?apikey={KEY}#{KEY}", "https://rpc.example:8443"),
        (f"https://rpc.example/v3/{KEY}", "https://rpc.example"),
        (f"wss://[2001:db8::1]:9/{KEY}", "wss://[2001:db8::1]:9"),
        (f"http://rpc.example:{KEY}/", "(its address is malformed)"),
    ],
)
def test_what_is_shown_of_an_address(url, origin):
    assert origin_of(url) == origin
    said = f"Max retries exceeded with url: {url.partition('example')[2]} for {url} ({KEY})"
    assert KEY not in without_secrets(said, url)
