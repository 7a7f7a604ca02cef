"""What a seat may expect to gain by each way to vote, in a full batch: is checking honestly the best of them?

Amounts are those that `trine.protocol.settlement` concludes, in wei; chances are fractions: nothing is rounded but what
the protocol rounds. The two other seats check honestly, or do what `Setting.others` says, and err independently but
for what all honest machines have in `common`; leaves are bad independently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import comb, lcm, prod

from trine.errors import InvalidInput
from trine.protocol.merkle import MAX_LEAVES
from trine.protocol.settlement import SEATS, Silence, Terms, conclude
from trine.protocol.votes import Vote

ETHER = 10**18
SHIPPED = Terms(
    stake_per_leaf=5 * ETHER,
    refund_per_leaf=2 * ETHER,
    fee_per_leaf=ETHER // 100,
    fee_per_token=8 * 10**13,
    dissent_fine=ETHER // 10,
    overturned_fine=5 * ETHER,
    wrong_vote_penalty=20 * ETHER,
    no_reveal_penalty=25 * ETHER,
    no_commit_penalty=10 * ETHER,
    canary_penalty=30 * ETHER,
)
"""The parameters of `deploy/trine_devnet/deployment.json`."""
RAREST = 1 << 20
"""Bad leaves rarer than one in so many are not looked for."""
ACCEPT, REJECT, NEITHER, HIDDEN = Vote(1, 0), Vote(0, 1), Vote(0, 0), Vote(0, 0, 1)
# Of one leaf: which of its fines a seat pays tells what it did.
_MARKERS = replace(
    SHIPPED,
    fee_per_leaf=SEATS,
    fee_per_token=0,
    dissent_fine=1,
    overturned_fine=2,
    wrong_vote_penalty=2,
    canary_penalty=3,
)

Chances = dict[Vote, Fraction]


class Leaf(Enum):
    """What an answer is."""

    GOOD = "good"
    CHEAT = "cheat"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a seat votes: it checks a part of the leaves and says the same of all others; or it does not commit."""

    name: str
    checks: Fraction = Fraction(0)
    unchecked: Vote = ACCEPT
    silent: Silence | None = None


HONEST = Strategy("honest", Fraction(1))
ABSTAIN = Strategy("abstain", unchecked=NEITHER)
ALWAYS_ACCEPT = Strategy("always accept")
ALWAYS_REJECT = Strategy("always reject", unchecked=REJECT)
ALWAYS_UNAVAILABLE = Strategy("always unavailable", unchecked=HIDDEN)
SILENT = Strategy("silent", silent=Silence.NO_COMMIT)
COPY = Strategy("copies a commitment", silent=Silence.NO_REVEAL)
"""What another committed cannot be revealed: it binds its verifier."""


def lazy(checks: Fraction) -> Strategy:
    """Checks a leaf with this chance and accepts the others. Raises InvalidInput unless 0 < checks < 1."""
    if not 0 < checks < 1:
        raise InvalidInput(f"a lazy verifier checks a part of the leaves, between 0 and 1, not {float(checks):g}")
    return Strategy(f"lazy {float(checks):g}", checks)


@dataclass(frozen=True, slots=True)
class Setting:
    """A batch, its node, and the verifiers' skill. Shares and rates are chances, `cost` is wei for checking a leaf."""

    cost: int
    cheats: Fraction = Fraction(0)
    canaries: Fraction = Fraction(0)
    false_accept: Fraction = Fraction(4, 1000)
    false_reject: Fraction = Fraction(2, 1000)
    doubt_of_bad: Fraction = Fraction(25, 1000)
    doubt_of_good: Fraction = Fraction(2, 1000)
    appealed: Fraction = Fraction(1, 100)
    """Chance that a wrong verdict, or none, is appealed, and put right."""
    canary_appealed: Fraction | None = None
    """The same of a canary: who planted it knows. None: as all others."""
    common: Fraction = Fraction(0)
    """Chance that all honest checks of a leaf err, or not, as one."""
    others: Strategy = HONEST
    """What the two other seats do."""
    leaves: int = MAX_LEAVES
    tokens: int = 65_536
    terms: Terms = SHIPPED

    def __post_init__(self) -> None:
        bad, good = self.false_accept + self.doubt_of_bad, self.false_reject + self.doubt_of_good
        rates = (
            self.cheats,
            self.canaries,
            self.false_accept,
            self.false_reject,
            self.appealed,
            self.common,
            self.put_right(Leaf.CANARY),
        )
        if not all(0 <= rate <= 1 for rate in (*rates, self.doubt_of_bad, self.doubt_of_good, bad, good)):
            raise InvalidInput("shares and rates are 0 to 1, and those of one kind of leaf at most 1 together")
        if self.cheats + self.canaries > 1:
            raise InvalidInput("cheats and canaries are at most all leaves")
        if not (1 <= self.leaves <= MAX_LEAVES and 0 <= self.tokens < 1 << 32 and self.cost >= 0):
            raise InvalidInput(f"a batch has 1 to {MAX_LEAVES} leaves and no negative tokens or costs")
        if self.others.silent:
            raise InvalidInput("the other seats vote: without them there is another committee")
        if self.terms.canary_penalty < self.terms.wrong_vote_penalty:
            raise InvalidInput("a canary costs at least as much as all wrong votes of a batch")

    def kinds(self) -> dict[Leaf, Fraction]:
        return {Leaf.GOOD: 1 - self.cheats - self.canaries, Leaf.CHEAT: self.cheats, Leaf.CANARY: self.canaries}

    def checked(self, leaf: Leaf) -> Chances:
        """What an honest check says."""
        if leaf is Leaf.GOOD:
            wrong, doubt, truth, error = self.false_reject, self.doubt_of_good, ACCEPT, REJECT
        else:
            wrong, doubt, truth, error = self.false_accept, self.doubt_of_bad, REJECT, ACCEPT
        return {truth: 1 - wrong - doubt, error: wrong, NEITHER: doubt}

    def put_right(self, leaf: Leaf) -> Fraction:
        """Chance that a verdict on such a leaf that is not right becomes so."""
        known = leaf is Leaf.CANARY and self.canary_appealed is not None
        return (self.canary_appealed or Fraction(0)) if known else self.appealed

    def views(self, leaf: Leaf) -> Iterator[tuple[Fraction, Chances]]:
        """Chances of what honest checks have in common, and what each of them then says."""
        says = self.checked(leaf)
        if self.common < 1:
            yield 1 - self.common, says
        if self.common > 0:
            for vote, chance in says.items():
                yield self.common * chance, {vote: Fraction(1)}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Chances of a seat on one leaf; doubt and undecided leaves are the rest."""

    right: Fraction = Fraction(0)
    dissent: Fraction = Fraction(0)
    overturned: Fraction = Fraction(0)
    canary: Fraction = Fraction(0)


def outcomes(strategy: Strategy, setting: Setting, ring: int = 1) -> Outcomes:
    """Over all kinds of leaves, all votes of the three seats, and whether somebody appeals.

    Of a seat in a `ring` of so many, who all vote as one of them does.
    """
    if not 1 <= ring <= SEATS:
        raise InvalidInput(f"a ring has 1 to {SEATS} of a committee's seats, not {ring}")
    totals = [Fraction(0)] * 4
    for leaf, share in setting.kinds().items():
        for weight, says in setting.views(leaf):
            own, others = _votes(strategy, says), _votes(setting.others, says)
            for mine, *rest in product(own.items(), *[others.items()] * (SEATS - ring)):
                chance = share * weight * mine[1] * prod((other[1] for other in rest), start=Fraction(1))
                if chance == 0:
                    continue
                ballots = (*[mine[0]] * ring, *(other[0] for other in rest))
                for mark, part in _marks(ballots, leaf, setting.put_right(leaf)):
                    totals[mark] += chance * part
    return Outcomes(*totals)


def ring_gain(strategy: Strategy, setting: Setting, ring: int) -> Fraction:
    """Expected wei a batch of all seats of a ring together, of whom one checks and the others copy it."""
    chances = outcomes(strategy, setting, ring)
    checking = setting.cost * setting.leaves * strategy.checks
    return ring * (_expected_fee(chances.right, setting) - _expected_fines(chances, setting)) - checking


def gain(strategy: Strategy, setting: Setting) -> Fraction:
    """Expected wei a batch, less what checking costs."""
    if strategy.silent:
        ballots = (strategy.silent, NEITHER, NEITHER)
        return Fraction(-conclude(ballots, setting.leaves, setting.terms).seats[0].penalty)
    chances = outcomes(strategy, setting)
    checking = setting.cost * setting.leaves * strategy.checks
    return _expected_fee(chances.right, setting) - _expected_fines(chances, setting) - checking


def best(strategies: Sequence[Strategy], setting: Setting) -> Strategy | None:
    """The only one that gains most; None if several do."""
    gains = {strategy: gain(strategy, setting) for strategy in strategies}
    top = [strategy for strategy, value in gains.items() if value == max(gains.values())]
    return top[0] if len(top) == 1 else None


def rarest_canaries(strategies: Sequence[Strategy], setting: Setting) -> int | None:
    """The largest m for which one canary in m leaves makes honest checking the only best; None if there is none. Of
    no use where checking is the best without canaries.

    Below some share more canaries only help; far above it the honest, who accept some, had better abstain.
    """

    def honest_is_best(one_in: int) -> bool:
        return best(strategies, replace(setting, canaries=Fraction(1, one_in))) == HONEST

    powers = (1 << exponent for exponent in range(4, RAREST.bit_length()))
    low = next((one_in for one_in in powers if honest_is_best(one_in)), None)
    if low is None:
        return None
    high = RAREST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if honest_is_best(middle) else (low, middle - 1)
    return low


def _votes(strategy: Strategy, checked: Chances) -> Chances:
    chances = {vote: strategy.checks * chance for vote, chance in checked.items()}
    chances[strategy.unchecked] = chances.get(strategy.unchecked, Fraction(0)) + 1 - strategy.checks
    return chances


def _marks(ballots: tuple[Vote, ...], leaf: Leaf, appealed: Fraction) -> Iterator[tuple[int, Fraction]]:
    """Which of `Outcomes` the first seat has by these votes, and its chance: none for neither fee nor fine."""
    truth = ACCEPT if leaf is Leaf.GOOD else REJECT
    as_voted = _mark(ballots, None, leaf is Leaf.CANARY)
    if conclude(ballots, 1, _MARKERS).settled == truth:
        ends: tuple[tuple[int | None, Fraction], ...] = ((as_voted, Fraction(1)),)
    else:
        put_right = _mark(ballots, truth, leaf is Leaf.CANARY)
        ends = ((as_voted, 1 - appealed), (put_right, appealed))
    yield from ((mark, chance) for mark, chance in ends if mark is not None)


@lru_cache(maxsize=4096)
def _mark(ballots: tuple[Vote, ...], final: Vote | None, canary: bool) -> int | None:
    seat = conclude(ballots, 1, _MARKERS, final, canaries=int(canary)).seats[0]
    return 0 if seat.paid else seat.penalty or None


def _expected_fee(right: Fraction, setting: Setting) -> Fraction:
    """The mean over how many leaves are right, a binomial distribution."""
    n, (yes, scale) = setting.leaves, right.as_integer_ratio()
    rights, others = _powers(yes, n), _powers(scale - yes, n)
    total = sum(
        comb(n, count) * rights[count] * others[n - count] * paid
        for count, paid in enumerate(_fees(n, setting.tokens, setting.terms))
    )
    return Fraction(total, scale**n)


def _expected_fines(chances: Outcomes, setting: Setting) -> Fraction:
    """A canary raises the fines to its penalty; without any, what is missing to the cap is counted."""
    n, cap = setting.leaves, setting.terms.wrong_vote_penalty
    parts = (chances.dissent, chances.overturned, chances.canary)
    scale = lcm(*(part.denominator for part in parts))
    light, grave, canary = (int(part * scale) for part in parts)
    below = _fines_below_cap(n, setting.terms)
    lights, graves, rests = (_powers(base, n) for base in (light, grave, scale - light - grave - canary))
    missing = sum(
        comb(n, g) * comb(n - g, k) * graves[g] * lights[k] * rests[n - g - k] * (cap - fine)
        for (k, g), fine in below.items()
        if (light or not k) and (grave or not g)
    )
    no_canary = (scale - canary) ** n
    total = setting.terms.canary_penalty * (scale**n - no_canary) + cap * no_canary - missing
    return Fraction(total, scale**n)


def _powers(base: int, n: int) -> list[int]:
    powers = [1]
    for _ in range(n):
        powers.append(powers[-1] * base)
    return powers


@lru_cache(maxsize=64)
def _fees(leaves: int, tokens: int, terms: Terms) -> tuple[int, ...]:
    """Of a seat that is right on no leaf, on one, and so on."""
    paid = []
    for count in range(leaves + 1):
        right = Vote((1 << count) - 1, 0)
        ballots = [right, NEITHER, NEITHER]
        paid.append(conclude(ballots, leaves, terms, right, tokens=tokens).seats[0].paid)
    return tuple(paid)


@lru_cache(maxsize=64)
def _fines_below_cap(leaves: int, terms: Terms) -> dict[tuple[int, int], int]:
    """By how many leaves a seat voted on wrongly, and how many of them an appeal turned besides."""
    fines: dict[tuple[int, int], int] = {}
    for grave in range(leaves + 1):
        for light in range(leaves - grave + 1):
            turned, wrong = (1 << grave) - 1, (1 << (grave + light)) - 1
            others = Vote(turned, wrong & ~turned)
            fine = conclude([Vote(wrong, 0), others, others], leaves, terms, Vote(0, wrong)).seats[0].penalty
            if fine >= terms.wrong_vote_penalty:
                break
            fines[light, grave] = fine
        if (0, grave) not in fines:
            break
    return fines
