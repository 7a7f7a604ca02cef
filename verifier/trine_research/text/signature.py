"""Signatures: an answer's tokens as a MinHash over its shingles.

Responsible for shingles, for the pinned permutations and for the canonical bytes. Knows nothing of models, thresholds
or verdicts. MinHash: Broder (1997), "On the resemblance and containment of documents".

A signature tells nothing of whether the tokens that were shown are those it was made of: whoever judges makes it from
the tokens, with `signature_of`, and compares.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from datasketch import MinHash  # type: ignore[import-untyped]
from datasketch.hashfunc import sha1_hash32  # type: ignore[import-untyped]

from trine.errors import InvalidInput
from trine.protocol.tokens import MAX_TOKEN_ID, encode_tokens

VERSION = 1
SHINGLE_TOKENS = 4
PERMUTATIONS = 256
"""The standard error of an estimated Jaccard index is at most 1 / (2 sqrt(256)) = 0.031."""
MAX_TOKENS = 1 << 17
MODEL_TAG_BYTES = 8
SIGNATURE_BYTES = 1 + 1 + 2 + MODEL_TAG_BYTES + 4 * PERMUTATIONS
_SEED_TAG = b"trine/text/v1"
_EDGE = MAX_TOKEN_ID  # marks the answer's two ends; no vocabulary is that large
_SCHEME = "affine32"  # h -> a h + b mod 2^32 with a odd, after the finalizer of MurmurHash3


@dataclass(frozen=True, slots=True)
class Signature:
    """The MinHash of one answer under one model's permutations."""

    model_tag: bytes
    values: bytes  # PERMUTATIONS minima, 4 bytes each, big-endian

    def __post_init__(self) -> None:
        if len(self.model_tag) != MODEL_TAG_BYTES or len(self.values) != 4 * PERMUTATIONS:
            raise InvalidInput(f"a text signature has {PERMUTATIONS} values and a tag of {MODEL_TAG_BYTES} bytes")

    def to_bytes(self) -> bytes:
        """Version (1 byte), tokens a shingle (1), number of values (2), model tag (8), values (4 each), big-endian."""
        header = bytes([VERSION, SHINGLE_TOKENS]) + PERMUTATIONS.to_bytes(2, "big")
        return header + self.model_tag + self.values

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        """Raises InvalidInput unless `encoded` is exactly `to_bytes`' form."""
        if len(encoded) != SIGNATURE_BYTES:
            raise InvalidInput(f"a text signature has {SIGNATURE_BYTES} bytes, not {len(encoded)}")
        made = cls(bytes(encoded[4 : 4 + MODEL_TAG_BYTES]), bytes(encoded[4 + MODEL_TAG_BYTES :]))
        if made.to_bytes() != encoded:
            raise InvalidInput(
                f"not a text signature of version {VERSION} with {PERMUTATIONS} values over {SHINGLE_TOKENS} tokens"
            )
        return made

    def jaccard(self, other: Signature) -> float:
        """The estimated Jaccard index of the two answers' shingles, in [0, 1].

        Raises InvalidInput for signatures of two models: their permutations differ, so their values mean nothing.
        """
        if self.model_tag != other.model_tag:
            raise InvalidInput("the two text signatures belong to different models")
        return float(self.sketch().jaccard(other.sketch()))

    def sketch(self) -> Any:
        """As datasketch knows it, for its indexes; not to be updated."""
        values = np.frombuffer(self.values, dtype=">u4").astype(np.uint32)
        return MinHash(hashvalues=values, permutations=_no_permutations(), scheme=_SCHEME)


def signature_of(token_ids: Sequence[int], model_id: bytes) -> Signature:
    """The signature of an answer of 1 to MAX_TOKENS tokens. Raises InvalidInput."""
    sketch = MinHash(num_perm=PERMUTATIONS, permutations=_permutations(model_id), scheme=_SCHEME, hashfunc=sha1_hash32)
    sketch.update_batch(shingles(token_ids))
    return Signature(model_tag(model_id), sketch.hashvalues.astype(">u4").tobytes())


def shingles(token_ids: Sequence[int]) -> frozenset[bytes]:
    """Every run of SHINGLE_TOKENS tokens, with its occurrence (0 for the first) so that loops of other lengths differ.

    Both ends are padded, so a token at an end is in as many shingles as any other: n tokens make n + 3 shingles.
    Raises InvalidInput unless there are 1 to MAX_TOKENS ids in [0, 2^32 - 1).
    """
    if not 1 <= len(token_ids) <= MAX_TOKENS:
        raise InvalidInput(f"an answer to compare has 1 to {MAX_TOKENS} tokens, not {len(token_ids)}")
    if _EDGE in token_ids:
        raise InvalidInput(f"token id {_EDGE} is reserved: no vocabulary holds it")
    padding = [_EDGE] * (SHINGLE_TOKENS - 1)
    encoded = encode_tokens([*padding, *token_ids, *padding])
    seen: Counter[bytes] = Counter()
    found = set()
    for start in range(0, len(encoded) - 4 * SHINGLE_TOKENS + 1, 4):
        run = encoded[start : start + 4 * SHINGLE_TOKENS]
        found.add(run + seen[run].to_bytes(4, "big"))
        seen[run] += 1
    return frozenset(found)


def model_tag(model_id: bytes) -> bytes:
    """Names the permutations: the first 8 bytes of SHA-256 of the seed tag and the model id."""
    return hashlib.sha256(_SEED_TAG + model_id).digest()[:MODEL_TAG_BYTES]


@lru_cache(maxsize=64)
def _permutations(model_id: bytes) -> Any:
    """[2, PERMUTATIONS] of uint32, factors (odd) and offsets: SHAKE-256 of the seed tag and the model id.

    Derived here, not by datasketch's own seed, so that they depend on no library's random generator.
    """
    drawn = np.frombuffer(hashlib.shake_256(_SEED_TAG + model_id).digest(8 * PERMUTATIONS), dtype=">u4")
    pairs = drawn.astype(np.uint32).reshape(2, PERMUTATIONS)
    pairs[0] |= np.uint32(1)
    return pairs


@lru_cache(maxsize=1)
def _no_permutations() -> Any:
    """A finished signature is only compared: identities stand in for the permutations that datasketch would draw."""
    return np.array([[1] * PERMUTATIONS, [0] * PERMUTATIONS], dtype=np.uint32)
