"""A verifier's vote on a batch: two words of 256 bits, committed before they are revealed.

Bit i of the first: leaf i is what the model produces. Bit i of the second: it is not. Neither: inconclusive. Both:
unavailable, what the leaf stands for was not shown in time. That is no doubt of the answer and no guilt of the seat, so
it is never wrong, whatever is shown later, and never earns anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.committee import COMMITTEE_SIZES
from trine.protocol.merkle import MAX_LEAVES

MAX_SEATS = max(COMMITTEE_SIZES)
ALL_LEAVES = (1 << MAX_LEAVES) - 1
MAX_DISTANCE_PPM = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Vote:
    """What a seat, or a committee, says of each leaf: three disjoint words of 256 bits, inconclusive without a bit."""

    accepts: int
    rejects: int
    unavailable: int = 0

    def __post_init__(self) -> None:
        words = (self.accepts, self.rejects, self.unavailable)
        if not all(0 <= word < 1 << MAX_LEAVES for word in words):
            raise InvalidInput("a vote is of words of 256 bits")
        if self.accepts & self.rejects or (self.accepts | self.rejects) & self.unavailable:
            raise InvalidInput("a vote says only one thing of a leaf")

    @classmethod
    def from_words(cls, first: int, second: int) -> Self:
        """From the two words that are committed and revealed."""
        return cls(first & ~second, second & ~first, first & second)

    @property
    def words(self) -> tuple[int, int]:
        """As it is committed and revealed: an unavailable leaf has its bit in both."""
        return self.accepts | self.unavailable, self.rejects | self.unavailable

    @property
    def leaves(self) -> int:
        """Those of which it says anything."""
        return self.accepts | self.rejects | self.unavailable

    def on(self, leaf: int) -> str:
        """'accept', 'reject', 'unavailable' or 'inconclusive'."""
        if self.accepts >> leaf & 1:
            return "accept"
        if self.unavailable >> leaf & 1:
            return "unavailable"
        return "reject" if self.rejects >> leaf & 1 else "inconclusive"


def commitment(
    chain_id: int,
    batches: str,
    batch_id: bytes,
    round_: int,
    verifier: str,
    vote: Vote,
    distance_ppm: int,
    salt: bytes,
) -> bytes:
    """What `Batches.commit` takes: binds chain, contract, batch, round and verifier, so a copy is worthless.

    `distance_ppm` is the largest deviation of any leaf, see `distance_ppm_of`. `salt` is 32 random bytes; without it
    the few likely votes could be guessed from the commitment.
    """
    kinds = ["uint256", "address", "bytes32", "uint8", "address", "uint256", "uint256", "uint32", "bytes32"]
    values = [chain_id, batches, batch_id, round_, verifier, *vote.words, distance_ppm, salt]
    return bytes(keccak(encode(kinds, values)))


def distance_ppm_of(deviations: Iterable[float]) -> int:
    """The largest of the leaves' deviations in millionths, rounded up, at most 2^32 - 1; 0 of none."""
    return min(math.ceil(max(deviations, default=0.0) * 1_000_000), MAX_DISTANCE_PPM)


def majority(words: Sequence[int]) -> int:
    """Bits that more than half of the words have set; an odd number of words, at most 15.

    Bit-sliced counters, as in `Majority.ofMany`: digit d of all 256 counts in one word. They start at
    8 - (n + 1) / 2, so that the word which makes a majority carries out of three digits.
    """
    n = len(words)
    if n % 2 == 0 or n > MAX_SEATS:
        raise InvalidInput(f"a majority is of an odd number of words up to {MAX_SEATS}, not {n}")
    start = 8 - (n + 1) // 2
    digits = [ALL_LEAVES if start >> d & 1 else 0 for d in range(3)]
    result = 0
    for word in words:
        carry = word
        for d in range(3):
            digits[d], carry = digits[d] ^ carry, digits[d] & carry
        result |= carry
    return result


def settle(votes: Sequence[Vote | None]) -> Vote:
    """What a committee says; a seat that did not reveal is None and says nothing."""
    if len(votes) not in COMMITTEE_SIZES:
        raise InvalidInput(f"a committee has 3, 7 or 15 seats, not {len(votes)}")
    revealed = [vote or Vote(0, 0) for vote in votes]
    return Vote(
        majority([vote.accepts for vote in revealed]),
        majority([vote.rejects for vote in revealed]),
        majority([vote.unavailable for vote in revealed]),
    )


def agreed(vote: Vote, decided: Vote) -> int:
    """Leaves on which a vote is what was decided, and that is conclusive."""
    return vote.accepts & decided.accepts | vote.rejects & decided.rejects


def wrong(vote: Vote, decided: Vote) -> int:
    """Leaves on which a vote is against what was decided. Neither doubt nor what was not shown ever is."""
    return vote.accepts & decided.rejects | vote.rejects & decided.accepts
