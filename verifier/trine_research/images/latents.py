"""What the network sees of a picture: the 16 strongest of 48 cosine coefficients of every 4 x 4 pixels.

Photographs have little energy in fine detail and less in fine colour. Dropped, it needs no learning; scaled to unit
variance, the rest is learnt evenly. A fixed linear map and its transpose: no weights, so nothing to train or to swap.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch.nn.functional import conv2d, conv_transpose2d

PATCH = 4
"""Pixels of a side that become one position."""
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Brightness, red against blue, green against both: orthonormal rows over red, green, blue."""
DEVIATIONS: tuple[tuple[int, int, int, float], ...] = (
    (0, 0, 0, 2.78),
    (0, 0, 1, 0.60),
    (0, 0, 2, 0.35),
    (0, 0, 3, 0.24),
    (0, 1, 0, 0.56),
    (0, 1, 1, 0.34),
    (0, 1, 2, 0.23),
    (0, 1, 3, 0.16),
    (0, 2, 0, 0.31),
    (0, 2, 1, 0.23),
    (0, 2, 2, 0.18),
    (0, 3, 0, 0.20),
    (1, 0, 0, 1.58),
    (1, 0, 1, 0.18),
    (1, 1, 0, 0.17),
    (2, 0, 0, 0.51),
)
"""(colour, vertical frequency, horizontal frequency, root mean square over crops of the training data)."""
CHANNELS = len(DEVIATIONS)


def encode(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) in [-1, 1] to (n, 16, h / 4, w / 4) of about unit variance."""
    return conv2d(pixels, _kernel(), stride=PATCH) / _scales()


def decode(latents: torch.Tensor) -> torch.Tensor:
    """The nearest pixels to `latents`, not clipped: (n, 3, h, w)."""
    return conv_transpose2d(latents * _scales(), _kernel(), stride=PATCH)


@functools.cache
def _kernel() -> torch.Tensor:
    """(16, 3, 4, 4): orthonormal rows of the discrete cosine transform (DCT-II)."""
    position = (np.arange(PATCH) + 0.5) * math.pi / PATCH
    waves = np.stack([np.cos(u * position) * math.sqrt((2 if u else 1) / PATCH) for u in range(PATCH)])
    rows = [np.einsum("c,y,x->cyx", COLOURS[c], waves[v], waves[u]) for c, v, u, _ in DEVIATIONS]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


@functools.cache
def _scales() -> torch.Tensor:
    return torch.tensor([deviation for *_, deviation in DEVIATIONS], dtype=torch.float32)[:, None, None]
