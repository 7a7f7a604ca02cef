"""A JSON-RPC proxy before a real chain: counts calls, and behaves as badly as a test tells it to."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import urllib3

Answer = tuple[int, bytes]
"""HTTP's status and body."""


class Proxy(ThreadingHTTPServer):
    """`refuse(method, params)` gives an answer of its own, or None; `edit(method, params, result)` changes a result.

    `ask(method, params)` changes what is asked. All may be set while it runs.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = upstream
        self.http = urllib3.PoolManager(maxsize=32)
        self.calls: list[str] = []
        self.sizes: list[int] = []  # of batches
        self.takes_batches = True
        self.announces = True
        self.silent_seconds = 0.0
        self.refuse: Callable[[str, list[Any]], Answer | None] = lambda _method, _params: None
        self.ask: Callable[[str, list[Any]], list[Any]] = lambda _method, params: params
        self.edit: Callable[[str, list[Any], Any], Any] = lambda _method, _params, result: result

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def forget(self) -> None:
        self.calls.clear()
        self.sizes.clear()

    def answer(self, raw: bytes) -> Answer:
        document = json.loads(raw)
        self.sizes += [len(document)] if isinstance(document, list) else []
        if self.silent_seconds:
            time.sleep(self.silent_seconds)
        calls = document if isinstance(document, list) else [document]
        if isinstance(document, list) and not self.takes_batches:
            return 400, b'{"error": {"code": -32600, "message": "batches are not supported"}}'
        answers = []
        for call in calls:
            method, params = call["method"], call.get("params", [])
            self.calls.append(method)
            refused = self.refuse(method, params)
            if refused:
                return refused
            asked = {**call, "params": self.ask(method, params)}
            said = json.loads(self.http.request("POST", self.upstream, json=asked, retries=False).data)
            if "result" in said:
                said["result"] = self.edit(method, params, said["result"])
            answers.append(said)
        return 200, json.dumps(answers if isinstance(document, list) else answers[0]).encode()


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Proxy

    def do_POST(self) -> None:
        status, body = self.server.answer(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """A WebSocket: bytes go through as they are."""
        self.close_connection = True
        if not self.server.announces:
            self.send_error(404)
            return
        address = urlsplit(self.server.upstream)
        with socket.create_connection((address.hostname, address.port)) as there:
            lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
            there.sendall("\r\n".join(lines).encode())
            up = threading.Thread(target=_pump, args=(self.connection, there), daemon=True)
            up.start()
            _pump(there, self.connection)

    def log_message(self, *_: object) -> None:
        pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    with Proxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
    thread.join(20)
