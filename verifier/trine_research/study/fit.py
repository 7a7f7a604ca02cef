"""From honest leaves to a policy's bounds, and how sure they are.

The logarithm of an honest leaf's relative deviation is taken as normal with a variance of floor^2 + scatter^2 / n for
n tokens (docs/statistics.md shows how well that holds). Where the largest deviations found are rarer than this model
allows for, its spread is widened until they fit, so that "k sigmas" never promises more than was seen.

Every honest variant is fitted by itself, and bounds are those of the widest: an operator runs one of them, not their
mixture. Two machines with the same kernels deviate by nothing at all; thrown together with others they would make a
law of two humps, whose spread covers any cheat.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trine.errors import InvalidInput
from trine.protocol.policy import Bounds, Policy
from trine_research.study.intervals import Proportion
from trine_research.study.observe import Leaf

WINDOWS = (8, 16, 32, 64)
TYPICAL_WINDOW = 32
QUIET = 0.05
"""Relative deviations below this are all alike: engines that agree to the last bits have no scatter to fit."""
MIN_FLOOR = 0.05
MIN_SCATTER = 0.3
MIN_MARGIN = (2.5, 5.0)
"""Weighed, accept and reject: no bound is tighter, however exactly two engines agreed. At usual noise a twentieth and a
tenth of a logit."""
MARGIN_RATES = (1e-4, 1e-6)
"""Chances, accept and reject, that the worst margin of an honest answer of MARGIN_TOKENS lies beyond its bound."""
MARGIN_TOKENS = 256
MARGIN_HEADROOM = ((1.5, 2.0), (2.25, 3.0))
"""Accept and reject bounds are at least and at most so many times the largest honest margin found: prompts never seen
have larger ones, but a tail fitted to few points reaches too far."""
MIN_LEAVES = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairFit:
    """Bounds of one pair of classes, and what they were fitted to."""

    prover: str
    verifier: str
    bounds: Bounds
    variant: str  # the one whose deviations are the bounds'
    leaves: int
    widened: float  # by how much the spread was widened to cover the largest deviations, 1 if not
    worst_sigmas: float  # of all windows


def fit_policy(leaves: Sequence[Leaf], accept_sigmas: float = 4.0, reject_sigmas: float = 5.0) -> Policy:
    """Bounds for every pair of classes among the honest leaves."""
    pairs = [(fit.prover, fit.verifier, fit.bounds) for fit in fit_pairs(leaves)]
    return Policy(tuple(pairs), round(accept_sigmas * 1e3), round(reject_sigmas * 1e3))


def with_margins_of(policy: Policy, other: Policy) -> Policy:
    """`policy`, no bound of a margin narrower than `other` has it for the same pair of classes; deviations stay.

    Large margins come from single rare positions: a thousand tokens show hardly any, and bounds fitted to them alone
    would reject an honest answer sooner or later. Deviations are averages, which few answers show well enough.
    """
    pairs = (
        (prover, verifier, _no_narrower(own, other.bounds(prover, verifier))) for prover, verifier, own in policy.pairs
    )
    return replace(policy, pairs=tuple(pairs))


def _no_narrower(own: Bounds, known: Bounds | None) -> Bounds:
    if known is None:
        return own
    return replace(
        own,
        margin_mean=max(own.margin_mean, known.margin_mean),
        margin_rms=max(own.margin_rms, known.margin_rms),
        margin_accept=max(own.margin_accept, known.margin_accept),
        margin_reject=max(own.margin_reject, known.margin_reject),
    )


def fit_pairs(leaves: Sequence[Leaf]) -> list[PairFit]:
    """One fit for each pair of classes. Raises InvalidInput where there are too few honest leaves to fit anything."""
    grouped: dict[tuple[str, str], list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        if leaf.honest:
            grouped[leaf.claim.engine_class, leaf.verifier].append(leaf)
    if not grouped:
        raise InvalidInput("there are no honest leaves to fit bounds to")
    return [_fit_pair(*pair, grouped[pair]) for pair in sorted(grouped)]


def _fit_pair(prover: str, verifier: str, leaves: list[Leaf]) -> PairFit:
    variants: dict[str, list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        variants[leaf.prover].append(leaf)
    for name, members in variants.items():
        if len(members) < MIN_LEAVES:
            raise InvalidInput(
                f"{prover} against {verifier}: {len(members)} honest leaves of {name!r}, "
                f"at least {MIN_LEAVES} are needed"
            )
    logs = {name: _by_window(f"{prover} against {verifier}", members) for name, members in variants.items()}
    laws = {name: _fit_law(values) for name, values in logs.items()}
    widest = max(laws, key=lambda name: laws[name].at(TYPICAL_WINDOW, 5))
    law = laws[widest]
    margins = np.max([_fit_margins(members) for members in variants.values()], axis=0)
    bounds = Bounds(
        deviation_typical=math.ceil(1e3 * math.exp(law.typical)),
        deviation_floor=math.ceil(1e3 * law.floor),
        deviation_scatter=math.ceil(1e3 * law.scatter),
        margin_accept=math.ceil(1e3 * margins[0]),
        margin_reject=math.ceil(1e3 * margins[1]),
        margin_mean=math.ceil(1e6 * margins[2]),
        margin_rms=math.ceil(1e6 * margins[3]),
    )
    worst = max(float(law.sigmas(v, n).max()) for values in logs.values() for n, v in values.items())
    return PairFit(prover, verifier, bounds, widest, len(leaves), law.widened, worst)


@dataclass(frozen=True, slots=True)
class _Law:
    """Of the logarithm of a leaf's relative deviation; the spread is the widened one."""

    typical: float
    floor: float
    scatter: float
    widened: float = 1.0

    def spread(self, tokens: int) -> float:
        return math.sqrt(self.floor**2 + self.scatter**2 / tokens)

    def at(self, tokens: int, sigmas: float) -> float:
        return self.typical + sigmas * self.spread(tokens)

    def sigmas(self, values: Floats, tokens: int) -> Floats:
        return (values - self.typical) / self.spread(tokens)


def _fit_law(logs: dict[int, Floats]) -> _Law:
    middle = min(logs, key=lambda n: abs(n - TYPICAL_WINDOW))
    law = _Law(float(np.mean(logs[middle])), *_spread(logs))
    widened = max(1.0, *(_excess(law.sigmas(values, n)) for n, values in logs.items()))
    return _Law(law.typical, law.floor * widened, law.scatter * widened, widened)


def _by_window(pair: str, leaves: Sequence[Leaf]) -> dict[int, Floats]:
    """Logarithms of the relative deviations of all windows, by length; lengths with too few are left out."""
    logs = {n: _log_deviations(leaves, n) for n in WINDOWS}
    logs = {n: values for n, values in logs.items() if len(values) >= MIN_LEAVES}
    if not logs:
        raise InvalidInput(f"{pair}: the answers are shorter than {min(WINDOWS)} tokens")
    return logs


def _log_deviations(leaves: Sequence[Leaf], tokens: int) -> Floats:
    values = [max(window.relative_deviation(), QUIET) for leaf in leaves for window in leaf.windows(tokens)]
    return np.log(np.asarray(values, dtype=np.float64))


def _spread(logs: dict[int, Floats]) -> tuple[float, float]:
    """(floor, scatter) by non-negative least squares of the variances over 1/n."""
    from scipy.optimize import nnls

    sizes = np.array(list(logs))
    variances = np.array([np.var(values) for values in logs.values()])
    (floor, scatter), _ = nnls(np.stack([np.ones(len(sizes)), 1 / sizes], axis=1), variances)
    return max(math.sqrt(floor), MIN_FLOOR), max(math.sqrt(scatter), MIN_SCATTER)


def _excess(sigmas: Floats) -> float:
    """How far the largest values lie beyond a normal sample's, as a ratio: over the upper 1 %, or ten values."""
    ordered = np.sort(sigmas)[::-1]
    top = max(10, len(ordered) // 100)
    ranks = (np.arange(1, top + 1) - 0.375) / (len(ordered) + 0.25)  # Blom (1958)
    return float(np.mean(ordered[:top]) / np.mean(stats.norm.isf(ranks)))


def _fit_margins(leaves: Sequence[Leaf]) -> tuple[float, float, float, float]:
    """(accept, reject, mean, rms) of weighed margins.

    Positive margins over their median are taken as exponential (peaks over threshold, Pickands 1975, shape 0), whose
    tail gives the bounds of the worst position at MARGIN_RATES.
    """
    margins = np.concatenate([leaf.own.weighed_margins() for leaf in leaves])
    mean, rms = float(margins.mean()), float(np.sqrt(np.mean(margins**2)))
    positive = margins[margins > 0]
    largest = float(positive.max()) if len(positive) else 0.0
    accept = reject = largest
    if len(positive) >= MIN_LEAVES:
        threshold = float(np.quantile(positive, 0.5))
        excess = positive[positive > threshold] - threshold
        scale, rate = float(excess.mean()), len(excess) / len(margins)
        accept, reject = (threshold + scale * math.log(rate * MARGIN_TOKENS / chance) for chance in MARGIN_RATES)
    accept, reject = (
        float(np.clip(bound, low * largest, high * largest))
        for bound, (low, high) in zip((accept, reject), MARGIN_HEADROOM, strict=True)
    )
    reject = max(accept, reject)
    totals = np.array([math.fsum(leaf.own.weighed_margins()) - len(leaf) * mean for leaf in leaves])
    roots = np.array([math.sqrt(len(leaf)) * max(rms, 1e-9) for leaf in leaves])
    rms *= max(1.0, float(np.max(totals / roots)) / 4)
    return max(accept, MIN_MARGIN[0]), max(reject, MIN_MARGIN[1]), mean, rms


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval of a rate (Clopper and Pearson 1934); (0, 1) of no trials."""
    found = Proportion.estimate(hits, trials, confidence)
    return found.low, found.high


def auc(honest: Sequence[float], cheating: Sequence[float]) -> float:
    """The chance that a cheat's statistic is above an honest one's, ties counted half (Mann and Whitney 1947)."""
    ranks = stats.rankdata(np.concatenate([honest, cheating]))
    high = float(ranks[len(honest) :].sum()) - len(cheating) * (len(cheating) + 1) / 2
    return high / (len(honest) * len(cheating))


def false_reject_rate(policy: Policy) -> float:
    """The fit's own chance that an honest leaf's deviation is beyond reject: one tail of the normal law."""
    return float(stats.norm.sf(policy.reject_sigmas / 1e3))


def split(leaves: Sequence[Leaf], fits: Callable[[int], bool]) -> tuple[list[Leaf], list[Leaf]]:
    """(leaves to fit, leaves to test), by prompt."""
    return [leaf for leaf in leaves if fits(leaf.prompt)], [leaf for leaf in leaves if not fits(leaf.prompt)]
