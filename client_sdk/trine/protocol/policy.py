"""Thresholds of the verdict, per pair of engine classes: the calibration matrix that the model registry holds.

A pair without an entry was never calibrated and never rejects on statistics. All numbers are integers, so the bytes
are canonical and every reader computes the same bounds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Self

import rfc8785

from trine.errors import InvalidInput

VERSION = 1
SCALE = 10**6
"""Deviations, shares of bits, are stored in millionths."""
MAX_DEVIATION = 0.45
"""No bound is laxer: fingerprints that have nothing to do with each other deviate by 0.5."""
MAX_PAIRS = 1024
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an honest prover of one class looks like to a verifier of another.

    The deviation (see `fingerprint`) of an honest answer of n tokens stays below accept + width / n^1.5; beyond
    reject + width / n^1.5 it is no honest engine's. The width is what a few noisy tokens add to a short answer's mean;
    the exponent is empirical (`docs/statistics.md`). Margins likewise, for the worst position of an answer.
    """

    deviation_accept: int  # millionths
    deviation_reject: int
    deviation_width: int  # millionths, times tokens^1.5
    margin_accept: int  # thousandths of a logit
    margin_reject: int

    def __post_init__(self) -> None:
        values = (
            self.deviation_accept,
            self.deviation_reject,
            self.deviation_width,
            self.margin_accept,
            self.margin_reject,
        )
        if any(type(v) is not int or not 0 <= v < 1 << 53 for v in values):
            raise InvalidInput("policy: bounds must be whole numbers in [0, 2^53)")
        if self.deviation_accept > self.deviation_reject or self.margin_accept > self.margin_reject:
            raise InvalidInput("policy: an accept bound lies above its reject bound")

    def deviation_bounds(self, tokens: int) -> tuple[float, float]:
        """(accept, reject) for an answer of so many tokens."""
        scatter = self.deviation_width / (tokens * math.sqrt(tokens))
        accept, reject = ((bound + scatter) / SCALE for bound in (self.deviation_accept, self.deviation_reject))
        return min(accept, MAX_DEVIATION), min(reject, MAX_DEVIATION)

    def margin_bounds(self) -> tuple[float, float]:
        """(accept, reject) in logits."""
        return self.margin_accept / 1000, self.margin_reject / 1000


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds by (prover's engine class, verifier's engine class)."""

    pairs: tuple[tuple[str, str, Bounds], ...]

    def __post_init__(self) -> None:
        keys = [(prover, verifier) for prover, verifier, _ in self.pairs]
        if keys != sorted(set(keys)) or not len(keys) <= MAX_PAIRS:
            raise InvalidInput(f"policy: pairs must be sorted, each once, at most {MAX_PAIRS}")

    def bounds(self, prover: str, verifier: str) -> Bounds | None:
        """None for a pair that was never calibrated."""
        for p, v, bounds in self.pairs:
            if (p, v) == (prover, verifier):
                return bounds
        return None

    def to_bytes(self) -> bytes:
        """RFC 8785 canonical JSON: what is hashed and registered."""
        pairs: list[Any] = [
            {
                "prover": prover,
                "verifier": verifier,
                "deviationAccept": b.deviation_accept,
                "deviationReject": b.deviation_reject,
                "deviationWidth": b.deviation_width,
                "marginAccept": b.margin_accept,
                "marginReject": b.margin_reject,
            }
            for prover, verifier, b in self.pairs
        ]
        return rfc8785.dumps({"pairs": pairs, "version": VERSION})

    @classmethod
    def from_bytes(cls, document: bytes) -> Self:
        """Raises InvalidInput unless `document` is a canonical policy."""
        if len(document) > MAX_BYTES:
            raise InvalidInput(f"policy: {len(document)} bytes, at most {MAX_BYTES} are read")
        try:
            policy = cls(tuple(_parse_pair(entry) for entry in json.loads(document)["pairs"]))
            canonical = policy.to_bytes()
        except InvalidInput:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(f"policy: {error!r}") from None
        if canonical != document:
            raise InvalidInput("policy: not in canonical form")
        return policy


def _parse_pair(entry: Any) -> tuple[str, str, Bounds]:
    bounds = Bounds(
        deviation_accept=entry["deviationAccept"],
        deviation_reject=entry["deviationReject"],
        deviation_width=entry["deviationWidth"],
        margin_accept=entry["marginAccept"],
        margin_reject=entry["marginReject"],
    )
    return str(entry["prover"]), str(entry["verifier"]), bounds
