"""Ways to compare 256-bit words side by side: `python benchmarks/hamming.py [--threads 2]`.

What `trine-study billion` uses is the line `faiss.hammings + numba's count`. numba and simsimd are measured where they
are installed. Processor time is for one thread and steadier than time on a busy machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from trine_research.study.hamming import BINS, TILE_COLUMNS, TILE_ROWS, histogram

Kernel = Callable[[Any, Any], object]
THRESHOLD = 90


def count_thres(claimed: Any, reference: Any) -> int:
    count = np.zeros(1, np.uint64)
    pointers = [faiss.swig_ptr(words) for words in (claimed, reference)]
    sizes = (len(claimed), len(reference), THRESHOLD, 32)
    faiss.hamming_count_thres(*pointers, *sizes, faiss.swig_ptr(count))
    return int(count[0])


def range_search(claimed: Any, reference: Any) -> int:
    index = faiss.IndexBinaryFlat(256)
    index.add(reference)
    return int(index.range_search(claimed, THRESHOLD + 1)[0][-1])


def distances_only(claimed: Any, reference: Any) -> None:
    """Computes all distances and looks at none."""
    tile = np.empty(TILE_ROWS * TILE_COLUMNS, np.int32)
    for top in range(0, len(claimed), TILE_ROWS):
        rows = claimed[top : top + TILE_ROWS]
        pointers = [faiss.swig_ptr(words) for words in (rows, reference)]
        faiss.hammings(*pointers, len(rows), len(reference), 32, faiss.swig_ptr(tile))


def gemm(claimed: Any, reference: Any) -> None:
    """Products of +1 and -1 in fp32: 256 less twice the distance. Computes them and looks at none."""
    signs = [2 * np.unpackbits(words, axis=1).astype(np.float32) - 1 for words in (claimed, reference)]
    for top in range(0, len(claimed), 500):
        _ = signs[0][top : top + 500] @ signs[1].T


def numba_kernel() -> Kernel:
    import numba
    from numba.core import types
    from numba.extending import intrinsic

    @intrinsic
    def ones(context: Any, word: Any) -> Any:
        return types.uint64(types.uint64), lambda _context, builder, _signature, args: builder.ctpop(args[0])

    @numba.njit(nogil=True)
    def count(a: Any, b: Any, bins: Any) -> None:
        for i in range(a.shape[0]):
            a0, a1, a2, a3 = a[i, 0], a[i, 1], a[i, 2], a[i, 3]
            for j in range(b.shape[0]):
                bins[ones(a0 ^ b[j, 0]) + ones(a1 ^ b[j, 1]) + ones(a2 ^ b[j, 2]) + ones(a3 ^ b[j, 3])] += 1

    def run(claimed: Any, reference: Any) -> Any:
        bins = np.zeros(BINS, np.int64)
        count(claimed.view(np.uint64), reference.view(np.uint64), bins)
        return bins

    return run


def simsimd_kernel() -> Kernel:
    import simsimd

    def run(claimed: Any, reference: Any) -> None:
        for top in range(0, len(claimed), 100):
            simsimd.cdist(claimed[top : top + 100], reference, metric="hamming", dtype="bin8")

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    kernels: dict[str, tuple[str, Kernel]] = {
        "faiss.hammings + numba's count": ("histogram", histogram),
        "faiss.hammings": ("distances", distances_only),
        "faiss.hamming_count_thres": ("count", count_thres),
        "faiss.IndexBinaryFlat.range_search": ("count, ids", range_search),
        "numpy fp32 product": ("distances", gemm),
    }
    if importlib.util.find_spec("numba"):
        kernels["numba, own kernel"] = ("histogram", numba_kernel())
    if importlib.util.find_spec("simsimd"):
        kernels["simsimd.cdist"] = ("distances", simsimd_kernel())

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    words = rng.integers(0, 256, (4096 * arguments.threads, 32), np.uint8)
    reference = rng.integers(0, 256, (TILE_COLUMNS, 32), np.uint8)
    parts = np.split(words, arguments.threads)
    to_billion = 1e9 / (len(words) * len(reference))
    processor: dict[str, list[float]] = {name: [] for name in kernels}
    wall: dict[str, list[float]] = {name: [] for name in kernels}
    with ThreadPoolExecutor(arguments.threads, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        for _, kernel in kernels.values():
            kernel(words[:16], reference)  # compiles, warms up
        for _ in range(arguments.repeats):
            for name, (_, kernel) in kernels.items():
                clock = time.process_time()
                kernel(parts[0], reference)
                processor[name].append((time.process_time() - clock) * to_billion * arguments.threads)
                clock = time.perf_counter()
                list(pool.map(kernel, parts, [reference] * len(parts)))
                wall[name].append((time.perf_counter() - clock) * to_billion)

    load = os.getloadavg()[0]
    table = Table(title=f"seconds for 10^9 pairs, {arguments.repeats} runs, load {load:.1f} on {os.cpu_count()} cores")
    for column in ("kernel", "gives", "processor: least", "median", f"{arguments.threads} threads: least", "median"):
        table.add_column(column, justify="left" if column in ("kernel", "gives") else "right")
    for name, (gives, _) in kernels.items():
        figures = [
            f"{value:.2f}" for run in (processor, wall) for value in (min(run[name]), float(np.median(run[name])))
        ]
        table.add_row(name, gives, *figures)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
