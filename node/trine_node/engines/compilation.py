"""Compiles the kernels once a machine, under a lock, before anybody waits for an answer.

Numba would compile them in every process that first needs them: half a minute of a core each, at the same moment where
several operators start together.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core import sigutils

from trine_node.engines import kernels
from trine_operator.once import alone, telling

DECODE = (
    "(int64, int64[:, ::1], int64, int64[::1], int64, int64, int32[:, ::1], int32[:, ::1], int64[::1], int64, int64,"
    " int64, int64, int64, int64, float32, float32, int64[::1], int64, int64, int64[::1])"
)
LINEAR = "(int64, int64, int64, int64, int64, int64, int64, int64)"
ATTENTION = (
    "(int64, int64, int64, int64, int32[:, ::1], int32[:, ::1], int64, int64, int64, int64, int64, int64, int64,"
    " float32, float32, int64, int64)"
)


def entry_points() -> list[tuple[Any, str]]:
    """What Python calls, with the only types it is called with; what these call is compiled along."""
    from trine_node.engines.kernels import attention, decoder, linear  # torch: not needed to see that all is there

    return [(decoder.decode, DECODE), (linear._whole, LINEAR), (attention._whole, ATTENTION)]


def are_compiled() -> bool:
    """Whether this machine has them for this processor, Python and Numba."""
    return _marker().exists()


def compile_kernels(progress: Callable[[str], None] = lambda message: None) -> bool:
    """Compiles what is not yet; whether there was anything to do.

    Safe to call from several processes at once: one compiles, the others wait for it.
    """
    marker = _marker()
    if marker.exists():
        return False
    with alone(marker.with_suffix(".lock"), "compiling the CPU kernels", progress):
        if marker.exists():
            return False
        with telling(
            "compiling the CPU kernels for this processor", progress, "once a machine, half a minute of one core"
        ):
            for function, signature in entry_points():
                types, _result = sigutils.normalize_signature(signature)
                function.compile(types)  # the cache goes by what it is given, which for a call are types
        marker.touch()
    return True


def _marker() -> Path:
    binding: Any = llvmlite.binding
    machine = f"{sys.version}:{numba.__version__}:{binding.get_host_cpu_name()}:{binding.get_host_cpu_features()}"
    # Numba keeps what it compiled by the place of its source.
    machine += f":{Path(kernels.__file__).resolve().parent}:{numba.config.CACHE_DIR}"
    return kernels.cache_folder() / f"compiled-{hashlib.sha256(machine.encode()).hexdigest()[:16]}"
