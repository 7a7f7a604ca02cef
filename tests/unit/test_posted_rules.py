"""Which posted requests are answered, when and for how much: no request makes an answer a loss."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.chain import Parameters
from trine.protocol.messages import ZERO_ADDRESS
from trine.protocol.requests import MAX_CALLBACK_GAS, MAX_INPUT_BYTES, MAX_OUTPUT_BYTES, Order
from trine_node.posted.rules import (
    Costs,
    Ruling,
    Terms,
    concerns,
    decide,
    fee_of,
    fulfil_gas,
    is_worth_bringing,
    kept,
    needed_seconds,
    ranking,
    surplus,
    turn_of,
    worst_fee,
)

NODES = [f"0x{number:040x}" for number in range(1, 9)]
ME = NODES[3]
MODEL = b"\7" * 32
NOW = 1_000_000
CHAIN = Parameters(
    **{
        **{field.name: 0 for field in fields(Parameters)},
        "stake_per_leaf": 5 * 10**18,
        "commit_seconds": 120,
        "reveal_seconds": 60,
        "appeal_window_seconds": 600,
    }
)
TERMS = Terms(ME, MODEL, 10**15, 10**16, 100 * 10**6, 1_000_000, 512, 10, 600)
COSTS = Costs(2 * 10**9, 10**16, 8 * 10**13)
ORDER = Order(b"\1" * 32, "0x" + "c1" * 20, MODEL, ZERO_ADDRESS, b"{}", 32, 5 * 10**18, NOW + 86_400, 300_000, True)

wei = st.integers(0, 10**21)
gas_prices = st.integers(0, 10**12)
terms = st.builds(
    Terms,
    node=st.just(ME),
    model_id=st.just(MODEL),
    price_per_token_wei=st.integers(0, 10**18),
    least_profit_wei=wei,
    coin_micro=st.integers(1, 10**12),
    max_callback_gas=st.integers(0, MAX_CALLBACK_GAS),
    max_tokens=st.integers(1, 4096),
    batch_wait_seconds=st.integers(0, 3600),
    margin_seconds=st.integers(0, 86_400),
)
costs = st.builds(Costs, gas_prices, wei, st.integers(0, 10**18))
orders = st.builds(
    Order,
    request_id=st.binary(min_size=32, max_size=32),
    requester=st.just("0x" + "c1" * 20),
    model_id=st.just(MODEL),
    node=st.sampled_from([ZERO_ADDRESS, ME]),
    input=st.binary(max_size=200),
    max_tokens=st.integers(1, 2**32 - 1),
    max_fee_wei=st.integers(0, 2**128 - 1),
    deadline=st.integers(NOW - 10, NOW + 10**8),
    callback_gas=st.integers(0, MAX_CALLBACK_GAS),
    wait_for_final=st.booleans(),
)


def ruling(order=ORDER, terms_=TERMS, costs_=COSTS, **changes):
    given_ = {"prompt_tokens": 20, "since": NOW, "turn_seconds": 60, "turn": 0, "now": NOW, **changes}
    return decide(terms_, costs_, CHAIN, order, **given_)


def test_what_pays_and_can_be_judged_in_time_is_answered():
    assert ruling().ruling is Ruling.ANSWER


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_fee_wei": 0}, "it may cost"),
        ({"max_fee_wei": worst_fee(TERMS, COSTS, 20, 32, 300_000) - 1}, "it may cost"),
        ({"max_tokens": 513}, "this node gives 512"),
        ({"callback_gas": 1_000_001}, "callback"),
        ({"deadline": NOW + needed_seconds(TERMS, CHAIN, ORDER) - 1}, "deadline"),
    ],
)
def test_what_does_not_is_refused_by_name(changes, why):
    decision = ruling(replace(ORDER, **changes))
    assert decision.ruling is Ruling.REFUSE
    assert why in decision.why


def test_a_fee_over_the_stake_behind_the_answer_is_refused():
    """Of a rejected answer the client gets its fee back out of that stake."""
    rich = replace(ORDER, max_fee_wei=10**24, max_tokens=400)
    assert "stake" in ruling(rich, replace(TERMS, price_per_token_wei=10**17)).why


def test_the_least_that_pays_is_taken():
    exact = worst_fee(TERMS, COSTS, 20, 32, 300_000)
    assert ruling(replace(ORDER, max_fee_wei=exact)).ruling is Ruling.ANSWER


@given(terms, costs, orders, st.integers(1, 5000), st.integers(0, MAX_OUTPUT_BYTES + 1), st.data())
def test_no_answer_is_a_loss(terms_, costs_, order, prompt_tokens, output_bytes, data):
    """However short the answer, however dear the callback, and gas twice as dear when it is brought."""
    decision = ruling(order, terms_, costs_, prompt_tokens=prompt_tokens)
    if decision.ruling is not Ruling.ANSWER:
        return
    assert order.callback_gas <= terms_.max_callback_gas
    assert order.max_tokens <= terms_.max_tokens
    tokens = prompt_tokens + data.draw(st.integers(1, order.max_tokens))
    fee = fee_of(terms_, costs_, order, tokens, output_bytes)
    if fee is None:
        # Never signed, so nothing but the computation is lost: of a text that is longer than was reckoned with.
        assert output_bytes > min(order.max_tokens * 8, MAX_OUTPUT_BYTES)
        return
    assert fee <= order.max_fee_wei
    gas = terms_.gas_cost(fulfil_gas(order.callback_gas, output_bytes), 2 * costs_.gas_price_wei)
    spent = gas + costs_.verifiers_leaf_wei + tokens * costs_.verifiers_token_wei
    assert fee - spent >= terms_.least_profit_wei + terms_.price_per_token_wei * tokens
    assert is_worth_bringing(terms_, costs_, order, fee, output_bytes)


@given(orders, st.integers(0, 20), st.integers(1, 10_000), st.integers(0, 10**6))
def test_what_is_begun_can_be_judged_before_its_deadline(order, turn, turn_seconds, waited):
    now = NOW + waited
    decision = ruling(order, turn=turn, turn_seconds=turn_seconds, now=now)
    if decision.ruling is Ruling.REFUSE:
        return
    assert max(now, NOW + turn * turn_seconds) + needed_seconds(TERMS, CHAIN, order) <= order.deadline
    assert (decision.ruling is Ruling.ANSWER) == (now >= NOW + turn * turn_seconds)


@given(st.binary(min_size=32, max_size=32), st.sets(st.sampled_from(NODES), min_size=1))
def test_every_node_has_a_turn_of_its_own(request_id, nodes):
    order = replace(ORDER, request_id=request_id)
    ranked = ranking(order, sorted(nodes))
    assert sorted(turn_of(order, node, ranked) for node in nodes) == list(range(len(nodes)))
    upper = [node.upper().replace("X", "x") for node in nodes]
    assert ranking(order, upper) == ranked  # however addresses are written, and in whatever order they come
    assert [turn_of(order, node, ranked) for node in upper] == [turn_of(order, node, ranked) for node in nodes]


@given(st.binary(min_size=32, max_size=32))
def test_who_is_not_listed_comes_last_and_who_is_named_first(request_id):
    order = replace(ORDER, request_id=request_id)
    ranked = ranking(order, NODES)
    assert turn_of(order, "0x" + "ee" * 20, ranked) == len(NODES)
    assert turn_of(replace(order, node=ME), ME, ranked) == 0


def test_turns_are_drawn_anew_for_each_request():
    firsts = {ranking(replace(ORDER, request_id=bytes([number] * 32)), NODES)[0] for number in range(64)}
    assert len(firsts) > 4


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.integers(-100, 100)), unique_by=lambda e: e[0]))
def test_the_queue_keeps_the_best_paid(waiting):
    stay = kept(waiting, 5)
    assert len(stay) == min(5, len(waiting))
    worst = min((paid for name, paid in waiting if name in stay), default=0)
    assert all(paid <= worst for name, paid in waiting if name not in stay)


@given(terms, costs, orders)
def test_more_is_better_and_a_dearer_callback_worse(terms_, costs_, order):
    more = replace(order, max_fee_wei=order.max_fee_wei + 1)
    assert surplus(terms_, costs_, more) > surplus(terms_, costs_, order)
    if order.callback_gas < MAX_CALLBACK_GAS:
        dearer = replace(order, callback_gas=MAX_CALLBACK_GAS)
        assert surplus(terms_, costs_, dearer) <= surplus(terms_, costs_, order)


@pytest.mark.parametrize(
    ("changes", "is_ours"),
    [
        ({}, True),
        ({"node": ME.upper().replace("X", "x")}, True),
        ({"node": NODES[0]}, False),
        ({"model_id": bytes(32)}, False),
        ({"deadline": NOW}, False),
    ],
)
def test_only_what_is_for_this_node_is_kept(changes, is_ours):
    assert concerns(TERMS, replace(ORDER, **changes), NOW) is is_ours


def test_gas_counts_all_that_the_contract_demands():
    """63 of 64 parts of what is left must be the callback's and 20,000 more, as `Requests` has it."""
    for callback_gas in (0, 1, 63, 500_000, MAX_CALLBACK_GAS):
        assert fulfil_gas(callback_gas, 0) // 64 * 63 >= callback_gas + 20_000
    assert MAX_INPUT_BYTES == 24 * 1024
