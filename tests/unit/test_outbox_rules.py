"""What the outbox decides, for all inputs: fees, nonces, order, patience."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.chain.follower import Head
from trine.chain.transactions import (
    LEAST_REPLACEMENT_PERCENT,
    REPLACE_SECONDS,
    FeeLimits,
    Fees,
    Market,
    Refusal,
    gas_limit,
    lacked_gas,
    offer,
    raised,
    refusal_of,
)
from trine_operator.outbox.acts import Due
from trine_operator.outbox.rules import (
    MAX_IN_FLIGHT,
    MAX_PATIENT,
    SHORTEST_PATIENCE_SECONDS,
    free_nonce,
    gaps,
    has_place,
    in_order,
    patience_seconds,
    seconds_left,
    urgencies,
)

wei = st.integers(0, 10**13)
some_wei = st.integers(1, 10**13)
markets = st.builds(Market, st.none() | some_wei, some_wei)
limits = st.builds(FeeLimits, st.none() | some_wei, st.none() | some_wei)
nonces = st.integers(0, 40)
held = st.sets(nonces, max_size=16)
lefts = st.floats(-100, 1e6) | st.just(math.inf)


@given(markets, limits, st.booleans())
def test_an_offer_can_be_mined_and_keeps_to_the_limits(market, limit, urgent):
    fees = offer(market, limit, urgent=urgent)
    if fees is None:
        assert limit.max_fee_wei is not None
        assert limit.max_fee_wei <= (market.tip_wei if market.base_fee_wei is None else market.base_fee_wei)
        return
    assert fees.max_fee_wei > (market.base_fee_wei or 0)
    assert limit.max_fee_wei is None or fees.max_fee_wei <= limit.max_fee_wei
    if fees.priority_fee_wei is None:
        assert market.base_fee_wei is None
    else:
        assert fees.priority_fee_wei <= fees.max_fee_wei
        assert limit.max_priority_fee_wei is None or fees.priority_fee_wei <= limit.max_priority_fee_wei


@given(markets, limits)
def test_what_is_urgent_offers_no_less(market, limit):
    patient, urgent = offer(market, limit), offer(market, limit, urgent=True)
    assert (patient is None) == (urgent is None)
    if patient and urgent:
        assert urgent.max_fee_wei >= patient.max_fee_wei
        assert (urgent.priority_fee_wei or 0) >= (patient.priority_fee_wei or 0)


@given(some_wei, wei, markets, limits, st.booleans())
def test_a_replacement_is_one_that_nodes_take_within_the_limits(fee, tip, market, limit, legacy):
    before = Fees(fee, None if legacy else min(tip, fee))
    after = raised(before, market, limit)
    if after is None:
        assert limit.max_fee_wei is not None or limit.max_priority_fee_wei is not None
        return
    assert after.max_fee_wei * 100 >= before.max_fee_wei * LEAST_REPLACEMENT_PERCENT
    assert limit.max_fee_wei is None or after.max_fee_wei <= limit.max_fee_wei
    assert (after.priority_fee_wei is None) == legacy
    if after.priority_fee_wei is not None:
        assert before.priority_fee_wei is not None
        assert after.priority_fee_wei * 100 >= before.priority_fee_wei * LEAST_REPLACEMENT_PERCENT
        assert before.priority_fee_wei < after.priority_fee_wei <= after.max_fee_wei
        assert limit.max_priority_fee_wei is None or after.priority_fee_wei <= limit.max_priority_fee_wei


@given(some_wei, some_wei, some_wei, some_wei)
def test_what_cannot_be_replaced_any_more_offers_all_that_it_may(base, tip, max_fee, max_tip):
    """However often it is replaced: it can be mined up to the limit, and nothing is stuck below it."""
    limit = FeeLimits(max_fee, max_tip)
    fees = offer(Market(base, tip), limit)
    while fees is not None:
        last, fees = fees, raised(fees, Market(base, tip), limit)
        if fees is None:
            # The limits leave less than a tenth more.
            assert last.max_fee_wei * LEAST_REPLACEMENT_PERCENT > 100 * max_fee - 100


@given(markets)
def test_replacements_without_limits_never_end(market):
    fees = offer(market)
    for _ in range(6):
        assert fees is not None
        fees = raised(fees, market)


@given(nonces, nonces, held)
def test_a_free_nonce_is_nobodys_and_the_lowest(latest, pending, ours):
    nonce = free_nonce(latest, pending, ours)
    assert nonce not in ours
    assert nonce >= max(latest, pending)
    assert all(each in ours for each in range(max(latest, pending), nonce))


@given(nonces, nonces, held)
def test_gaps_filled_leave_none_and_what_is_new_comes_behind(latest, pending, ours):
    missing = gaps(latest, pending, ours)
    assert not set(missing) & ours
    assert all(max(latest, pending) <= nonce < max(ours) for nonce in missing)
    filled = ours | set(missing)
    assert gaps(latest, pending, filled) == []
    if missing:  # the next act takes the first of them
        assert free_nonce(latest, pending, ours) == missing[0]


def test_nonces_given_one_after_another_are_consecutive():
    ours, latest = set(), 7
    for expected in range(7, 20):
        nonce = free_nonce(latest, 7, ours)  # the pool lags behind all of them
        assert nonce == expected
        ours.add(nonce)


@given(st.dictionaries(nonces, lefts, max_size=16))
def test_what_is_before_something_due_is_as_urgent(left_by_nonce):
    found = urgencies(left_by_nonce)
    assert found.keys() == left_by_nonce.keys()
    for nonce, left in found.items():
        assert left == min(value for other, value in left_by_nonce.items() if other >= nonce)


@given(st.lists(st.tuples(lefts, st.integers(0, 1000)), max_size=20))
def test_who_is_due_first_goes_first_then_who_came_first(acts):
    assert in_order(acts, lambda act: act[0], lambda act: act[1]) == sorted(acts)


@given(st.lists(lefts, max_size=MAX_IN_FLIGHT + 2), lefts)
def test_what_is_due_has_a_place_where_what_has_time_has_one(in_flight, left):
    if has_place(in_flight, math.inf):
        assert has_place(in_flight, left)
    assert not has_place([1.0] * MAX_IN_FLIGHT, left)
    patient = [math.inf] * MAX_PATIENT
    assert has_place(patient, 60.0)
    assert not has_place(patient, math.inf)


@given(lefts)
def test_patience_is_within_bounds_and_less_the_nearer_the_deadline(left):
    assert SHORTEST_PATIENCE_SECONDS <= patience_seconds(left) <= REPLACE_SECONDS
    assert patience_seconds(left) <= patience_seconds(left + 60)


@pytest.mark.parametrize(
    ("due", "left"),
    [(Due(), math.inf), (Due(at=1_060), 60), (Due(block=105), 60), (Due(at=1_500, block=105), 60), (Due(at=900), -100)],
)
def test_seconds_left_by_time_and_by_blocks(due, left):
    assert seconds_left(due, Head(100, 1_000), 12.0) == left


@given(st.integers(21_000, 10**7), st.sampled_from([1, 2, 4]))
def test_gas_has_room(estimated, factor):
    assert gas_limit(estimated, factor) >= estimated * factor
    assert lacked_gas(estimated, estimated)
    assert not lacked_gas(estimated // 2, estimated)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("already known", Refusal.KNOWN),
        ("ALREADY_EXISTS: already known", Refusal.KNOWN),
        ("Known transaction", Refusal.KNOWN),
        ("transaction already imported", Refusal.KNOWN),
        ("nonce too low: address 0x…, tx: 4 state: 7", Refusal.NONCE_USED),
        ("OldNonce, Current nonce: 7, nonce of rejected tx: 4", Refusal.NONCE_USED),
        ("Nonce too high. Expected nonce to be 3 but got 5.", Refusal.NONCE_AHEAD),
        ("replacement transaction underpriced", Refusal.UNDERPRICED),
        ("transaction underpriced: gas tip cap 0, minimum needed 1", Refusal.UNDERPRICED),
        ("ReplacementNotAllowed", Refusal.UNDERPRICED),
        ("max fee per gas less than block base fee: maxFeePerGas: 1, baseFee: 8", Refusal.BELOW_BASE_FEE),
        ("FeeTooLow, MaxFeePerGas too low", Refusal.BELOW_BASE_FEE),
        ("insufficient funds for gas * price + value", Refusal.NO_FUNDS),
        ("Insufficient funds for gas * price + value", Refusal.NO_FUNDS),
        ("Sender doesn't have enough funds to send tx", Refusal.NO_FUNDS),
        ("exceeds block gas limit", Refusal.OTHER),
    ],
)
def test_what_nodes_say(said, means):
    assert refusal_of(said) is means
