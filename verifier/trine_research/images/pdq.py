"""PDQ, Facebook's perceptual hash of 256 bits, on numpy: blur, 64 x 64 samples, their lowest frequencies, the median.

The only Python binding of the reference has to be compiled by whoever installs it. This takes its steps one by one, in
fp32 and in its order of additions, so the bits are its bits. Knows pixels only.

Source: "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", Facebook, 2019.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Of the samples. Pictures have at least as many pixels each way; SIDE x SIDE ones are not blurred."""

FREQUENCIES = 16
_LUMA = (0.299, 0.587, 0.114)
_BLURS = 2

_Plane = NDArray[np.float32]


def pdq(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """256 bits of RGB pixels (height, width, 3), sides of at least 64: from the highest frequency to the lowest."""
    red, green, blue = (picture[:, :, channel] * weight for channel, weight in enumerate(_LUMA))
    plane = (red + green + blue).astype(np.float32)
    if plane.shape != (SIDE, SIDE):
        for _ in range(_BLURS):
            plane = _averaged(_averaged(plane.T).T)
    rows, columns = (((np.arange(SIDE) + 0.5) * length / SIDE).astype(int) for length in plane.shape)
    spectrum = _low_frequencies(plane[np.ix_(rows, columns)]).ravel()
    lower_median = np.partition(spectrum, spectrum.size // 2 - 1)[spectrum.size // 2 - 1]
    bits: NDArray[np.bool_] = spectrum > lower_median
    return bits[::-1]


def _averaged(plane: _Plane) -> _Plane:
    """Each row the mean of a window of rows around it: a running sum, as rounding depends on how it is made."""
    length = len(plane)
    window = -(-length // (2 * SIDE))
    ahead = window // 2
    total = np.zeros(plane.shape[1:], np.float32)
    means = np.empty_like(plane)
    entered = left = 0
    for row in range(length):
        while entered < min(row + ahead + 1, length):
            total += plane[entered]
            entered += 1
        if row + ahead - window >= 0:
            total -= plane[left]
            left += 1
        means[row] = total / np.float32(entered - left)
    return means


def _low_frequencies(samples: _Plane) -> _Plane:
    """Coefficients 1 to 16 each way of the cosine transform; the products are added up in order."""
    frequency, sample = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(SIDE)
    scale = np.float64(np.float32(np.sqrt(2 / SIDE)))
    cosines = (scale * np.cos(np.pi / 2 / SIDE * frequency * (2 * sample + 1))).astype(np.float32)
    by_rows = np.zeros((FREQUENCIES, SIDE), np.float32)
    for k in range(SIDE):
        by_rows += cosines[:, k, None] * samples[None, k]
    both = np.zeros((FREQUENCIES, FREQUENCIES), np.float32)
    for k in range(SIDE):
        both += by_rows[:, k, None] * cosines[None, :, k]
    return both
