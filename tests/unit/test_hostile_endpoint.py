"""Whatever an RPC endpoint answers in the place of a result, nothing but Trine's errors comes of it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trine.chain import Chain, Deployment, Role
from trine.errors import TrineError

CHAIN_ID = 31337
SOMEBODY, SOMETHING = "0x" + "11" * 20, b"\1" * 32
HEAD = {"hash": "0x" + "11" * 32, "parentHash": "0x" + "22" * 32}
JUNK = [
    None, True, -1, "", "0x", "-0x1", "0x" + "ff" * 40, "<html>", [], [None], {}, {"number": None}, 1.5, 10**400,
    {**HEAD, "number": "-0x1", "timestamp": "0x1"}, {**HEAD, "number": "0x" + "f" * 300, "timestamp": "0x1"},
    {"number": 5, "timestamp": "5", "hash": 7, "parentHash": []}, [{"address": None}],
    [{"address": SOMEBODY, "topics": [], "data": "0x", "blockNumber": "0x1", "logIndex": None}],
]  # fmt: skip
READS = {
    "head": lambda chain: chain.head(),
    "now": lambda chain: chain.now(),
    "a block's time": lambda chain: chain.block_timestamp(5),
    "hashes": lambda chain: chain.block_hashes([1, 2, 3]),
    "contracts' block": lambda chain: chain.contracts_block_number(),
    "an old block": lambda chain: chain.block_before(5),
    "a batch": lambda chain: chain.batch(SOMETHING),
    "models": lambda chain: chain.models(),
    "operators": lambda chain: chain.operators(SOMETHING, Role.NODE),
    "events": lambda chain: list(chain.events_of((("Batches", "BatchAnchored"),), 1, 5)),
    "the newest event": lambda chain: chain.newest_event("Batches", "BatchAnchored"),
}


class Endpoint(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Saying)
        self.result = None
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Saying(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        calls = asked if isinstance(asked, list) else [asked]
        said = [
            {"id": call["id"], "result": hex(CHAIN_ID) if call["method"] == "eth_chainId" else self.server.result}
            for call in calls
        ]
        body = json.dumps(said if isinstance(asked, list) else said[0]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def endpoint():
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
    thread.join(20)


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_attack_any_json_in_the_place_of_a_result(endpoint, read, monkeypatch):
    monkeypatch.setattr("trine.chain.logs.PAUSES_SECONDS", ())
    chain = Chain.connect(Deployment(CHAIN_ID, 1, Deployment.bundled(CHAIN_ID).contracts), endpoint.url)
    for endpoint.result in JUNK:
        with suppress(TrineError):
            read(chain)
