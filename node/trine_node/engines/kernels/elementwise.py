"""Functions of one number, in fp32 and in one order of operations, whatever stands beside it in a vector."""

from __future__ import annotations

import numpy as np

from trine_node.engines.kernels import compiled
from trine_node.engines.kernels.tiles import (
    bits_of_float,
    float_of_bits,
    fp16_and_back,
    round_down,
    store_bf16,
    store_fp16,
    store_fp32,
    whole_number,
)

_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_LEAST = np.float32(-87.0)
_C = [
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
]
_C0, _C1, _C2, _C3, _C4, _C5 = _C


@compiled()
def exponential(x: np.float32) -> np.float32:
    """e to the power of x <= 0, within 2 ulp down to -87, and that of -87 below. Cephes' `expf` (S. L. Moshier)."""
    x = _LEAST if x < _LEAST else x
    n = round_down(x * _LOG2_E + np.float32(0.5))
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
    return (p * r * r + r + np.float32(1)) * float_of_bits((whole_number(n) + np.int32(127)) << np.int32(23))


@compiled()
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + e^-x)."""
    e = exponential(-abs(x))
    return (np.float32(1) if x >= np.float32(0) else e) / (np.float32(1) + e)


@compiled()
def rounded(kind: int, x: np.float32) -> np.float32:
    """x in the precision `kind` (see `products`), to nearest, ties to even."""
    if kind == 0 or x != x:
        return x
    if kind == 1:
        return float_of_bits(bf16_bits(x))
    return fp16_and_back(x)


@compiled()
def bf16_bits(x: np.float32) -> np.int32:
    """The pattern of the nearest bf16 number, as that of an fp32 number."""
    bits = bits_of_float(x)
    return (bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) & np.int32(-65536)


@compiled()
def store(kind: int, address: int, x: np.float32) -> None:
    """Writes one number in the precision `kind`."""
    if kind == 0:
        store_fp32(address, x)
    elif kind == 1:
        store_bf16(address, bf16_bits(x) if x == x else np.int32(0x7FC00000))
    else:
        store_fp16(address, x)
