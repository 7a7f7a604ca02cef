"""Hamming distances of 256-bit words, counted: many pairs in little memory. Knows nothing of what the words mean.

faiss computes distances and lets go of Python's lock meanwhile, so blocks run side by side in threads; a loop compiled
by numba counts them. The distances of one tile are all that is ever held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from trine.errors import InvalidInput
from trine_node.engines.kernels import entry_point
from trine_research.study.fingerprint_file import WORD_BYTES, Words

BINS = 8 * WORD_BYTES + 1
"""Distances 0 to 256."""
TILE_ROWS = 16
TILE_COLUMNS = 8192
"""A tile's words and distances (256 KiB and 512 KiB) stay in a core's cache."""
LANES = 4
"""Neighbouring distances are often equal, and a count just written is slow to read again: so each counts apart."""
MAX_BLOCK_PAIRS = 1 << 34

Histogram = NDArray[np.int64]
Block = tuple[int, int]
"""First row of `claimed`, and the one after the last."""
Task = TypeVar("Task")


@entry_point()
def _count(distances: NDArray[np.uint32], counts: Histogram) -> None:
    """Adds to counts [LANES, BINS], whose sum over lanes is the histogram."""
    whole = len(distances) // LANES * LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            counts[lane, distances[i + lane]] += 1
    for i in range(whole, len(distances)):
        counts[0, distances[i]] += 1


def histogram(claimed: Words, reference: Words) -> Histogram:
    """How many pairs of a row of `claimed` [m, 32] and one of `reference` [n, 32] have each distance: [257]."""
    for words in (claimed, reference):
        if words.dtype != np.uint8 or words.ndim != 2 or words.shape[1] != WORD_BYTES or not words.flags.c_contiguous:
            raise InvalidInput("words are a contiguous array of uint8 with 32 columns")
    # OpenMP's setting belongs to the calling thread: callers run blocks side by side, so each takes one.
    faiss.omp_set_num_threads(1)
    counts = np.zeros((LANES, BINS), np.int64)
    distances = np.empty(TILE_ROWS * min(TILE_COLUMNS, len(reference)), np.int32)
    for left in range(0, len(reference), TILE_COLUMNS):
        columns = reference[left : left + TILE_COLUMNS]
        for top in range(0, len(claimed), TILE_ROWS):
            rows = claimed[top : top + TILE_ROWS]
            faiss.hammings(  # type: ignore[attr-defined]
                faiss.swig_ptr(rows),
                faiss.swig_ptr(columns),
                len(rows),
                len(columns),
                WORD_BYTES,
                faiss.swig_ptr(distances),
            )
            # Unsigned: numba counts negative indices from the end, and would look at each.
            _count(distances[: len(rows) * len(columns)].view(np.uint32), counts)
    return counts.sum(axis=0)


def distances_of_rows(a: Words, b: Words) -> NDArray[np.int64]:
    """Distance of each row of `a` [m, 32] from the same row of `b`: [m]."""
    if a.shape != b.shape:
        raise InvalidInput("rows are compared one by one: as many on either side")
    chunks = [
        np.bitwise_count(a[i : i + 65_536] ^ b[i : i + 65_536]).sum(1, np.int64) for i in range(0, len(a), 65_536)
    ]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)


def blocks(m: int, n: int, block_pairs: int) -> list[Block]:
    """Splits m rows so that no block has more than `block_pairs` pairs with n others, but one row at least."""
    if not 1 <= block_pairs <= MAX_BLOCK_PAIRS:
        raise InvalidInput(f"a block has 1 to {MAX_BLOCK_PAIRS:,} pairs, not {block_pairs:,}")
    rows = max(1, block_pairs // n)
    return [(start, min(start + rows, m)) for start in range(0, m, rows)]


def in_order(
    todo: Iterable[Block], submit: Callable[[Block], Task], result: Callable[[Task], Histogram], window: int
) -> Iterator[Histogram]:
    """Results in the order of `todo`, while at most `window` tasks are under way."""
    under_way: deque[Task] = deque()
    for block in todo:
        under_way.append(submit(block))
        if len(under_way) >= window:
            yield result(under_way.popleft())
    while under_way:
        yield result(under_way.popleft())
