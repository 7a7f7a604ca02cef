"""The draw of committees: distinct, mixed, nobody excluded, and as likely as weights say."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol.committee import COMMITTEE_SIZES, MAX_TOTAL_WEIGHT, Member, draw_from, epoch_at, pick
from trine.protocol.committee import draw as draw_at

CPU, GPU = b"cpu-bf16".ljust(32, b"\0"), b"cuda-bf16".ljust(32, b"\0")
NOW = 1_000
words = st.binary(min_size=32, max_size=32)
sizes = st.sampled_from(COMMITTEE_SIZES)


def draw(seed, pool, excluded=(), seats=3):
    return draw_at(seed, pool, excluded, seats, fixed_at=NOW)


def _address(index):
    return f"0x{index:040x}"


def _pool(weights, classes=(CPU,)):
    return [Member(_address(i), weight, classes[i % len(classes)]) for i, weight in enumerate(weights)]


@given(words, sizes, st.data())
def test_a_draw_gives_distinct_others(seed, seats, data):
    count = data.draw(st.integers(seats + 3, 40))
    # Weights within a factor of ten: nobody is so big that the tries run out.
    pool = _pool(data.draw(st.lists(st.integers(1000, 10_000), min_size=count, max_size=count)), (CPU, GPU))
    excluded = data.draw(st.sets(st.sampled_from([member.address for member in pool]), max_size=3))
    drawn = draw(seed, pool, excluded, seats)
    assert len(drawn) == len(set(drawn)) == seats
    assert not excluded & set(drawn)
    assert draw(seed, pool, [address.upper().replace("0X", "0x") for address in excluded], seats) == drawn


@given(words, sizes, st.integers(0, 20))
def test_positions_without_weight_change_nothing(seed, seats, empty):
    pool = _pool([500] * 30)
    padded = [*pool[:empty], Member(_address(1000), 0, GPU), *pool[empty:], Member(_address(1001), 0, GPU)]
    assert draw(seed, padded, [], seats) == draw(seed, pool, [], seats)


@given(words)
def test_an_address_under_two_positions_takes_one_seat(seed):
    pool = [*_pool([10] * 4), *(Member(_address(i), 10, GPU) for i in range(4))]
    assert len(set(draw(seed, pool, [_address(3)]))) == 3


@given(words, st.sampled_from([(3, 2), (7, 5), (15, 10)]))
def test_a_class_holds_at_most_two_thirds_while_others_can_be_found(seed, case):
    seats, cap = case
    pool = _pool([100] * 60, (CPU, CPU, GPU))
    kinds = {member.address: member.hardware_class for member in pool}
    assert max(Counter(kinds[address] for address in draw(seed, pool, [], seats)).values()) <= cap


@given(words, sizes)
def test_a_pool_of_one_class_fills_its_committees(seed, seats):
    assert len(draw(seed, _pool([7] * (seats + 1)), [], seats)) == seats


def test_a_pool_of_three_others_is_enough_and_two_are_not():
    assert set(draw(bytes(32), _pool([5, 5, 5, 5]), [_address(0)])) == {_address(i) for i in (1, 2, 3)}
    with pytest.raises(InvalidInput, match="2 of 3"):
        draw(bytes(32), _pool([5, 5, 5]), [_address(0)])
    with pytest.raises(InvalidInput, match="0 of 3"):
        draw(bytes(32), _pool([0, 0, 0]))


@pytest.mark.parametrize("seats", [0, 1, 2, 4, 5, 8, 14, 16])
def test_a_committee_of_another_size_is_refused(seats):
    with pytest.raises(InvalidInput, match="3, 7 or 15"):
        draw(bytes(32), _pool([5] * 30), [], seats)


def test_impossible_pools_are_refused():
    with pytest.raises(InvalidInput, match="30 bits"):
        Member(_address(0), MAX_TOTAL_WEIGHT + 1, CPU)
    with pytest.raises(InvalidInput, match="32 bytes"):
        Member(_address(0), 1, b"cpu")
    with pytest.raises(InvalidInput, match="sum to 30 bits"):
        draw(bytes(32), _pool([MAX_TOTAL_WEIGHT, 1, 1]))


@given(words, sizes)
def test_whose_calibration_does_not_cover_the_time_is_passed_over(seed, seats):
    ended = replace_all(_pool([500] * 9), 0, valid_until=NOW - 1)
    later = replace_all(_pool([500] * 9), 9, valid_from=NOW + 1)
    pool = [*ended, *later, *replace_all(_pool([500] * 20), 18, valid_from=NOW, valid_until=NOW)]
    drawn = draw(seed, pool, (), seats)
    assert all(int(address, 16) >= 18 for address in drawn)
    assert set(draw_at(seed, ended, (), 7, fixed_at=NOW - 1)) <= {member.address for member in ended}
    with pytest.raises(InvalidInput, match="0 of 7"):
        draw(seed, ended, (), 7)


def replace_all(pool, offset, **changes):
    return [replace(member, address=_address(offset + i), **changes) for i, member in enumerate(pool)]


def test_candidates_stand_in_for_calibration_only():
    few, many, candidates = _pool([1, 1, 1, 0]), _pool([1] * 4), replace_all(_pool([2] * 9), 100)
    ended = replace_all(many, 0, valid_until=NOW - 1)
    assert _among(few, few, candidates, calibration=False)
    assert _among(candidates, few, candidates, calibration=True)
    assert _among(many, many, candidates, calibration=True)
    # Or nobody could be calibrated any more once all have expired.
    assert _among(candidates, ended, candidates, calibration=True)
    with pytest.raises(InvalidInput, match="0 of 3"):
        _among(ended, ended, candidates, calibration=False)


def _among(expected, calibrated, candidates, *, calibration):
    drawn = draw_from(bytes(32), calibrated, candidates, fixed_at=NOW, calibration=calibration)
    return set(drawn) <= {member.address for member in expected}


def test_an_epoch_is_a_row_of_blocks():
    assert [epoch_at(block, 100) for block in (0, 99, 100, 1099)] == [0, 0, 1, 10]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20).filter(any), st.data())
def test_pick_walks_the_cumulative_weights(weights, data):
    target = data.draw(st.integers(0, sum(weights) - 1))
    position = pick(weights, target)
    assert sum(weights[:position]) <= target < sum(weights[: position + 1])
    with pytest.raises(InvalidInput):
        pick(weights, sum(weights))


def test_the_first_seat_falls_as_weights_say():
    weights = [1000, 2000, 4000, 8000, 500, 9500, 0, 5000]
    pool, draws = _pool(weights, (CPU, GPU)), 4000
    seen = Counter(draw(k.to_bytes(32, "big"), pool)[0] for k in range(draws))
    chi_square = 0.0
    for member in pool:
        expected = draws * member.weight / sum(weights)
        if expected:
            chi_square += (seen[member.address] - expected) ** 2 / expected
    assert seen[_address(6)] == 0
    # Six degrees of freedom: beyond 22.5 once in a thousand; the seeds are fixed, so this never flickers.
    assert chi_square < 22.5


def test_equal_verifiers_sit_equally_often_in_large_committees():
    members, draws, seats = 30, 1000, 7
    seen = Counter(
        address for k in range(draws) for address in draw(k.to_bytes(32, "big"), _pool([3] * members), [], seats)
    )
    expected = draws * seats / members
    # A seat is taken without replacement, which only narrows the spread; five standard deviations.
    spread = 5 * math.sqrt(expected * (1 - seats / members))
    assert all(abs(seen[_address(i)] - expected) < spread for i in range(members))
