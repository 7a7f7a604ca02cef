"""Leaves that their node knows to be bad: what a header commits to, and what their clients sign to open them."""

from __future__ import annotations

from collections.abc import Collection

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.messages import Domain

MAX_LEAVES = 256
_TYPEHASH = keccak(text="Canary(bytes32 batchId,uint256 leafIndex)")


def word_of(leaves: Collection[int]) -> int:
    """Bit i is leaf i. Raises InvalidInput for a leaf that no batch has."""
    if any(not 0 <= leaf < MAX_LEAVES for leaf in leaves):
        raise InvalidInput(f"a batch has leaves 0 to {MAX_LEAVES - 1}")
    return sum(1 << leaf for leaf in set(leaves))


def commitment(leaves: Collection[int], salt: bytes) -> bytes:
    """A header's canary word: keccak256(abi.encode(word of the leaves, salt)). Nobody without the salt tells it from
    the random word of a batch without canaries."""
    return bytes(keccak(encode(["uint256", "bytes32"], [word_of(leaves), salt])))


def digest(domain: Domain, batch_id: bytes, leaf: int) -> bytes:
    """What the client of a canary signs; `domain` is that of `Canaries`."""
    struct = keccak(encode(["bytes32", "bytes32", "uint256"], [_TYPEHASH, batch_id, leaf]))
    return bytes(keccak(b"\x19\x01" + domain.separator() + struct))
