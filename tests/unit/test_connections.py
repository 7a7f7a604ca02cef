"""What strangers' connections may cost a service: slow ones, silent ones, many at once, ones that break off."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest
from eth_account import Account
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from test_node_support import RecordingChain, body, serving, signed_body, wait_for

from trine_operator.process import BackgroundServer, raise_file_limit
from trine_operator.service import bodies, connections
from trine_operator.service.connections import BoundedConnection

PATIENCE = 20.0
"""Seconds after which a connection that is still open counts as kept."""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\n"


@contextmanager
def listening(app: FastAPI) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = BackgroundServer(app, "127.0.0.1", port)
    server.start()
    try:
        yield port
    finally:
        server.stop()


@pytest.fixture(scope="module")
def ended() -> threading.Event:
    return threading.Event()


@pytest.fixture(scope="module")
def port(ended: threading.Event) -> Iterator[int]:
    app = FastAPI()

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def blocks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 16)
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(blocks())

    with listening(app) as chosen:
        yield chosen


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends the connection before patience does."""
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /he", b"GET /hello HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch, port: int, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with connected(port) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_a_head_in_drops_is_given_no_more_time(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    drops = 0
    with connected(port) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\n")
        connection.settimeout(0.1)
        for drops in range(100):
            try:
                connection.sendall(f"x-{drops}: 1\r\n".encode())
                if not connection.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert drops < 99


def test_a_second_head_is_bounded_as_the_first(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with connected(port) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        while b"hello" not in answer:
            answer += connection.recv(1 << 16)
        connection.sendall(b"GET /he")
        assert is_closed(connection)


def test_a_connection_is_kept_for_another_request(port: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http:
        assert [http.get("/hello").json() for _ in range(3)] == ["hello"] * 3


def test_an_idle_connection_is_kept_longer_than_clients_keep_it(port: int) -> None:
    """httpx keeps one for 5 s. If the server ends it at that moment, the next order is lost."""
    with connected(port) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.settimeout(7)
        assert not is_closed(connection)


def test_a_huge_head_is_refused(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 200_000)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400")
        assert is_closed(connection)


def test_who_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch, port: int, ended: threading.Event) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.5)
    ended.clear()
    with connected(port) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        assert ended.wait(PATIENCE)


def test_too_many_connections_are_told_when_to_come_again(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers={"connection": "close"}) as http:
        monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(connected(port))
            refused = http.get("/hello")
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "too_many_connections"
        wait_for(lambda: http.get("/hello").status_code == 200)


def test_no_connection_becomes_a_websocket(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(
            b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The node's own endpoints.


@pytest.fixture
def store_url(tmp_path):
    return f"sqlite:///{tmp_path}/node.sqlite"


def posting(url: str, rest: bytes) -> socket.socket:
    connection = connected(int(url.rpartition(":")[2]))
    connection.sendall(HEAD + rest)
    return connection


def test_a_body_that_does_not_come_is_refused(monkeypatch, store_url):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    with serving(store_url) as node, posting(node.url, b'content-length: 500\r\n\r\n{"model"') as connection:
        answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 408")
        assert is_closed(connection)


def test_who_leaves_in_the_middle_of_a_body_is_no_failure_of_the_node(store_url, capsys):
    with serving(store_url) as node:
        posting(node.url, b'content-length: 500\r\n\r\n{"model"').close()
        assert node.http.post("/v1/chat/completions", json=body()).status_code == 200
    assert "unexpected_error" not in capsys.readouterr().out


def test_bodies_on_their_way_have_a_bound_together(monkeypatch, store_url):
    monkeypatch.setattr(bodies, "BODIES_AT_ONCE", 1)
    with serving(store_url, max_body_bytes=20_000) as node, ExitStack() as stack:
        stack.enter_context(posting(node.url, b"content-length: 19999\r\n\r\n" + b" " * 19_990))
        wait_for(lambda: node.app.state.openai._bodies.taken > 10_000)
        refused = node.http.post("/v1/chat/completions", content=b" " * 15_000)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        stack.close()
        wait_for(lambda: node.app.state.openai._bodies.taken == 0)
        assert node.http.post("/v1/chat/completions", json=body()).status_code == 200


def test_a_slow_chain_keeps_orders_waiting_and_nothing_else(store_url, monkeypatch):
    """Evidence that nobody can fetch counts as withheld: a slash."""
    chain, released = RecordingChain(), threading.Event()
    slow = threading.Event()

    def account(*_):
        slow.set()
        released.wait(PATIENCE)
        return SlowAccount

    with serving(store_url, allow_unsigned=False, chain=chain, max_waiting=64) as node:
        monkeypatch.setattr(chain, "account", account)
        orders = [
            threading.Thread(
                target=httpx2.post,
                args=(f"{node.url}/v1/chat/completions",),
                kwargs={"json": signed_body(chain, Account.create()), "timeout": PATIENCE * 2},
            )
            for _ in range(40)
        ]
        for order in orders:
            order.start()
        try:
            assert slow.wait(PATIENCE)
            found = httpx2.get(f"{node.url}/v1/receipts/0x{'00' * 32}", timeout=5)
            assert json.loads(found.content)["error"]["code"] == "receipt_not_found"
        finally:
            released.set()
            for order in orders:
                order.join()


class SlowAccount:
    collected = 0
    firm = 10**30


def test_the_protocol_is_the_servers() -> None:
    server = BackgroundServer(FastAPI(), "127.0.0.1", 0)
    assert server._server.config.http is BoundedConnection
