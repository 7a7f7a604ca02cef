"""How reputation is counted, fades and is scored: the twin of `Decay.sol` and `Reputation.sol`, bit for bit.

All sums of a record fade alike, to one half in every half-life. Two properties follow, and the tests hold both to
the last bit, because every rounding is against the operator:

- waiting never raises a score: what fades is weighed against a prior that does not;
- waiting never lifts anyone past a newcomer: whoever would stand below a newcomer after the same further work still
  does after any wait. More cannot be asked of a record, since a new address, with a stake of its own, is open to all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from trine.errors import InvalidInput

REJECTED_WEIGHT = 10
MISSED_WEIGHT = 2
PRIOR = 20
BPS = 10_000

MIN_HALF_LIFE_SECONDS = 24 * 3600
MAX_HALF_LIFE_SECONDS = 365 * 24 * 3600

OUTCOME = 1_000_000
"""One outcome: counts are in millionths, because a seat earns by the leaf."""
FRACTION_BITS = 32
"""Sums are fixed point numbers of 72 bits, 32 of them behind the point."""
MAX_SUM = (1 << 72) - 1

ONE = 1 << 64
"""A multiplier of one."""
STEPS = 64


def _root(exponent: int) -> int:
    """2 ** (exponent / 64), rounded down: the root of 64 is six square roots, and rounding down commutes with them."""
    value = 1 << exponent
    for _ in range(6):
        value = isqrt(value)
    return value


TABLE = tuple(_root(64 * STEPS - step) for step in range(STEPS + 1))
"""2 ** (64 - step / 64), rounded down, from one (2 ** 64) to one half (2 ** 63)."""


def multiplier(elapsed: int, half_life: int) -> int:
    """2 ** (64 - elapsed / half_life) in integers; `Decay.multiplier` is its twin.

    A table of 64 steps a half-life, straight lines between them: at most 1.5e-5 of it above the true value (lines lie
    above a convex curve) and 2 below. Falls, or stays, as `elapsed` grows; 2 ** 64 for none.
    """
    if elapsed < 0 or half_life <= 0:
        raise InvalidInput(f"decay over {elapsed} s with a half-life of {half_life} s")
    halvings, within = divmod(elapsed, half_life)
    step, rest = divmod(within * STEPS, half_life)
    value = TABLE[step] - (TABLE[step] - TABLE[step + 1]) * rest // half_life
    return value >> halvings


def decay(value: int, elapsed: int, half_life: int) -> int:
    """What is left of `value`, rounded down."""
    return _down(value, multiplier(elapsed, half_life))


@dataclass(frozen=True, slots=True)
class Change:
    """What one `ReputationChanged` event says: a batch's counts in millionths, and the score that followed."""

    role: int
    score_bps: int
    accepted: int
    rejected: int
    missed: int

    @classmethod
    def from_word(cls, word: int) -> Change:
        """Reads the event's `change`. Raises InvalidInput for a word that no event carries."""
        if word < 0 or word >> 216:
            raise InvalidInput("a change of reputation has 216 bits")
        counts = (word >> 128, word >> 64, word)
        return cls(word >> 208, word >> 192 & 0xFFFF, *(count & (1 << 64) - 1 for count in counts))


@dataclass(frozen=True, slots=True)
class Record:
    """One operator's record in one role for one model: fixed point sums as they were at `updated_at`."""

    accepted: int = 0
    rejected: int = 0
    missed: int = 0
    updated_at: int = 0

    def at(self, now: int, half_life: int) -> Record:
        """The record faded to `now`: accepted rounded down, the others up."""
        if now < self.updated_at:
            raise InvalidInput(f"the record is of {self.updated_at}, later than {now}")
        left = multiplier(now - self.updated_at, half_life)
        return Record(_down(self.accepted, left), _up(self.rejected, left), _up(self.missed, left), now)

    def add(self, now: int, half_life: int, *, accepted: int = 0, rejected: int = 0, missed: int = 0) -> Record:
        """The record with a batch's outcomes, in millionths; a sum that is full stays full."""
        if min(accepted, rejected, missed) < 0:
            raise InvalidInput("outcomes are counts")
        faded = self.at(now, half_life)
        return Record(
            min(faded.accepted + _fixed(accepted), MAX_SUM),
            min(faded.rejected + _fixed_up(rejected), MAX_SUM),
            min(faded.missed + _fixed_up(missed), MAX_SUM),
            now,
        )

    def score_bps(self, now: int, half_life: int) -> int:
        """accepted / (accepted + 10 rejected + 2 missed + 20) in basis points, rounded down."""
        faded = self.at(now, half_life)
        weighed = (
            faded.accepted + REJECTED_WEIGHT * faded.rejected + MISSED_WEIGHT * faded.missed + (PRIOR << FRACTION_BITS)
        )
        return faded.accepted * BPS // weighed

    def micros(self, now: int, half_life: int) -> tuple[int, int, int]:
        """(accepted, rejected, missed) faded to `now`, in millionths of an outcome, rounded down: what views show."""
        faded = self.at(now, half_life)
        return _micro(faded.accepted), _micro(faded.rejected), _micro(faded.missed)


def _down(value: int, left: int) -> int:
    return value * left // ONE


def _up(value: int, left: int) -> int:
    return -(-value * left // ONE)


def _fixed(micro: int) -> int:
    return (micro << FRACTION_BITS) // OUTCOME


def _fixed_up(micro: int) -> int:
    return -(-(micro << FRACTION_BITS) // OUTCOME)


def _micro(value: int) -> int:
    return value * OUTCOME >> FRACTION_BITS
