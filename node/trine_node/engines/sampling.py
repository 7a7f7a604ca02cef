"""`trine.protocol.sampling` over whole vocabularies at once.

Says which token to take and how far a claimed one is from it, for the logits of one position. Every position is
computed by itself, so an answer's tokens do not depend on what else is being answered. Knows no model and no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trine.protocol.sampling import MILLION, RULE_NUMBER, Edge, Sampling, least_move

Logits = NDArray[np.float32]
"""Finite, one for each token of the vocabulary."""
Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]

_COUNTERS = 1 << 256
_LIKELY = (1e-3, 1e-6, 0.0)
"""The nucleus is looked for among tokens with at least so many times the best one's probability, then among more."""


def choose(logits: Logits, sampling: Sampling, position: int) -> int:
    """The token at this position of the answer: `trine.protocol.sampling.choose`."""
    tokens = allowed(logits, sampling)
    scores = _scores(logits, sampling, noise(sampling.seed, position, len(logits)), tokens)
    best = np.flatnonzero(scores == scores.max())
    return int(best[0] if tokens is None else tokens[best].min())


def ranked(logits: Logits, sampling: Sampling, position: int, count: int) -> list[int]:
    """The `count` tokens with the best scores, best first; fewer if fewer are allowed."""
    tokens = allowed(logits, sampling)
    scores = _scores(logits, sampling, noise(sampling.seed, position, len(logits)), tokens)
    best = np.argsort(-scores, kind="stable")[:count]
    return [int(token) for token in (best if tokens is None else tokens[best])]


def margin(logits: Logits, sampling: Sampling, position: int, claimed: int) -> float:
    """Logits that the claimed token is away from being chosen: `trine.protocol.sampling.margin`."""
    tokens = allowed(logits, sampling)
    drawn = noise(sampling.seed, position, len(logits))
    scores = _scores(logits, sampling, drawn, tokens)
    own = float(logits[claimed]) + sampling.temperature * float(drawn[claimed])
    if tokens is None:
        return float(scores.max()) - own  # there is no edge
    ahead = scores > own
    if not ahead.any() and (tokens == claimed).any():
        return 0.0  # its own choice, or as good
    rivals = _that_count(logits[tokens[ahead]].astype(np.float64), scores[ahead] - own)
    rising = np.sort(logits).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(np.exp((rising - rising[-1]) / sampling.temperature))])
    return float(least_move(Edge(sampling, rising, sums), float(logits[claimed]), rivals))


def allowed(logits: Logits, sampling: Sampling) -> Tokens | None:
    """The tokens that may be chosen, best first; None for all of them."""
    top_k, top_p = sampling.top_k, sampling.top_p
    if not (top_k or sampling.min_p_millionths or sampling.top_p_millionths < MILLION):
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


def _scores(logits: Logits, sampling: Sampling, drawn: Floats, tokens: Tokens | None) -> Floats:
    if tokens is not None:
        logits, drawn = logits[tokens], drawn[tokens]
    scores: Floats = logits.astype(np.float64) + sampling.temperature * drawn
    return scores


def _ranked(logits: Logits, tokens: Tokens) -> Tokens:
    """Best first, of equals the lower id."""
    ranked: Tokens = tokens[np.argsort(-logits[tokens], kind="stable")]
    return ranked


def _that_count(logits: Floats, leads: Floats) -> list[tuple[float, float]]:
    """Of rivals, those whose lead is longer than that of all with a higher logit: see `least_move`."""
    order = np.lexsort((-leads, -logits))
    leads = leads[order]
    longest = np.maximum.accumulate(leads)
    counts = np.concatenate([[True], leads[1:] > longest[:-1]]) if len(leads) else np.zeros(0, dtype=bool)
    return [(float(a), float(b)) for a, b in zip(logits[order][counts], leads[counts], strict=True)]
