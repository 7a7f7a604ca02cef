"""Linear layers on a CPU: rows times a matrix, each row's result independent of what is computed beside it."""

from __future__ import annotations

from typing import Any

import torch
from numba import prange

from trine_node.engines.kernels import compiled, entry_point, use_threads
from trine_node.engines.kernels.products import COLUMNS, KINDS, dot, dots, size_of
from trine_node.engines.kernels.tiles import LANES

BLOCK_ROWS = 48
"""Rows that stay in the second-level cache while the matrix passes by."""


@compiled()
def _part(kind: int, x: int, w: int, y: int, rows: int, outputs: int, inputs: int, start: int, stop: int) -> None:
    """Outputs start to stop of all rows; `start` is a multiple of COLUMNS."""
    size = size_of(kind)
    for first in range(0, rows, BLOCK_ROWS):
        here = min(rows - first, BLOCK_ROWS)
        at, to = x + first * inputs * 4, y + first * outputs * 4
        whole = start + (stop - start) // COLUMNS * COLUMNS
        for column in range(start, whole, COLUMNS):
            dots(kind, at, inputs, here, w + column * inputs * size, inputs, inputs, to + column * 4, outputs)
        for column in range(whole, stop):
            for row in range(here):
                place = to + (row * outputs + column) * 4
                dot(kind, at + row * inputs * 4, w + column * inputs * size, inputs, place)


@entry_point(parallel=True)
def _whole(kind: int, x: int, w: int, y: int, rows: int, outputs: int, inputs: int, parts: int) -> None:
    share = (outputs + parts * COLUMNS - 1) // (parts * COLUMNS) * COLUMNS
    for number in prange(parts):
        _part(kind, x, w, y, rows, outputs, inputs, number * share, min(outputs, (number + 1) * share))


def matmul(rows: torch.Tensor, weight: torch.Tensor, threads: int) -> torch.Tensor:
    """rows [n, inputs] times weight [outputs, inputs], transposed: [n, outputs] in fp32.

    Products and sums are in fp32 whatever the precision of the operands.
    """
    rows, weight = _aligned(rows.float()), _aligned(weight)
    count, inputs = rows.shape
    outputs = weight.shape[0]
    result = torch.empty(count, outputs)
    kind = KINDS[weight.dtype]
    if count:
        use_threads(threads)
        _whole(kind, rows.data_ptr(), weight.data_ptr(), result.data_ptr(), count, outputs, inputs, threads)
    return result


def linear(x: torch.Tensor, weight: Any, bias: Any, threads: int) -> torch.Tensor:
    """torch.nn.functional.linear of x [..., inputs], rounded once to x's precision."""
    result = matmul(x.reshape(-1, x.shape[-1]), weight, threads)
    if bias is not None:
        result += bias.float()
    return result.to(x.dtype).reshape(*x.shape[:-1], -1)


def _aligned(matrix: torch.Tensor) -> torch.Tensor:
    """Contiguous, with zeros to a multiple of LANES columns."""
    if missing := -matrix.shape[-1] % LANES:
        matrix = torch.nn.functional.pad(matrix, (0, missing))
    return matrix.contiguous()
