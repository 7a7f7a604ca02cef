"""Small documents of several strangers, asked at once: bounded in bytes and seconds, whatever they send how slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx2

MAX_BYTES = 16_384


def fetch_small(urls: Sequence[str], seconds: float) -> list[bytes | None]:
    """The bodies of good answers, in the order of `urls`; None for each that did not come whole within `seconds`."""
    return asyncio.run(_fetch_all(urls, seconds))


async def _fetch_all(urls: Sequence[str], seconds: float) -> list[bytes | None]:
    async with httpx2.AsyncClient(timeout=None, follow_redirects=False) as http:
        return await asyncio.gather(*(_fetch(http, url, seconds) for url in urls))


async def _fetch(http: httpx2.AsyncClient, url: str, seconds: float) -> bytes | None:
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            return None
        # A time-out of each read would not end what comes byte by byte; this one ends anything, headers included.
        return await asyncio.wait_for(_read(http, url), seconds)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
        return None


async def _read(http: httpx2.AsyncClient, url: str) -> bytes | None:
    body = bytearray()
    # Compressed bytes would be unpacked before anybody could count them.
    async with http.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
        if response.status_code != 200 or "content-encoding" in response.headers:
            return None
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > MAX_BYTES:
                return None
    return bytes(body)
