"""Fingerprints: was the right model run?

The word of an output token, 8 bytes, is made from the final hidden state h (after the last norm: what the output
head sees) at the position that predicts the token:

1. Every component of h is clipped to the mean of |h| over the position. A few components are far larger than the
   rest in every language model; unclipped they decide the directions of all states, and hide how much the rest of
   the state has moved.
2. The clipped state is projected onto 64 directions of +1 and -1, which come from the model id: nobody chooses them.
3. Each projection is divided by the clipped state's norm, which makes it a standard normal variable over random
   directions, and by the cell width, 1/4. The bit is the parity of the floor: on the line of real numbers, cells of
   1/4 are marked 0 and 1 in turn.

If two engines' clipped, normalised states differ by a vector of norm v, a bit differs with a probability near
sqrt(2 / pi) * 4 v while v is small, and 1/2 when nothing is alike (`expected_share`). Bits of the sign alone would
differ only where a projection is near zero: too seldom to tell noise of one size from noise of twice the size. Cells
marked in turn are the quantiser of Boufounos (2012, "Universal rate-efficient scalar quantization").

How much honest engines differ depends on the text: rounding to bf16 moves some answers' states three times as far as
others'. So a verifier also measures how far rounding moves its own states of this very answer, and judges the
relative deviation: the claim's deviation in units of what rounding alone would cause. `docs/statistics.md` has the
measurements.

The product of hidden states and directions is an engine's work; everything else about fingerprints is here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from trine.errors import InvalidInput

BITS = 64
WORD_BYTES = BITS // 8
VERSION = 2
CELLS = 4
"""The inverse of the cell width, in standard deviations of a projection."""
MIN_NOISE = 1 / 1024
"""No answer's own deviation is taken for less: engines that round nothing must not be divided by nothing."""
MAX_WORDS = 1 << 17
_HEADER_BYTES = 1 + 2 + 4
_ROOTS = [math.sqrt(count / BITS) for count in range(BITS + 1)]
_LINEAR = math.sqrt(2 / math.pi)
_SEED_TAG = b"trine/fingerprint/v2"


def directions(model_id: bytes, hidden_size: int) -> bytes:
    """The projection's signs: hidden_size rows of 64 bits, row-major, most significant bit first; 1 is +1, 0 is -1.

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
    norm = math.sqrt(math.fsum(c * c for c in clipped))
    if norm == 0:
        return bytes(WORD_BYTES)
    bits = 0
    for value in projected:
        bits = bits << 1 | math.floor(value / norm * CELLS) & 1
    return bits.to_bytes(WORD_BYTES, "big")


def encode(words: Sequence[bytes]) -> bytes:
    """An answer's fingerprint: version (1 byte), bits a word (2), number of words (4), then the words, big-endian.

    An engine that sees no hidden states gives an empty word for every token; its fingerprint has none.
    """
    if not any(words):
        words = ()
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
    """How many of two words' 64 bits differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def deviation(claimed: Sequence[bytes], own: Sequence[bytes]) -> float:
    """How far two fingerprints of the same tokens are apart, in [0, 1]: the share of bits that differ, averaged.

    The average over tokens is the power mean of exponent 1/2, (mean of sqrt(share))^2: honest engines have single
    noisy tokens, a wrong model is a little wrong at every token, and this mean listens more to the many.
    """
    if not claimed or len(claimed) != len(own):
        raise InvalidInput("a deviation needs two fingerprints of the same number of tokens, at least one")
    to_int = int.from_bytes
    roots = [_ROOTS[(to_int(a, "big") ^ to_int(b, "big")).bit_count()] for a, b in zip(claimed, own, strict=True)]
    return (math.fsum(roots) / len(roots)) ** 2


def expected_share(noise: float) -> float:
    """The share of bits that differ if a normal vector of relative norm `noise` is added to the normalised state.

    A bit differs if the two values lie in cells of different marks. Over a projection's uniform position in its cell
    that chance is a triangular wave of the difference; its mean under a normal difference of s = CELLS * noise cells
    is 1/2 - 4/pi^2 * sum over odd k of exp(-(k pi s)^2 / 2) / k^2, and sqrt(2/pi) s while s is small.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise InvalidInput(f"noise {noise} must be a number of at least 0")
    cells = CELLS * noise
    if cells < 0.25:
        return _LINEAR * cells
    terms = (math.exp(-((k * math.pi * cells) ** 2) / 2) / k**2 for k in range(1, 20, 2))
    return 0.5 - 4 / math.pi**2 * math.fsum(terms)


def expected_deviation(noise: Sequence[float]) -> float:
    """The deviation that relative noise of these sizes, one a token, would cause; at least MIN_NOISE."""
    if not noise:
        raise InvalidInput("an expected deviation needs at least one token")
    roots = [math.sqrt(expected_share(value)) for value in noise]
    return max((math.fsum(roots) / len(roots)) ** 2, MIN_NOISE)
