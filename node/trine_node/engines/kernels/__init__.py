"""Kernels for CPUs whose results do not depend on batch, chunk or thread count: the ground of the determinism class.

Compiled by Numba when first used and kept on disk. Every number is computed by one thread in one order of operations
(see `tiles`), so that work can be cut in any way.
"""

from __future__ import annotations

import numba


def use_threads(threads: int) -> None:
    """How many threads the kernels that this thread starts are run by, at most one a core.

    Work is cut into as many parts; a thread without a part would only be waited for.
    """
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
