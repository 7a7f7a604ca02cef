"""Files at addresses that strangers chose: bounded, timed, and never from where only this machine can reach."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trine.errors import InvalidInput, NotReady
from trine.fetching import fetch

MOST = 1_000


class Strange(BaseHTTPRequestHandler):
    """Serves as its path says."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("location", "/file")
            self.end_headers()
        elif self.path == "/large":
            self._send(b"x" * (MOST + 1))
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while not self.server.over.is_set():
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
                time.sleep(0.05)
        elif self.path == "/bomb":
            self._send(b"\x1f\x8b", encoding="gzip")
        else:
            self._send(b"a file")

    def _send(self, body, encoding=None):
        self.send_response(200)
        if encoding:
            self.send_header("content-encoding", encoding)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Strange) as served:
        served.daemon_threads = True
        served.asked, served.over = [], threading.Event()
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.over.set()
        served.shutdown()


def at(server, path):
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_file_is_fetched(server):
    assert fetch(at(server, "/file?a=b"), MOST, local=True) == b"a file"
    ((path, headers),) = server.asked
    assert path == "/file?a=b"
    assert headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert not {"Authorization", "Cookie"} & set(headers)


@pytest.mark.parametrize(
    ("path", "said"),
    [("/redirect", "status 302"), ("/large", f"more than {MOST} bytes"), ("/endless", "too slowly")],
)
def test_what_a_server_may_not_do(server, path, said):
    with pytest.raises(NotReady, match=said):
        fetch(at(server, path), MOST, local=True, timeout_seconds=0.5)


def test_compressed_bytes_are_not_blown_up(server):
    assert fetch(at(server, "/bomb"), MOST, local=True) == b"\x1f\x8b"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "0.0.0.0",  # noqa: S104
        "[::127.0.0.1]",
        "[fec0::1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::a00:1]",
        "[2002:7f00:1::]",
        "[::ffff:0:7f00:1]",
    ],
)
def test_a_strangers_address_leads_into_no_private_network(server, host):
    with pytest.raises(InvalidInput, match="not everybody's"):
        fetch(f"https://{host}:{server.server_port}/file", MOST)
    assert not server.asked


def test_a_name_is_looked_up_once_so_it_cannot_lead_elsewhere_the_second_time(server, monkeypatch):
    answers = iter(["93.184.216.34", "127.0.0.1"])
    looked_up = []

    def look_up(host, port, *_, **__):
        looked_up.append(host)
        address = next(answers) if host == "rebinding.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected = []

    def connect(self, address):
        connected.append(address)
        raise OSError("not from here")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(NotReady, match="no answer"):
        fetch("https://rebinding.example/file", MOST)
    assert looked_up.count("rebinding.example") == 1
    assert {host for host, _ in connected} == {"93.184.216.34"}


def test_a_name_with_one_private_address_among_others_is_not_asked(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(InvalidInput, match=r"leads to 10\.0\.0\.7"):
        fetch("https://both.example/file", MOST)


@pytest.mark.parametrize(
    "url", ["http://a.example/file", "ftp://a.example", "ipfs://cid", "file:///etc/passwd", "https://"]
)
def test_other_schemes_are_not_fetched(url):
    with pytest.raises(InvalidInput, match="only https"):
        fetch(url, MOST)


def test_what_may_be_secret_is_not_said():
    with pytest.raises(InvalidInput) as refused:
        fetch("http://user:secret@a.example/file?key=secret", MOST)
    assert "secret" not in str(refused.value)


DRIPS = {
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a"),
    "trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_attack_a_server_that_drips_whatever_it_sends_holds_nobody(drip):
    first, again = DRIPS[drip]
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            taken, _ = listening.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(first)
                while not over.wait(0.05):
                    try:
                        taken.sendall(again)
                    except OSError:
                        return

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        try:
            # Were it to wait for the server, it would never end.
            with pytest.raises(NotReady, match="too slowly"):
                fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/", MOST, local=True, timeout_seconds=0.5)
        finally:
            over.set()
            serving.join(5)
