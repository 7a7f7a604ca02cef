"""The noise that a picture starts from: the same bits on every machine, whatever its libraries.

A framework's own generator promises its values for one device and one release. SHAKE-256 promises them for good.
Knows nothing of models but their id.
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from trine.errors import InvalidInput

DOMAIN = b"trine/image-noise/1"
MAX_SEED = (1 << 64) - 1
MAX_VALUES = 1 << 24
GRID = 4096
"""Values are multiples of 1/4096: far coarser than what mathematical libraries disagree about."""


@functools.cache
def _quantiles() -> NDArray[np.float32]:
    middles = (np.arange(1 << 16, dtype=np.float64) + 0.5) / (1 << 16)
    quantiles: NDArray[np.float32] = (np.rint(ndtri(middles) * GRID) / GRID).astype(np.float32)
    return quantiles


def initial_noise(model_id: bytes, label: str, seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal values of `shape`, cut at 4.3: two bytes of SHAKE-256 pick each one's quantile.

    Raises InvalidInput for an id that is not 32 bytes, a seed outside [0, 2^64) or a shape of over 2^24 values.
    """
    count = math.prod(shape)
    if len(model_id) != 32:
        raise InvalidInput(f"a model id has 32 bytes, not {len(model_id)}")
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"a seed is a whole number from 0 to 2^64 - 1, not {seed!r}")
    if not 0 < count <= MAX_VALUES:
        raise InvalidInput(f"noise of {count} values was asked for; 1 to {MAX_VALUES} are made")
    name = label.encode()
    material = DOMAIN + model_id + len(name).to_bytes(4, "big") + name + seed.to_bytes(8, "big")
    stream = hashlib.shake_256(material).digest(2 * count)
    values: NDArray[np.float32] = _quantiles()[np.frombuffer(stream, dtype=">u2")].reshape(shape)
    return values
