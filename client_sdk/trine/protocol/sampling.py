"""Which token a sampled answer has: a function of the model's logits and of what the client signed.

Rule `gumbel-1`. The token at a position is the one with the best score among those that are allowed, the one with the
lowest id of equals:

    score = logit + temperature * noise(seed, position, token)

Gumbel noise makes that the same as drawing a token by its probability at that temperature (Gumbel 1954; the "Gumbel-max
trick"). Everything but the logits is fixed by the client's signature, so a verifier computes the same choice, and how
far a claimed token is from it is a margin in logits, as for greedy answers: see `margin`.

**Noise.** Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), key (seed modulo 2^64, 0),
counter (token // 4, position, 0, 1): position counts the answer's tokens from 0, the third word is kept for several
answers to one request, the fourth is the rule's number. Word token % 4 of the block, w, gives

    u = (floor(w / 2^12) + 1/2) / 2^52          exact in binary64, never 0 or 1
    noise = -ln(-ln u)                          between -3.61 and 36.74

Logarithms and exponentials differ between mathematical libraries in the last digits. So noise is specified to 1e-12,
and sums of probabilities to a hundred-thousandth, which binary32 gives. Machines with the same logits can differ where
two scores, or a sum and top_p, are as close as that: far closer than rounding in the model keeps them, and covered by
the same margin.

**Allowed tokens.** Ranked by logit, ties by the lower id first, a token is allowed if it passes all of these. Each
looks at the whole vocabulary and none at another's result; the best token always passes.

- `top_k`: fewer than top_k tokens rank before it;
- `top_p`: the tokens that rank before it have together a probability below top_p, at the temperature;
- `min_p`: its probability is at least min_p times the best token's, at the temperature.

This module is the specification, for one position at a time and without numpy. Engines compute the same over whole
vocabularies at once, and are tested against it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, Self

from trine.errors import InvalidField, InvalidInput

RULE = "gumbel-1"
RULE_NUMBER = 1
MILLION = 1_000_000
MAX_TEMPERATURE = 2
MAX_TOP_K = 1 << 20
MIN_SEED, MAX_SEED = -(1 << 63), (1 << 63) - 1
DRAWN_SEEDS = range(10**15, 1 << 53)
"""What clients draw from where nobody names a seed: JSON readers that know no integers keep these, and all have as many
digits, so that what an answer may cost does not depend on the draw."""
FIELDS = ("temperature", "top_p", "top_k", "min_p", "seed")
"""Of OpenAI's request, and what servers have added to it."""
HALVINGS = 40
"""Of the interval that a margin lies in, at most."""
FINEST = 1e-7
"""Logits to which margins are computed, upwards."""
MAX_EXPONENT = 600.0

_DECIMAL = re.compile(r"(0|1|2)(\.[0-9]{1,6})?")
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are drawn. Fractions are whole millionths, so that all who read them agree."""

    temperature_millionths: int  # 1 to 2,000,000
    seed: int  # signed, 64 bits
    top_p_millionths: int = MILLION  # 1 to a million, which allows all
    top_k: int = 0  # 0 allows all
    min_p_millionths: int = 0  # to a million; 0 allows all

    def __post_init__(self) -> None:
        limits = {
            "temperature": (self.temperature_millionths, 1, MAX_TEMPERATURE * MILLION),
            "seed": (self.seed, MIN_SEED, MAX_SEED),
            "top_p": (self.top_p_millionths, 1, MILLION),
            "top_k": (self.top_k, 0, MAX_TOP_K),
            "min_p": (self.min_p_millionths, 0, MILLION),
        }
        for field, (value, low, high) in limits.items():
            if type(value) is not int or not low <= value <= high:
                raise InvalidField(f"{field} is out of its bounds", field=field)

    @property
    def temperature(self) -> float:
        return self.temperature_millionths / MILLION

    @property
    def top_p(self) -> float:
        return self.top_p_millionths / MILLION

    @property
    def min_p(self) -> float:
        return self.min_p_millionths / MILLION

    @property
    def is_limited(self) -> bool:
        """Whether there may be tokens that are not allowed."""
        return bool(self.top_k or self.min_p_millionths or self.top_p_millionths < MILLION)

    def document(self) -> dict[str, str]:
        """What is signed: decimal digits without needless zeros, so that there is one spelling; no defaults.

        Strings, because JSON's numbers are binary64 to most readers: a seed has more digits than that, and 0.1 is none.
        """
        document = {"rule": RULE, "seed": str(self.seed), "temperature": _decimal(self.temperature_millionths)}
        if self.top_p_millionths != MILLION:
            document["top_p"] = _decimal(self.top_p_millionths)
        if self.top_k:
            document["top_k"] = str(self.top_k)
        if self.min_p_millionths:
            document["min_p"] = _decimal(self.min_p_millionths)
        return document

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """Reads what `document` gives. Raises InvalidInput; that the spelling is the one allowed, the caller looks."""
        if not isinstance(document, dict) or document.get("rule") != RULE:
            raise InvalidInput(f"sampling: this release knows the rule {RULE!r} only")
        if not {"rule", "seed", "temperature"} <= set(document) <= {"rule", *FIELDS}:
            raise InvalidInput("sampling: it must name a temperature, a seed and no other fields than those known")
        return cls(
            temperature_millionths=_millionths(document["temperature"]),
            seed=_whole(document["seed"]),
            top_p_millionths=_millionths(document.get("top_p", "1")),
            top_k=_whole(document.get("top_k", "0")),
            min_p_millionths=_millionths(document.get("min_p", "0")),
        )

    def fields(self) -> dict[str, float | int]:
        """The same as fields of a request, which `requested` reads back as the same."""
        fields: dict[str, float | int] = {"temperature": self.temperature, "seed": self.seed}
        if self.top_p_millionths != MILLION:
            fields["top_p"] = self.top_p
        if self.top_k:
            fields["top_k"] = self.top_k
        if self.min_p_millionths:
            fields["min_p"] = self.min_p
        return fields


def requested(fields: Mapping[str, Any], own_seed: int | None = None) -> Sampling | None:
    """What a request's `FIELDS` ask for; None for a greedy answer: no temperature, or 0. Null is as good as absent.

    Fractions are taken to the nearest millionth. `own_seed` is for who signs the request: it is taken where none is
    named. Who answers has none, for it must not be its choice.
    Raises InvalidField.
    """
    temperature = _fraction(fields, "temperature", MAX_TEMPERATURE)
    top_p = _fraction(fields, "top_p", 1)
    min_p = _fraction(fields, "min_p", 1)
    top_k = _number(fields, "top_k", -1, MAX_TOP_K)
    seed = _number(fields, "seed", MIN_SEED, MAX_SEED)
    seed = own_seed if seed is None else seed
    if temperature is None:
        changing = {"top_p": top_p not in (None, MILLION), "top_k": (top_k or 0) > 0, "min_p": bool(min_p)}
        for field, changes in changing.items():
            if changes:
                said = f"{field} without a temperature: answers are greedy unless a temperature is sent, too"
                raise InvalidField(said, field=field, code="unsupported_value")
    if not temperature:
        return None
    if seed is None:
        said = "a temperature needs a seed, which the client chooses and signs: send a whole number as seed"
        raise InvalidField(said, field="seed", code="unsupported_value")
    return Sampling(
        temperature_millionths=temperature,
        seed=seed,
        top_p_millionths=MILLION if top_p is None else max(top_p, 1),  # 0: the best token alone, as the least is
        top_k=max(top_k or 0, 0),
        min_p_millionths=min_p or 0,
    )


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x64-10: four words of 64 bits for a counter of four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & _MASK, (first >> 64) ^ c3 ^ k1, first & _MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & _MASK, (k1 + 0xBB67AE8584CAA73B) & _MASK
    return c0, c1, c2, c3


def noise(seed: int, position: int, token: int) -> float:
    """Of one token at one position of the answer: Gumbel's standard distribution."""
    word = philox((token // 4, position, 0, RULE_NUMBER), (seed & _MASK, 0))[token % 4]
    return -math.log(-math.log(((word >> 12) + 0.5) / (1 << 52)))


def allowed(logits: Sequence[float], sampling: Sampling) -> list[int]:
    """The tokens that may be chosen, best first."""
    ranked = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    best, temperature = logits[ranked[0]], sampling.temperature
    shares = [math.exp((logits[token] - best) / temperature) for token in ranked]
    total, before, count = math.fsum(shares), 0.0, 0
    for share in shares:
        if (
            (sampling.top_k and count >= sampling.top_k)
            or (sampling.top_p_millionths < MILLION and before >= sampling.top_p * total)
            or share < sampling.min_p
        ):
            break
        before += share
        count += 1
    return ranked[: max(count, 1)]


def scores(logits: Sequence[float], sampling: Sampling, position: int, tokens: Sequence[int]) -> list[float]:
    """Of some tokens, in logits."""
    return [logits[t] + sampling.temperature * noise(sampling.seed, position, t) for t in tokens]


def choose(logits: Sequence[float], sampling: Sampling, position: int) -> int:
    """The token at a position of the answer, from the logits there, one for each token of the vocabulary."""
    tokens = allowed(logits, sampling)
    best = max(zip(scores(logits, sampling, position, tokens), (-t for t in tokens), strict=True))
    return -best[1]


def margin(logits: Sequence[float], sampling: Sampling, position: int, claimed: int) -> float:
    """How far the logits would have to be from these, for the claimed token to be chosen: 0 if it is.

    In logits, and counted as for greedy answers: the least d such that moving every logit by up to d / 2, up or down,
    could do. Greedy, that is the best logit less the claimed one's. Here two things must come about, and d is the least
    with which each of them, taken alone, could:

    - the claimed token is among the allowed ones;
    - all tokens whose scores are better by more than d are outside at once, and all inside are beaten.

    Nobody whose logits are within d / 2 of these is ever given a margin above d.
    """
    if claimed == choose(logits, sampling, position):
        return 0.0
    reached = scores(logits, sampling, position, range(len(logits)))
    leads = [score - reached[claimed] for score in reached]
    edge = Edge.of(logits, sampling, logits[claimed])
    return least_move(edge, Everybody(logits, leads, sampling.temperature), max(leads))


def least_move(edge: Edge, field: Field, longest: float) -> float:
    """The margin of the edge's token. `longest`: by how much the best score of all, allowed or not, is better."""
    if not edge.sampling.is_limited:
        return longest

    def explains(moved: float) -> bool:
        return edge.may_enter(moved) and edge.may_keep_out(field.parted(moved), moved)

    if explains(0.0):
        return 0.0
    low, high = 0.0, max(edge.best - edge.claimed, longest)
    for _ in range(HALVINGS):
        if high - low <= FINEST:
            break
        middle = (low + high) / 2
        low, high = (low, middle) if explains(middle) else (middle, high)
        field = field.narrowed(low, high)
    return high


class Numbers(Protocol):
    """As much of a sequence as is needed: a list, or an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> float: ...


@dataclass(frozen=True, slots=True)
class Parted:
    """Tokens that lead by more than a movement can make up for must be outside, and others may be before them.

    A token that is inside must be beaten: it may go up with the claimed one, but as much less as its score is better.
    What counts of a token is therefore its logit less its lead, where that is above 0. Shares count the best logit's
    as 1, and are given with all inside raised by the whole movement instead of half of it, and the others where they
    were. Without `top_p` nobody asks for them.
    """

    best_outside: float  # logit of the best of those that must be outside
    most_inside: float  # the highest logit that counts
    inside: int  # how many may rank before all that must be outside
    raised: float  # share of these
    unraised: float  # the same, before they are raised


class Field(Protocol):
    """All tokens as seen from the claimed one: what `least_move` asks over and over."""

    def parted(self, moved: float) -> Parted | None:
        """None if nobody leads by more than `moved`."""

    def narrowed(self, low: float, high: float) -> Self:
        """One that gives the same where `moved` is from `low` to `high`; whoever asks keeps to that."""


@dataclass(frozen=True, slots=True)
class Everybody:
    """`Field`, token by token."""

    logits: Sequence[float]
    leads: Sequence[float]  # by how much each score is better than the claimed token's
    temperature: float

    def parted(self, moved: float) -> Parted | None:
        outside = [logit for logit, lead in zip(self.logits, self.leads, strict=True) if lead > moved]
        if not outside:
            return None
        others = [(z - max(lead, 0.0), z) for z, lead in zip(self.logits, self.leads, strict=True) if lead <= moved]
        inside = [(counts, logit) for counts, logit in others if counts >= max(outside) - moved]
        best, temperature = max(self.logits), self.temperature
        return Parted(
            best_outside=max(outside),
            most_inside=max(counts for counts, _ in others),
            inside=len(inside),
            raised=sum(math.exp(min((counts + moved - best) / temperature, MAX_EXPONENT)) for counts, _ in inside),
            unraised=sum(math.exp((logit - best) / temperature) for _, logit in inside),
        )

    def narrowed(self, low: float, high: float) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class Edge:
    """How near the claimed token, and those that must make way for it, are to the edge of the allowed ones.

    Both questions are whether something could be so if every logit moved by up to half of `moved`, and take the case
    that suits it best.
    """

    sampling: Sampling
    claimed: float  # its logit
    rising: Numbers  # all logits, sorted
    sums: Numbers  # [i]: of the i lowest, the probabilities, the best one's counting as 1
    below: float  # of all logits below the claimed one, the probabilities, its own counting as 1

    @classmethod
    def of(cls, logits: Sequence[float], sampling: Sampling, claimed: float) -> Self:
        rising, temperature = sorted(logits), sampling.temperature
        shares = (math.exp((logit - rising[-1]) / temperature) for logit in rising)
        below = sum(math.exp((logit - claimed) / temperature) for logit in rising if logit < claimed)
        return cls(sampling, claimed, rising, [0.0, *accumulate(shares)], below)

    @property
    def best(self) -> float:
        return self.rising[-1]

    def may_enter(self, moved: float) -> bool:
        """Whether the claimed token could be inside: it and all that rank after it go up, and all that rank before it
        go down, but those that it then reaches, which stay just behind it."""
        temperature, top_k, top_p, min_p = self._limits
        reached = self.claimed + moved
        stay = bisect_right(self.rising, reached)  # from here on they rank before it in any case
        if top_k and len(self.rising) - stay >= top_k:
            return False
        if min_p and reached < self.best + temperature * math.log(min_p):
            return False
        if top_p == 1 or stay == len(self.rising):
            return True
        before = self.sums[-1] - self.sums[stay]
        rest = self.below + stay - bisect_left(self.rising, self.claimed)
        return before < top_p * (before + rest * math.exp((reached - self.best) / temperature))

    def may_keep_out(self, parted: Parted | None, moved: float) -> bool:
        """Whether all that must be outside could be there at once.

        The allowed tokens are the best ranked, up to where one of the three rules ends them. So all that are inside
        rank before all that must be outside, the claimed one among them, and that rule must be content with them.
        """
        if parted is None:
            return True
        temperature, top_k, top_p, min_p = self._limits
        lowered = parted.best_outside - moved
        if lowered > self.claimed:
            return False
        if top_k and parted.inside >= top_k:
            return True
        if min_p and lowered < parted.most_inside + temperature * math.log(min_p):
            return True
        if top_p == 1:
            return False
        outside = max(self.sums[-1] - parted.unraised, 0.0)
        return parted.raised >= top_p * (parted.raised + outside)

    @property
    def _limits(self) -> tuple[float, int, float, float]:
        return self.sampling.temperature, self.sampling.top_k, self.sampling.top_p, self.sampling.min_p


def _decimal(millionths: int) -> str:
    whole, rest = divmod(millionths, MILLION)
    return f"{whole}.{rest:06}".rstrip("0") if rest else str(whole)


def _millionths(text: Any) -> int:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise InvalidInput("sampling: fractions are decimal digits, at most six behind the point")
    whole, _, rest = text.partition(".")
    return int(whole) * MILLION + int(rest.ljust(6, "0"))


def _whole(text: Any) -> int:
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise InvalidInput("sampling: a seed and top_k are decimal digits")
    return int(text)


def _fraction(fields: Mapping[str, Any], field: str, most: int) -> int | None:
    """Millionths."""
    value = fields.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise InvalidField(f"{field} must be a number from 0 to {most}", field=field)
    return round(value * MILLION)


def _number(fields: Mapping[str, Any], field: str, low: int, high: int) -> int | None:
    value = fields.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidField(f"{field} must be a whole number from {low} to {high}", field=field)
    return value
