"""Kernels for GPUs, in Triton, whose results do not depend on batch or chunk size: the ground of the class there.

The same three operations that Thinking Machines' `batch_invariant_ops` replaces (He, "Defeating Nondeterminism in LLM
Inference", 2025): products, means and attention. A number is computed by one program, in an order that follows from the
shape of the weight or the row's own position and from nothing else; nothing is tuned.

A product's tile may follow from the number of rows all the same: every tile adds up the same steps of the inner
dimension, one after the other, by the same instruction (`mma.sync.m16n8k16`; one `fma` a term in fp32). On GPUs of
compute capability 9 and 10 Triton would take another instruction for tiles of 64 rows or more, so that is switched off.
Whether a device keeps to this is tried when a model is loaded (`keep_tiles_that_agree`).

With TRITON_INTERPRET=1, set before this is imported, they run on a CPU, slowly: for tests.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

os.environ.update(DISABLE_MMA_V3="1", DISABLE_MMA_V5="1")  # Triton's own names; it reads them when it compiles


@dataclass(frozen=True, slots=True)
class Tile:
    """Of a product: how many of its numbers one program computes, with how many warps and loads under way."""

    rows: int
    columns: int
    warps: int
    stages: int


SMALL_TILES = (Tile(16, 32, 4, 8), Tile(32, 32, 4, 6), Tile(64, 32, 4, 5))
HALF_TILES = (*SMALL_TILES, Tile(64, 128, 4, 4), Tile(128, 128, 8, 4))
FULL_TILES = (*SMALL_TILES, Tile(64, 64, 8, 4), Tile(128, 64, 8, 4))
"""Of products in bf16 and fp16, and in fp32. The first one is what the others are compared with."""
LINE_BYTES = 128
"""Of a tile along the inner dimension. The same for all: it decides how many zeros are added at the end."""
BUSY = 128
"""Programs that keep a large GPU busy: a larger tile than leaves so many is not worth it."""
SUM_STEP = 1024
KEY_STEP = 64
PARTS = 8
"""That attention to a row's positions is cut into, all computed side by side: how, its own position says alone."""
LEAST_DOT = 16
"""Of Triton's products no side may be shorter."""
WARPS = 4
STAGES = 4


# Without this Triton compiles another kernel for one row, or for a multiple of 16 of them.
@triton.jit(do_not_specialize=["rows"])
def _product(  # type: ignore[no-untyped-def]
    x, w, bias, y, rows, outputs, inputs,
    BIASED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    # Row tiles come first, so that those which need the same part of the matrix run together.
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    sums = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, inputs, INNER):
        k = start + tl.arange(0, INNER)
        left = tl.load(
            x + row[:, None] * inputs + k[None, :], mask=(row[:, None] < rows) & (k[None, :] < inputs), other=0.0
        )
        right = tl.load(
            w + column[None, :] * inputs + k[:, None],
            mask=(column[None, :] < outputs) & (k[:, None] < inputs),
            other=0.0,
        )
        sums = tl.dot(left, right, sums, input_precision="ieee")
    if BIASED:
        sums += tl.load(bias + column, mask=column < outputs, other=0.0).to(tl.float32)[None, :]
    tl.store(
        y + row[:, None] * outputs + column[None, :],
        sums.to(y.dtype.element_ty),
        mask=(row[:, None] < rows) & (column[None, :] < outputs),
    )


@triton.jit
def _sum(x, y, width, STEP: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    sums = tl.zeros((STEP,), dtype=tl.float32)
    for start in range(0, width, STEP):
        k = start + tl.arange(0, STEP)
        sums += tl.load(x + row * width + k, mask=k < width, other=0.0).to(tl.float32)
    tl.store(y + row, tl.sum(sums, 0))


@triton.jit
def _part_of(position, window, part, STEP: tl.constexpr, PARTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """(first position seen, first and last but one step of a part, parts in use): whole steps, the same in every part
    but the last ones."""
    first = tl.where(window > 0, tl.maximum(position - window + 1, 0), 0)
    from_step = first // STEP
    steps = position // STEP + 1 - from_step
    each = (steps + PARTS - 1) // PARTS
    start = from_step + part * each
    return first, start, tl.minimum(start + each, from_step + steps), (steps + each - 1) // each


@triton.jit(do_not_specialize=["line"])
def _attend(  # type: ignore[no-untyped-def]
    q, k, v, tables, places, tops, totals, answers, line, scale, cap, window,
    SHARED: tl.constexpr, GROUP: tl.constexpr, QUERIES: tl.constexpr, WIDTH: tl.constexpr, WIDE: tl.constexpr,
    VALUE_WIDTH: tl.constexpr, VALUE_WIDE: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, CAPPED: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """The queries of one row that share one head of keys and values, over one part of what the row sees: softmax as it
    goes (Milakov, Gimelshein, 2018)."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    sequence = tl.load(places + row * 2).to(tl.int64)
    position = tl.load(places + row * 2 + 1)
    first, start_step, end_step, used = _part_of(position, window, part, STEP, PARTS)
    if part >= used:
        return
    g = tl.arange(0, QUERIES)
    d = tl.arange(0, WIDE)
    e = tl.arange(0, VALUE_WIDE)
    first_query = (row * SHARED + head) * GROUP
    query = tl.load(
        q + (first_query + g[:, None]) * WIDTH + d[None, :], mask=(g[:, None] < GROUP) & (d[None, :] < WIDTH), other=0.0
    )
    top = tl.full((QUERIES,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((QUERIES,), dtype=tl.float32)
    answer = tl.zeros((QUERIES, VALUE_WIDE), dtype=tl.float32)
    for start in range(start_step * STEP, end_step * STEP, STEP):
        j = start + tl.arange(0, STEP)
        seen = (j >= first) & (j <= position)
        slot = tl.load(tables + sequence * line + j // BLOCK, mask=seen, other=0).to(tl.int64) * BLOCK + j % BLOCK
        key = tl.load(
            k + (slot[None, :] * SHARED + head) * WIDTH + d[:, None],
            mask=seen[None, :] & (d[:, None] < WIDTH),
            other=0.0,
        )
        scores = tl.dot(query, key, input_precision="ieee") * scale
        if CAPPED:
            scores = cap * (1.0 - 2.0 / (tl.exp(2.0 * scores / cap) + 1.0))
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        shares = tl.exp(scores - higher[:, None])
        fade = tl.exp(top - higher)
        value = tl.load(
            v + (slot[:, None] * SHARED + head) * VALUE_WIDTH + e[None, :],
            mask=seen[:, None] & (e[None, :] < VALUE_WIDTH),
            other=0.0,
        )
        total = total * fade + tl.sum(shares, 1)
        answer = answer * fade[:, None] + tl.dot(shares.to(value.dtype), value, input_precision="ieee")
        top = higher
    place = (first_query + g) * PARTS + part
    tl.store(tops + place, top, mask=g < GROUP)
    tl.store(totals + place, total, mask=g < GROUP)
    tl.store(
        answers + place[:, None] * VALUE_WIDTH + e[None, :],
        answer,
        mask=(g[:, None] < GROUP) & (e[None, :] < VALUE_WIDTH),
    )


@triton.jit
def _join(  # type: ignore[no-untyped-def]
    tops, totals, answers, places, y, window,
    HEADS: tl.constexpr, VALUE_WIDTH: tl.constexpr, VALUE_WIDE: tl.constexpr, STEP: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """The parts of one query put together, always in the same order."""
    row = tl.program_id(0).to(tl.int64)
    query = row * HEADS + tl.program_id(1)
    position = tl.load(places + row * 2 + 1)
    _, _, _, used = _part_of(position, window, 0, STEP, PARTS)
    e = tl.arange(0, VALUE_WIDE)
    highest = tl.load(tops + query * PARTS)
    total = 0.0
    answer = tl.zeros((VALUE_WIDE,), dtype=tl.float32)
    for part in range(1, used):
        highest = tl.maximum(highest, tl.load(tops + query * PARTS + part))
    for part in range(used):
        fade = tl.exp(tl.load(tops + query * PARTS + part) - highest)
        total += tl.load(totals + query * PARTS + part) * fade
        piece = tl.load(answers + (query * PARTS + part) * VALUE_WIDTH + e, mask=e < VALUE_WIDTH, other=0.0)
        answer += piece * fade
    answer = answer / total
    tl.store(y + query * VALUE_WIDTH + e, answer.to(y.dtype.element_ty), mask=e < VALUE_WIDTH)


def matmul(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, tile: Tile | None = None
) -> torch.Tensor:
    """rows [n, inputs] times weight [outputs, inputs], transposed, plus bias: [n, outputs], rounded once.

    Sums are in fp32; both operands have the same precision. `tile` changes no bit.
    """
    rows, weight = rows.contiguous(), weight.contiguous()
    count, inputs = rows.shape
    outputs = weight.shape[0]
    result = torch.empty(count, outputs, dtype=rows.dtype, device=rows.device)
    if count:
        tile = tile or tile_for(count, outputs, rows.dtype)
        _product[(triton.cdiv(count, tile.rows), triton.cdiv(outputs, tile.columns))](
            rows, weight, weight if bias is None else bias, result, count, outputs, inputs,
            BIASED=bias is not None, ROWS=tile.rows, COLUMNS=tile.columns, INNER=LINE_BYTES // rows.element_size(),
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return result


_agreeing: dict[torch.dtype, tuple[Tile, ...]] = {}


def all_tiles(dtype: torch.dtype) -> tuple[Tile, ...]:
    return FULL_TILES if dtype == torch.float32 else HALF_TILES


def tile_for(rows: int, outputs: int, dtype: torch.dtype) -> Tile:
    """The largest tile that is not half empty and leaves enough programs; otherwise the first one."""
    for tile in reversed(_agreeing.get(dtype, all_tiles(dtype))):
        if tile.rows < 2 * rows and triton.cdiv(rows, tile.rows) * triton.cdiv(outputs, tile.columns) >= BUSY:
            return tile
    return all_tiles(dtype)[0]


def keep_tiles_that_agree(device: torch.device, dtype: torch.dtype, side: int = 512) -> list[Tile]:
    """Multiplies random numbers by every tile, and leaves out from now on those with other bits than the first one.

    Returns what was left out. `side`: rows and outputs; of inputs there are a few more, so that a step is not full.
    """
    draw = torch.Generator().manual_seed(side)
    x, w = (torch.randn(side, side + 24, generator=draw).to(dtype).to(device) for _ in range(2))
    tiles = all_tiles(dtype)
    expected = matmul(x, w, tile=tiles[0])
    _agreeing[dtype] = tuple(tile for tile in tiles if torch.equal(matmul(x, w, tile=tile), expected))
    return [tile for tile in tiles if tile not in _agreeing[dtype]]


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """torch.nn.functional.linear of x [..., inputs]."""
    return matmul(x.reshape(-1, x.shape[-1]), weight, bias).reshape(*x.shape[:-1], -1)


def row_sums(x: torch.Tensor) -> torch.Tensor:
    """Sums over the last dimension of [..., width], fp32 [...]."""
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    result = torch.empty(len(flat), dtype=torch.float32, device=x.device)
    if len(flat):
        _sum[(len(flat),)](flat, result, flat.shape[1], STEP=SUM_STEP, num_warps=WARPS)
    return result.reshape(x.shape[:-1])


def attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    places: torch.Tensor,
    *,
    scale: float,
    window: int,
    cap: float,
    block: int,
) -> torch.Tensor:
    """[rows, heads, value width] in query's precision: every row attends to its sequence's positions up to its own.

    query: [rows, heads, width]; keys and values: [blocks * block, shared heads, width]. tables: int32 [sequences,
    blocks], where each sequence's blocks are; places: int32 [rows, 2], each row's sequence and position. `window`: how
    many positions a row sees, 0 for all. `cap`: bound of the scores by tanh, 0 for none.
    """
    query, tables, places = query.contiguous(), tables.contiguous(), places.contiguous()
    count, heads, width = query.shape
    shared, value_width = keys.shape[1], values.shape[2]
    group = heads // shared
    result = torch.empty(count, heads, value_width, dtype=query.dtype, device=query.device)
    tops, totals = torch.empty(2, count, heads, PARTS, dtype=torch.float32, device=query.device)
    answers = torch.empty(count, heads, PARTS, value_width, dtype=torch.float32, device=query.device)
    _attend[(count, shared, PARTS)](
        query, keys, values, tables, places, tops, totals, answers, tables.shape[1], float(scale), float(cap), window,
        SHARED=shared, GROUP=group, QUERIES=_side(group), WIDTH=width, WIDE=_side(width), VALUE_WIDTH=value_width,
        VALUE_WIDE=_side(value_width), BLOCK=block, STEP=KEY_STEP, CAPPED=cap > 0, PARTS=PARTS,
        num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    _join[(count, heads)](
        tops, totals, answers, places, result, window,
        HEADS=heads, VALUE_WIDTH=value_width, VALUE_WIDE=_side(value_width), STEP=KEY_STEP, PARTS=PARTS, num_warps=1,
    )  # fmt: skip
    return result


def _side(length: int) -> int:
    """A side of a tile that holds so many."""
    return max(LEAST_DOT, int(triton.next_power_of_2(length)))
