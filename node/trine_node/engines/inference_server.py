"""HTTP to an inference server, as an engine may rely on it: whatever goes wrong is an EngineError that says what.

Every wait has an end and every answer a largest size. Knows no server's API; `dialects` does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx2

from trine.errors import InvalidInput
from trine_node.engines.base import EngineError

CONNECT_SECONDS = 10.0
MAX_BODY_BYTES = 1 << 20
MAX_EVENT_BYTES = 1 << 20
MAX_ERROR_CHARACTERS = 300
MAX_CONNECTIONS = 256


class ServerNotUp(EngineError):
    """The server cannot be reached, or says itself that it is not ready: it may be later."""


class InferenceServer:
    """One server. Safe to use from many threads."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout_seconds: float = 120.0) -> None:
        """`timeout_seconds` is the longest wait for a whole response, or for the next event of a stream."""
        self.url = url.rstrip("/")
        self._seconds = timeout_seconds
        headers = {"accept-encoding": "identity"}  # so that sizes are what they seem
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        try:
            self._client = httpx2.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx2.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS),
                follow_redirects=False,
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise InvalidInput(f"engine_url {url!r} is no address of a server: {error}") from None

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        with self._response("GET", path, None) as response:
            return self._parsed(self._body(response, MAX_BODY_BYTES))

    def post(self, path: str, body: Mapping[str, Any], *, max_bytes: int = MAX_BODY_BYTES) -> Any:
        with self._response("POST", path, body) as response:
            return self._parsed(self._body(response, max_bytes))

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The data of server-sent events as they come, up to `[DONE]` or the end. Closing it closes the connection."""
        with self._response("POST", path, body) as response:
            for line in self._lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                yield self._parsed(data)

    def fault(self, message: str) -> EngineError:
        return EngineError(f"inference server {self.url}: {message}")

    @contextmanager
    def _response(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[httpx2.Response]:
        try:
            with self._client.stream(method, path, json=body) as response:
                if response.status_code != 200:
                    self._refuse(response)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise self.fault("its answer is compressed, which was not asked for")
                yield response
        except httpx2.TimeoutException:
            raise self.fault(f"no answer within {self._seconds:g} s (engine_timeout_seconds)") from None
        except httpx2.ConnectError as error:
            raise ServerNotUp(f"inference server {self.url} cannot be reached: {error}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise self.fault(f"the connection broke: {error or type(error).__name__}") from None

    def _refuse(self, response: httpx2.Response) -> NoReturn:
        said = self._body(response, MAX_BODY_BYTES).decode("utf-8", "replace")
        message = f"status {response.status_code}: {' '.join(said.split())[:MAX_ERROR_CHARACTERS]}"
        if response.status_code == 503:
            raise ServerNotUp(f"inference server {self.url}: {message}")
        raise self.fault(message)

    def _body(self, response: httpx2.Response, max_bytes: int) -> bytes:
        deadline = time.monotonic() + self._seconds
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > max_bytes:
                raise self.fault(f"its answer has over {max_bytes} bytes")
            self._in_time(deadline)
        return bytes(body)

    def _lines(self, response: httpx2.Response) -> Iterator[bytes]:
        """Whole lines. Comments and single bytes do not put the deadline off, events do."""
        deadline = time.monotonic() + self._seconds
        rest = b""
        for chunk in response.iter_raw():
            *lines, rest = (rest + chunk).split(b"\n")
            if max(len(rest), *map(len, lines), 0) > MAX_EVENT_BYTES:
                raise self.fault(f"an event of its stream has over {MAX_EVENT_BYTES} bytes")
            for line in lines:
                yield line.rstrip(b"\r")
                if line.startswith(b"data:"):
                    deadline = time.monotonic() + self._seconds
            self._in_time(deadline)

    def _in_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise self.fault(f"no answer within {self._seconds:g} s (engine_timeout_seconds)")

    def _parsed(self, data: bytes) -> Any:
        try:
            return json.loads(data, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise self.fault(f"what it sent is not JSON: {data[:80]!r}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
