"""What a batch leads to: the model's own properties; the contracts are held to it in Differential.t.sol."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol.reputation import OUTCOME
from trine.protocol.settlement import Ballot, Counts, Silence, Terms, conclude
from trine.protocol.votes import Vote, agreed, wrong

amounts = st.integers(0, 2**80)
TERMS = Terms(
    stake_per_leaf=100,
    refund_per_leaf=40,
    fee_per_leaf=10,
    fee_per_token=2,
    dissent_fine=1,
    overturned_fine=8,
    wrong_vote_penalty=20,
    no_reveal_penalty=25,
    no_commit_penalty=5,
    canary_penalty=30,
)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    stake = draw(amounts)
    return Terms(stake, draw(st.integers(0, stake // 2)), *(draw(amounts) for _ in range(8)))


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Ballot], int]:
    leaves = draw(st.integers(1, 256))
    words = st.integers(0, (1 << leaves) - 1)
    ballots: list[Ballot] = []
    for _ in range(3):
        accepts, rejects = draw(words), draw(words)
        ballots.append(Vote.from_words(accepts, rejects))
    if draw(st.booleans()):
        ballots[draw(st.integers(0, 2))] = draw(st.sampled_from(Silence))
    return ballots, leaves


@given(runs(), terms(), st.integers(0, 2**32 - 1))
def test_no_money_comes_or_goes(run: tuple[list[Ballot], int], terms: Terms, tokens: int):
    ballots, leaves = run
    result = conclude(ballots, leaves, terms, tokens=tokens)
    assert result.fee == terms.fee_per_leaf * leaves + terms.fee_per_token * tokens
    assert result.fee == sum(seat.paid for seat in result.seats) + result.fee_burned
    assert result.fee_burned >= 0
    assert 0 <= 2 * result.refunds <= result.node_lost <= terms.stake_per_leaf * leaves


@given(runs(), terms())
def test_a_seat_is_paid_and_fined_by_the_leaf(run: tuple[list[Ballot], int], terms: Terms):
    ballots, leaves = run
    result = conclude(ballots, leaves, terms)
    for ballot, seat in zip(ballots, result.seats, strict=True):
        if not isinstance(ballot, Vote):
            assert seat.paid == 0
            assert seat.counts == Counts(missed=OUTCOME)
            continue
        right, against = agreed(ballot, result.final).bit_count(), wrong(ballot, result.final).bit_count()
        assert right * result.fee - 3 * leaves < seat.paid * 3 * leaves <= right * result.fee
        assert seat.penalty == min(against * terms.dissent_fine, terms.wrong_vote_penalty)
        assert seat.counts.missed == 0
        assert seat.counts.accepted * leaves <= right * OUTCOME
        assert seat.counts.rejected * leaves >= against * OUTCOME


@given(runs(), terms(), st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_whoever_cannot_tell_earns_nothing_and_loses_nothing(
    run: tuple[list[Ballot], int], terms: Terms, accepted: int, rejected: int
):
    ballots, leaves = run
    mask = (1 << leaves) - 1
    final = Vote.from_words(accepted & mask, rejected & mask)
    votes = [ballot for ballot in ballots if isinstance(ballot, Vote)][:2]
    for silent in (Vote(0, 0), Vote(0, 0, mask)):
        doubt = conclude([*votes, silent], leaves, terms, final).seats[2]
        assert (doubt.paid, doubt.penalty, doubt.counts) == (0, 0, Counts())


@given(runs(), terms(), st.integers(0, 2**256 - 1))
def test_appeals_that_turn_more_leaves_cost_no_less_and_never_more_than_the_cap(
    run: tuple[list[Ballot], int], terms: Terms, flips: int
):
    """Fines are raised appeal by appeal: what a seat owes for some leaves is never more than for these and others."""
    terms = replace(terms, overturned_fine=max(terms.overturned_fine, terms.dissent_fine))
    ballots, leaves = run
    settled = conclude(ballots, leaves, terms).settled
    accepted, rejected = settled.accepts, settled.rejects
    everything = accepted | rejected
    owed = [0, 0, 0]
    for turned in (flips & everything & (flips >> 7), flips & everything, everything):
        final = Vote(
            accepted & ~turned | rejected & turned, rejected & ~turned | accepted & turned, settled.unavailable
        )
        result = conclude(ballots, leaves, terms, final)
        for i, (ballot, seat) in enumerate(zip(ballots, result.seats, strict=True)):
            if isinstance(ballot, Vote):
                assert seat.penalty <= terms.wrong_vote_penalty
                grave = (wrong(ballot, final) & turned).bit_count()
                assert seat.penalty >= min(grave * terms.overturned_fine, terms.wrong_vote_penalty) >= owed[i]
                owed[i] = min(grave * terms.overturned_fine, terms.wrong_vote_penalty)


@given(runs(), terms())
def test_a_result_needs_two_of_three_and_contradicts_no_majority(run: tuple[list[Ballot], int], terms: Terms):
    ballots, leaves = run
    result = conclude(ballots, leaves, terms)
    for leaf in range(leaves):
        said = [ballot.on(leaf) for ballot in ballots if isinstance(ballot, Vote)]
        most = max(said, key=said.count)
        assert result.settled.on(leaf) == (most if said.count(most) >= 2 else "inconclusive")


@given(runs(), terms(), st.permutations(range(3)))
def test_the_order_of_seats_changes_nothing(run: tuple[list[Ballot], int], terms: Terms, order: list[int]):
    ballots, leaves = run
    result = conclude(ballots, leaves, terms)
    shuffled = conclude([ballots[i] for i in order], leaves, terms)
    assert shuffled == replace(result, seats=tuple(result.seats[i] for i in order))


def test_all_accept():
    result = conclude([Vote(7, 0)] * 3, 3, TERMS)
    assert result.settled == result.final == Vote(7, 0)
    assert [(seat.paid, seat.penalty) for seat in result.seats] == [(10, 0)] * 3
    assert (result.fee, result.fee_burned, result.node_lost, result.refunds) == (30, 0, 0, 0)
    assert result.node_counts == Counts(accepted=3 * OUTCOME)


def test_a_rejection_a_wrong_vote_and_an_odd_fee():
    result = conclude([Vote(1, 2), Vote(3, 0), Vote(1, 2)], 2, TERMS)
    assert result.final == Vote(1, 2)
    assert [(seat.paid, seat.penalty) for seat in result.seats] == [(6, 0), (3, 1), (6, 0)]
    assert result.seats[1].counts == Counts(accepted=OUTCOME // 2, rejected=OUTCOME // 2)
    assert (result.fee, result.fee_burned, result.node_lost, result.refunds) == (20, 5, 100, 40)
    assert result.node_counts == Counts(accepted=OUTCOME, rejected=OUTCOME)


def test_silence_has_two_prices():
    for silence, penalty in ((Silence.NO_COMMIT, 5), (Silence.NO_REVEAL, 25)):
        result = conclude([Vote(1, 0), silence, Vote(1, 0)], 1, TERMS)
        assert [(seat.paid, seat.penalty) for seat in result.seats] == [(3, 0), (0, penalty), (3, 0)]
        assert result.seats[1].counts == Counts(missed=OUTCOME)


def test_an_appeal_turns_right_and_wrong_round():
    ballots = [Vote(1, 0), Vote(0, 1), Vote(1, 0)]
    before, after = conclude(ballots, 1, TERMS), conclude(ballots, 1, TERMS, Vote(0, 1))
    assert before.settled == after.settled == Vote(1, 0)
    assert [seat.paid for seat in before.seats] == [3, 0, 3]
    assert [(seat.paid, seat.penalty) for seat in after.seats] == [(0, 8), (3, 0), (0, 8)]
    assert (before.node_lost, after.node_lost) == (0, 100)


def test_a_canary_costs_who_accepted_it_and_not_the_node():
    result = conclude([Vote(3, 0), Vote(1, 2), Vote(1, 2)], 2, TERMS, canaries=2)
    assert [seat.penalty for seat in result.seats] == [30, 0, 0]
    assert result.seats[0].counts == Counts(accepted=OUTCOME // 2, rejected=OUTCOME)
    assert (result.node_lost, result.refunds) == (0, 0)
    assert result.node_counts == Counts(accepted=OUTCOME)


def test_what_is_not_shown_costs_the_node_as_much_as_a_cheat_and_nobody_else_anything():
    shown, hidden = [Vote(0, 1)] * 3, [Vote(0, 0, 1)] * 3
    rejected, unavailable = conclude(shown, 1, TERMS), conclude(hidden, 1, TERMS)
    assert unavailable.final == Vote(0, 0, 1)
    assert (unavailable.node_lost, unavailable.refunds) == (rejected.node_lost, rejected.refunds) == (100, 40)
    assert unavailable.node_counts == rejected.node_counts
    assert [(seat.paid, seat.penalty, seat.counts) for seat in unavailable.seats] == [(0, 0, Counts())] * 3
    assert unavailable.fee_burned == unavailable.fee


def test_showing_later_what_was_withheld_makes_nobody_wrong():
    ballots = [Vote(0, 0, 1), Vote(0, 0, 1), Vote(1, 0)]
    for truth in (Vote(1, 0), Vote(0, 1)):
        later = conclude(ballots, 1, TERMS, truth)
        assert [seat.penalty for seat in later.seats[:2]] == [0, 0]
        assert [seat.counts for seat in later.seats[:2]] == [Counts()] * 2


def test_fines_stop_at_the_cap():
    ballots = [Vote(255, 0), Vote(255, 0), Vote(0, 255)]
    for turned, fine in ((1, 8), (3, 16), (7, 20), (255, 20)):
        result = conclude(ballots, 8, TERMS, Vote(255 & ~turned, turned))
        assert [seat.penalty for seat in result.seats[:2]] == [fine, fine]
        assert result.seats[0].counts.rejected == turned.bit_count() * OUTCOME


@pytest.mark.parametrize(
    ("ballots", "leaves", "final"),
    [
        ([Vote(1, 0)] * 2, 1, None),
        ([Vote(1, 0), Silence.NO_COMMIT, Silence.NO_REVEAL], 1, None),
        ([Vote(1, 0)] * 3, 0, None),
        ([Vote(1, 0)] * 3, 257, None),
        ([Vote(2, 0), Vote(1, 0), Vote(1, 0)], 1, None),
        ([Vote(0, 2), Vote(1, 0), Vote(1, 0)], 1, None),
        ([Vote(1, 0)] * 3, 1, Vote(2, 0)),
        ([Vote(1, 0)] * 3, 1, Vote(0, 0, 2)),
    ],
)
def test_what_the_contracts_refuse_is_refused(ballots: list[Ballot], leaves: int, final: Vote | None):
    with pytest.raises(InvalidInput):
        conclude(ballots, leaves, TERMS, final)
