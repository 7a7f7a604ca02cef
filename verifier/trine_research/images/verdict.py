"""The verdict on one picture: a pure function of three hashes and two bounds. Makes no picture, reads no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trine.errors import InvalidInput
from trine.protocol.verdict import Outcome, Reason
from trine.protocol.votes import Vote, settle
from trine_research.images.hashes import HashKind, ImageHash

BINDING_SLACK_BITS = 2
"""Machines may differ about a coefficient that lies on the median, given the same pixels: nobody is blamed for that."""


@dataclass(frozen=True, slots=True)
class ImageBounds:
    """Bits between an honest hash and a verifier's: up to `accept`; over `reject` no honest engine made it."""

    kind: HashKind
    accept: int
    reject: int

    def __post_init__(self) -> None:
        if type(self.accept) is not int or type(self.reject) is not int:
            raise InvalidInput("image bounds are whole numbers of bits")
        if not 0 <= self.accept <= self.reject < self.kind.bits // 2:
            raise InvalidInput(
                f"image bounds rise, from 0 to below {self.kind.bits // 2}, half of {self.kind.label}'s bits"
            )


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """Outcome, reason, and the bits that decided."""

    outcome: Outcome
    reason: Reason
    distance: int | None = None
    detail: str = ""


def decide(claimed: ImageHash, shown: ImageHash, own: ImageHash, bounds: ImageBounds | None) -> ImageVerdict:
    """`claimed` is what the node signed, `shown` of the picture that the client got, `own` of the verifier's.

    `bounds` are those of the pair of engine classes, None if it was never calibrated.
    Raises InvalidInput if the verifier's own hashes are of another kind than the bounds: a fault of the caller.
    """
    expected = bounds.kind if bounds else own.kind
    if shown.kind is not expected or own.kind is not expected:
        raise InvalidInput(f"the verifier's hashes must be {expected.label}, as the bounds are")
    if claimed.kind is not expected:
        detail = f"the claim is a {claimed.kind.label} hash; the model's policy asks for {expected.label}"
        return ImageVerdict(Outcome.REJECT, Reason.STRUCTURE, detail=detail)
    unbound = claimed.distance(shown)
    if unbound > BINDING_SLACK_BITS:
        detail = f"the picture's hash is {unbound} bits away from the one that was claimed"
        return ImageVerdict(Outcome.REJECT, Reason.BINDING, unbound, detail)
    distance = claimed.distance(own)
    if bounds is None:
        return ImageVerdict(
            Outcome.INCONCLUSIVE, Reason.UNCALIBRATED, distance, "the policy has no bounds for this pair"
        )
    if distance > bounds.reject:
        return ImageVerdict(Outcome.REJECT, Reason.DEVIATION, distance, f"{distance} bits, over {bounds.reject}")
    if distance > bounds.accept:
        return ImageVerdict(
            Outcome.INCONCLUSIVE, Reason.BETWEEN, distance, f"{distance} bits (honest to {bounds.accept})"
        )
    return ImageVerdict(Outcome.ACCEPT, Reason.HONEST, distance)


def majority(outcomes: Sequence[Outcome]) -> Outcome:
    """What a committee of 3, 7 or 15 comes to: the settlement of a batch with one leaf. Raises InvalidInput."""
    votes = [Vote(int(outcome is Outcome.ACCEPT), int(outcome is Outcome.REJECT)) for outcome in outcomes]
    decided = settle(votes)
    return Outcome.ACCEPT if decided.accepts else Outcome.REJECT if decided.rejects else Outcome.INCONCLUSIVE
