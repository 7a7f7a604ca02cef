"""Which blocks of the cache hold which tokens: room, sharing of common beginnings, reuse. Pure bookkeeping.

Two sequences that begin with the same tokens share the blocks of the beginning. That changes no answer: a block's
contents depend on nothing but the tokens up to its end.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK = 16
"""Tokens in a block."""


@dataclass(slots=True)
class Room:
    """The blocks of one sequence, enough for what there is of it."""

    table: list[int]
    known: int  # leading tokens whose keys and values are there already
    names: list[bytes] = field(default_factory=list)  # of the full blocks so far


class BlockPool:
    """Owns a fixed number of blocks. Not thread-safe."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._free = list(range(blocks - 1, -1, -1))
        self._users = [0] * blocks
        self._named: dict[bytes, int] = {}
        self._name_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # named, in no use; the longest idle first

    @property
    def available(self) -> int:
        """Blocks that a new sequence could have."""
        return len(self._free) + len(self._idle)

    def take(self, prompt: Sequence[int], tokens: int, spare: int = 0) -> Room | None:
        """Room for `tokens` tokens that begin with `prompt`, or None while there is none, or no `spare` blocks beside.

        The last token of the prompt is never counted as known: what it predicts has to be computed.
        """
        needed = -(-tokens // BLOCK)
        shared: list[int] = []
        names: list[bytes] = []
        for name in block_names(prompt[: len(prompt) - 1]):
            block = self._named.get(name)
            if block is None:
                break
            shared.append(block)
            names.append(name)
        if needed - len(shared) + spare > self.available - sum(block in self._idle for block in shared):
            return None
        for block in shared:
            self._idle.pop(block, None)
            self._users[block] += 1
        fresh = [self._take_one() for _ in range(needed - len(shared))]
        return Room([*shared, *fresh], len(shared) * BLOCK, names)

    def grow(self, room: Room, tokens: int) -> bool:
        """Whether there is room for so many tokens now; takes the missing blocks, or none of them."""
        missing = -(-tokens // BLOCK) - len(room.table)
        if missing > self.available:
            return False
        room.table += [self._take_one() for _ in range(missing)]
        return True

    def note(self, room: Room, tokens: Sequence[int]) -> None:
        """The blocks of `room` now hold `tokens`: full ones can be shared from here on."""
        full = len(tokens) // BLOCK
        while len(room.names) < full:
            number = len(room.names)
            before = room.names[-1] if room.names else b""
            name = block_name(before, tokens[number * BLOCK : (number + 1) * BLOCK])
            room.names.append(name)
            block = room.table[number]
            if name not in self._named:
                self._named[name] = block
                self._name_of[block] = name

    def forget(self, room: Room) -> None:
        """No other sequence shares what these blocks hold from here on."""
        for block in room.table:
            if name := self._name_of.pop(block, None):
                del self._named[name]

    def give_back(self, room: Room) -> None:
        for block in reversed(room.table):
            self._users[block] -= 1
            if self._users[block] == 0:
                if block in self._name_of:
                    self._idle[block] = None
                else:
                    self._free.append(block)
        room.table = []

    def _take_one(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            del self._named[self._name_of.pop(block)]
        self._users[block] = 1
        return block


def block_names(tokens: Sequence[int]) -> list[bytes]:
    """A name for every full block, which fixes all tokens up to the block's end."""
    names: list[bytes] = []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        names.append(block_name(names[-1] if names else b"", tokens[start : start + BLOCK]))
    return names


def block_name(before: bytes, tokens: Sequence[int]) -> bytes:
    return hashlib.sha256(before + b"".join(token.to_bytes(4, "big") for token in tokens)).digest()
