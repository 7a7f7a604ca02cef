"""Which blocks are taken to stay: those with so many on top, or those that the chain itself calls safe or finalized."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from trine.chain.follower import Head
from trine.errors import InvalidInput

MAX_DEPTH = 100_000
TAG_DEPTHS = {"safe": 32, "finalized": 64}
"""One and two epochs of Ethereum: what stands for a tag where an endpoint has no such tags."""
TAG_SECONDS = 6.0
"""A tag moves once an epoch: it is asked for no more often."""
NO_TAGS_SECONDS = 600.0
"""Between tries with endpoints that have no tags."""


@dataclass(frozen=True, slots=True)
class Confirmations:
    """The setting `confirmations`: a number of blocks, or a tag in place of it."""

    depth: int
    tag: str | None = None

    @classmethod
    def of(cls, setting: int | str) -> Self:
        """Raises InvalidInput for what is neither a number of blocks nor a tag."""
        if setting in TAG_DEPTHS:
            return cls(TAG_DEPTHS[str(setting)], str(setting))
        try:
            depth = int(setting)
        except ValueError:
            depth = -1
        if not 0 <= depth <= MAX_DEPTH:
            raise InvalidInput(
                f"confirmations: {setting!r} is neither a number of blocks up to {MAX_DEPTH} nor one of "
                f"{', '.join(TAG_DEPTHS)}"
            )
        return cls(depth)


LATEST = Confirmations(0)


class Confirming:
    """Knows the newest block that is taken to stay. A depth costs no call. Thread-safe."""

    def __init__(
        self,
        wanted: Confirmations,
        tagged_block: Callable[[str], Head | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tagged_block` gives the block that a tag names, None where the endpoint has no tags; `clock` in seconds."""
        self._wanted = wanted
        self._tagged_block = tagged_block
        self._clock = clock
        self._lock = threading.Lock()
        self._known: int | None = None
        self._ask_after = 0.0

    def block(self, newest: int) -> int:
        """From the newest block's number; -1 while the chain is too short."""
        by_depth = max(newest - self._wanted.depth, -1)
        if self._wanted.tag is None:
            return by_depth
        with self._lock:
            if self._clock() >= self._ask_after:
                head = self._tagged_block(self._wanted.tag)
                self._known = head.number if head else None
                self._ask_after = self._clock() + (TAG_SECONDS if head else NO_TAGS_SECONDS)
            return by_depth if self._known is None else min(self._known, newest)
