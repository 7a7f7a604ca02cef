"""Thresholds of the verdict, per pair of engine classes: the calibration matrix that the model registry holds.

A pair without an entry was never calibrated and never rejects on statistics. All numbers are integers, so the bytes
are canonical and every reader computes the same bounds.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import rfc8785

from trine.errors import InvalidInput

VERSION = 3
MAX_ACCEPT = 0.35
MAX_REJECT = 0.45
"""Shares of bits; no bound is laxer: fingerprints that have nothing to do with each other differ in half of them."""
MAX_PAIRS = 1024
MAX_BYTES = 1 << 20
MAX_SIGMAS = 20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an honest prover of one class looks like to a verifier of another.

    Of an honest answer of n tokens, the logarithm of the relative deviation (see `fingerprint`) is close to normal,
    with the logarithm of `deviation_typical` as its mean and sqrt(floor^2 + scatter^2 / n) as its standard deviation:
    `deviation_floor` is how much answers differ from each other, `deviation_scatter` what one token adds.

    Margins are logits below the verifier's best token, divided by the noise of their position, or plain logits to a
    verifier without hidden states (`verdict.Recomputation.weighed_margins`). The worst one of an answer stays below
    `margin_accept` or `margin_reject`; their sum below n * mean + k * sqrt(n) * rms + the bound of the worst, at k
    sigmas.
    """

    deviation_typical: int  # thousandths
    deviation_floor: int  # thousandths, of the natural logarithm
    deviation_scatter: int  # thousandths, of the natural logarithm, for one token
    margin_accept: int  # thousandths, the worst position
    margin_reject: int
    margin_mean: int  # millionths, a token
    margin_rms: int  # millionths, a token

    def __post_init__(self) -> None:
        if any(type(v) is not int or not 0 <= v < 1 << 53 for v in asdict(self).values()):
            raise InvalidInput("policy: bounds must be whole numbers in [0, 2^53)")
        if self.margin_accept > self.margin_reject:
            raise InvalidInput("policy: an accept bound lies above its reject bound")

    def deviation_bound(self, tokens: int, sigmas: float) -> float:
        """The relative deviation that an honest answer of so many tokens exceeds at `sigmas` standard deviations."""
        spread = math.sqrt((self.deviation_floor / 1e3) ** 2 + (self.deviation_scatter / 1e3) ** 2 / tokens)
        return self.deviation_typical / 1e3 * math.exp(min(sigmas * spread, 50.0))

    def total_margin_bound(self, tokens: int, sigmas: float, worst: int) -> float:
        """Bound on the sum of an answer's weighed margins; `worst` is the bound of one, in thousandths."""
        return tokens * self.margin_mean / 1e6 + sigmas * math.sqrt(tokens) * self.margin_rms / 1e6 + worst / 1e3


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds by (prover's engine class, verifier's engine class), and how many sigmas an honest answer may be off.

    The one-sided tail of a normal variable beyond `reject_sigmas` is the rate at which honest answers are rejected,
    as far as the fit goes: 5 sigmas are 3 in ten million.
    """

    pairs: tuple[tuple[str, str, Bounds], ...]
    accept_sigmas: int = 4000  # thousandths
    reject_sigmas: int = 5000  # thousandths

    def __post_init__(self) -> None:
        sigmas = (self.accept_sigmas, self.reject_sigmas)
        if any(type(s) is not int or not 0 <= s <= MAX_SIGMAS * 1000 for s in sigmas) or sigmas[0] > sigmas[1]:
            raise InvalidInput(f"policy: sigmas must be 0 to {MAX_SIGMAS}, accept at most reject")
        keys = [(prover, verifier) for prover, verifier, _ in self.pairs]
        if keys != sorted(set(keys)) or not len(keys) <= MAX_PAIRS:
            raise InvalidInput(f"policy: pairs must be sorted, each once, at most {MAX_PAIRS}")

    @property
    def classes(self) -> list[str]:
        """All engine classes that have bounds, sorted: others can neither answer nor check."""
        return sorted({name for prover, verifier, _ in self.pairs for name in (prover, verifier)})

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
                **{_camel(name): value for name, value in asdict(bounds).items()},
            }
            for prover, verifier, bounds in self.pairs
        ]
        document: Any = {
            "pairs": pairs,
            "acceptSigmas": self.accept_sigmas,
            "rejectSigmas": self.reject_sigmas,
            "version": VERSION,
        }
        return rfc8785.dumps(document)

    @classmethod
    def from_bytes(cls, document: bytes) -> Self:
        """Raises InvalidInput unless `document` is a canonical policy."""
        if len(document) > MAX_BYTES:
            raise InvalidInput(f"policy: {len(document)} bytes, at most {MAX_BYTES} are read")
        try:
            parsed = json.loads(document)
            if parsed["version"] != VERSION:
                raise InvalidInput(
                    f"policy: of version {parsed['version']!r:.20}, this release reads version {VERSION}"
                )
            policy = cls(
                tuple(_parse_pair(entry) for entry in parsed["pairs"]),
                parsed["acceptSigmas"],
                parsed["rejectSigmas"],
            )
            canonical = policy.to_bytes()
        except InvalidInput:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(f"policy: {error!r}") from None
        if canonical != document:
            raise InvalidInput("policy: not in canonical form")
        return policy


def _parse_pair(entry: Any) -> tuple[str, str, Bounds]:
    bounds = Bounds(**{field.name: entry[_camel(field.name)] for field in fields(Bounds)})
    return str(entry["prover"]), str(entry["verifier"]), bounds


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
