"""Perceptual hashes of pictures: pHash (64 bits, `imagehash`) and PDQ (256 bits), in one canonical encoding.

Knows nothing of models. Hashes of the same pixels are equal; a little noise turns a few bits, another picture half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trine.errors import InvalidInput
from trine_research.images.pdq import SIDE, pdq

VERSION = 1
MIN_SIDE, MAX_SIDE = 16, 4096


class HashKind(Enum):
    """Name, code in the encoding, number of bits."""

    PHASH = ("phash", 1, 64)
    PDQ = ("pdq", 2, 256)

    def __init__(self, label: str, code: int, bits: int) -> None:
        self.label = label
        self.code = code
        self.bits = bits


@dataclass(frozen=True, slots=True)
class ImageHash:
    """`bits`: row by row from the lowest frequency, the most significant bit of a byte first."""

    kind: HashKind
    bits: bytes

    def __post_init__(self) -> None:
        if len(self.bits) * 8 != self.kind.bits:
            raise InvalidInput(f"a {self.kind.label} hash has {self.kind.bits} bits, not {len(self.bits) * 8}")

    def distance(self, other: ImageHash) -> int:
        """Bits that differ. Raises InvalidInput for hashes of two kinds."""
        if self.kind is not other.kind:
            raise InvalidInput(f"a {self.kind.label} hash cannot be compared with a {other.kind.label} hash")
        return (int.from_bytes(self.bits, "big") ^ int.from_bytes(other.bits, "big")).bit_count()

    def to_bytes(self) -> bytes:
        """Version, kind, bits: 10 or 34 bytes, one encoding a hash."""
        return bytes((VERSION, self.kind.code)) + self.bits

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Self:
        """Raises InvalidInput unless `encoded` is what `to_bytes` gives."""
        kinds = {kind.code: kind for kind in HashKind}
        if len(encoded) < 2 or encoded[0] != VERSION or encoded[1] not in kinds:
            raise InvalidInput(f"no image hash of version {VERSION}: it starts with {encoded[:2].hex() or 'nothing'}")
        return cls(kinds[encoded[1]], encoded[2:])


def hash_of(picture: NDArray[np.uint8], kind: HashKind) -> ImageHash:
    """Of RGB pixels (height, width, 3), sides of 16 to 4096. Raises InvalidInput for anything else."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InvalidInput(f"a picture is (height, width, 3) bytes, not {picture.shape} of {picture.dtype}")
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in picture.shape[:2]):
        raise InvalidInput(f"a picture's sides are {MIN_SIDE} to {MAX_SIDE} pixels, not {picture.shape[:2]}")
    image = Image.fromarray(picture)
    if min(image.size) < SIDE:  # enlarged smoothly, which PDQ itself would not do
        scale = SIDE / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    bits = np.asarray(imagehash.phash(image).hash, dtype=bool) if kind is HashKind.PHASH else pdq(np.asarray(image))
    return ImageHash(kind, np.packbits(bits.ravel()).tobytes())


def distances(ours: Sequence[ImageHash], theirs: Sequence[ImageHash]) -> NDArray[np.int64]:
    """(len(ours), len(theirs)): bits that differ, every pair. All hashes are of one kind; raises InvalidInput."""
    if len({hashed.kind for hashed in (*ours, *theirs)}) > 1:
        raise InvalidInput("hashes of two kinds cannot be compared")
    left, right = (np.array([np.frombuffer(h.bits, np.uint64) for h in hashes]) for hashes in (ours, theirs))
    differing: NDArray[np.int64] = np.bitwise_count(left[:, None] ^ right[None]).sum(-1, dtype=np.int64)
    return differing
