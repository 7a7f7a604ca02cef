"""A batch's Merkle tree, which counts tokens: depth 8, always; leaf i at position i; where no answer is, 32 zero bytes.

The last 32 bits of every node are the tokens, prompts and answers, of all receipts below it; the other 224 are of a
hash over both children with their counts. So the root commits to what the whole batch counts, and a node that claims
too few tokens cannot open all its leaves.

Inner nodes hash the sorted pair. Sorted pairs do not bind a leaf's position, so the index is inside the leaf; leaves
are hashed twice, so no inner node can pass for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from eth_abi.abi import encode
from eth_hash.auto import keccak

from trine.errors import InvalidInput
from trine.protocol.messages import Receipt

DEPTH = 8
MAX_LEAVES = 1 << DEPTH
EMPTY_LEAF = bytes(32)
COUNT_BYTES = 4
MAX_TOKENS = 2 ** (8 * COUNT_BYTES) - 1


def leaf_hash(index: int, receipt: Receipt) -> bytes:
    """keccak256(keccak256(abi.encode(index, hashStruct(receipt)))), with the receipt's tokens in its last four bytes.

    `LeafLib.leafHash` is its twin. Raises InvalidInput for an index or a count that no leaf has.
    """
    if not 0 <= index < MAX_LEAVES:
        raise InvalidInput(f"leaf index {index} is outside [0, {MAX_LEAVES})")
    inner = keccak(encode(["uint256", "bytes32"], [index, receipt.struct_hash()]))
    return _counting(bytes(keccak(inner)), receipt.prompt_tokens + receipt.output_tokens)


def tokens_of(node: bytes) -> int:
    """Tokens of all receipts below a node: of the whole batch, if it is the root."""
    return int.from_bytes(node[-COUNT_BYTES:], "big")


def root(leaves: Sequence[bytes]) -> bytes:
    """Root over 1 to 256 leaf hashes (32 bytes each). Raises InvalidInput, also when they count too many tokens."""
    return _levels(tuple(leaves))[-1][0]


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The eight siblings of leaf `index`, from the bottom up."""
    if not 0 <= index < len(leaves):
        raise InvalidInput(f"leaf index {index} is outside [0, {len(leaves)})")
    siblings = []
    for level in _levels(tuple(leaves))[:-1]:
        siblings.append(level[index ^ 1])
        index >>= 1
    return siblings


def verify(expected_root: bytes, leaf: bytes, siblings: Sequence[bytes]) -> bool:
    """Whether eight siblings lead from `leaf` to `expected_root`."""
    if len(siblings) != DEPTH or len(leaf) != 32 or any(len(s) != 32 for s in siblings):
        return False
    node = leaf
    for sibling in siblings:
        if tokens_of(node) + tokens_of(sibling) > MAX_TOKENS:
            return False
        node = parent(node, sibling)
    return node == expected_root


@lru_cache(maxsize=64)
def _levels(leaves: tuple[bytes, ...]) -> list[list[bytes]]:
    """From the leaves up. Remembered: whoever proves one leaf of a batch often proves the next."""
    if not 1 <= len(leaves) <= MAX_LEAVES:
        raise InvalidInput(f"a batch has 1 to {MAX_LEAVES} leaves, not {len(leaves)}")
    if any(len(leaf) != 32 or leaf == EMPTY_LEAF for leaf in leaves):
        raise InvalidInput("every leaf must be 32 bytes, not all of them zero")
    levels = [[*leaves, *[EMPTY_LEAF] * (MAX_LEAVES - len(leaves))]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([parent(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def parent(a: bytes, b: bytes) -> bytes:
    """Of two nodes, in whatever order. `LeafLib.parent` is its twin. Raises InvalidInput."""
    return _counting(pair(a, b), tokens_of(a) + tokens_of(b))


def pair(a: bytes, b: bytes) -> bytes:
    """keccak256 over two words, the smaller first, as OpenZeppelin's `Hashes.commutativeKeccak256`."""
    return bytes(keccak(a + b if a < b else b + a))


def _counting(digest: bytes, tokens: int) -> bytes:
    # Counts that wrapped around could claim fewer tokens than there are.
    if not 0 <= tokens <= MAX_TOKENS:
        raise InvalidInput(f"{tokens} tokens are more than a batch's tree can count ({MAX_TOKENS})")
    return digest[:-COUNT_BYTES] + tokens.to_bytes(COUNT_BYTES, "big")
