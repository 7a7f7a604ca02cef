"""What a node's HTTP answer may cost who reads it: bytes and seconds in all, and no decompression. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trine.errors import NodeUnreachable, VerificationFailed

MAX_BODY_BYTES = 32 << 20
"""An account may show 4,096 orders, with proofs; everything else is far smaller."""
PLAIN = {"accept-encoding": "identity"}
"""A few bytes may decompress to any number."""


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
