"""What an appeal leads to: the amounts that `Appeals.t.sol` and `Merit.t.sol` hold the contracts to, in their cases."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol.appeal_settlement import (
    JURIES,
    AppealTerms,
    Case,
    JurorBallot,
    Level,
    bounty,
    conclude_case,
    verdict_on,
)
from trine.protocol.appeals import LeafVote
from trine.protocol.settlement import Silence, Terms
from trine.protocol.votes import Vote

E = 10**18
ACCEPTED, REJECTED, INCONCLUSIVE, UNAVAILABLE = LeafVote
TERMS = Terms(E, 2 * E // 5, 3 * E // 100, E // 10_000, E // 10, 8 * E, 20 * E, 25 * E, 10 * E, 30 * E)
APPEALS = AppealTerms(4 * E, E, 20 * E, 25 * E, 10 * E, 8 * E)
BOND_1, BOND_2 = 28 * E, 60 * E
MIXED = [Vote(1, 2)] * 3
"""Three leaves: all accept the first, reject the second, and cannot tell of the third."""


def votes(level: int, accepts: int, rejects: int) -> tuple[JurorBallot, ...]:
    seats = JURIES[level]
    rest = seats - accepts - rejects
    return (*[ACCEPTED] * accepts, *[REJECTED] * rejects, *[INCONCLUSIVE] * rest)


def judged(leaf: int, *claims: tuple[LeafVote, int, int], ballots: list[Vote] = MIXED) -> Case:
    """By the claims, and by how many jurors accept and reject."""
    levels = [Level(claim, votes(number, a, r)) for number, (claim, a, r) in enumerate(claims)]
    settled = verdict_on(ballots, leaf)
    verdict = conclude_case(settled, levels, 0, APPEALS).verdict
    result = Vote(1 & ~(1 << leaf), 2 & ~(1 << leaf))
    final = Vote(
        result.accepts | (verdict is ACCEPTED) << leaf,
        result.rejects | (verdict is REJECTED) << leaf,
        (verdict is UNAVAILABLE) << leaf,
    )
    return conclude_case(settled, levels, bounty(ballots, 3, TERMS, final, 0, leaf), APPEALS)


def test_a_rejection_on_appeal_pays_who_asked_for_it() -> None:
    case = judged(0, (REJECTED, 2, 5))
    assert case.verdict is REJECTED
    assert (case.returned, case.winner) == ((BOND_1,), 0)
    assert case.prize == 12 * E + 20 * E + E // 10 - 5 * E
    assert [(seat.paid, seat.penalty) for seat in case.jurors[0]] == [(0, 20 * E)] * 2 + [(E, 0)] * 5


def test_an_acceptance_on_appeal_pays_the_node_that_asked_for_it() -> None:
    case = judged(1, (ACCEPTED, 7, 0))
    assert (case.winner, case.prize, case.burned) == (0, 12 * E - 7 * E, 0)


def test_an_appeal_that_is_lost_pays_the_jury_and_the_node() -> None:
    case = judged(0, (REJECTED, 6, 1))
    assert (case.returned, case.winner, case.cleared) == ((0,), None, BOND_1 - 6 * E)
    assert case.burned == 10 * E, "half of the wrong juror's fine; the other half is burned besides"


def test_a_bond_that_is_lost_on_a_rejected_leaf_is_burned() -> None:
    case = judged(1, (ACCEPTED, 0, 7))
    # The bounty of the leaf's stake is part of it: 0.6 burned of 1 in all, of which half of 0.2 came this way.
    assert case.burned == BOND_1 - 7 * E + E // 10
    assert case.cleared == 0


def test_without_a_majority_nobody_was_wrong() -> None:
    case = judged(2, (ACCEPTED, 3, 3), (REJECTED, 7, 7))
    assert (case.verdict, case.returned) == (INCONCLUSIVE, (BOND_1, BOND_2))
    assert all(seat.paid == seat.penalty == 0 for jury in case.jurors for seat in jury)
    assert case.prize == case.burned == case.cleared == 0


@pytest.mark.parametrize(
    ("claims", "returned", "winner", "prize"),
    [
        ([(REJECTED, 0, 7), (ACCEPTED, 15, 0)], (0, BOND_2), 1, BOND_1 + 70 * E - 15 * E),
        ([(REJECTED, 0, 7), (ACCEPTED, 0, 15)], (BOND_1, 0), 0, BOND_2 + 121 * E // 10 - 22 * E),
        ([(REJECTED, 5, 2), (REJECTED, 0, 15)], (BOND_1, BOND_2), 1, 50 * E + 121 * E // 10 - 17 * E),
        ([(REJECTED, 7, 0), (REJECTED, 15, 0)], (0, 0), None, 0),
    ],
)
def test_two_appeals(
    claims: list[tuple[LeafVote, int, int]], returned: tuple[int, int], winner: int | None, prize: int
) -> None:
    case = judged(0, *claims)
    assert (case.returned, case.winner, case.prize) == (returned, winner, prize)
    if winner is None:
        assert case.cleared == BOND_1 + BOND_2 - 22 * E


def test_a_seat_is_fined_for_every_leaf_up_to_the_cap() -> None:
    ballots = [Vote(7, 0)] * 3
    final = [Vote(6, 1), Vote(4, 3), Vote(0, 7)]
    bounties = [bounty(ballots, 3, TERMS, final[leaf], (1 << leaf) - 1, leaf) for leaf in range(3)]
    assert bounties == [12 * E + E // 10, 12 * E + E // 10, 6 * E + E // 10]
    last = conclude_case(ACCEPTED, [Level(REJECTED, votes(0, 0, 7))], bounties[2], APPEALS)
    assert last.jurors[0][0].paid == (61 * E // 10) // 7, "a seventh of it"
    assert last.prize == (61 * E // 10) % 7


def test_whoever_shows_what_was_not_shown_pays_for_that_and_no_seat_does() -> None:
    case = conclude_case(UNAVAILABLE, [Level(ACCEPTED, votes(0, 7, 0))], 0, APPEALS)
    assert (case.verdict, case.winner, case.returned) == (ACCEPTED, 0, (BOND_1 - 7 * E,))
    assert {seat.paid for seat in case.jurors[0]} == {E}


def test_two_seats_that_say_it_of_a_whole_batch_have_its_node_pay_for_few_juries() -> None:
    level = Level(ACCEPTED, votes(0, 7, 0))
    cases = [conclude_case(UNAVAILABLE, [level], 0, APPEALS, shown=shown) for shown in range(4)]
    assert [BOND_1 - case.returned[0] for case in cases] == [7 * E, 7 * E, 0, 0], "8 of 20 at most: two leaves"
    assert [case.jurors[0][0].paid for case in cases] == [E, E, 0, 0]
    assert all(case.winner == 0 and case.prize == case.burned == 0 for case in cases)


def test_whoever_calls_bad_what_is_then_not_shown_has_the_bond_and_whoever_calls_it_good_does_not() -> None:
    hidden = (UNAVAILABLE,) * 7
    exposed = conclude_case(ACCEPTED, [Level(REJECTED, hidden)], E // 10, APPEALS)
    assert (exposed.verdict, exposed.winner, exposed.returned) == (UNAVAILABLE, 0, (BOND_1,))
    assert exposed.prize == E // 10
    assert {seat.paid for seat in exposed.jurors[0]} == {0}
    claimed_good = conclude_case(REJECTED, [Level(ACCEPTED, hidden)], 0, APPEALS)
    assert claimed_good.verdict is REJECTED, "what was found bad is not made better by hiding it"
    assert claimed_good.returned == (0,), "whoever calls it good shows it"
    again = conclude_case(UNAVAILABLE, [Level(REJECTED, hidden)], 0, APPEALS)
    assert (again.verdict, again.returned) == (UNAVAILABLE, (0,)), "nothing new was shown"


def test_a_jury_that_saw_what_was_not_shown_and_cannot_tell_takes_no_bond() -> None:
    for claim, accepts, rejects in ((ACCEPTED, 3, 0), (REJECTED, 0, 3)):
        case = conclude_case(UNAVAILABLE, [Level(claim, votes(0, accepts, rejects))], 0, APPEALS)
        assert (case.verdict, case.winner, case.returned) == (UNAVAILABLE, None, (BOND_1,))
        assert (case.prize, case.burned) == (0, 0)
    few = (INCONCLUSIVE,) * 2 + (UNAVAILABLE,) * 3 + (Silence.NO_COMMIT,) * 2
    assert conclude_case(UNAVAILABLE, [Level(ACCEPTED, few)], 0, APPEALS).returned == (0,), "most were shown nothing"


def test_each_appeal_is_held_to_what_was_known_when_it_was_made() -> None:
    hidden = [(UNAVAILABLE,) * seats for seats in JURIES]
    twice = conclude_case(ACCEPTED, [Level(REJECTED, ballots) for ballots in hidden], 0, APPEALS)
    assert (twice.verdict, twice.winner, twice.returned) == (UNAVAILABLE, 0, (BOND_1, 0)), "the second told nothing new"
    shown = [Level(ACCEPTED, votes(0, 7, 0)), Level(REJECTED, hidden[1])]
    exposed = conclude_case(UNAVAILABLE, shown, 0, APPEALS)
    assert (exposed.verdict, exposed.winner, exposed.returned) == (UNAVAILABLE, 1, (0, BOND_2))
    assert exposed.prize == BOND_1


def test_without_a_jury_the_bond_is_lost_and_unheard_it_is_not() -> None:
    assert conclude_case(ACCEPTED, [Level(REJECTED, ())], 0, APPEALS).returned == (0,)
    silent = (Silence.NO_COMMIT,) * 4 + (REJECTED,) * 3
    unheard = conclude_case(ACCEPTED, [Level(REJECTED, silent)], 0, APPEALS)
    assert (unheard.verdict, unheard.returned) == (ACCEPTED, (BOND_1,))
    assert [seat.penalty for seat in unheard.jurors[0]] == [10 * E] * 4 + [0] * 3


@pytest.mark.parametrize(
    "levels",
    [
        [],
        [Level(ACCEPTED, votes(0, 7, 0))],
        [Level(INCONCLUSIVE, votes(0, 7, 0))],
        [Level(REJECTED, votes(1, 7, 0))],
    ],
)
def test_what_the_contracts_refuse_is_refused(levels: list[Level]) -> None:
    with pytest.raises(InvalidInput):
        conclude_case(ACCEPTED, levels, 0, APPEALS)


words = st.sampled_from([*LeafVote, *Silence])


@given(
    st.sampled_from(list(LeafVote)),
    st.lists(words, min_size=7, max_size=7),
    st.lists(words, min_size=15, max_size=15),
    st.integers(0, 2**80),
)
def test_no_money_comes_or_goes(
    settled: LeafVote, first: list[JurorBallot], second: list[JurorBallot], seats: int
) -> None:
    for claims in product((ACCEPTED, REJECTED), repeat=2):
        levels = [Level(claims[0], tuple(first)), Level(claims[1], tuple(second))]
        try:
            case = conclude_case(settled, levels, seats, APPEALS)
        except InvalidInput:
            continue
        fined = sum(
            seat.penalty
            for jury, level in zip(case.jurors, levels, strict=True)
            for seat, ballot in zip(jury, level.ballots, strict=True)
            if isinstance(ballot, LeafVote)
        )
        paid = sum(seat.paid for jury in case.jurors for seat in jury)
        assert BOND_1 + BOND_2 + seats + fined // 2 == (
            sum(case.returned) + paid + case.prize + case.cleared + case.burned
        )
