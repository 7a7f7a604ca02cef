"""Fingerprints: was the right model run?

The word of an output token, 32 bytes, is made from the final hidden state h (after the last norm: what the output
head sees) at the position that predicts the token:

1. Every component of h is clipped to the mean of |h| over the position. A few components are far larger than the
   rest in every language model; unclipped they decide the directions of all states, and hide how much the rest of
   the state has moved.
2. The clipped state is projected onto 256 directions of +1 and -1, which come from the model id: nobody chooses them.
3. Each projection is divided by the position's root mean square over the 256, and by the cell width, 1/4. The bit is
   the parity of the floor: on the line of real numbers, cells of 1/4 root mean square are marked 0 and 1 in turn.

If two engines' states differ by noise of standard deviation s cells, a bit differs with a probability near
0.8 s (sqrt(2 / pi), the mean absolute value of a normal variable) while s is small, and 1/2 when nothing is alike.
Bits of the sign alone would differ only where a projection is near zero, once or twice in a token: too seldom to
tell noise of one size from noise of twice the size. Cells marked in turn are the quantiser of Boufounos (2012,
"Universal rate-efficient scalar quantization"). `docs/statistics.md` has the measurements.

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
CELLS_PER_RMS = 4
"""The inverse of the cell width, in units of a position's root mean square."""
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


def word(state: Sequence[float], projection: bytes) -> bytes:
    """The word of one hidden state: the specification that engines compute with tensors.

    `projection` is `directions(model_id, len(state))`. A state of zeros has a word of zeros.
    """
    if len(projection) != len(state) * WORD_BYTES:
        raise InvalidInput(f"{len(projection)} bytes of directions do not fit a state of {len(state)} components")
    bound = math.fsum(map(abs, state)) / len(state)
    rows = [int.from_bytes(projection[i : i + WORD_BYTES], "big") for i in range(0, len(projection), WORD_BYTES)]
    clipped = [min(max(component, -bound), bound) for component in state]
    projected = [
        math.fsum(c if row >> (BITS - 1 - bit) & 1 else -c for c, row in zip(clipped, rows, strict=True))
        for bit in range(BITS)
    ]
    rms = math.sqrt(math.fsum(p * p for p in projected) / BITS)
    if rms == 0:
        return bytes(WORD_BYTES)
    bits = 0
    for value in projected:
        bits = bits << 1 | math.floor(value / rms * CELLS_PER_RMS) & 1
    return bits.to_bytes(WORD_BYTES, "big")


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
    """How many of two words' 256 bits differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def deviation(claimed: Sequence[bytes], own: Sequence[bytes]) -> float:
    """How far two fingerprints of the same tokens are apart, in [0, 1]: the share of bits that differ, averaged.

    The average over tokens is the power mean of exponent 1/2, (mean of sqrt(share))^2: honest engines have single
    noisy tokens, a wrong model is a little wrong at every token, and this mean listens more to the many.
    """
    if not claimed or len(claimed) != len(own):
        raise InvalidInput("a deviation needs two fingerprints of the same number of tokens, at least one")
    roots = [math.sqrt(flipped(a, b) / BITS) for a, b in zip(claimed, own, strict=True)]
    return (math.fsum(roots) / len(roots)) ** 2
