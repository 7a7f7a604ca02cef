"""Thresholds of the verdict, per pair of engine classes: the calibration matrix that the model registry holds.

A pair without an entry was never calibrated and never rejects on statistics. All numbers are integers, so the bytes
are canonical and every reader computes the same bounds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import rfc8785

from trine.errors import InvalidInput

VERSION = 1
SCALE = 10**9
"""Amplitudes are stored in units of 1e-9."""
MAX_PAIRS = 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an honest prover of one class looks like to a verifier of another.

    The mean flip amplitude of an honest answer of n tokens stays below accept(n) = mean + width / sqrt(n), a cheat's
    above reject(n) = reject_mean + width / sqrt(n); margins likewise, per position.
    """

    amplitude_mean: int  # 1e-9
    amplitude_width: int  # 1e-9, per square root of a token
    amplitude_reject_mean: int  # 1e-9
    margin_accept_milli: int  # largest margin of any position, 1/1000 of a logit
    margin_reject_milli: int

    def __post_init__(self) -> None:
        values = (
            self.amplitude_mean,
            self.amplitude_width,
            self.amplitude_reject_mean,
            self.margin_accept_milli,
            self.margin_reject_milli,
        )
        if any(type(v) is not int or not 0 <= v < 1 << 53 for v in values):
            raise InvalidInput("policy: bounds must be whole numbers in [0, 2^53)")
        if self.amplitude_mean > self.amplitude_reject_mean or self.margin_accept_milli > self.margin_reject_milli:
            raise InvalidInput("policy: an accept bound lies above its reject bound")

    def accept_amplitude(self, tokens: int) -> float:
        return (self.amplitude_mean + self.amplitude_width / tokens**0.5) / SCALE

    def reject_amplitude(self, tokens: int) -> float:
        return (self.amplitude_reject_mean + self.amplitude_width / tokens**0.5) / SCALE


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
                "amplitudeMean": b.amplitude_mean,
                "amplitudeWidth": b.amplitude_width,
                "amplitudeRejectMean": b.amplitude_reject_mean,
                "marginAcceptMilli": b.margin_accept_milli,
                "marginRejectMilli": b.margin_reject_milli,
            }
            for prover, verifier, b in self.pairs
        ]
        return rfc8785.dumps({"pairs": pairs, "version": VERSION})

    @classmethod
    def from_bytes(cls, document: bytes) -> Self:
        """Raises InvalidInput unless `document` is a canonical policy."""
        try:
            pairs = tuple(
                (
                    str(entry["prover"]),
                    str(entry["verifier"]),
                    Bounds(
                        entry["amplitudeMean"],
                        entry["amplitudeWidth"],
                        entry["amplitudeRejectMean"],
                        entry["marginAcceptMilli"],
                        entry["marginRejectMilli"],
                    ),
                )
                for entry in json.loads(document)["pairs"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"policy: {error}") from None
        policy = cls(pairs)
        if policy.to_bytes() != document:
            raise InvalidInput("policy: not in canonical form")
        return policy
