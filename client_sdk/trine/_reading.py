"""What a node is asked by HTTP, and what its answer may cost who reads it: bytes and seconds in all, and no
decompression; its errors as exceptions. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trine.errors import NodeRefused, NodeUnreachable, PaymentRequired, VerificationFailed

MAX_BODY_BYTES = 32 << 20
"""An account may show 4,096 orders, with proofs; everything else is far smaller."""
MAX_RETRY_AFTER_SECONDS = 60.0
MAX_REASON = 2_000
SMALL_SECONDS = 30.0
"""For what a node knows without computing."""
PLAIN = {"accept-encoding": "identity"}
"""A few bytes may decompress to any number."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One HTTP request."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    seconds: float = SMALL_SECONDS  # for all of it
    content: bytes | None = None  # in place of JSON


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Raises ValueError or RecursionError for what is no JSON."""
        return json.loads(self.content)


def require_plain(headers: Mapping[str, str]) -> None:
    """Raises VerificationFailed for an answer that is compressed though nobody asked for that."""
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise VerificationFailed(f"the node's answer is compressed ({encoding:.40}), which was not asked for")


class Body:
    """Takes a body's bytes as they come."""

    def __init__(self, url: str, headers: Mapping[str, str], deadline: float) -> None:
        """`deadline`: of the monotonic clock, for the last byte. Raises VerificationFailed."""
        require_plain(headers)
        self._url = url
        self._deadline = deadline
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Raises VerificationFailed beyond MAX_BODY_BYTES, NodeUnreachable after the deadline."""
        self._size += len(chunk)
        if self._size > MAX_BODY_BYTES:
            raise VerificationFailed(f"the node's answer is longer than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > self._deadline:
            raise NodeUnreachable(f"{self._url:.200}: the answer did not end in time")
        self._parts.append(chunk)

    def whole(self) -> bytes:
        return b"".join(self._parts)


def decoded(response: Reply) -> Any:
    """The JSON of a good answer. Raises NodeRefused for any other."""
    try:
        document = response.json()
    except (ValueError, RecursionError):
        document = None
    if response.status_code != 200:
        raise refusal(response.status_code, document, response.headers.get("retry-after"))
    if document is None:
        raise VerificationFailed("the node's answer is not JSON")
    return document


def refusal(status: int, document: Any, retry_after: str | None = None) -> NodeRefused:
    """The node's error as an exception. `retry_after`: the header, in seconds."""
    error = document.get("error") if isinstance(document, dict) else None
    message, code, param = (error.get(key) if isinstance(error, dict) else None for key in ("message", "code", "param"))
    kind = PaymentRequired if status == 402 else NodeRefused
    wait = min(float(retry_after), MAX_RETRY_AFTER_SECONDS) if retry_after and retry_after.isdecimal() else None
    said = f"{message or 'no reason given'}"[:MAX_REASON]
    return kind(
        f"the node refused ({status}): {said}",
        status=status,
        code=code if isinstance(code, str) else None,
        retry_after=wait,
        param=param if isinstance(param, str) else None,
        said=said,
    )
