"""Whether something that ends on the chain has ended for good: a re-org may take an end back, and whoever believed it
would look no more."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

ENDING_BLOCKS = 16
"""An end that was seen so many blocks long is one, however few confirmations are asked for: looking on costs little."""
REMEMBERED = 1 << 16


class Blocks(Protocol):
    """What is asked of a chain: see `trine.chain.Chain`."""

    def block_number(self) -> int: ...
    def confirmed_block(self) -> int: ...


class Staying:
    """What was seen of things, and since which block. One thread uses it."""

    def __init__(self, chain: Blocks) -> None:
        self._chain = chain
        self._since: dict[Hashable, tuple[Hashable, int]] = {}

    def stays(self, key: Hashable, seen: Hashable) -> bool:
        """Whether `seen` is what was seen of the thing for long enough. Asks no endpoint where blocks are followed."""
        head = self._chain.block_number()
        before, since = self._since.get(key, (None, head))
        if before != seen or since > head:  # it has changed, or the chain is shorter
            since = head
        if head >= since + ENDING_BLOCKS and self._chain.confirmed_block() >= since:
            self._since.pop(key, None)
            return True
        self._since[key] = seen, since
        while len(self._since) > REMEMBERED:
            self._since.pop(next(iter(self._since)))
        return False

    def forget(self, key: Hashable) -> None:
        """It has not ended after all."""
        self._since.pop(key, None)
