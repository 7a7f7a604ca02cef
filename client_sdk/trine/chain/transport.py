"""One RPC endpoint over HTTP: posts JSON, reads JSON, within a bound of seconds and bytes. Knows no method."""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from trine.chain.endpoint import origin_of

CONNECTIONS = 32
"""Kept open, at most; more threads than that may ask."""
MAX_ANSWER_BYTES = 8 << 20
"""As many events as this holds are asked for in parts."""
PART_BYTES = 1 << 16
MAX_RETRY_AFTER_SECONDS = 30.0
TOO_LARGE = 413
"""HTTP's status for what is too large."""


class EndpointFailed(OSError):
    """An endpoint gave no answer, or something that is none. Its text shows nothing of the address but the origin."""

    def __init__(self, reason: str, *, status: int | None = None, retry_after: float = 0.0, silent: bool = False):
        """`status` is HTTP's, `retry_after` in seconds; `silent`: the time was up."""
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after
        self.silent = silent


class Transport:
    """Connections to one endpoint. Thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.origin = origin_of(url)

    def post(self, document: Any, timeout_seconds: float) -> Any:
        """What the endpoint answers to a JSON document. Raises EndpointFailed."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        try:
            return self._post(body, timeout_seconds)
        except urllib3.exceptions.ProtocolError:
            pass  # a connection that was kept open has died meanwhile
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise self._failed(error) from None
        try:
            return self._post(body, timeout_seconds)
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise self._failed(error) from None

    @cached_property
    def _http(self) -> urllib3.PoolManager:
        return _connections(self.url)

    def _post(self, body: bytes, timeout_seconds: float) -> Any:
        deadline = time.monotonic() + timeout_seconds
        response = self._http.request(
            "POST", self.url, body=body, timeout=timeout_seconds, retries=False, preload_content=False
        )
        try:
            if response.status != 200:
                raise EndpointFailed(
                    f"{self.origin} answers with status {response.status}",
                    status=response.status,
                    retry_after=_retry_after(response.headers.get("retry-after", "")),
                )
            raw = self._read(response, deadline)
        except BaseException:
            response.close()  # what is left of it is nobody's answer
            raise
        response.release_conn()
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise EndpointFailed(f"{self.origin} answers with something that is not JSON") from None

    def _read(self, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        parts, size = [], 0
        while part := response.read1(PART_BYTES):
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise EndpointFailed(f"{self.origin} answers with more than {MAX_ANSWER_BYTES} bytes", status=TOO_LARGE)
            if time.monotonic() > deadline:
                raise EndpointFailed(f"{self.origin} takes too long to answer", silent=True)
            parts.append(part)
        return b"".join(parts)

    def _failed(self, error: Exception) -> EndpointFailed:
        if isinstance(error, EndpointFailed):
            return error
        silent = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        return EndpointFailed(f"no answer from {self.origin} ({type(error).__name__})", silent=silent)


def _connections(url: str) -> urllib3.PoolManager:
    """By the proxy that the environment names, if any; with the address's user and password, if it has them."""
    address = urlsplit(url)
    proxy = None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)
    login = unquote(f"{address.username}:{address.password or ''}") if address.username else None
    headers = {"content-type": "application/json", **urllib3.make_headers(basic_auth=login, accept_encoding=True)}
    options: dict[str, Any] = {"maxsize": CONNECTIONS, "headers": headers}
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _retry_after(said: str) -> float:
    return min(float(said), MAX_RETRY_AFTER_SECONDS) if said.isascii() and said.isdigit() else 0.0
