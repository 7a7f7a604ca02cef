"""Sealed requests: opened, handed to the same application as any other, and the answer sealed frame by frame.

`trine.protocol.sealing` is what travels. Keys are drawn here, live in this process's memory alone, and go one after the
other: a restart forgets them, and callers ask for the new one. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trine.protocol import sealing
from trine.protocol.access import FRESH_SECONDS
from trine.protocol.messages import Domain
from trine.protocol.sealing import Inner, SealingKey
from trine_operator.refusal import Refusal
from trine_operator.service.bodies import BodyBudget, read_body

KEY_SECONDS = 86_400
"""How long a key is given out; it opens for as long again, for who has it."""
EARLY_SECONDS = FRESH_SECONDS
"""A key is good from so long before it was drawn on: callers' endpoints may be behind."""
REMEMBERED = 1 << 16
"""Requests within twice FRESH_SECONDS, some 270 a second: beyond that, callers are told to come later."""
UNKNOWN_KEY, STALE, REPLAYED = "unknown_key", "stale_request", "replayed_request"


@dataclass(frozen=True, slots=True)
class _Drawn:
    key: SealingKey
    signature: bytes
    private: X25519PrivateKey
    drawn_at: int


class Seals:
    """One operator's keys, and the requests that were opened lately. Thread-safe."""

    def __init__(self, domain: Domain, operator: str, sign: Callable[[bytes], bytes], clock: Callable[[], int]) -> None:
        """`clock`: the chain's time, seconds."""
        self._lock = threading.Lock()
        self._domain = domain
        self._operator = operator
        self._sign = sign
        self._clock = clock
        self._keys: list[_Drawn] = []  # the newest last
        self._seen: dict[bytes, int] = {}  # by encapsulated key: until when it could be sent again; oldest first

    def shown(self) -> dict[str, Any]:
        """The key to seal to, with the operator's signature."""
        now = self._clock()
        with self._lock:
            self._forget_old(now)
            if not self._keys or not 0 <= now - self._keys[-1].drawn_at <= KEY_SECONDS:
                self._keys.append(self._drawn(now))
            newest = self._keys[-1]
        return {"key": newest.key.to_json(), "signature": "0x" + newest.signature.hex()}

    def open(self, wire: bytes) -> Inner:
        """Raises Refusal, or InvalidInput for what does not open."""
        named, now = sealing.key_id_of(wire), self._clock()
        with self._lock:
            self._forget_old(now)
            drawn = next((each for each in self._keys if each.key.key_id == named), None)
        if drawn is None:
            raise Refusal("it is sealed to a key that is not known here: ask for the new one", code=UNKNOWN_KEY)
        inner = sealing.open_request(wire, drawn.private, self._domain, self._operator)
        if abs(now - inner.at) > FRESH_SECONDS:
            said = f"sealed {abs(now - inner.at)} s off the chain's time, at most {FRESH_SECONDS} s are allowed"
            raise Refusal(said, status=401, code=STALE)
        with self._lock:
            self._note(sealing.encapsulated(wire), inner.at + FRESH_SECONDS, now)
        if inner.path.partition("?")[0] == sealing.SEALED_PATH:
            raise Refusal("a sealed request holds no other one", code="sealed_twice")
        return inner

    def _forget_old(self, now: int) -> None:
        self._keys = [each for each in self._keys if each.key.valid_until >= now]

    def _note(self, name: bytes, until: int, now: int) -> None:
        """Raises Refusal for a request that was here before, or when there are too many to know."""
        if name in self._seen:
            raise Refusal("this sealed request was sent before: seal it anew", status=401, code=REPLAYED)
        if len(self._seen) >= REMEMBERED:
            self._seen = {each: end for each, end in self._seen.items() if end >= now}
        if len(self._seen) >= REMEMBERED:
            raise Refusal("too many sealed requests at once: try again", status=429, code="too_busy")
        self._seen[name] = until

    def _drawn(self, now: int) -> _Drawn:
        private = X25519PrivateKey.generate()
        since = max(now - EARLY_SECONDS, 0)
        until = now + sealing.MAX_KEY_SECONDS - EARLY_SECONDS
        key = SealingKey(self._operator, private.public_key().public_bytes_raw(), since, until)
        return _Drawn(key, self._sign(key.digest(self._domain)), private, now)


def serve_sealed(app: FastAPI, seals: Seals, max_body_bytes: int) -> None:
    """Adds the two endpoints. What comes sealed goes through the whole application, as what comes open does."""
    budget = BodyBudget(max_body_bytes + sealing.OVERHEAD_BYTES)

    async def key() -> dict[str, Any]:
        return await asyncio.to_thread(seals.shown)

    async def sealed(request: Request) -> Response:
        wire = await read_body(request, max_body_bytes + sealing.OVERHEAD_BYTES, budget)
        inner = await asyncio.to_thread(seals.open, wire)
        return _SealedAnswer(app, inner, sealing.Sealer(inner.secret, wire))

    app.add_api_route(sealing.KEY_PATH, key, methods=["GET"])
    app.add_api_route(sealing.SEALED_PATH, sealed, methods=["POST"], response_model=None)


class _SealedAnswer(Response):
    """What the application answers to the request inside, frame by frame as it comes."""

    def __init__(self, app: ASGIApp, inner: Inner, sealer: sealing.Sealer) -> None:
        super().__init__(media_type=sealing.MEDIA_TYPE)
        self._app = app
        self._inner = inner
        self._sealer = sealer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_read = False

        async def body() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()  # what is left to come is that the caller goes
            is_read = True
            return {"type": "http.request", "body": self._inner.body, "more_body": False}

        async def seal(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
                first = self._sealer.begin(message["status"], headers)
                kind = [(b"content-type", sealing.MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 200, "headers": kind})
                await send({"type": "http.response.body", "body": first, "more_body": True})
            elif message["type"] == "http.response.body":
                is_last = not message.get("more_body", False)
                frames = self._sealer.frames(message.get("body", b""), is_last=is_last)
                await send({"type": "http.response.body", "body": frames, "more_body": not is_last})

        await self._app(_scope_of(self._inner, scope), body, seal)


def _scope_of(inner: Inner, outer: Scope) -> Scope:
    """The request inside, over the same connection."""
    path, _, query = inner.path.partition("?")
    kept = {name: outer[name] for name in ("type", "asgi", "http_version", "scheme", "client", "server")}
    headers = {name.lower(): value for name, value in inner.headers.items() if name.lower() != "content-length"}
    return {
        **kept,
        "method": inner.method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            *((name.encode(), value.encode()) for name, value in headers.items()),
            (b"content-length", str(len(inner.body)).encode()),
        ],
    }
