"""The same as `majority`, vote by vote with random numbers: a check that shares no formula with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trine.errors import InvalidInput
from trine_research.study.majority import Model, Verdict

MAX_TRIALS = 100_000_000
CHUNK = 100_000

WRONG, RIGHT, NEITHER, UNHEARD = range(4)
Ints = NDArray[np.int64]


def simulate(
    model: Model, sizes: tuple[int, ...], trials: int, seed: int, *, both_appeal: bool = False
) -> dict[Verdict, int]:
    """How many of `trials` leaves end in which verdict. The same seed gives the same counts."""
    if not 1 <= trials <= MAX_TRIALS:
        raise InvalidInput(f"1 to {MAX_TRIALS:,} trials, not {trials:,}")
    if not 0 <= seed < 1 << 63:
        raise InvalidInput("a seed is 0 to 2^63 - 1")
    rng = np.random.default_rng(seed)
    counts = np.zeros(4, np.int64)
    for start in range(0, trials, CHUNK):
        verdicts = _leaves(model, sizes, min(CHUNK, trials - start), rng, both_appeal)
        counts += np.bincount(verdicts, minlength=4)
    verdicts_of = (Verdict.WRONG, Verdict.RIGHT, Verdict.NEITHER, Verdict.VOID)
    return {verdict: int(count) for verdict, count in zip(verdicts_of, counts, strict=True)}


def _leaves(model: Model, sizes: tuple[int, ...], trials: int, rng: np.random.Generator, both_appeal: bool) -> Ints:
    # What a class says of a leaf as one; NEITHER + 1 where its verifiers judge one by one.
    together = np.where(
        rng.random((trials, model.classes)) < model.common, _said(model, rng, (trials, model.classes)), 3
    )
    verdicts = np.full(trials, UNHEARD, np.int64)
    drawn = np.zeros(trials, np.int64)
    colluders_drawn = np.zeros(trials, np.int64)
    for level, seats in enumerate(sizes):
        if level == 0:
            appealed = np.arange(trials)
        else:
            heard = verdicts != UNHEARD
            appealed = np.flatnonzero(heard if both_appeal else heard & (verdicts != RIGHT))
        outcome, seated = _judge(model, seats, together[appealed], drawn[appealed], colluders_drawn[appealed], rng)
        decided = (outcome == WRONG) | (outcome == RIGHT) | ((outcome == NEITHER) & (level == 0))
        verdicts[appealed[decided]] = outcome[decided]
        drawn[appealed] += np.where(outcome != UNHEARD, seats, 0)
        colluders_drawn[appealed] += np.where(outcome != UNHEARD, seated, 0)
    return verdicts


def _judge(
    model: Model, seats: int, together: Ints, drawn: Ints, colluders_drawn: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """(outcome, colluders' seats) of each leaf, after redraws where too few spoke."""
    outcomes = np.full(len(drawn), UNHEARD, np.int64)
    seated = np.zeros(len(drawn), np.int64)
    open_ = np.arange(len(drawn))
    for _ in range(model.rounds):
        if model.verifiers is None:
            k = rng.binomial(seats, model.share, len(open_))
        else:
            bad = model.colluders - colluders_drawn[open_]
            k = rng.hypergeometric(bad, model.verifiers - drawn[open_] - bad, seats)
        outcomes[open_] = _vote(model, seats, k, together[open_], rng)
        seated[open_] = k
        open_ = open_[outcomes[open_] == UNHEARD]
    return outcomes, seated


def _vote(model: Model, seats: int, k: Ints, together: Ints, rng: np.random.Generator) -> Ints:
    """One round: every seat's vote, counted as the contracts count."""
    shape = (len(k), seats)
    own_class = rng.integers(model.classes, size=shape)
    of_class = np.take_along_axis(together, own_class, axis=1)
    votes = np.where(of_class < 3, of_class, _said(model, rng, shape))
    votes[rng.random(shape) < model.rates.silent] = UNHEARD
    quorum = seats // 2 + 1
    theirs = np.where((k < quorum) & model.careful, RIGHT, WRONG)
    votes = np.where(np.arange(seats) < k[:, None], theirs[:, None], votes)
    accepts, rejects = (votes == WRONG).sum(1), (votes == RIGHT).sum(1)
    heard = (votes != UNHEARD).sum(1)
    return np.select([heard < quorum, accepts >= quorum, rejects >= quorum], [UNHEARD, WRONG, RIGHT], NEITHER)


def _said(model: Model, rng: np.random.Generator, shape: tuple[int, ...]) -> Ints:
    """What honest verifiers say, each by a draw of its own."""
    draw = rng.random(shape)
    rates = model.rates
    return np.select([draw < rates.wrong, draw < rates.wrong + rates.inconclusive], [WRONG, NEITHER], RIGHT)
