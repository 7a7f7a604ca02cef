"""Who asks, and how often: the key in `Authorization`, before anything else of a request is read."""

from __future__ import annotations

import base64
import binascii
import time
from collections import OrderedDict

from fastapi import Request

from trine_gateway import keys
from trine_gateway.asking import Asking
from trine_gateway.rates import Rate, Rates
from trine_gateway.records import Key
from trine_gateway.store import GatewayStore
from trine_operator.refusal import Refusal

REMEMBERED_SECONDS = 2.0
"""A key that was revoked is known so long at most; nothing can be spent with it from the first moment on."""
REMEMBERED = 4_096
NOBODY = keys.hash_of("")


class Access:
    """Used on the event loop only."""

    def __init__(self, store: GatewayStore, asking: Asking) -> None:
        self._store = store
        self._asking = asking
        self._rates = Rates()
        self._known: OrderedDict[str, tuple[float, Key]] = OrderedDict()

    async def key(self, request: Request) -> Key:
        """Raises Refusal (401)."""
        header = _only(request, "authorization")
        text = keys.bearer(header)
        if text is None:
            raise Refusal(
                "You didn't provide an API key: send it in an Authorization header, Authorization: Bearer YOUR_KEY",
                status=401,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return await self._recognized(text)

    async def key_of_browser(self, request: Request) -> Key:
        """Also by the password that a browser asks for. Raises Refusal (401)."""
        header = _only(request, "authorization")
        scheme, _, encoded = header[: 2 * keys.MAX_HEADER].partition(" ")
        if scheme.lower() != "basic":
            return await self.key(request)
        try:
            text = base64.b64decode(encoded, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            text = ""
        return await self._recognized(text)

    def rate(self, key: Key) -> Rate:
        """Counts a request. Raises Refusal (429)."""
        rate = self._rates.take(key.key_id, key.requests_per_minute, time.monotonic())
        if rate.wait_seconds:
            raise Refusal(
                f"Rate limit reached: this key may ask {rate.limit} times a minute. Try again in "
                f"{rate.wait_seconds:.1f} s",
                status=429,
                code="rate_limit_exceeded",
                headers={**rate.headers, "retry-after": str(int(rate.wait_seconds) + 1)},
            )
        return rate

    async def _recognized(self, text: str) -> Key:
        key_id = keys.id_of(text)
        key = await self._looked_up(key_id) if key_id else None
        is_right = keys.is_key(text, key.hash if key else NOBODY)
        if key is None or not is_right or not key.is_valid(time.time()):
            raise Refusal(
                f"Incorrect API key provided: {keys.shown(text)}",
                status=401,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return key

    async def _looked_up(self, key_id: str) -> Key | None:
        at, known = self._known.get(key_id, (0.0, None))
        if known is not None and time.monotonic() - at < REMEMBERED_SECONDS:
            return known
        found = await self._asking.apart(self._store.key, key_id)
        if found is not None:
            self._known[key_id] = time.monotonic(), found
            self._known.move_to_end(key_id)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found


def _only(request: Request, header: str) -> str:
    """A header that nobody may send twice: servers before this one may have read the other. Raises Refusal."""
    given = request.headers.getlist(header)
    if len(given) > 1:
        raise Refusal(f"the header {header} comes twice", code="invalid_header", param=header)
    return given[0] if given else ""
