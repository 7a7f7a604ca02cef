"""A billion pairs of fingerprints: how often honest ones pass, dishonest ones do not, and others collide.

Compares every claimed word with every reference word in blocks, here or on a Ray cluster, and remembers after each
block how far it is. Knows nothing of models: the words come from a file.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from trine.errors import InvalidInput
from trine_research.study.fingerprint_file import RANDOM, Fingerprints
from trine_research.study.hamming import BINS, Block, Histogram, blocks, distances_of_rows, histogram, in_order
from trine_research.study.intervals import Proportion

RANDOM_THRESHOLDS = (80, 90, 100)
MAX_THRESHOLDS = 16
MAX_THREADS = 256
STATE_FORMAT = 1
MAX_STATE_BYTES = 1 << 20

Runner = Callable[[Sequence[Block]], Iterator[Histogram]]


@dataclass
class Progress:
    """What a run has counted, so that another can go on: the same counts, whoever counted them."""

    digest: str
    block_pairs: int
    done: int = 0
    counts: Histogram = field(default_factory=lambda: np.zeros(BINS, np.int64))
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Atomically: a run that is killed here leaves the state of the block before. Not synced to the disk, which
        would cost more than a block: after a power cut the file may be refused, and the run begins anew."""
        document = {
            "format": STATE_FORMAT,
            "digest": self.digest,
            "block_pairs": self.block_pairs,
            "done": self.done,
            "counts": self.counts.tolist(),
            "seconds": self.seconds,
        }
        scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            scratch.write_text(json.dumps(document), encoding="utf-8")
            scratch.replace(path)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error}") from None

    @classmethod
    def load(cls, path: Path, expected: Progress, todo: Sequence[Block], n: int) -> Progress:
        """Raises InvalidInput for another run's state and for one whose counts do not add up."""
        try:
            if path.stat().st_size > MAX_STATE_BYTES:
                raise InvalidInput(f"{path} is too large for a state file")
            document = json.loads(path.read_text(encoding="utf-8"))
            state = cls(
                digest=str(document["digest"]),
                block_pairs=int(document["block_pairs"]),
                done=int(document["done"]),
                counts=np.array([int(count) for count in document["counts"]], np.int64),
                seconds=float(document["seconds"]),
            )
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{path} is not a state file of this study: remove it to begin anew") from None
        if document.get("format") != STATE_FORMAT or (state.digest, state.block_pairs) != (
            expected.digest,
            expected.block_pairs,
        ):
            raise InvalidInput(f"{path} belongs to other fingerprints or blocks: remove it, or name another --state")
        compared = todo[state.done - 1][1] * n if 0 < state.done <= len(todo) else 0
        whole = state.counts.shape == (BINS,) and state.counts.min() >= 0 and int(state.counts.sum()) == compared
        if not (0 <= state.done <= len(todo) and whole and 0 <= state.seconds < float("inf")):
            raise InvalidInput(f"{path} does not add up: remove it to begin anew")
        return state


def compare(
    prints: Fingerprints,
    *,
    run: Runner,
    block_pairs: int,
    state_file: Path | None = None,
    on_block: Callable[[int, int], None] = lambda done, of: None,
) -> Progress:
    """Counts the distances of all n * m pairs; goes on where `state_file` stopped. `on_block` hears of every block."""
    n, m = len(prints.reference), len(prints.claimed)
    todo = blocks(m, n, block_pairs)
    progress = Progress(prints.digest(), block_pairs)
    if state_file and state_file.exists():
        progress = Progress.load(state_file, progress, todo, n)
    on_block(progress.done, len(todo))
    clock = time.perf_counter()
    for counts in run(todo[progress.done :]):
        progress.counts += counts
        progress.done += 1
        progress.seconds += time.perf_counter() - clock
        clock = time.perf_counter()
        if state_file:
            progress.save(state_file)
        on_block(progress.done, len(todo))
    return progress


def threads_runner(prints: Fingerprints, threads: int) -> Runner:
    """Blocks side by side on this machine."""
    _require_threads(threads)

    def run(todo: Sequence[Block]) -> Iterator[Histogram]:
        with ThreadPoolExecutor(threads) as pool:

            def submit(block: Block) -> Future[Histogram]:
                return pool.submit(histogram, prints.claimed[slice(*block)], prints.reference)

            yield from in_order(todo, submit, Future.result, 2 * threads)

    return run


def ray_runner(prints: Fingerprints, address: str, threads: int) -> Runner:
    """Blocks as tasks of the Ray cluster at `address`; `local` starts one here with `threads` processes.

    Workers need this package. Raises InvalidInput when Ray is not installed or the cluster cannot be reached.
    """
    _require_threads(threads)
    try:
        # By name: type checkers need not find what only clusters have.
        ray = import_module("ray")
    except ImportError:
        raise InvalidInput('Ray is not installed: in a checkout of Trine, pip install "./verifier[cluster]"') from None
    options: dict[str, Any] = {"num_cpus": threads, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # noqa: BLE001 (Ray raises bare ones, also where it starts too slowly)
        raise InvalidInput(f"no Ray cluster at {address}: {error}") from None

    def run(todo: Sequence[Block]) -> Iterator[Histogram]:
        task = ray.remote(num_cpus=1)(histogram)
        reference = ray.put(prints.reference)
        cpus: float = ray.cluster_resources().get("CPU", 1)
        window = 2 * max(1, int(cpus))

        def submit(block: Block) -> Any:
            return task.remote(prints.claimed[slice(*block)], reference)

        try:
            yield from in_order(todo, submit, ray.get, window)
        finally:
            ray.shutdown()

    return run


def _require_threads(threads: int) -> None:
    if not 1 <= threads <= MAX_THREADS:
        raise InvalidInput(f"1 to {MAX_THREADS} threads, not {threads}")


def thresholds_for(prints: Fingerprints, wanted: Sequence[int]) -> tuple[int, ...]:
    """Those wanted; else the least at which all honest matched pairs pass. Raises InvalidInput if there are none."""
    if wanted:
        if len(wanted) > MAX_THRESHOLDS or not all(0 <= threshold < BINS for threshold in wanted):
            raise InvalidInput(f"at most {MAX_THRESHOLDS} thresholds, each 0 to {BINS - 1}")
        return tuple(sorted(set(wanted)))
    if prints.engines == (RANDOM,):
        return RANDOM_THRESHOLDS
    honest = [
        counts for name, counts in matched_histograms(prints).items() if prints.honest[prints.engines.index(name)]
    ]
    most = [int(np.flatnonzero(counts)[-1]) for counts in honest if counts.any()]
    if not most:
        raise InvalidInput("no honest engine has a matched pair to choose a threshold by: name one with --threshold")
    return (max(most),)


def matched_histograms(prints: Fingerprints) -> dict[str, Histogram]:
    """By engine: how many of its matched pairs have each distance."""
    rows = np.flatnonzero(prints.match >= 0)
    distances = distances_of_rows(prints.claimed[rows], prints.reference[prints.match[rows]])
    return {
        name: np.bincount(distances[prints.engine[rows] == index], minlength=BINS)
        for index, name in enumerate(prints.engines)
    }


def evaluate(prints: Fingerprints, counts: Histogram, wanted: Sequence[int]) -> dict[str, Any]:
    """What the histogram of all pairs and those of the matched ones say, ready for JSON.

    Bounds are Clopper-Pearson's, which take pairs for independent. Those n * m pairs are made of n + m words, so
    the collision rate of other words may lie further away than the bounds say.
    """
    matched = matched_histograms(prints)
    unmatched = counts - sum(matched.values(), start=np.zeros(BINS, np.int64))
    if unmatched.min() < 0 or int(counts.sum()) != prints.pairs:
        raise InvalidInput("the counts are not those of these fingerprints")
    lines = []
    for threshold in thresholds_for(prints, wanted):
        engines = []
        for name, honest in zip(prints.engines, prints.honest, strict=True):
            passed, of = int(matched[name][: threshold + 1].sum()), int(matched[name].sum())
            if of:
                figure = Proportion.estimate(passed if honest else of - passed, of)
                engines.append(
                    {"engine": name, "honest": honest, **figure.document("passed" if honest else "detected")}
                )
        collisions = Proportion.estimate(int(unmatched[: threshold + 1].sum()), int(unmatched.sum()))
        lines.append(
            {"threshold": threshold, "engines": engines, "collisions": collisions.document("collided")}
            | ({"expected_rate": expected_rate(threshold)} if prints.engines == (RANDOM,) else {})
        )
    return {
        "source": RANDOM if prints.engines == (RANDOM,) else "fingerprints",
        "digest": prints.digest(),
        "pairs": prints.pairs,
        "reference": len(prints.reference),
        "claimed": len(prints.claimed),
        "thresholds": lines,
        "histograms": {
            "unmatched": unmatched.tolist(),
            "matched": {name: values.tolist() for name, values in matched.items() if values.any()},
        },
    }


def expected_rate(threshold: int) -> float:
    """P(distance <= threshold) of two words of 256 independent fair bits: the binomial distribution's."""
    from scipy.stats import binom

    return float(binom.cdf(threshold, BINS - 1, 0.5))
