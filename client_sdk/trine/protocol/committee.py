"""The draw of three verifiers, reproducible from public data.

Inputs: the batch's seed, the pool's positions with their weights, the node. `Committees.draw` is the on-chain twin.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput

SEATS = 3
MAX_TRIES = 64


def seed(block_hash: bytes, batch_id: bytes, round_: int) -> bytes:
    """keccak256(abi.encode(blockhash(seedBlock), batchId, round))."""
    return bytes(keccak(encode(["bytes32", "bytes32", "uint8"], [block_hash, batch_id, round_])))


def draw(
    seed_: bytes, pool: Sequence[tuple[str, int]], excluded: str, lapsed: frozenset[str] = frozenset()
) -> tuple[str, str, str]:
    """Three distinct verifiers, none of them `excluded`.

    `pool` lists (address, weight) by position; empty positions have weight 0. Try k picks the first position whose
    cumulative weight exceeds keccak256(abi.encode(seed, k)) mod the total; a try that hits the node, a drawn verifier
    or a `lapsed` one moves on (a lapsed verifier's weight becomes zero from then on). Raises InvalidInput when
    MAX_TRIES tries do not fill the committee.
    """
    weights = [weight for _, weight in pool]
    drawn: list[str] = []
    for k in range(MAX_TRIES):
        total = sum(weights)
        if total == 0:
            break
        target = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed_, k])), "big") % total
        position = pick(weights, target)
        verifier = pool[position][0]
        if verifier in lapsed:
            weights[position] = 0
        elif verifier != excluded and verifier not in drawn:
            drawn.append(verifier)
            if len(drawn) == SEATS:
                return drawn[0], drawn[1], drawn[2]
    raise InvalidInput(f"the pool filled {len(drawn)} of {SEATS} seats")


def pick(weights: Sequence[int], target: int) -> int:
    """First position whose cumulative weight exceeds `target`, 0 <= target < sum(weights)."""
    for position, weight in enumerate(weights):
        if target < weight:
            return position
        target -= weight
    raise InvalidInput("target is not below the total weight")
