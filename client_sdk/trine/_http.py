"""What is asked of nodes over HTTP: each answer has an end in time and a bound in bytes, whatever a node sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import httpx2

from trine._failover import CONNECT_SECONDS, Patience
from trine._flow import NOT_CONNECTED
from trine._reading import PLAIN, SMALL_SECONDS, Body, Fetch, Reply, decoded, require_plain
from trine._sockets import use_streams
from trine.errors import NodeUnreachable

if TYPE_CHECKING:
    from trine._sealed import Opening

KEPT_SECONDS = 15.0
"""How long a connection is kept that nobody uses; nodes keep them for 30."""
CONNECTIONS = httpx2.Limits(max_connections=1024, max_keepalive_connections=256, keepalive_expiry=KEPT_SECONDS)


class Http:
    """Connections to nodes, which are kept."""

    def __init__(self, timeout: float, client: httpx2.AsyncClient | None = None) -> None:
        self._client = client or httpx2.AsyncClient(timeout=timeout, limits=CONNECTIONS)
        if client is None:
            use_streams(self._client)

    async def close(self) -> None:
        await self._client.aclose()

    async def fetched(self, step: Fetch) -> Reply:
        """Raises httpx2.HTTPError, NodeUnreachable, VerificationFailed."""
        deadline, headers = time.monotonic() + step.seconds, {**PLAIN, **step.headers}
        async with (
            _within(step.seconds, step.url),
            self._client.stream(
                step.method,
                step.url,
                headers=headers,
                json=step.json,
                content=step.content,
                timeout=_timeout(step.seconds),
            ) as response,
        ):
            return await _read(response, step.url, deadline)

    async def events(
        self, step: Fetch, opening: Opening | None, patience: Patience, has_begun: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of an event stream, opened where it is sealed. Raises httpx2.HTTPError, NodeError,
        VerificationFailed."""
        url = step.url
        async with AsyncExitStack() as opened:
            async with _within(patience.seconds, url):
                response = await opened.enter_async_context(
                    self._client.stream(
                        step.method,
                        url,
                        headers={**PLAIN, **step.headers},
                        json=step.json,
                        content=step.content,
                        timeout=_timeout(patience.seconds, bounds_reads=False),  # `_within` does, for less
                    )
                )
                if response.status_code != 200:
                    reply = await _read(response, url, time.monotonic() + SMALL_SECONDS)
                    if opening:
                        opening.refused(reply)
                    decoded(reply)
            require_plain(response.headers)
            chunks = response.aiter_raw()
            while True:
                asked = time.monotonic()
                async with _within(patience.seconds, url):
                    chunk = await anext(chunks, None)
                patience.spend(time.monotonic() - asked, begun=has_begun())
                if chunk is None:
                    return
                yield opening.feed(chunk) if opening else chunk


def cut_off(error: httpx2.HTTPError, url: str) -> NodeUnreachable:
    """What it means that a stream ended so."""
    return NodeUnreachable(
        f"{url:.200}: the answer was cut off ({type(error).__name__}): ask again, or name another node",
        unsent=isinstance(error, NOT_CONNECTED),
    )


async def _read(response: httpx2.Response, url: str, deadline: float) -> Reply:
    body = Body(url, response.headers, deadline)
    async for chunk in response.aiter_raw():
        body.add(chunk)
    return Reply(response.status_code, response.headers, body.whole())


def _timeout(seconds: float, *, bounds_reads: bool = True) -> httpx2.Timeout:
    """Of a connection, and of every wait for more bytes."""
    reads = seconds if bounds_reads else None
    return httpx2.Timeout(seconds, read=reads, connect=min(seconds, CONNECT_SECONDS))


@asynccontextmanager
async def _within(seconds: float, url: str) -> AsyncIterator[None]:
    """What is read in it, heads and the host's address included, comes within so many seconds, or NodeUnreachable is
    raised."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NodeUnreachable(f"{url:.200}: the answer did not end in time") from None
