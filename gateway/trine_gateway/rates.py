"""How often a key may ask. Pure: the caller tells the time.

A bucket for each key, which holds a minute's requests and fills evenly.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

REMEMBERED = 16_384
"""Keys; of one that was forgotten the bucket is full."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a key may still ask."""

    limit: int
    remaining: int
    reset_seconds: float  # until the bucket is full
    wait_seconds: float  # until one more is allowed; 0: now

    @property
    def headers(self) -> dict[str, str]:
        """As OpenAI names them."""
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{self.reset_seconds:.3f}s",
        }


class Rates:
    """Used on the event loop only."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # by key: what is in it, and when

    def take(self, key_id: str, per_minute: int, now: float) -> Rate:
        """Takes one request if there is one, else `wait_seconds` says when. `now`: seconds of a steady clock."""
        left, at = self._buckets.get(key_id, (float(per_minute), now))
        left = min(float(per_minute), left + max(0.0, now - at) * per_minute / 60)
        is_allowed = left >= 1
        left -= is_allowed
        self._buckets[key_id] = left, now
        self._buckets.move_to_end(key_id)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        wait = 0.0 if is_allowed else (1 - left) * 60 / per_minute
        return Rate(per_minute, int(left), (per_minute - left) * 60 / per_minute, wait)
