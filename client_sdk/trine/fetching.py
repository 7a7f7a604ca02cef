"""A small file from an address that a stranger chose: bounded in bytes and seconds, never where only we can reach.

The name is looked up once and the connection goes to that very address, so a name that answers differently the second
time leads nowhere else. Redirects are not followed, no proxy of the environment is asked, nothing is sent but the path.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trine.errors import InvalidInput, NotReady

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

TIMEOUT_SECONDS = 5.0
PART_BYTES = 1 << 14
LEADING_ELSEWHERE = tuple(
    map(ipaddress.ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10"))
)
"""Of IPv6: forms of addresses of IPv4, which gateways translate, and sites' own."""


def fetch(url: str, most_bytes: int, *, local: bool = False, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """What is at an address of HTTP. `local`: also this machine's and private networks'; and without TLS.

    Raises InvalidInput for an address that is not asked, NotReady when there is no whole answer in time. The time is
    for everything, the look-up of the name included: so all of it is done in a thread that nobody waits for longer.
    """
    said: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            said.put(_fetched(url, most_bytes, local, timeout_seconds))
        except Exception as error:  # noqa: BLE001  (raised below)
            said.put(error)

    threading.Thread(target=ask, name="fetching", daemon=True).start()
    try:
        found = said.get(timeout=timeout_seconds)
    except queue.Empty:
        raise NotReady(f"{_shown(url)} answers too slowly") from None
    if isinstance(found, Exception):
        raise found
    return found


def _fetched(url: str, most_bytes: int, local: bool, timeout_seconds: float) -> bytes:
    import urllib3

    parts = urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme
    if scheme not in ("https", "http") or not host or (scheme == "http" and not local):
        hint = "; with --allow-local http, too, and from this machine" if scheme == "http" else ""
        raise InvalidInput(f"{_shown(url)}: only https is fetched{' or http' if local else hint}")
    port = parts.port or (443 if scheme == "https" else 80)
    deadline = time.monotonic() + timeout_seconds
    address = _address_of(host, port, local)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    pool = _connection(scheme, host, address, port, timeout_seconds)
    try:
        response = pool.request(
            "GET",
            path,
            headers={"Host": parts.netloc.rpartition("@")[2], "Accept": "application/json", "User-Agent": "trine"},
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            if response.status != 200:
                raise NotReady(f"{_shown(url)} answers with status {response.status}")
            return _read(response, url, most_bytes, deadline)
        finally:
            response.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise NotReady(f"no answer from {_shown(url)} ({type(error).__name__})") from None
    finally:
        pool.close()


def _read(response: BaseHTTPResponse, url: str, most_bytes: int, deadline: float) -> bytes:
    answer = b""
    while part := response.read1(PART_BYTES):
        answer += part
        if len(answer) > most_bytes:
            raise NotReady(f"{_shown(url)} answers with more than {most_bytes} bytes")
        if time.monotonic() > deadline:
            raise NotReady(f"{_shown(url)} answers too slowly")
    return answer


def _address_of(host: str, port: int, local: bool) -> str:
    """Where the name leads. Every address that it has must be one that may be asked: one of them would be enough."""
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        raise NotReady(f"there is no address of {host[:80]}") from None
    if not found:
        raise NotReady(f"there is no address of {host[:80]}")
    for address in found:
        known = ipaddress.ip_address(address.partition("%")[0])
        inner = getattr(known, "ipv4_mapped", None) or known
        elsewhere = any(known in network for network in LEADING_ELSEWHERE if network.version == known.version)
        if not local and (elsewhere or not inner.is_global or inner.is_multicast):
            raise InvalidInput(f"{host[:80]} leads to {address}, into a network that is not everybody's: not fetched")
    return found[0]


def _connection(scheme: str, host: str, address: str, port: int, seconds: float) -> HTTPConnectionPool:
    """To the address, as the name: its certificate is the name's."""
    import urllib3

    if scheme == "http":
        return urllib3.HTTPConnectionPool(address, port, timeout=seconds, maxsize=1)
    return urllib3.HTTPSConnectionPool(
        address, port, timeout=seconds, maxsize=1, server_hostname=host, assert_hostname=host
    )


def _shown(url: str) -> str:
    """Without what may be a secret, and short."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
