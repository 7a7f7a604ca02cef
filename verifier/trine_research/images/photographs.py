"""The training data: random crops of ten pictures that scikit-image's wheel carries. Nothing is downloaded.

A picture is a class. Licences are in `docs/images.md`; SHA-256 pins the very files.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trine.errors import InvalidInput

FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "astronaut": ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
        "brick": ("brick.png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf"),
        "cat": ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
        "coffee": ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
        "galaxies": ("hubble_deep_field.jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),
        "grass": ("grass.png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89"),
        "gravel": ("gravel.png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12"),
        "retina": ("retina.jpg", "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
        "rocket": ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
        "tissue": ("ihc.png", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
    }
)
"""Class: file in `skimage/data`, its SHA-256."""
CLASSES = tuple(FILES)
SHORT_SIDE = 256
SMALLEST_CROP, LARGEST_CROP = 96, 192


def load() -> dict[str, Image.Image]:
    """Every class's picture in RGB, its short side 256 pixels. Raises InvalidInput if files are missing or others."""
    return {name: _load(file, digest) for name, (file, digest) in FILES.items()}


def crop(picture: Image.Image, generator: random.Random, size: int) -> NDArray[np.uint8]:
    """(size, size, 3): a random square of 96 to 192 pixels, mirrored or not, reduced by averaging."""
    side = generator.randint(SMALLEST_CROP, LARGEST_CROP)
    left, top = generator.randint(0, picture.width - side), generator.randint(0, picture.height - side)
    small = picture.resize((size, size), Image.Resampling.BOX, box=(left, top, left + side, top + side))
    if generator.random() < 0.5:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(small, dtype=np.uint8)


def _load(file: str, digest: str) -> Image.Image:
    path = Path(str(metadata.distribution("scikit-image").locate_file(f"skimage/data/{file}")))
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidInput(f"scikit-image's {file} is missing ({error}); install trine-verifier[study] again") from None
    if found != digest:
        raise InvalidInput(f"scikit-image's {file} has SHA-256 {found}, not {digest}; install scikit-image 0.26")
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    scale = SHORT_SIDE / min(picture.size)
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size, Image.Resampling.BOX)
