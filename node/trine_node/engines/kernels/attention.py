"""Attention on a CPU over keys and values in blocks, each row's result independent of what is computed beside it.

A row's scores are products in the order of `tiles`; their maximum, then their exponentials, then the sum of those in
the order of `tiles`; then the weighted sum of the values in the order of positions, divided by it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import carray, prange

from trine_node.engines.kernels import compiled, entry_point, use_threads
from trine_node.engines.kernels.elementwise import exponential
from trine_node.engines.kernels.products import COLUMNS, KINDS, dots, mixes, size_of
from trine_node.engines.kernels.tiles import largest, pointer, total

BLOCK = 16
"""Tokens in a block of the cache."""


@compiled()
def _softmax(scores: int, first: int, count: int, scale: np.float32, cap: np.float32) -> np.float32:
    """Scores `first` to `count` in place, not divided by their sum, which is returned; zeros up to multiples of 8."""
    start, stop = first // 8 * 8, (count + 7) // 8 * 8
    row = carray(pointer(scores + start * 4), (stop - start,), np.float32)
    before, end = first - start, count - start
    for j in range(len(row)):
        row[j] *= scale
    if cap > np.float32(0):
        for j in range(before, end):
            row[j] = cap * np.float32(math.tanh(row[j] / cap))
    _fill(row, before, end, np.float32(-np.inf))
    best = largest(scores + start * 4, stop - start)
    for j in range(len(row)):
        row[j] = exponential(row[j] - best)
    _fill(row, before, end, np.float32(0))
    return total(scores + start * 4, stop - start)


@compiled()
def _fill(row: np.ndarray, before: int, end: int, value: np.float32) -> None:
    """What is not between the two."""
    for j in range(before):
        row[j] = value
    for j in range(end, len(row)):
        row[j] = value


@compiled()
def _one(
    kind: int, q: int, k: int, v: int, table: np.ndarray, position: int, head: int, out: int, scores: int, line: int,
    group: int, shared: int, width: int, value_width: int, scale: np.float32, cap: np.float32, window: int,
) -> None:  # fmt: skip
    """The queries of one position that share one head of keys and values. `head` is that head's number."""
    size = size_of(kind)
    count = position + 1
    first = max(0, count - window) if window > 0 else 0
    blocks = range(first // BLOCK, (count + BLOCK - 1) // BLOCK)
    stride = shared * width
    for block in blocks:
        at = k + (np.int64(table[block]) * BLOCK * shared + head) * width * size
        for key in range(0, BLOCK, COLUMNS):
            to = scores + (block * BLOCK + key) * 4
            dots(kind, q, width, group, at + key * stride * size, stride, width, to, line)
    answer = carray(pointer(out), (group, value_width), np.float32)
    totals = carray(pointer(scores + line * group * 4), (group,), np.float32)
    for r in range(group):
        totals[r] = _softmax(scores + r * line * 4, first, count, scale, cap)
        for d in range(value_width):
            answer[r, d] = np.float32(0)
    stride = shared * value_width
    for block in blocks:
        begin, end = max(first, block * BLOCK), min(count, (block + 1) * BLOCK)
        at = v + ((np.int64(table[block]) * BLOCK + begin % BLOCK) * shared + head) * value_width * size
        mixes(kind, scores + begin * 4, line, group, at, stride, end - begin, value_width, out, value_width)
    for r in range(group):
        for d in range(value_width):
            answer[r, d] /= totals[r]


@entry_point(parallel=True)
def _whole(
    kind: int, q: int, k: int, v: int, tables: np.ndarray, rows: np.ndarray, out: int, scores: int, line: int,
    group: int, shared: int, width: int, value_width: int, scale: np.float32, cap: np.float32, window: int, parts: int,
) -> None:  # fmt: skip
    for number in prange(parts):
        room = scores + number * (line + 1) * group * 4
        # Interleaved: of a long prompt the later rows have more keys.
        for item in range(number, len(rows) * shared, parts):
            row, head = item // shared, item % shared
            _one(
                kind, q + item * group * width * 4, k, v, tables[rows[row, 0]], rows[row, 1], head,
                out + item * group * value_width * 4, room, line, group, shared, width, value_width, scale, cap, window,
            )  # fmt: skip


def attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: np.ndarray,
    rows: np.ndarray,
    *,
    scale: float,
    window: int,
    cap: float,
    threads: int,
) -> torch.Tensor:
    """[rows, heads, value width] in fp32: every row attends to its sequence's positions up to its own.

    query: [rows, heads, width]; keys and values: [blocks * BLOCK, shared heads, width], widths in multiples of 8.
    tables: int32 [sequences, blocks], where each sequence's blocks are; rows: int32 [rows, 2], each row's sequence and
    position. `window`: how many positions a row sees, 0 for all. `cap`: bound of the scores by tanh, 0 for none.
    """
    count, heads, width = query.shape
    shared, value_width = keys.shape[1], values.shape[2]
    group = heads // shared
    query = query.float().contiguous()
    out = torch.empty(count, heads, value_width)
    line = tables.shape[1] * BLOCK
    scores = torch.empty(threads, line + 1, group)
    use_threads(threads)
    _whole(
        KINDS[keys.dtype], query.data_ptr(), keys.data_ptr(), values.data_ptr(), tables, rows, out.data_ptr(),
        scores.data_ptr(), line, group, shared, width, value_width, np.float32(scale), np.float32(cap), window, threads,
    )  # fmt: skip
    return out
