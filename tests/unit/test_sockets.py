"""Connections of the SDK, over TCP and TLS: what goes wrong has the library's names, ends that nobody read are seen."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trine._http import Http
from trine._sockets import Streams, use_streams

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate of `localhost` that it has signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    written = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    written.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return written


async def answering(reader, writer):
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(ANSWER)
        await writer.drain()


def run(serve, ask, context=None):
    """`ask(port)` while `serve` answers each connection."""
    tasks = set()

    async def connected(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        try:
            return await asyncio.wait_for(ask(server.sockets[0].getsockname()[1]), 60)
        finally:
            server.close()
            for task in tasks:
                task.cancel()

    return asyncio.run(main())


def client(**options):
    made = httpx2.AsyncClient(timeout=20, **options)
    use_streams(made)
    assert isinstance(made._transport._pool._network_backend, Streams)
    return made


def test_the_sdk_uses_them():
    async def ask():
        http = Http(5.0)
        assert isinstance(http._client._transport._pool._network_backend, Streams)
        await http.close()

    asyncio.run(ask())


def test_over_tls_and_only_to_whom_the_certificate_names(certificate):
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def ask(port):
        async with client(verify=trusting) as http:
            for _ in range(3):
                assert (await http.get(f"https://localhost:{port}/")).text == "ok"
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"https://127.0.0.1:{port}/")
        async with client() as http:
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"https://localhost:{port}/")

    run(answering, ask, ours)


def test_a_connection_that_was_ended_while_it_was_idle_is_not_used_again():
    connections = []

    async def once(reader, writer):
        connections.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()

    async def ask(port):
        async with client() as http:
            for _ in range(3):
                assert (await http.get(f"http://127.0.0.1:{port}/")).text == "ok"
                await asyncio.sleep(0.1)

    run(once, ask)
    assert len(connections) == 3


def test_attack_what_was_sent_before_it_was_asked_for_is_no_answer():
    async def early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await asyncio.sleep(0.05)
        writer.write(ANSWER.replace(b"ok", b"no"))
        await reader.read()

    async def ask(port):
        async with client() as http:
            for _ in range(3):
                assert (await http.get(f"http://127.0.0.1:{port}/")).text == "ok"
                await asyncio.sleep(0.2)

    run(early, ask)


def test_what_goes_wrong_has_the_librarys_names():
    async def silent(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(30)

    async def ask(port):
        async with client() as http:
            with pytest.raises(httpx2.ReadTimeout):
                await http.get(f"http://127.0.0.1:{port}/", timeout=0.2)
            with pytest.raises(httpx2.ConnectError):
                await http.get("http://127.0.0.1:1/")
            with pytest.raises(httpx2.ConnectError):
                await http.get("http://no-such-host.invalid/")

    run(silent, ask)
