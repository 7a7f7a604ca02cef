"""A barrier for the threads of one pass, which costs less than ending and beginning a parallel loop.

Only for threads that are known to run at the same time: `all_here` finds out.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from trine_node.engines.kernels import compiled

I32, I64 = ir.IntType(32), ir.IntType(64)
PAUSE = "llvm.x86.sse2.pause" if platform.machine() in ("x86_64", "AMD64") else ""
SPINS = 4000
"""So often a waiting thread looks before it offers its core to others, every time."""
PATIENCE = 100_000
"""So often it looks for threads that have not begun before it gives up on them: some tens of milliseconds."""


@intrinsic
def _arrive(_context: Any, counter: Any) -> Any:
    """Adds one to the int64 at an address; the sum before."""

    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        return b.atomic_rmw("add", b.inttoptr(arguments[0], I64.as_pointer()), I64(1), "acq_rel")

    return types.int64(types.int64), emit


@intrinsic
def _seen(_context: Any, counter: Any) -> Any:
    def emit(_c: Any, b: Any, _s: Any, arguments: Any) -> Any:
        return b.load_atomic(b.inttoptr(arguments[0], I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), emit


@intrinsic
def _decide(_context: Any, place: Any, value: Any) -> Any:
    """Writes a value over zero."""

    def emit(context: Any, b: Any, _s: Any, arguments: Any) -> Any:
        b.cmpxchg(b.inttoptr(arguments[0], I64.as_pointer()), I64(0), arguments[1], "acq_rel", "acquire")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def _pause(_context: Any) -> Any:
    def emit(context: Any, b: Any, _s: Any, _arguments: Any) -> Any:
        if PAUSE:
            b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), []), PAUSE), [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def _offer_core(_context: Any) -> Any:
    def emit(context: Any, b: Any, _s: Any, _arguments: Any) -> Any:
        b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(I32, []), "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), emit


@compiled()
def meet(counter: int, parts: int) -> None:
    """Returns once all `parts` threads have called it as often as this one.

    `counter`: address of an int64 that was zero before.
    """
    target = (_arrive(counter) // parts + 1) * parts
    spins = 0
    while _seen(counter) < target:
        _pause()
        spins += 1
        if spins % SPINS == 0:
            _offer_core()


@compiled()
def all_here(room: int, parts: int) -> bool:
    """Whether all `parts` threads run at once; the same answer for each. To be called first.

    Of the two int64 at `room`, zeros before, one counts who is here and the other says what was decided: by the last
    who comes, or by the first who gives up.
    """
    decided = room + 8
    if _arrive(room) == parts - 1:
        _decide(decided, 1)
    for turn in range(PATIENCE):
        if _seen(decided):
            break
        if turn > SPINS:
            _offer_core()
        else:
            _pause()
    _decide(decided, 2)
    return _seen(decided) == 1
