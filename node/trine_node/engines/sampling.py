"""`trine.protocol.sampling` over whole vocabularies at once.

Says which token to take and how far a claimed one is from it, for the logits of one position. Every position is
computed by itself, so an answer's tokens do not depend on what else is being answered. Knows no model and no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trine.protocol.sampling import MAX_EXPONENT, MILLION, RULE_NUMBER, Edge, Parted, Sampling, least_move

Logits = NDArray[np.float32]
"""Finite, one for each token of the vocabulary."""
Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]

_COUNTERS = 1 << 256
_LIKELY = (1e-3, 1e-6, 0.0)
"""The nucleus is looked for among tokens with at least so many times the best one's probability, then among more."""
_NOBODY = Parted(best_outside=-np.inf, most_inside=-np.inf, inside=0, raised=0.0, unraised=0.0)
_FEW = 8
"""Tokens of which it is not worth while to set some aside."""


def choose(logits: Logits, sampling: Sampling, position: int, among: Tokens | None = None) -> int:
    """The token at this position of the answer: `trine.protocol.sampling.choose`.

    `among`: the ids of the tokens that `logits` are of, rising; None: of all. The index of the best is returned.
    """
    tokens = allowed(logits, sampling)
    scores = _scores(logits, sampling, _noise_of(logits, sampling, position, among), tokens)
    best = np.flatnonzero(scores == scores.max())
    return int(best[0] if tokens is None else tokens[best].min())


def ranked(logits: Logits, sampling: Sampling, position: int, count: int, among: Tokens | None = None) -> list[int]:
    """The `count` tokens with the best scores, best first; fewer if fewer are allowed. `among`: see `choose`."""
    tokens = allowed(logits, sampling)
    scores = _scores(logits, sampling, _noise_of(logits, sampling, position, among), tokens)
    best = np.argsort(-scores, kind="stable")[:count]
    return [int(token) for token in (best if tokens is None else tokens[best])]


def margin(logits: Logits, sampling: Sampling, position: int, claimed: int, among: Tokens | None = None) -> float:
    """Logits that the claimed token is away from being chosen: `trine.protocol.sampling.margin`.

    `among`: see `choose`; the claimed one is an index, too.
    """
    tokens = allowed(logits, sampling)
    scores = _scores(logits, sampling, _noise_of(logits, sampling, position, among), None)
    leads = scores - scores[claimed]
    longest = float(leads.max())
    if tokens is None:
        return longest  # there is no edge
    if (tokens == claimed).any() and not (leads[tokens] > 0).any():
        return 0.0  # its own choice, or as good
    exact, temperature = logits.astype(np.float64), sampling.temperature
    rising = np.sort(logits).astype(np.float64)
    sums, below = np.zeros(1), 0.0  # only top_p asks for them
    if sampling.top_p_millionths < MILLION:
        sums = np.concatenate([sums, np.cumsum(np.exp((rising - rising[-1]) / temperature))])
        lower = rising[: np.searchsorted(rising, exact[claimed])]
        below = float(np.exp((lower - exact[claimed]) / temperature).sum())
    edge = Edge(sampling, float(exact[claimed]), rising, sums, below)
    return float(least_move(edge, _Field.of(exact, leads, sampling), longest))


@dataclass(frozen=True, slots=True)
class _Field:
    """`trine.protocol.sampling.Field`: the tokens that can still make a difference, and what there is of others.

    None counts that counts less than the best that is outside, less the movement: it cannot rank before that one. Nor
    is such a token, when it is outside itself, the best there.
    """

    logits: Floats
    leads: Floats
    counts: Floats  # each logit less its lead, where that is above 0
    best: float
    sampling: Sampling
    outside: float = -np.inf  # the best logit of those that are outside in any case
    inside: Parted = _NOBODY  # of those that are inside in any case, raised by `low`
    low: float = 0.0

    @classmethod
    def of(cls, logits: Floats, leads: Floats, sampling: Sampling) -> Self:
        """The token with the longest lead is outside whenever one is."""
        counts = logits - np.maximum(leads, 0.0)
        some = np.flatnonzero(counts >= counts[leads.argmax()])
        return cls(logits[some], leads[some], counts[some], float(logits.max()), sampling)

    def parted(self, moved: float) -> Parted | None:
        best_outside = self._best_outside(moved)
        if best_outside == -np.inf:
            return None
        return self._with(self._inside(best_outside, moved), best_outside, moved)

    def narrowed(self, low: float, high: float) -> Self:
        if len(self.leads) < _FEW:
            return self
        outside = max(self.outside, float(self.logits[self.leads > high].max(initial=-np.inf)))
        at_low = self._best_outside(low)
        settled = self._inside(at_low, low) if at_low > -np.inf else np.zeros(len(self.leads), dtype=bool)
        open_ = (self.leads <= high) & (self.counts >= outside - high) & ~settled
        inside = self._with(settled, at_low, low)
        logits, leads, counts = self.logits[open_], self.leads[open_], self.counts[open_]
        return replace(self, logits=logits, leads=leads, counts=counts, outside=outside, inside=inside, low=low)

    def _best_outside(self, moved: float) -> float:
        return max(self.outside, float(self.logits[self.leads > moved].max(initial=-np.inf)))

    def _inside(self, best_outside: float, moved: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (self.leads <= moved) & (self.counts >= best_outside - moved)
        return inside

    def _with(self, chosen: NDArray[np.bool_], best_outside: float, moved: float) -> Parted:
        """Those that are inside in any case, and some more."""
        counts, raised, unraised = self.counts[chosen], 0.0, 0.0
        if self.sampling.top_p_millionths < MILLION:
            temperature = self.sampling.temperature
            exponents = np.minimum((counts + (moved - self.best)) / temperature, MAX_EXPONENT)
            further = math.exp(min((moved - self.low) / temperature, MAX_EXPONENT))
            raised = self.inside.raised * further + float(np.exp(exponents).sum())
            logits = self.logits[chosen]
            unraised = self.inside.unraised + float(np.exp((logits - self.best) / temperature).sum())
        return Parted(
            best_outside=best_outside,
            most_inside=max(self.inside.most_inside, float(counts.max(initial=-np.inf))),
            inside=self.inside.inside + len(counts),
            raised=raised,
            unraised=unraised,
        )


def allowed(logits: Logits, sampling: Sampling) -> Tokens | None:
    """The tokens that may be chosen, best first; None for all of them."""
    top_k, top_p = sampling.top_k, sampling.top_p
    if not sampling.is_limited:
        return None
    best = logits.max()
    with np.errstate(over="ignore"):  # of models that are broken: infinitely far below
        shares = np.exp((logits - best) / np.float32(sampling.temperature))
    tokens = np.flatnonzero(shares >= max(np.float32(sampling.min_p), np.float32(0)))
    if top_k and top_k < len(tokens):
        inside = logits[tokens]
        tokens = tokens[inside >= np.partition(inside, -top_k)[-top_k]]  # with all that equal the last of them
    if sampling.top_p_millionths < MILLION:
        wanted = top_p * float(shares.sum(dtype=np.float64))
        for likely in _LIKELY:
            nucleus = tokens[shares[tokens] >= likely]
            if len(nucleus) == len(tokens) or shares[nucleus].sum(dtype=np.float64) >= wanted:
                break
        ranked = _ranked(logits, nucleus)
        masses = shares[ranked].astype(np.float64)
        tokens = ranked[np.cumsum(masses) - masses < wanted]
    else:
        tokens = _ranked(logits, tokens)
    return tokens[: top_k or None]


def noise(seed: int, position: int, count: int) -> Floats:
    """Of the first `count` tokens: `trine.protocol.sampling.noise`. numpy's generator counts up before each block."""
    counter = ((RULE_NUMBER << 192) + (position << 64) - 1) % _COUNTERS
    words = np.random.Philox(key=seed % (1 << 64), counter=counter).random_raw(count)
    uniform = ((words >> np.uint64(12)).astype(np.float64) + 0.5) / (1 << 52)
    drawn: Floats = -np.log(-np.log(uniform))
    return drawn


def _noise_of(logits: Logits, sampling: Sampling, position: int, among: Tokens | None) -> Floats:
    if among is None:
        return noise(sampling.seed, position, len(logits))
    of_some: Floats = noise(sampling.seed, position, int(among[-1]) + 1)[among]
    return of_some


def _scores(logits: Logits, sampling: Sampling, drawn: Floats, tokens: Tokens | None) -> Floats:
    if tokens is not None:
        logits, drawn = logits[tokens], drawn[tokens]
    scores: Floats = logits.astype(np.float64) + sampling.temperature * drawn
    return scores


def _ranked(logits: Logits, tokens: Tokens) -> Tokens:
    """Best first, of equals the lower id."""
    ranked: Tokens = tokens[np.argsort(-logits[tokens], kind="stable")]
    return ranked
