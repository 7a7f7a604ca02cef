"""Shares with their exact bounds. Knows nothing of what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trine.errors import InvalidInput

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Proportion:
    """`count` of `of`, and Clopper and Pearson's interval for the chance behind it (Biometrika 26, 1934)."""

    count: int
    of: int
    low: float
    high: float

    @classmethod
    def estimate(cls, count: int, of: int, confidence: float = CONFIDENCE) -> Proportion:
        """Raises InvalidInput unless 0 <= count <= of and 0 < confidence < 1. Of nothing, the interval is [0, 1]."""
        from scipy.stats import beta

        if not 0 <= count <= of or not 0 < confidence < 1:
            raise InvalidInput(f"{count} of {of} at confidence {confidence} is no proportion")
        tail = (1 - confidence) / 2
        low = float(beta.ppf(tail, count, of - count + 1)) if count else 0.0
        high = float(beta.isf(tail, count + 1, of - count)) if count < of else 1.0
        return cls(count, of, low, high)

    @property
    def rate(self) -> float:
        return self.count / self.of if self.of else float("nan")

    def __contains__(self, chance: float) -> bool:
        return self.low <= chance <= self.high

    def document(self, counted: str) -> dict[str, Any]:
        """For JSON; `counted` names the count."""
        rate = self.rate if self.of else None
        return {counted: self.count, "of": self.of, "rate": rate, "low": self.low, "high": self.high}
