"""The tiles of every precision behind one function each, which numba can keep compiled on disk."""

from __future__ import annotations

import torch

from trine_node.engines.kernels import compiled
from trine_node.engines.kernels.tiles import dot_tile, mix_tile

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
ROWS = 3
COLUMNS = 4
"""Three rows by four columns are twelve sums, which with their operands fill the 16 vector registers of AVX2."""
VECTORS = 4
AHEAD = 1024
"""Elements. With one row the matrix comes from memory as fast as it can: column after column, in one stream."""


_dot_2_fp32, _dot_2_bf16, _dot_2_fp16 = (dot_tile(2, COLUMNS, dtype, 2) for dtype in ("fp32", "bf16", "fp16"))
_dot_3_fp32, _dot_3_bf16, _dot_3_fp16 = (dot_tile(3, COLUMNS, dtype, 2) for dtype in ("fp32", "bf16", "fp16"))
_dot_fp32, _dot_bf16, _dot_fp16 = (dot_tile(1, 1, dtype, 8, ahead=AHEAD) for dtype in ("fp32", "bf16", "fp16"))
_wide_1_fp32, _wide_2_fp32, _wide_3_fp32 = (mix_tile(rows, VECTORS, "fp32") for rows in (1, 2, 3))
_wide_1_bf16, _wide_2_bf16, _wide_3_bf16 = (mix_tile(rows, VECTORS, "bf16") for rows in (1, 2, 3))
_wide_1_fp16, _wide_2_fp16, _wide_3_fp16 = (mix_tile(rows, VECTORS, "fp16") for rows in (1, 2, 3))
_thin_fp32, _thin_bf16, _thin_fp16 = (mix_tile(1, 1, dtype) for dtype in ("fp32", "bf16", "fp16"))


@compiled()
def size_of(kind: int) -> int:
    """Bytes of an element."""
    return 4 if kind == 0 else 2


@compiled()
def dots(kind: int, x: int, ldx: int, rows: int, w: int, ldw: int, k: int, y: int, ldy: int) -> None:
    """y[r, c] = x[r] . w[c] for all rows and COLUMNS columns. See `tiles.dot_tile`."""
    row = 0
    while row < rows:
        at, to = x + row * ldx * 4, y + row * ldy * 4
        here = min(ROWS, rows - row)
        if kind == 0:
            if here == 3:
                _dot_3_fp32(at, ldx, w, ldw, k, to, ldy)
            elif here == 2:
                _dot_2_fp32(at, ldx, w, ldw, k, to, ldy)
            else:
                for column in range(COLUMNS):
                    _dot_fp32(at, ldx, w + column * ldw * 4, ldw, k, to + column * 4, ldy)
        elif kind == 1:
            if here == 3:
                _dot_3_bf16(at, ldx, w, ldw, k, to, ldy)
            elif here == 2:
                _dot_2_bf16(at, ldx, w, ldw, k, to, ldy)
            else:
                for column in range(COLUMNS):
                    _dot_bf16(at, ldx, w + column * ldw * 2, ldw, k, to + column * 4, ldy)
        elif here == 3:
            _dot_3_fp16(at, ldx, w, ldw, k, to, ldy)
        elif here == 2:
            _dot_2_fp16(at, ldx, w, ldw, k, to, ldy)
        else:
            for column in range(COLUMNS):
                _dot_fp16(at, ldx, w + column * ldw * 2, ldw, k, to + column * 4, ldy)
        row += here


@compiled()
def dot(kind: int, x: int, w: int, k: int, y: int) -> None:
    """One product of a row and a column."""
    if kind == 0:
        _dot_fp32(x, k, w, k, k, y, 1)
    elif kind == 1:
        _dot_bf16(x, k, w, k, k, y, 1)
    else:
        _dot_fp16(x, k, w, k, k, y, 1)


@compiled()
def mixes(kind: int, p: int, ldp: int, rows: int, v: int, ldv: int, n: int, width: int, y: int, ldy: int) -> None:
    """y[r, d] += sum over j < n of p[r, j] * v[j, d] for all rows and `width` values. See `tiles.mix_tile`."""
    size = size_of(kind)
    for first in range(0, rows, 3):
        here = min(3, rows - first)
        share, to = p + first * ldp * 4, y + first * ldy * 4
        d = 0
        while width - d >= 8 * VECTORS:
            at, place = v + d * size, to + d * 4
            if kind == 0:
                if here == 3:
                    _wide_3_fp32(share, ldp, at, ldv, n, place, ldy)
                elif here == 2:
                    _wide_2_fp32(share, ldp, at, ldv, n, place, ldy)
                else:
                    _wide_1_fp32(share, ldp, at, ldv, n, place, ldy)
            elif kind == 1:
                if here == 3:
                    _wide_3_bf16(share, ldp, at, ldv, n, place, ldy)
                elif here == 2:
                    _wide_2_bf16(share, ldp, at, ldv, n, place, ldy)
                else:
                    _wide_1_bf16(share, ldp, at, ldv, n, place, ldy)
            elif here == 3:
                _wide_3_fp16(share, ldp, at, ldv, n, place, ldy)
            elif here == 2:
                _wide_2_fp16(share, ldp, at, ldv, n, place, ldy)
            else:
                _wide_1_fp16(share, ldp, at, ldv, n, place, ldy)
            d += 8 * VECTORS
        while d < width:
            for r in range(here):
                one, place = share + r * ldp * 4, to + (r * ldy + d) * 4
                if kind == 0:
                    _thin_fp32(one, ldp, v + d * size, ldv, n, place, ldy)
                elif kind == 1:
                    _thin_bf16(one, ldp, v + d * size, ldv, n, place, ldy)
                else:
                    _thin_fp16(one, ldp, v + d * size, ldv, n, place, ldy)
            d += 8
