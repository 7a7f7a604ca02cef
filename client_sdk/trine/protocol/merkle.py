"""A batch's Merkle tree: depth 8, always; leaf i at position i; positions without an answer hold 32 zero bytes.

Inner nodes hash the sorted pair (what OpenZeppelin's `MerkleProof` expects). Sorted pairs do not bind a leaf's
position, so the index is inside the leaf; leaves are hashed twice, so no inner node can pass for one.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.messages import Receipt

DEPTH = 8
MAX_LEAVES = 1 << DEPTH
EMPTY_LEAF = bytes(32)


def leaf_hash(index: int, receipt: Receipt) -> bytes:
    """keccak256(keccak256(abi.encode(index, hashStruct(receipt)))). `LeafLib.leafHash` is its twin."""
    if not 0 <= index < MAX_LEAVES:
        raise InvalidInput(f"leaf index {index} is outside [0, {MAX_LEAVES})")
    inner = keccak(encode(["uint256", "bytes32"], [index, receipt.struct_hash()]))
    return bytes(keccak(inner))


def root(leaves: Sequence[bytes]) -> bytes:
    """Root over 1 to 256 leaf hashes (32 bytes each)."""
    return _levels(leaves)[-1][0]


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The eight siblings of leaf `index`, from the bottom up."""
    if not 0 <= index < len(leaves):
        raise InvalidInput(f"leaf index {index} is outside [0, {len(leaves)})")
    siblings = []
    for level in _levels(leaves)[:-1]:
        siblings.append(level[index ^ 1])
        index >>= 1
    return siblings


def verify(expected_root: bytes, leaf: bytes, siblings: Sequence[bytes]) -> bool:
    """Whether eight siblings lead from `leaf` to `expected_root`."""
    if len(siblings) != DEPTH or len(leaf) != 32 or any(len(s) != 32 for s in siblings):
        return False
    node = leaf
    for sibling in siblings:
        node = pair(node, sibling)
    return node == expected_root


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    if not 1 <= len(leaves) <= MAX_LEAVES:
        raise InvalidInput(f"a batch has 1 to {MAX_LEAVES} leaves, not {len(leaves)}")
    if any(len(leaf) != 32 or leaf == EMPTY_LEAF for leaf in leaves):
        raise InvalidInput("every leaf must be 32 bytes, not all of them zero")
    levels = [[*leaves, *[EMPTY_LEAF] * (MAX_LEAVES - len(leaves))]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([pair(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def pair(a: bytes, b: bytes) -> bytes:
    """Parent of two nodes, in whatever order."""
    return bytes(keccak(a + b if a < b else b + a))
