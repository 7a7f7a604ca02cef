"""A node, a share of the verifiers' stake and an appellant of one hand, against honest verifiers who do not err.

Everything is wei more than the same coalition gains by honesty, for one full batch. The coalition sees who is drawn
before it shows or votes anything, and does what is best for it in each case. Verdicts that honest verifiers get wrong
by themselves are not in it: `nodes` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import comb

from trine.errors import InvalidInput
from trine.protocol.appeal_settlement import JURIES, AppealTerms, Case, Level
from trine.protocol.appeals import LeafVote
from trine.protocol.merkle import MAX_LEAVES
from trine.protocol.settlement import SEATS, Silence, Terms, conclude
from trine.protocol.votes import Vote
from trine_research.study.incentives import ACCEPT, ETHER, HIDDEN, REJECT
from trine_research.study.tournament.juries import ACCEPTED, REJECTED, UNAVAILABLE, appealed
from trine_research.study.tournament.nodes import expiry
from trine_research.study.tournament.world import MAX_ROUNDS, World

QUORUM = SEATS // 2 + 1
MAX_SHARE = Fraction(1, 3)
MOST_VALUE = 10**9 * ETHER
"""No cheat is worth more: there are so many tokens."""


@dataclass(frozen=True, slots=True)
class Plot:
    """What a coalition is, and what a cheat is worth to it."""

    share: Fraction
    """Of the verifiers' stake."""
    cheated: int
    """Leaves of the batch."""
    value: int = 0
    """Of a cheated leaf that is accepted in the end, besides the compute that it saves; wei."""
    hides: bool = True
    """It may show nothing to honest seats and jurors where its own seats are a majority."""
    redraws: bool = True
    """Its two seats may be silent, so that others are drawn."""
    appeals: bool = True
    """It may appeal what its seats could not carry."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= MAX_SHARE:
            raise InvalidInput(f"a coalition has at most a third of the stake, not {float(self.share):g}")
        if not 0 <= self.cheated <= MAX_LEAVES or not 0 <= self.value <= MOST_VALUE:
            raise InvalidInput(f"0 to {MAX_LEAVES} leaves are cheated, for 0 to 10^9 tokens each")


def gain(world: World, plot: Plot) -> Fraction:
    """Of the best that the coalition can do once it has anchored."""
    drawn = world.seated(plot.share, SEATS)
    yielded = _yielded(world, plot)
    ends = [yielded if k < QUORUM else max(_held(world, plot, k), yielded) for k in range(SEATS + 1)]
    value = sum((chance * end for chance, end in zip(drawn, ends, strict=True)), Fraction(0))
    return max(value, _redrawn(world, drawn, yielded, ends[SEATS])) if plot.redraws else value


def safe_value(world: World, plot: Plot, of: Callable[[World, Plot], Fraction] = gain) -> int | None:
    """What a cheated leaf may be worth, wei, without cheating paying: to a five-hundredth, rounded down. 0 where it
    pays for the compute alone; None if nothing makes it pay."""

    def pays(value: int) -> bool:
        return of(world, replace(plot, value=value)) > 0

    if pays(0):
        return 0
    high = ETHER // 16
    while not pays(high):
        high *= 8
        if high > MOST_VALUE:
            return None
    low = high // 8
    while high - low > low >> 9:
        middle = (low + high) // 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return low


def waiting_gain(world: World, plot: Plot, drawn_by_seats: Fraction) -> Fraction:
    """Of a node that has no draw made that it would not win, lets it expire (`Batches.expire`), and anchors again. With
    chance `drawn_by_seats` one of the honest seats has the draw made instead."""
    drawn = world.seated(plot.share, SEATS)
    yielded = _yielded(world, plot)
    bad = sum(drawn[:QUORUM], Fraction(0))
    good = sum((drawn[k] * max(_held(world, plot, k), yielded) for k in range(QUORUM, SEATS + 1)), Fraction(0))
    again = bad * (1 - drawn_by_seats)
    return (good + bad * drawn_by_seats * yielded - again * expiry(world)) / (1 - again)


def undrawn_gain(world: World, plot: Plot) -> Fraction:
    """The same where no seat has draws made."""
    return waiting_gain(world, plot, Fraction(0))


def friend_gain(world: World, seats: int) -> Fraction:
    """Of seats that accept a friend's honest leaves unseen: all that it saves is checking."""
    return Fraction(seats * world.leaves * world.setting.cost)


def bait_gain(world: World, share: Fraction) -> Fraction:
    """Of an honest batch that a coalition hides from the honest seat where it has the two others, and shows to the jury
    that this seat asks for: wei a leaf. Nothing is lost where nobody asks."""
    leaf = _Leaf((ACCEPT, ACCEPT, HIDDEN), ACCEPTED, ACCEPTED)
    _, cleared = _ending(world.terms, world.appeals, leaf, (_Heard(False, 0, False),))
    return world.seated(share, SEATS)[QUORUM] * world.blind * cleared


def denial_gain(world: World, share: Fraction, leaves: int) -> Fraction:
    """Of seats that say of all leaves of somebody's honest batch that they were shown nothing, where two or three of
    them sit in it: wei a batch more than by checking. The node shows each leaf to a jury of seven, of whom some are
    the coalition's, check, and are paid."""
    fee = conclude([ACCEPT] * SEATS, 1, world.terms, tokens=world.tokens).seats[0].paid - world.setting.cost
    gain = Fraction(0)
    for k in range(QUORUM, SEATS + 1):
        jurors = sum(n * chance for n, chance in enumerate(world.seated(share, JURIES[0], SEATS, k)))
        paid = sum(end.jurors[0][0].paid - world.setting.cost for end in _denied(world, k, leaves))
        gain += world.seated(share, SEATS)[k] * (jurors * paid - k * leaves * fee)
    return gain


def denial_cost(world: World, leaves: int) -> int:
    """To the node of such a batch, wei."""
    return sum(world.appeals.bond(0) - end.returned[0] for end in _denied(world, QUORUM, leaves))


def _denied(world: World, k: int, leaves: int) -> list[Case]:
    """Its leaves, found good by juries one after another, where k seats said that they were shown none."""
    seats = (*[HIDDEN] * k, *[ACCEPT] * (SEATS - k))
    level = Level(ACCEPTED, (ACCEPTED,) * JURIES[0])
    return [appealed(world.terms, world.appeals, seats, UNAVAILABLE, (level,), shown=shown) for shown in range(leaves)]


def fines(world: World, k: int, leaves: int) -> int:
    """Of each of k seats that accepted so many leaves which appeals then found bad."""
    if leaves == 0:
        return 0
    word = (1 << leaves) - 1
    ballots = [*[Vote(word, 0)] * k, *[Vote(0, word)] * (SEATS - k)]
    return conclude(ballots, leaves, world.terms, Vote(0, word)).seats[0].penalty


def _expected_fine(world: World, k: int, leaves: int, turned: Fraction) -> Fraction:
    """Of each of k seats, if each of so many leaves is found bad with that chance. Counts what is missing to the cap:
    few leaves reach it."""
    cap, missing = world.terms.wrong_vote_penalty, Fraction(0)
    for count in range(leaves + 1):
        fine = fines(world, k, count)
        if fine >= cap:
            break
        missing += (cap - fine) * comb(leaves, count) * turned**count * (1 - turned) ** (leaves - count)
    return cap - missing


def _won(world: World, plot: Plot) -> Fraction:
    """By a cheated leaf that stays accepted."""
    return world.saved + plot.value


def _lost(world: World) -> Fraction:
    """By one that is rejected or was not shown: its stake and its price, less what it saved. Negative."""
    return world.saved - conclude([REJECT] * SEATS, 1, world.terms).node_lost - world.price


def _yielded(world: World, plot: Plot) -> Fraction:
    """Its seats vote as the honest do and all cheats are rejected; it may then appeal each."""
    worth = _won(world, plot) - _lost(world)
    leaf = _Leaf((REJECT,) * SEATS, REJECTED, REJECTED)
    kept, money = _Game(world, plot, leaf, 0, worth, Fraction(0)).play()
    return plot.cheated * (_lost(world) + kept * worth + money)


def _held(world: World, plot: Plot, k: int) -> Fraction:
    """Its k seats, two or three, accept all."""
    options = [_shown(world, plot, k, hidden=False, capped=capped) for capped in (False, True)]
    if plot.hides:
        options.append(_shown(world, plot, k, hidden=True, capped=False))
    return max(options)


def _shown(world: World, plot: Plot, k: int, *, hidden: bool, capped: bool) -> Fraction:
    """`capped`: its jurors decide as if its seats had no more to lose, as they do not above the cap of fines."""
    seat = (world.blind if hidden else world.dissents) if k < SEATS else Fraction(0)
    asked = 1 - (1 - world.appealed) * (1 - seat)
    honest, vote = (UNAVAILABLE, HIDDEN) if hidden else (REJECTED, REJECT)
    stays = _won(world, plot)
    gone = _lost(world) - k * conclude([ACCEPT] * SEATS, 1, world.terms, tokens=world.tokens).seats[0].paid
    fine = 0 if hidden or capped else k * fines(world, k, 1)
    leaf = _Leaf((*[ACCEPT] * k, *[vote] * (SEATS - k)), ACCEPTED, honest)
    kept, money = _Game(world, plot, leaf, k, stays - gone + fine, asked).play()
    # Nobody is fined for what was not shown.
    fined = 0 if hidden else k * _expected_fine(world, k, plot.cheated, 1 - kept)
    return plot.cheated * (kept * stays + (1 - kept) * gone + money) - fined


Worth = tuple[Fraction, Fraction]
"""The chance that a leaf is accepted in the end, and what its appeals bring the coalition."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """A jury: whether the coalition asked for it, how many of it are its own, and whether these accept what honest
    jurors do not."""

    asked_for: bool
    jurors: int
    accept: bool


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A cheated leaf as its batch's seats left it, and what honest jurors will say of it."""

    seats: tuple[Vote, ...]
    settled: LeafVote
    honest: LeafVote


@dataclass(frozen=True, slots=True)
class _Game:
    """Who appeals a leaf, and how the coalition's jurors vote."""

    world: World
    plot: Plot
    leaf: _Leaf
    own: int
    """Of the leaf's seats, the coalition's."""
    worth: Fraction
    """To the coalition, of acceptance instead of the other end."""
    asked: Fraction
    """Chance that somebody honest appeals what was accepted first."""

    def play(self, heard: tuple[_Heard, ...] = ()) -> Worth:
        """From here on."""
        accepted, money = _ending(self.world.terms, self.world.appeals, self.leaf, heard)
        stop = (Fraction(accepted), Fraction(money))
        if len(heard) == len(JURIES):
            return stop
        if accepted:
            rate = self.world.dissents * self.world.again if heard else self.asked
            if rate == 0:
                return stop
            kept, more = self._appealed(heard, asked_for=False)
            return (1 - rate) * stop[0] + rate * kept, (1 - rate) * stop[1] + rate * more
        if not self.plot.appeals:
            return stop
        return max(stop, self._appealed(heard, asked_for=True), key=self._value)

    def _appealed(self, heard: tuple[_Heard, ...], *, asked_for: bool) -> Worth:
        size = JURIES[len(heard)]
        drawn, ours = SEATS + sum(JURIES[: len(heard)]), self.own + sum(jury.jurors for jury in heard)
        kept, money = Fraction(0), Fraction(0)
        for count, chance in enumerate(self.world.seated(self.plot.share, size, drawn, ours)):
            if chance == 0:
                continue
            ways = (False, True) if count > size // 2 else (False,)
            ends = [self.play((*heard, _Heard(asked_for, count, accept))) for accept in ways]
            end = max(ends, key=self._value)
            kept, money = kept + chance * end[0], money + chance * end[1]
        return kept, money

    def _value(self, end: Worth) -> Fraction:
        return end[0] * self.worth + end[1]


@lru_cache(maxsize=1 << 14)
def _ending(terms: Terms, appeals: AppealTerms, leaf: _Leaf, heard: tuple[_Heard, ...]) -> tuple[bool, int]:
    """Whether the leaf is accepted if nobody appeals again, and what its appeals have brought the coalition."""
    if not heard:
        return leaf.settled is ACCEPTED, 0
    levels = tuple(
        Level(
            ACCEPTED if jury.asked_for else REJECTED,
            (
                *[ACCEPTED if jury.accept else leaf.honest] * jury.jurors,
                *[leaf.honest] * (JURIES[number] - jury.jurors),
            ),
        )
        for number, jury in enumerate(heard)
    )
    case = appealed(terms, appeals, leaf.seats, leaf.settled, levels)
    money = case.cleared
    for number, jury in enumerate(heard):
        money += sum(seat.paid - seat.penalty for seat in case.jurors[number][: jury.jurors])
        if jury.asked_for:
            money += case.returned[number] - appeals.bond(number) + (case.prize if case.winner == number else 0)
    return case.verdict is ACCEPTED, money


def _redrawn(world: World, drawn: Sequence[Fraction], yielded: Fraction, all_three: Fraction) -> Fraction:
    """Two silent seats have others drawn until all three are its own or it has too few to go on; a void batch burns the
    fee and is anchored again."""
    two, silent = drawn[QUORUM], QUORUM * world.silence(Silence.NO_COMMIT)
    other = sum(drawn[:QUORUM], Fraction(0)) * yielded + drawn[SEATS] * all_three - two * silent
    rounds = sum((two**number for number in range(MAX_ROUNDS)), Fraction(0))
    void = two**MAX_ROUNDS
    return (rounds * other - void * world.leaves * world.fee) / (1 - void)
