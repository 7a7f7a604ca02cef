"""Fingerprints: was the right model run?

The final hidden state h (after the last norm: what the output head sees) at the position that predicts an output
token is projected onto 256 directions of +1 and -1; the signs are the token's word, 32 bytes. Directions come from
the model id, so nobody chooses them. The angle between two hidden states shows as the share of differing signs
(Charikar 2002, "Similarity estimation techniques from rounding algorithms": P(differ) = angle / pi).

The verifier also knows how far its own projections are from zero. A sign that flips near zero is what another
precision's rounding does; one that flips far from zero takes a different model. `flip_amplitude` weighs each flipped
sign by the verifier's distance from zero there, in units of the position's root mean square. If the two states differ
by noise of standard deviation s, the count of flips grows with s and the amplitude with s squared, at a relative error
only 1.3 times the count's; its square root, the `deviation`, so estimates s better than the count does, and its mean
over an answer's tokens is not ruled by a few noisy ones. `docs/statistics.md` has the measurements.

The product of hidden states and directions is an engine's work; everything else about fingerprints is here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from trine.errors import InvalidInput

BITS = 256
WORD_BYTES = BITS // 8
VERSION = 1
MAGNITUDE_SCALE = 128
MAX_WORDS = 1 << 17
_HEADER_BYTES = 1 + 2 + 4
_SEED_TAG = b"trine/fingerprint/v1"


def directions(model_id: bytes, hidden_size: int) -> bytes:
    """The projection's signs: hidden_size rows of 256 bits, row-major, most significant bit first; 1 is +1, 0 is -1.

    SHAKE-256 of the tag and the model id, so every implementation gets the same bits.
    """
    if not 1 <= hidden_size <= 1 << 17:
        raise InvalidInput(f"hidden size {hidden_size} is out of range")
    return hashlib.shake_256(_SEED_TAG + model_id).digest(hidden_size * WORD_BYTES)


def encode(words: Sequence[bytes]) -> bytes:
    """An answer's fingerprint: version (1 byte), bits a word (2), number of words (4), then the words, big-endian."""
    if len(words) > MAX_WORDS or any(len(word) != WORD_BYTES for word in words):
        raise InvalidInput(f"a fingerprint has at most {MAX_WORDS} words of {WORD_BYTES} bytes")
    return VERSION.to_bytes(1, "big") + BITS.to_bytes(2, "big") + len(words).to_bytes(4, "big") + b"".join(words)


def decode(encoded: bytes) -> list[bytes]:
    """The words of an encoded fingerprint. Raises InvalidInput unless it is exactly canonical."""
    if len(encoded) < _HEADER_BYTES or encoded[0] != VERSION or int.from_bytes(encoded[1:3], "big") != BITS:
        raise InvalidInput(f"not a fingerprint of version {VERSION} with {BITS} bits a word")
    count = int.from_bytes(encoded[3:7], "big")
    if count > MAX_WORDS or len(encoded) != _HEADER_BYTES + count * WORD_BYTES:
        raise InvalidInput(f"fingerprint of {len(encoded)} bytes does not hold the {count} words it announces")
    return [encoded[i : i + WORD_BYTES] for i in range(_HEADER_BYTES, len(encoded), WORD_BYTES)]


def flipped(a: bytes, b: bytes) -> int:
    """How many of two words' 256 signs differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def flip_amplitude(claimed: bytes, own: bytes, magnitudes: bytes) -> float:
    """Mean over the 256 signs of m where they differ and 0 where they agree.

    `magnitudes` holds the verifier's |projection| as 256 bytes, in 1/128 of the position's root mean square,
    saturating at 255 (two root mean squares). Zero for equal words, about 0.75 for opposite ones.
    """
    difference = int.from_bytes(claimed, "big") ^ int.from_bytes(own, "big")
    total = 0
    while difference:
        bit = difference.bit_length() - 1
        total += magnitudes[BITS - 1 - bit]
        difference ^= 1 << bit
    return total / (MAGNITUDE_SCALE * BITS)


def deviation(claimed: Sequence[bytes], own: Sequence[bytes], magnitudes: Sequence[bytes]) -> float:
    """Mean over an answer's tokens of the square root of `flip_amplitude`. Zero for equal fingerprints."""
    if not claimed or not len(claimed) == len(own) == len(magnitudes):
        raise InvalidInput("a deviation needs two fingerprints of the same number of tokens, at least one")
    return sum(math.sqrt(flip_amplitude(*token)) for token in zip(claimed, own, magnitudes, strict=True)) / len(own)
