"""Register tiles: the innermost loops, as LLVM vector code, in one fixed order of operations.

A product of a row and a column is eight interleaved chains of fused multiply-adds over the inner dimension, k = 0, 8,
16, ...; k = 1, 9, 17, ...; and so on, added as ((0+4)+(2+6)) + ((1+5)+(3+7)). IEEE 754 leaves nothing else open, so
the result is the same however many rows and columns a tile has, on every processor with fused multiply-add.

Operands are addresses; the inner dimension is a multiple of 8. 16-bit operands are widened exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from trine_node.engines.kernels import compiled

LANES = 8
F32, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(F32, LANES)
HALF_VECTOR = ir.VectorType(F32, 4)
ZERO = ir.Constant(VECTOR, [0.0] * LANES)
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def dot_tile(rows: int, columns: int, dtype: str, unroll: int, *, ahead: int = 0) -> Any:
    """tile(x, ldx, w, ldw, k, y, ldy): y[r, c] = sum over k of x[r, k] * w[c, k].

    x and y are fp32, w is of `dtype`; ldx, ldw, ldy are elements from one row to the next. The processor is told to
    fetch what lies so many elements `ahead`, if any.
    """

    @intrinsic
    def tile(_context: Any, x: Any, ldx: Any, w: Any, ldw: Any, k: Any, y: Any, ldy: Any) -> Any:
        def emit(context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
            x, ldx, w, ldw, k, y, ldy = arguments
            left = [_row(b, x, ldx, r, "fp32") for r in range(rows)]
            right = [_row(b, w, ldw, c, dtype) for c in range(columns)]

            def step(sums: list[list[Any]], at: Any) -> list[list[Any]]:
                xs = [_load(b, row, at, "fp32") for row in left]
                sums = [list(line) for line in sums]
                for column in right if ahead else ():
                    _fetch(b, b.gep(column, [b.add(at, I64(ahead))]))
                for c, column in enumerate(right):
                    ws = _load(b, column, at, dtype)
                    for r in range(rows):
                        sums[r][c] = _fma(b, xs[r], ws, sums[r][c])
                return sums

            sums = [[ZERO] * columns for _ in range(rows)]
            whole = b.and_(k, I64(-LANES * unroll))
            sums, at = _loop(b, sums, I64(0), whole, LANES, unroll, step)
            sums, _ = _loop(b, sums, at, k, LANES, 1, step)
            for r in range(rows):
                _store_sums(b, sums[r], b.add(y, b.mul(ldy, I64(4 * r))))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), emit

    return tile


def mix_tile(rows: int, vectors: int, dtype: str) -> Any:
    """tile(p, ldp, v, ldv, n, y, ldy): y[r, d] += sum over j < n of p[r, j] * v[j, d], for 8 * `vectors` values of d.

    One chain of fused multiply-adds a value, in the order of j. p and y are fp32, v is of `dtype`.
    """

    @intrinsic
    def tile(_context: Any, p: Any, ldp: Any, v: Any, ldv: Any, n: Any, y: Any, ldy: Any) -> Any:
        def emit(context: Any, b: Any, _signature: Any, arguments: Any) -> Any:
            p, ldp, v, ldv, n, y, ldy = arguments
            shares = [_row(b, p, ldp, r, "fp32") for r in range(rows)]
            outputs = [_row(b, y, ldy, r, "fp32") for r in range(rows)]
            sums = [[_load(b, row, I64(LANES * c), "fp32") for c in range(vectors)] for row in outputs]

            def step(sums: list[list[Any]], at: Any) -> list[list[Any]]:
                line = _row(b, b.add(v, b.mul(b.mul(ldv, at), I64(BYTES[dtype]))), I64(0), 0, dtype)
                values = [_load(b, line, I64(LANES * c), dtype) for c in range(vectors)]
                spread = [_broadcast(b, b.load(b.gep(row, [at]))) for row in shares]
                return [[_fma(b, spread[r], values[c], sums[r][c]) for c in range(vectors)] for r in range(rows)]

            sums, _ = _loop(b, sums, I64(0), n, 1, 1, step)
            for r, row in enumerate(outputs):
                for c in range(vectors):
                    place = b.bitcast(b.gep(row, [I64(LANES * c)]), VECTOR.as_pointer())
                    b.store(sums[r][c], place).align = 4
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), emit

    return tile


@intrinsic
def total(_context: Any, x: Any, n: Any) -> Any:
    """The sum of n fp32 numbers, n a multiple of 8, in the order of a product with ones."""

    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        row = _row(b, arguments[0], I64(0), 0, "fp32")
        [[lanes]], _ = _loop(
            b,
            [[ZERO]],
            I64(0),
            arguments[1],
            LANES,
            1,
            lambda sums, at: [[b.fadd(sums[0][0], _load(b, row, at, "fp32"))]],
        )
        return _sum_of_lanes(b, lanes)

    return types.float32(types.int64, types.int64), emit


@intrinsic
def largest(_context: Any, x: Any, n: Any) -> Any:
    """The largest of n fp32 numbers, n a multiple of 8; whatever where one of them is none."""

    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        row = _row(b, arguments[0], I64(0), 0, "fp32")

        def step(found: list[list[Any]], at: Any) -> list[list[Any]]:
            here = _load(b, row, at, "fp32")
            return [[b.select(b.fcmp_ordered(">", here, found[0][0]), here, found[0][0])]]

        lowest = ir.Constant(VECTOR, [float("-inf")] * LANES)
        [[lanes]], _ = _loop(b, [[lowest]], I64(0), arguments[1], LANES, 1, step)
        best = b.extract_element(lanes, I32(0))
        for lane in range(1, LANES):
            other = b.extract_element(lanes, I32(lane))
            best = b.select(b.fcmp_ordered(">", other, best), other, best)
        return best

    return types.float32(types.int64, types.int64), emit


@intrinsic
def float_of_bits(_context: Any, bits: Any) -> Any:
    """The fp32 number that an int32 is the pattern of."""
    return types.float32(types.int32), lambda _c, b, _s, arguments: b.bitcast(arguments[0], F32)


@intrinsic
def bits_of_float(_context: Any, number: Any) -> Any:
    """The pattern of an fp32 number as an int32."""
    return types.int32(types.float32), lambda _c, b, _s, arguments: b.bitcast(arguments[0], I32)


@intrinsic
def whole_number(_context: Any, number: Any) -> Any:
    """An fp32 number that is whole, as an int32."""
    return types.int32(types.float32), lambda _c, b, _s, arguments: b.fptosi(arguments[0], I32)


@intrinsic
def round_down(_context: Any, number: Any) -> Any:
    """The largest whole number that is not above."""

    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        function = cgutils.get_or_insert_function(b.module, ir.FunctionType(F32, [F32]), "llvm.floor.f32")
        return b.call(function, arguments)

    return types.float32(types.float32), emit


@intrinsic
def fp16_and_back(_context: Any, number: Any) -> Any:
    """The nearest fp16 number."""

    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        return b.fpext(b.fptrunc(arguments[0], ir.HalfType()), F32)

    return types.float32(types.float32), emit


@intrinsic
def store_fp32(_context: Any, address: Any, number: Any) -> Any:
    def emit(context: Any, b: Any, _s: Any, arguments: Any) -> Any:
        b.store(arguments[1], b.inttoptr(arguments[0], F32.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit


@intrinsic
def store_fp16(_context: Any, address: Any, number: Any) -> Any:
    def emit(context: Any, b: Any, _s: Any, arguments: Any) -> Any:
        b.store(b.fptrunc(arguments[1], ir.HalfType()), b.inttoptr(arguments[0], ir.HalfType().as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), emit


@intrinsic
def store_bf16(_context: Any, address: Any, bits: Any) -> Any:
    """The upper half of an fp32 number's pattern."""

    def emit(context: Any, b: Any, _s: Any, arguments: Any) -> Any:
        upper = b.trunc(b.lshr(arguments[1], I32(16)), I16)
        b.store(upper, b.inttoptr(arguments[0], I16.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int32), emit


@intrinsic
def _read_fp32(_context: Any, address: Any) -> Any:
    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        return b.load(b.inttoptr(arguments[0], F32.as_pointer()))

    return types.float32(types.int64), emit


@intrinsic
def _read_bf16(_context: Any, address: Any) -> Any:
    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        raw = b.load(b.inttoptr(arguments[0], I16.as_pointer()))
        return b.bitcast(b.shl(b.zext(raw, I32), I32(16)), F32)

    return types.float32(types.int64), emit


@intrinsic
def _read_fp16(_context: Any, address: Any) -> Any:
    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        return b.fpext(b.load(b.inttoptr(arguments[0], ir.HalfType().as_pointer())), F32)

    return types.float32(types.int64), emit


@compiled()
def widen(kind: int, address: int) -> np.float32:
    """The number at an address, in the precision `kind` (see `products`), as fp32."""
    if kind == 0:
        return _read_fp32(address)
    if kind == 1:
        return _read_bf16(address)
    return _read_fp16(address)


@intrinsic
def pointer(_context: Any, address: Any) -> Any:
    """An address as numba's `carray` takes it."""
    return types.voidptr(types.int64), lambda _c, b, _s, arguments: b.inttoptr(arguments[0], cgutils.voidptr_t)


def _row(b: Any, base: Any, stride: Any, number: int, dtype: str) -> Any:
    element = F32 if dtype == "fp32" else I16
    return b.inttoptr(b.add(base, b.mul(stride, I64(BYTES[dtype] * number))), element.as_pointer())


def _load(b: Any, row: Any, at: Any, dtype: str) -> Any:
    """Eight elements as fp32."""
    element = F32 if dtype == "fp32" else I16
    raw = b.load(b.bitcast(b.gep(row, [at]), ir.VectorType(element, LANES).as_pointer()))
    raw.align = BYTES[dtype]
    if dtype == "bf16":
        wide = b.zext(raw, ir.VectorType(I32, LANES))
        return b.bitcast(b.shl(wide, ir.Constant(ir.VectorType(I32, LANES), [16] * LANES)), VECTOR)
    if dtype == "fp16":
        return b.fpext(b.bitcast(raw, ir.VectorType(ir.HalfType(), LANES)), VECTOR)
    return raw


def _fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(VECTOR, [VECTOR] * 3), "llvm.fma.v8f32")
    return b.call(function, [x, y, z])


def _fetch(b: Any, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, I32, I32, I32])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    b.call(function, [b.bitcast(place, cgutils.voidptr_t), I32(0), I32(3), I32(1)])


def _broadcast(b: Any, value: Any) -> Any:
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = b.insert_element(undefined, value, I32(0))
    return b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def _loop(
    b: Any,
    sums: list[list[Any]],
    start: Any,
    stop: Any,
    stride: int,
    unroll: int,
    step: Callable[[list[list[Any]], Any], list[list[Any]]],
) -> tuple[list[list[Any]], Any]:
    """for at in range(start, stop, stride * unroll), with the sums in registers; the sums and `at` behind it."""
    before = b.block
    head, body, after = (b.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    at = b.phi(I64)
    at.add_incoming(start, before)
    carried = [[b.phi(VECTOR) for _ in line] for line in sums]
    for line, initial in zip(carried, sums, strict=True):
        for phi, value in zip(line, initial, strict=True):
            phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", at, stop), body, after)
    b.position_at_end(body)
    current: list[list[Any]] = carried
    for number in range(unroll):
        current = step(current, b.add(at, I64(stride * number)))
    at.add_incoming(b.add(at, I64(stride * unroll)), b.block)
    for line, values in zip(carried, current, strict=True):
        for phi, value in zip(line, values, strict=True):
            phi.add_incoming(value, b.block)
    b.branch(head)
    b.position_at_end(after)
    return carried, at


def _store_sums(b: Any, sums: list[Any], address: Any) -> None:
    """The sum over the lanes of each vector, to consecutive places."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    halves = [
        b.fadd(b.shuffle_vector(v, undefined, _mask(0, 1, 2, 3)), b.shuffle_vector(v, undefined, _mask(4, 5, 6, 7)))
        for v in sums
    ]
    if len(halves) == 4:
        ab, cd = _paired(b, *halves[:2]), _paired(b, *halves[2:])
        total = b.fadd(b.shuffle_vector(ab, cd, _mask(0, 1, 4, 5)), b.shuffle_vector(ab, cd, _mask(2, 3, 6, 7)))
        b.store(total, b.inttoptr(address, HALF_VECTOR.as_pointer())).align = 4
        return
    for number, vector in enumerate(sums):
        b.store(_sum_of_lanes(b, vector), b.inttoptr(b.add(address, I64(4 * number)), F32.as_pointer()))


def _sum_of_lanes(b: Any, vector: Any) -> Any:
    undefined = ir.Constant(VECTOR, ir.Undefined)
    low, high = _mask(0, 1, 2, 3), _mask(4, 5, 6, 7)
    half = b.fadd(b.shuffle_vector(vector, undefined, low), b.shuffle_vector(vector, undefined, high))
    lanes = [b.extract_element(half, I32(lane)) for lane in range(4)]
    return b.fadd(b.fadd(lanes[0], lanes[2]), b.fadd(lanes[1], lanes[3]))


def _paired(b: Any, x: Any, y: Any) -> Any:
    """[x0 + x2, y0 + y2, x1 + x3, y1 + y3]."""
    return b.fadd(b.shuffle_vector(x, y, _mask(0, 4, 1, 5)), b.shuffle_vector(x, y, _mask(2, 6, 3, 7)))


def _mask(*lanes: int) -> Any:
    return ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
