"""What a stranger's HTTP endpoint answers: bounded in bytes and seconds, whatever it sends how slowly.

For endpoints that operators have registered. `trine.fetching` is for addresses that must lead into no private network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from trine.errors import NodeError, NodeUnreachable

MAX_SMALL_BYTES = 16_384
MAX_ERROR_BYTES = 4096
"""Of an answer that is none; the rest is not read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole one, of any status."""

    url: str
    status: int
    body: bytes

    def good(self) -> bytes:
        """The body. Raises NodeError for another status than 200, with the beginning of what it says."""
        if self.status != 200:
            said = self.body[:300].decode("utf-8", "replace")
            raise NodeError(f"{self.url:.200} answers {self.status}: {said}")
        return self.body


async def ask(
    url: str,
    most_bytes: int,
    seconds: float,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    http: httpx2.AsyncClient | None = None,
) -> Answer:
    """The answer to a GET, or with `content` to a POST. `http`: a client that is kept, which follows no redirects.

    Raises NodeUnreachable where there is no whole answer within `seconds`, NodeError for one that is compressed or of
    more than `most_bytes`.
    """
    if http is None:
        async with httpx2.AsyncClient(timeout=None, follow_redirects=False) as own:
            return await ask(url, most_bytes, seconds, headers=headers, content=content, http=own)
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise NodeUnreachable(f"the operator registered no endpoint that can be asked: {url!r:.200}")
        # A time-out of each read would not end what comes byte by byte; this one ends anything, headers included. Not
        # `wait_for`: that of Python 3.11 loses a cancellation that comes with the answer.
        async with asyncio.timeout(seconds):
            return await _answer(http, url, most_bytes, headers or {}, content)
    except TimeoutError:
        raise NodeUnreachable(f"{url:.200}: not all of it came within {seconds:.0f} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
        raise NodeUnreachable(f"{url:.200}: {type(error).__name__}") from None


async def _answer(
    http: httpx2.AsyncClient, url: str, most_bytes: int, headers: Mapping[str, str], content: bytes | None
) -> Answer:
    # Compressed bytes would be unpacked before anybody could count them.
    plain = {**headers, "accept-encoding": "identity"}
    body = bytearray()
    async with http.stream("GET" if content is None else "POST", url, content=content, headers=plain) as response:
        if "content-encoding" in response.headers:
            encoding = response.headers["content-encoding"]
            raise NodeError(f"{url:.200} sends a compressed answer, which nobody asked for: {encoding!r:.40}")
        async for chunk in response.aiter_raw():
            body += chunk
            if response.status_code != 200 and len(body) >= MAX_ERROR_BYTES:
                break
            if len(body) > most_bytes:
                raise NodeError(f"{url:.200} sends more than {most_bytes} bytes")
        return Answer(url, response.status_code, bytes(body))


def fetch_small(urls: Sequence[str], seconds: float) -> list[bytes | None]:
    """The bodies of good answers, in the order of `urls`; None for each that did not come whole within `seconds`."""

    async def one(http: httpx2.AsyncClient, url: str) -> bytes | None:
        try:
            return (await ask(url, MAX_SMALL_BYTES, seconds, http=http)).good()
        except NodeError:
            return None

    async def all_of_them() -> list[bytes | None]:
        async with httpx2.AsyncClient(timeout=None, follow_redirects=False) as http:
            return await asyncio.gather(*(one(http, url) for url in urls))

    return asyncio.run(all_of_them())
