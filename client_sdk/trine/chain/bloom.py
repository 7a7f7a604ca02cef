"""The filter that a block's header has of its events' addresses and topics (Yellow Paper, section 4.3.1)."""

from __future__ import annotations

from eth_utils.crypto import keccak

from trine.chain.follower import BLOOM_BYTES


def may_hold(bloom: bytes, item: bytes) -> bool:
    """Whether an address (20 bytes) or topic (32 bytes) may be in the block's events; if not, it is in none."""
    digest = keccak(item)
    bits = (int.from_bytes(digest[start : start + 2], "big") % (8 * BLOOM_BYTES) for start in (0, 2, 4))
    return all(bloom[BLOOM_BYTES - 1 - bit // 8] >> bit % 8 & 1 for bit in bits)
