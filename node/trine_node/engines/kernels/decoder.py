"""All layers of a Llama-like decoder in one call: the arithmetic of `transformers`' modules without their overhead.

Norm, queries, keys and values, rotation, attention, gated feed-forward, twice a sum with what came in. Numbers are fp32
between the operations and rounded to the model's precision where transformers' modules round. As in `linear` and
`attention`, a row's result does not depend on what else is computed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray, prange

from trine_node.engines.kernels import compiled, entry_point
from trine_node.engines.kernels.attention import _one
from trine_node.engines.kernels.elementwise import rounded, sigmoid, store
from trine_node.engines.kernels.linear import _part
from trine_node.engines.kernels.meeting import all_here, meet
from trine_node.engines.kernels.products import COLUMNS, dot, size_of
from trine_node.engines.kernels.tiles import pointer, widen

(
    NORM, QUERY, KEY, VALUE, OUTPUT, NEXT_NORM, GATE, UP, DOWN, QUERY_BIAS, KEY_BIAS, VALUE_BIAS, QUERY_NORM, KEY_NORM,
    KEYS, VALUES, FIELDS,
) = range(17)  # fmt: skip
"""Columns of the table of addresses, a row a layer; 0 where a model has no such weight."""


@compiled()
def _norm(kind: int, x: int, weight: int, y: int, width: int, epsilon: np.float32) -> None:
    """One row of RMSNorm (Zhang and Sennrich, 2019), in the order and with the rounding of transformers' modules."""
    row = carray(pointer(x), (width,), np.float32)
    out = carray(pointer(y), (width,), np.float32)
    square = np.empty(1, np.float32)
    dot(np.int64(0), x, x, width, np.int64(square.ctypes.data))
    factor = np.float32(1) / np.float32(math.sqrt(square[0] / np.float32(width) + epsilon))
    size = size_of(kind)
    for i in range(width):
        out[i] = rounded(kind, rounded(kind, row[i] * factor) * widen(kind, weight + i * size))


@compiled()
def _finish(kind: int, y: int, rows: int, outputs: int, bias: int, start: int, stop: int) -> None:
    """Bias and rounding of a linear layer's outputs start to stop."""
    if kind == 0 and bias == 0:
        return
    out = carray(pointer(y), (rows, outputs), np.float32)
    size = size_of(kind)
    for row in range(rows):
        for i in range(start, stop):
            more = widen(kind, bias + i * size) if bias else np.float32(0)
            out[row, i] = rounded(kind, out[row, i] + more)


@compiled()
def _linear(
    kind: int, x: int, w: int, bias: int, y: int, rows: int, outputs: int, inputs: int, number: int, parts: int
) -> None:
    """The share of one thread of a linear layer."""
    share = (outputs + parts * COLUMNS - 1) // (parts * COLUMNS) * COLUMNS
    start, stop = min(outputs, number * share), min(outputs, (number + 1) * share)
    if start < stop:
        _part(kind, x, w, y, rows, outputs, inputs, start, stop)
        _finish(kind, y, rows, outputs, bias, start, stop)


@compiled()
def _rotate(kind: int, x: int, cosine: int, sine: int, width: int) -> None:
    """Rotary position embedding of one head (Su et al., 2021), halves against each other."""
    head = carray(pointer(x), (width,), np.float32)
    c = carray(pointer(cosine), (width,), np.float32)
    s = carray(pointer(sine), (width,), np.float32)
    half = width // 2
    for i in range(half):
        low, high = head[i], head[i + half]
        head[i] = rounded(kind, rounded(kind, low * c[i]) + rounded(kind, -high * s[i]))
        head[i + half] = rounded(kind, rounded(kind, high * c[i + half]) + rounded(kind, low * s[i + half]))


@compiled()
def _heads(kind: int, x: int, heads: int, width: int, norm: int, epsilon: np.float32, cosine: int, sine: int) -> None:
    """Norm, if there is one, and rotation of all heads of one row."""
    for head in range(heads):
        at = x + head * width * 4
        if norm:
            _norm(kind, at, norm, at, width, epsilon)
        _rotate(kind, at, cosine, sine, width)


@compiled()
def _keep(
    kind: int, a: np.ndarray, query: int, key: int, value: int, slots: np.ndarray, cosine: int, sine: int, heads: int,
    shared: int, width: int, epsilon: np.float32, start: int, stop: int,
) -> None:  # fmt: skip
    """Rotates queries and keys of rows start to stop; keys and values go into the cache."""
    size = size_of(kind)
    for row in range(start, stop):
        c, s = cosine + row * width * 4, sine + row * width * 4
        own = key + row * shared * width * 4
        _heads(kind, query + row * heads * width * 4, heads, width, a[QUERY_NORM], epsilon, c, s)
        _heads(kind, own, shared, width, a[KEY_NORM], epsilon, c, s)
        place = slots[row] * shared * width * size
        _put(kind, own, a[KEYS] + place, shared * width)
        _put(kind, value + row * shared * width * 4, a[VALUES] + place, shared * width)


@compiled()
def _put(kind: int, x: int, place: int, count: int) -> None:
    """Numbers of a row into the cache, in its precision."""
    row = carray(pointer(x), (count,), np.float32)
    size = size_of(kind)
    for i in range(count):
        store(kind, place + i * size, row[i])


@compiled()
def _gated(kind: int, gate: int, up: int, rows: int, width: int, number: int, parts: int) -> None:
    """gate := silu(gate) * up, in the columns of one thread."""
    share = (width + parts * COLUMNS - 1) // (parts * COLUMNS) * COLUMNS
    start = min(width, number * share)
    count = min(width, start + share) - start
    for row in range(rows):
        g = carray(pointer(gate + (row * width + start) * 4), (count,), np.float32)
        u = carray(pointer(up + (row * width + start) * 4), (count,), np.float32)
        if kind == 0:
            for i in range(count):
                g[i] = g[i] * sigmoid(g[i]) * u[i]
        else:
            for i in range(count):
                g[i] = rounded(kind, rounded(kind, g[i] * sigmoid(g[i])) * u[i])


@compiled()
def _sum_and_norm(
    kind: int, x: int, y: int, weight: int, width: int, epsilon: np.float32, start: int, stop: int
) -> None:
    """x := x + y, then y := the norm of x, for rows start to stop."""
    for row in range(start, stop):
        a = carray(pointer(x + row * width * 4), (width,), np.float32)
        b = carray(pointer(y + row * width * 4), (width,), np.float32)
        for i in range(width):
            a[i] = rounded(kind, a[i] + b[i])
        _norm(kind, x + row * width * 4, weight, y + row * width * 4, width, epsilon)


@entry_point(parallel=True)
def decode(
    kind: int, layers: np.ndarray, x: int, room: np.ndarray, cosine: int, sine: int, tables: np.ndarray,
    rows: np.ndarray, slots: np.ndarray, hidden: int, heads: int, shared: int, width: int, inner: int, line: int,
    epsilon: np.float32, scale: np.float32, windows: np.ndarray, last_norm: int, parts: int, meeting: np.ndarray,
) -> None:  # fmt: skip
    """Takes embeddings x, fp32 [rows, hidden], through all layers; the normed rows are the final states.

    layers: int64 [layers, FIELDS], addresses. room: int64 [7], addresses of fp32 buffers for the normed rows, queries,
    keys, values, gate and up, and for a thread's scores. cosine and sine: fp32 [rows, width]. slots: int64 [rows],
    where in the cache a row's keys and values go. windows: int64 [layers], positions that a row sees, 0 for all.
    meeting: int64 [3], zeros; the second is 1 afterwards, or 2 if the threads could not run at once and did nothing.
    """
    for number in prange(parts):
        if all_here(meeting.ctypes.data, parts):
            # prange counts in unsigned numbers: all that is below would be compiled for those, too.
            _share(
                kind, layers, x, room, cosine, sine, tables, rows, slots, hidden, heads, shared, width, inner, line,
                epsilon, scale, windows, last_norm, np.int64(number), parts, meeting.ctypes.data + 16,
            )  # fmt: skip


@compiled()
def _share(
    kind: int, layers: np.ndarray, x: int, room: np.ndarray, cosine: int, sine: int, tables: np.ndarray,
    rows: np.ndarray, slots: np.ndarray, hidden: int, heads: int, shared: int, width: int, inner: int, line: int,
    epsilon: np.float32, scale: np.float32, windows: np.ndarray, last_norm: int, number: int, parts: int, counter: int,
) -> None:  # fmt: skip
    """One thread's part of `decode`."""
    count = len(rows)
    group = heads // shared
    zero = np.int64(0)  # for a literal Numba compiles a function once more
    normed, query, key, value, gate, up, scores = room[0], room[1], room[2], room[3], room[4], room[5], room[6]
    start, stop = (
        number * count // parts,
        (number + 1) * count // parts,
    )  # rows of this thread, where rows are shared out
    for row in range(start, stop):
        _norm(kind, x + row * hidden * 4, layers[0, NORM], normed + row * hidden * 4, hidden, epsilon)
    for layer in range(len(layers)):
        a = layers[layer]
        meet(counter, parts)
        _linear(kind, normed, a[QUERY], a[QUERY_BIAS], query, count, heads * width, hidden, number, parts)
        _linear(kind, normed, a[KEY], a[KEY_BIAS], key, count, shared * width, hidden, number, parts)
        _linear(kind, normed, a[VALUE], a[VALUE_BIAS], value, count, shared * width, hidden, number, parts)
        meet(counter, parts)
        _keep(kind, a, query, key, value, slots, cosine, sine, heads, shared, width, epsilon, start, stop)
        meet(counter, parts)
        for item in range(number, count * shared, parts):
            row, head = item // shared, item % shared
            # The result takes the place of the queries, which nobody else reads.
            _one(
                kind, query + item * group * width * 4, a[KEYS], a[VALUES], tables[rows[row, 0]], rows[row, 1],
                head, query + item * group * width * 4, scores + number * (line + 1) * group * 4, line, group,
                shared, width, width, scale, np.float32(0), windows[layer],
            )  # fmt: skip
            _finish(kind, query + item * group * width * 4, group, width, zero, zero, width)
        meet(counter, parts)
        _linear(kind, query, a[OUTPUT], zero, normed, count, hidden, heads * width, number, parts)
        meet(counter, parts)
        _sum_and_norm(kind, x, normed, a[NEXT_NORM], hidden, epsilon, start, stop)
        meet(counter, parts)
        _linear(kind, normed, a[GATE], zero, gate, count, inner, hidden, number, parts)
        _linear(kind, normed, a[UP], zero, up, count, inner, hidden, number, parts)
        _gated(kind, gate, up, count, inner, number, parts)
        meet(counter, parts)
        _linear(kind, gate, a[DOWN], zero, normed, count, hidden, inner, number, parts)
        meet(counter, parts)
        norm = layers[layer + 1, NORM] if layer + 1 < len(layers) else last_norm
        _sum_and_norm(kind, x, normed, norm, hidden, epsilon, start, stop)
