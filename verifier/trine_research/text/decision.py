"""The verdict of text mode: a pure function of the claimed signature, the verifier's own ones and the text policy.

Two honest engines of different classes part at the first near-tie and never meet again, so a low Jaccard index proves
nothing between classes. Only pairs that somebody measured have bounds, a bound may forbid rejection altogether
(`reject` of 0), and a pair without bounds is inconclusive whatever the texts say. `docs/text-mode.md` has the numbers.

Knows nothing of tokens, models and engines: `regeneration` makes the verifier's answers, `signature` the signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from trine.errors import InvalidInput
from trine.protocol.policy import MAX_PAIRS
from trine.protocol.verdict import Outcome
from trine_research.text.signature import Signature

SCALE = 10**6
"""Jaccard indexes in a policy are in millionths."""
MAX_BEAMS = 16
MAX_ANSWERS = 9


class Decoding(StrEnum):
    """How the claim was decoded, and how the verifier regenerates it."""

    GREEDY = "greedy"
    NEAREST_BEAM = "nearest beam"  # a greedy claim, against the nearest of the verifier's n beams
    BEAM = "beam"  # best beam against best beam


class TextReason(StrEnum):
    SAME = "same text"
    DIFFERENT = "different text"
    BETWEEN = "between bounds"
    UNCALIBRATED = "uncalibrated pair"
    FAULT = "verifier's fault"  # the verifier has nothing to compare with


@dataclass(frozen=True, slots=True)
class TextBounds:
    """Of one pair of engine classes and one decoding, in millionths of the Jaccard index.

    At `accept` or above the texts are the same; below `reject` they are not one model's. 0 never rejects.
    """

    accept: int
    reject: int

    def __post_init__(self) -> None:
        if any(type(bound) is not int for bound in (self.accept, self.reject)):
            raise InvalidInput("text policy: bounds must be whole numbers of millionths")
        if not 0 <= self.reject <= self.accept <= SCALE or self.accept == 0:
            raise InvalidInput(f"text policy: bounds must be 0 <= reject <= accept <= {SCALE}, accept above 0")


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """Bounds by (prover's engine class, verifier's engine class, decoding)."""

    pairs: tuple[tuple[str, str, Decoding, TextBounds], ...]

    def __post_init__(self) -> None:
        keys = [pair[:3] for pair in self.pairs]
        if len(keys) > MAX_PAIRS or keys != sorted(set(keys)):
            raise InvalidInput(f"text policy: pairs must be sorted, each once, at most {MAX_PAIRS}")

    def bounds(self, prover: str, verifier: str, decoding: Decoding) -> TextBounds | None:
        """None for a pair that was never calibrated."""
        for *key, bounds in self.pairs:
            if key == [prover, verifier, decoding]:
                return bounds
        return None


@dataclass(frozen=True, slots=True)
class TextVerdict:
    outcome: Outcome
    reason: TextReason
    jaccard: float  # of the nearest regeneration; 0 where nothing was compared
    detail: str = ""


def decide_text(
    claimed: Signature,
    own: Sequence[Signature],
    *,
    prover_class: str,
    verifier_class: str,
    decoding: Decoding,
    policy: TextPolicy,
) -> TextVerdict:
    """The verdict on one answer. `own` are the verifier's regenerations: all n of `NEAREST_BEAM`, else one.

    Raises InvalidInput for more regenerations than the decoding has, or signatures of different models.
    """
    if len(own) > (MAX_BEAMS if decoding is Decoding.NEAREST_BEAM else 1):
        raise InvalidInput(f"{len(own)} regenerations are more than a decoding of {decoding.value!r} has")
    if not own:
        return TextVerdict(Outcome.INCONCLUSIVE, TextReason.FAULT, 0.0, "the verifier regenerated nothing")
    jaccard = max(claimed.jaccard(signature) for signature in own)
    bounds = policy.bounds(prover_class, verifier_class, decoding)
    if bounds is None:
        detail = f"the text policy has no bounds for {prover_class} against {verifier_class}, {decoding.value}"
        return TextVerdict(Outcome.INCONCLUSIVE, TextReason.UNCALIBRATED, jaccard, detail)
    measured = round(jaccard * SCALE)
    if measured >= bounds.accept:
        return TextVerdict(Outcome.ACCEPT, TextReason.SAME, jaccard)
    same, different = bounds.accept / SCALE, bounds.reject / SCALE
    detail = f"Jaccard index {jaccard:.3f}: same from {same:.3f}, different below {different:.3f}"
    if measured < bounds.reject:
        return TextVerdict(Outcome.REJECT, TextReason.DIFFERENT, jaccard, detail)
    return TextVerdict(Outcome.INCONCLUSIVE, TextReason.BETWEEN, jaccard, detail)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which of n answers agree with which. Says who is alone, not who is wrong: nobody is slashed for it."""

    pairs: frozenset[tuple[int, int]]  # positions (i, j), i < j, at the threshold or above
    consensus: tuple[int, ...]  # the largest group of more than half of all answers that agree pairwise; empty if none


def agreement(answers: Sequence[Signature], at_least: float) -> Agreement:
    """Of 2 to MAX_ANSWERS answers; three for the committee's three-way agreement. Raises InvalidInput.

    Of several groups of one size the one with the larger sum of Jaccard indexes counts, then the earlier positions.
    """
    if not 2 <= len(answers) <= MAX_ANSWERS:
        raise InvalidInput(f"agreement is among 2 to {MAX_ANSWERS} answers, not {len(answers)}")
    if not 0 < at_least <= 1:
        raise InvalidInput(f"the Jaccard index of agreement lies in (0, 1], not at {at_least}")
    near = {(i, j): answers[i].jaccard(answers[j]) for i, j in combinations(range(len(answers)), 2)}
    pairs = frozenset(pair for pair, jaccard in near.items() if jaccard >= at_least)
    for size in range(len(answers), len(answers) // 2, -1):
        groups = [g for g in combinations(range(len(answers)), size) if pairs.issuperset(combinations(g, 2))]
        if groups:
            # max keeps the first of equals, and combinations come in order of position.
            return Agreement(pairs, max(groups, key=lambda g: sum(near[pair] for pair in combinations(g, 2))))
    return Agreement(pairs, ())
