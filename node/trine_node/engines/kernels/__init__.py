"""Kernels for CPUs whose results do not depend on batch, chunk or thread count: the ground of the determinism class.

Compiled by Numba when first used. Every number is computed by one thread in one order of operations (see `tiles`), so
that work can be cut in any way.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path

import numba
import platformdirs

_options = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# Divisions are IEEE 754's: a check for zero would keep loops from becoming vector code.

compiled = functools.partial(numba.njit, no_cpython_wrapper=True, **_options)
"""For what only other kernels call. A way in from Python would hold all of a function's code once more, for LLVM to
optimise and for every caller to take along: twice the time to compile."""

entry_point = functools.partial(numba.njit, **_options)
"""For what Python calls."""


def use_threads(threads: int) -> int:
    """How many threads the kernels that this thread starts are run by, at most one a core.

    Work is cut into as many parts; a thread without a part would only be waited for.
    """
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    return int(numba.get_num_threads())


def cache_folder() -> Path:
    """Where compiled kernels are kept: beside the prepared models, or where temporary files are if that is read-only.

    Named by the kernels' sources: Numba looks only at the file of the outermost function for changes.
    """
    state = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        state.update(file.read_bytes())
    name = f"kernels/{state.hexdigest()[:16]}"
    home = os.environ.get("TRINE_HOME") or platformdirs.user_cache_dir("trine")
    for folder in (Path(home) / name, Path(tempfile.gettempdir()) / f"trine-{os.getuid()}" / name):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="trine-kernels-"))


if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(cache_folder())
