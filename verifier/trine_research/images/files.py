"""Pictures as files: PNG out, PNG or JPEG in, and nothing in that could exhaust the reader."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from trine.errors import InvalidInput
from trine_research.images.hashes import MAX_SIDE, MIN_SIDE

MAX_BYTES = 64 << 20
FORMATS = ("PNG", "JPEG")


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """Of RGB pixels (height, width, 3). No metadata."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def to_jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """Of RGB pixels (height, width, 3); quality 1 to 95."""
    if not 1 <= quality <= 95:
        raise InvalidInput(f"JPEG quality is 1 to 95, not {quality}")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def from_file(content: bytes) -> NDArray[np.uint8]:
    """RGB pixels (height, width, 3). The sides are looked at before a pixel is unpacked.

    Raises InvalidInput for other formats, broken files, transparency, over 64 MiB, sides outside 16 to 4096 pixels.
    """
    if len(content) > MAX_BYTES:
        raise InvalidInput(f"an image file of {len(content)} bytes; at most {MAX_BYTES} are read")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if not all(MIN_SIDE <= side <= MAX_SIDE for side in image.size):
                raise InvalidInput(f"an image's sides are {MIN_SIDE} to {MAX_SIDE} pixels, not {image.size}")
            if image.mode not in ("RGB", "L"):
                raise InvalidInput(f"an image is RGB or grey, not {image.mode}; convert it first")
            image.load()
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except InvalidInput:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InvalidInput(f"no PNG or JPEG image that can be read: {error}") from None
