"""What strangers send as a request's body: JSON, within bytes and seconds, and within a bound over all that arrive."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from trine.protocol.members import RepeatedMember, require_each_once
from trine_operator.refusal import Refusal

BODY_SECONDS = 30.0
DISCARDED_BYTES = 16 << 20
"""Of a body that is too large: a connection that is closed while its client still sends is reset, and the client never
reads why."""
BODIES_AT_ONCE = 32
"""As many bodies of the largest size may be on their way at once, or any number of smaller ones."""


async def read_json(request: Request, limit: int, budget: BodyBudget) -> Any:
    """The body as JSON, read within `limit` bytes and BODY_SECONDS. Raises Refusal."""
    return parse_json(await read_body(request, limit, budget))


async def read_body(request: Request, limit: int, budget: BodyBudget) -> bytes:
    """The body, read within `limit` bytes and BODY_SECONDS. Raises Refusal."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        # A small one may be any size once it is unpacked.
        said = "the body is compressed: send it as it is, without Content-Encoding"
        raise Refusal(said, status=415, code="unsupported_encoding", param="content-encoding")
    body, beyond = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                if beyond or len(body) + len(chunk) > limit:
                    beyond += len(chunk)
                    if beyond > DISCARDED_BYTES:
                        break
                    continue
                budget.take(len(chunk))
                body += chunk
    except TimeoutError:
        said = f"the body did not arrive within {BODY_SECONDS:g} s"
        raise Refusal(said, status=408, code="body_too_slow") from None
    except ClientDisconnect:
        raise Refusal("the client left while it sent its request", status=499, code="client_left") from None
    finally:
        budget.give_back(len(body))
    if beyond:
        raise Refusal(f"the body exceeds {limit} bytes", status=413, code="body_too_large")
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """Raises Refusal, for a member that stands in an object twice, too."""
    try:
        # Not `json`: its depth is bounded by the interpreter's recursion limit, which libraries raise until a deeply
        # nested body overflows the C stack and ends the process.
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(f"the body is not JSON: {error}", code="invalid_json") from None
    try:
        require_each_once(body)
    except RepeatedMember as error:
        raise Refusal(f"the body is ambiguous: {error}", code="repeated_field", param=error.name) from None
    if not _is_finite(document):
        raise Refusal("the body is not JSON: a number in it is larger than any number", code="invalid_json")
    return document


def _is_finite(document: Any) -> bool:
    """Whether all numbers are: 1e400 is spelled as JSON is, and read as infinity."""
    left = [document]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
        elif isinstance(part, float) and not math.isfinite(part):
            return False
    return True


class BodyBudget:
    """How many bytes of bodies may be on their way at once, whoever sends them. Used on the event loop only."""

    def __init__(self, largest: int) -> None:
        """`largest`: bytes of one."""
        self._most = BODIES_AT_ONCE * largest
        self.taken = 0

    def take(self, size: int) -> None:
        """Raises Refusal (429), and takes nothing, when it would be more."""
        if self.taken + size > self._most:
            raise Refusal("too much is being sent at once: try again", status=429, code="too_busy")
        self.taken += size

    def give_back(self, size: int) -> None:
        self.taken -= size


async def disconnected(request: Request) -> None:
    """Returns when the client has gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
