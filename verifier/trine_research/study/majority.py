"""How often committees are wrong: exactly, from what single verifiers are wrong, and how much stake colludes.

Pure probability over one leaf; the rule is that of `trine.protocol.votes.settle`, the rounds are those of `Batches`
and `Appeals`. Knows nothing of money (`attack`) and draws no random numbers (`majority_simulation`).
`docs/majority.md` has the model and its sources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, hypergeom, multinomial

from trine.errors import InvalidInput
from trine.protocol.committee import COMMITTEE_SIZES

CHAIN = COMMITTEE_SIZES
"""A batch's committee, and those of its two appeals."""
MAX_VERIFIERS = 1_000_000
MAX_CLASSES = 8
MAX_ROUNDS = 8

Floats = NDArray[np.float64]


class Verdict(Enum):
    """Of a leaf, seen from the truth."""

    WRONG = "wrong"
    """A dishonest answer accepted, an honest one rejected."""
    RIGHT = "right"
    NEITHER = "neither"
    """No majority: inconclusive, unpaid."""
    VOID = "void"
    """No committee of the batch was heard."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one honest verifier does with a leaf: probabilities."""

    wrong: float
    """Accepts a dishonest answer, or rejects an honest one. Of those who speak."""
    inconclusive: float = 0.0
    """Says neither. Of those who speak."""
    silent: float = 0.0
    """Does not commit or reveal; whatever the answer."""

    def __post_init__(self) -> None:
        if not all(0 <= chance <= 1 for chance in (self.wrong, self.inconclusive, self.silent)):
            raise InvalidInput("a rate is a probability: 0 to 1")
        if self.wrong + self.inconclusive > 1:
            raise InvalidInput("wrong and inconclusive votes together have at most probability 1")

    @property
    def right(self) -> float:
        return max(0.0, 1 - self.wrong - self.inconclusive)


@dataclass(frozen=True, slots=True)
class Model:
    """Who judges. Colluders always vote, for the wrong verdict; if `careful`, only where they are a majority."""

    rates: Rates
    share: float
    """Of the weight that is drawn from, the colluders'."""
    verifiers: int | None = None
    """So many of equal weight, drawn without repetition; None: so many that repetition does not matter."""
    common: float = 0.0
    """With this probability all honest verifiers of a hardware class judge a leaf by one shared draw."""
    classes: int = 1
    """Hardware classes; each honest seat is of any of them with the same chance."""
    rounds: int = 3
    """Committees that may be drawn until enough seats are heard: `maxRounds`."""
    careful: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 <= self.common <= 1):
            raise InvalidInput("shares are 0 to 1")
        if self.verifiers is not None and not CHAIN[0] <= self.verifiers <= MAX_VERIFIERS:
            raise InvalidInput(f"{CHAIN[0]} to {MAX_VERIFIERS:,} verifiers, not {self.verifiers:,}")
        if not (1 <= self.classes <= MAX_CLASSES and 1 <= self.rounds <= MAX_ROUNDS):
            raise InvalidInput(f"1 to {MAX_CLASSES} hardware classes and 1 to {MAX_ROUNDS} rounds")

    @property
    def colluders(self) -> int:
        """Of a given number of verifiers, the nearest to the share."""
        return round(self.share * (self.verifiers or 0))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a leaf ends; the chances of the four verdicts sum to 1."""

    wrong: float
    right: float
    neither: float
    void: float
    penalised: float
    """Expected number of colluders' votes against the final verdict."""
    overturned: float = 0.0
    """Those of them by the batch's seats, where an appeal has turned its verdict."""
    jurors: float = 0.0
    """Those of them in appeals."""


def committee(model: Model, seats: int) -> Ending:
    """One committee of 3, 7 or 15 seats, with its redraws and without appeals."""
    return chain(model, (seats,))


def chain(model: Model, sizes: tuple[int, ...] = CHAIN, *, both_appeal: bool = False) -> Ending:
    """A committee and its appeals, one for each further size.

    Whom the verdict harms always appeals: the honest side unless it is right, with `both_appeal` the colluders, too,
    unless it is wrong. Who has judged is not drawn again. Without a majority, or unheard, a verdict stays.
    Raises InvalidInput for other sizes and where the verifiers are too few for all committees.
    """
    if not sizes or any(size not in COMMITTEE_SIZES for size in sizes):
        raise InvalidInput(f"committees have {COMMITTEE_SIZES} seats, not {sizes}")
    if model.verifiers is not None and model.verifiers < sum(sizes):
        raise InvalidInput(f"committees of {sizes} seats need {sum(sizes)} verifiers, not {model.verifiers}")
    totals: dict[Verdict, float] = dict.fromkeys(Verdict, 0.0)
    penalised = overturned = jurors = 0.0
    for weight, wrong, right in _views(model):
        for case, chance in _walk(model, sizes, wrong, right, both_appeal).items():
            totals[case.verdict] += weight * chance
            if case.verdict is Verdict.RIGHT:
                penalised += weight * chance * (case.against + case.jurors)
                jurors += weight * chance * case.jurors
                overturned += weight * chance * (0 if case.settled is Verdict.RIGHT else case.against)
    return Ending(
        wrong=totals[Verdict.WRONG],
        right=totals[Verdict.RIGHT],
        neither=totals[Verdict.NEITHER],
        void=totals[Verdict.VOID],
        penalised=penalised,
        overturned=overturned,
        jurors=jurors,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    verdict: Verdict
    drawn: int = 0
    colluders_drawn: int = 0
    against: int = 0
    """Colluders' votes for the wrong verdict in the batch's committee."""
    jurors: int = 0
    """The same in appeals so far."""
    settled: Verdict = Verdict.VOID
    """The committee's verdict, before appeals."""


def _views(model: Model) -> Iterator[tuple[float, float, float]]:
    """(probability, chance of a wrong vote, of a right one), given which classes share which draw.

    Each class, by itself, votes as one for any of three with probability `common`, else not; an honest seat is of a
    class at random, so given how many classes do what, seats are independent.
    """
    rates, k = model.rates, model.classes
    if model.common == 0:
        yield 1.0, rates.wrong, rates.right
        return
    shared = [model.common * rate for rate in (rates.wrong, rates.right, rates.inconclusive)]
    distribution = multinomial(k, [1 - model.common, *shared])
    for wrong in range(k + 1):
        for right in range(k + 1 - wrong):
            for inconclusive in range(k + 1 - wrong - right):
                apart = k - wrong - right - inconclusive
                weight = float(distribution.pmf([apart, wrong, right, inconclusive]))
                if weight > 0:
                    yield weight, (wrong + apart * rates.wrong) / k, (right + apart * rates.right) / k


def _walk(model: Model, sizes: tuple[int, ...], wrong: float, right: float, both_appeal: bool) -> dict[_Case, float]:
    """All ways through the committees. Cases that differ only in their past are one."""
    settled: dict[_Case, float] = defaultdict(float)
    cases: dict[_Case, float] = {_Case(Verdict.VOID): 1.0}
    for level, seats in enumerate(sizes):
        outcomes = _outcomes(model, seats, wrong, right)
        quorum = seats // 2 + 1
        after: dict[_Case, float] = defaultdict(float)
        for case, chance in cases.items():
            if level > 0 and (case.verdict is Verdict.VOID or (case.verdict is Verdict.RIGHT and not both_appeal)):
                settled[case] += chance
                continue
            if model.verifiers is None:
                seated = _among_many(seats, model.share)
            else:
                seated = _among(model.verifiers - case.drawn, model.colluders - case.colluders_drawn, seats)
            redraw = float(seated @ outcomes[:, 3])
            rounds = float(sum(redraw**i for i in range(model.rounds)))
            after[case] += chance * redraw**model.rounds
            for k in np.flatnonzero(seated):
                votes = 0 if model.careful and k < quorum else int(k)
                for index, verdict in enumerate((Verdict.WRONG, Verdict.RIGHT, case.verdict)):
                    stays = Verdict.NEITHER if level == 0 and index == 2 else verdict
                    seated_so_far = (case.drawn + seats, case.colluders_drawn + int(k))
                    if level == 0:
                        then = _Case(stays, *seated_so_far, against=votes, settled=stays)
                    else:
                        then = _Case(stays, *seated_so_far, case.against, case.jurors + votes, case.settled)
                    after[then] += chance * rounds * float(seated[k] * outcomes[k, index])
        cases = {case: chance for case, chance in after.items() if chance > 0}
    for case, chance in cases.items():
        settled[case] += chance
    return settled


@lru_cache(maxsize=4096)
def _among_many(seats: int, share: float) -> Floats:
    """[seats + 1]: chance that so many seats are colluders'."""
    return np.asarray(binom.pmf(np.arange(seats + 1), seats, _chance(share)), np.float64)


@lru_cache(maxsize=4096)
def _among(verifiers: int, colluders: int, seats: int) -> Floats:
    """The same among so many equal verifiers, each of whom has one seat at most."""
    return np.asarray(hypergeom.pmf(np.arange(seats + 1), verifiers, colluders, seats), np.float64)


def _chance(value: float) -> float:
    """scipy's binomial overflows for chances that are hardly numbers any more."""
    return value if value > 1e-100 else 0.0


def _outcomes(model: Model, seats: int, wrong: float, right: float) -> Floats:
    """[seats + 1, 4]: by the colluders' seats, the chances of wrong, right, no majority, too few heard."""
    quorum = seats // 2 + 1
    speaks = 1 - model.rates.silent
    k = np.arange(seats + 1)
    honest = seats - k
    for_wrong, for_right = k, np.zeros_like(k)
    if model.careful:
        for_wrong, for_right = np.where(k < quorum, 0, k), np.where(k < quorum, k, 0)
    is_wrong = binom.sf(quorum - 1 - for_wrong, honest, _chance(speaks * wrong))
    is_right = binom.sf(quorum - 1 - for_right, honest, _chance(speaks * right))
    unheard = binom.cdf(quorum - 1 - k, honest, _chance(speaks))
    neither = np.maximum(0.0, 1 - is_wrong - is_right - unheard)
    return np.stack([is_wrong, is_right, neither, unheard], axis=1)
