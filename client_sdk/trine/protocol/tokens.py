"""Token ids as bytes: four bytes each, big-endian, no prefix. The hash of that is what receipts carry."""

from __future__ import annotations

from collections.abc import Sequence

from trine.errors import InvalidInput
from trine.protocol.salts import salted_hash

MAX_TOKEN_ID = 2**32 - 1


def encode_tokens(token_ids: Sequence[int]) -> bytes:
    """Returns 4 * len(token_ids) bytes. Raises InvalidInput for an id outside [0, 2**32)."""
    for position, token_id in enumerate(token_ids):
        if not 0 <= token_id <= MAX_TOKEN_ID:
            raise InvalidInput(f"token id {token_id} at position {position} is outside [0, 2^32)")
    return b"".join(token_id.to_bytes(4, "big") for token_id in token_ids)


def tokens_hash(token_ids: Sequence[int], salt: bytes = b"") -> bytes:
    """Hash of the encoded ids under the input's salt, if that has one (`salts`; 32 bytes)."""
    return salted_hash(encode_tokens(token_ids), salt)
