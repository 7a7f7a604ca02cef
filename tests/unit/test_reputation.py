"""Reputation fades, and never in the operator's favour."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol.reputation import MAX_SUM, ONE, OUTCOME, TABLE, Change, Record, decay, multiplier

DAY = 24 * 3600
HALF_LIFE = 30 * DAY

half_lives = st.integers(1, 2**64 - 1)
spans = st.integers(0, 2**70)
counts = st.integers(0, 300 * OUTCOME)
# What happens to an operator: (seconds since the last time, accepted, rejected, missed).
histories = st.lists(st.tuples(st.integers(0, 90 * DAY), counts, counts, counts), max_size=8)
waits = st.integers(0, 3 * 365 * DAY)


def lived(history: list[tuple[int, int, int, int]]) -> Record:
    record = Record()
    for wait, accepted, rejected, missed in history:
        record = record.add(record.updated_at + wait, HALF_LIFE, accepted=accepted, rejected=rejected, missed=missed)
    return record


def exact(elapsed: int, half_life: int) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return Decimal(2) ** (64 - Decimal(elapsed) / Decimal(half_life))


def test_the_table_runs_from_one_to_one_half():
    assert TABLE[0] == ONE
    assert TABLE[32] == int(Decimal(2) ** 64 / Decimal(2).sqrt())
    assert TABLE[64] == ONE // 2


@given(spans, half_lives)
def test_a_multiplier_is_close_to_the_true_one(elapsed: int, half_life: int):
    true = exact(elapsed, half_life)
    assert true - 2 <= multiplier(elapsed, half_life) <= true * Decimal("1.000015") + 2


@given(st.integers(0, 6400), st.integers(1, 6400), st.integers(1, 300))
def test_more_time_never_leaves_more(elapsed: int, more: int, half_life: int):
    assert multiplier(elapsed + more, half_life) <= multiplier(elapsed, half_life)


@given(spans, spans, half_lives)
def test_more_time_never_leaves_more_over_any_span(elapsed: int, more: int, half_life: int):
    assert multiplier(elapsed + more, half_life) <= multiplier(elapsed, half_life) <= ONE


@given(st.integers(0, 2**128), spans, half_lives)
def test_decay_takes_nothing_at_once_half_in_a_half_life_and_never_adds(value: int, elapsed: int, half_life: int):
    assert decay(value, 0, half_life) == value
    assert decay(value, half_life, half_life) == value // 2
    assert decay(value, elapsed, half_life) <= value


@pytest.mark.parametrize(("elapsed", "half_life"), [(-1, 1), (0, 0)])
def test_impossible_times_are_refused(elapsed: int, half_life: int):
    with pytest.raises(InvalidInput):
        multiplier(elapsed, half_life)


def test_a_score_starts_at_zero_and_is_earned():
    record = Record()
    assert record.score_bps(0, HALF_LIFE) == 0
    record = record.add(100, HALF_LIFE, accepted=20 * OUTCOME)
    assert record.score_bps(100, HALF_LIFE) == 5000
    assert record.add(100, HALF_LIFE, rejected=OUTCOME).score_bps(100, HALF_LIFE) == 4000
    assert record.micros(100 + HALF_LIFE, HALF_LIFE) == (10_000_000, 0, 0)
    assert record.score_bps(100 + HALF_LIFE, HALF_LIFE) == 10 * 10_000 // 30


@given(histories, waits)
def test_waiting_never_raises_a_score(history: list[tuple[int, int, int, int]], wait: int):
    record = lived(history)
    now = record.updated_at
    assert record.score_bps(now + wait, HALF_LIFE) <= record.score_bps(now, HALF_LIFE)


@given(histories, waits, st.integers(1, 10_000 * OUTCOME))
def test_waiting_never_lifts_anyone_past_a_newcomer(history: list[tuple[int, int, int, int]], wait: int, work: int):
    def ahead(record: Record, now: int) -> bool:
        """Whether the same work now leaves the operator above somebody who has just come; scores without rounding."""
        after = record.add(now, HALF_LIFE, accepted=work)
        newcomer = Record().add(now, HALF_LIFE, accepted=work)
        weights = [r.accepted + 10 * r.rejected + 2 * r.missed + (20 << 32) for r in (after, newcomer)]
        return after.accepted * weights[1] > newcomer.accepted * weights[0]

    record = lived(history)
    if not ahead(record, record.updated_at):
        assert not ahead(record, record.updated_at + wait)


@given(st.integers(0, 2**16), st.integers(0, 2**16), st.integers(1, 2**24), st.integers(0, 70 * HALF_LIFE))
def test_no_rounding_lifts_anyone_past_a_newcomer(rejected: int, missed: int, work: int, wait: int):
    """On the line, where one unit decides: after `work`, a newcomer is ahead if 20 accepted < work * pull."""
    pull = 10 * rejected + 2 * missed
    faded = Record(work * pull // 20, rejected, missed).at(wait, HALF_LIFE)
    assert 20 * faded.accepted <= work * (10 * faded.rejected + 2 * faded.missed)


def test_sums_stop_when_full():
    full = Record().add(1, HALF_LIFE, accepted=2**63, rejected=2**64 - 1, missed=2**40 * OUTCOME)
    assert (full.accepted, full.rejected, full.missed) == (MAX_SUM, MAX_SUM, MAX_SUM)
    assert full.add(1, HALF_LIFE, accepted=1).accepted == MAX_SUM


def test_parts_of_an_outcome_are_rounded_against_the_operator():
    record = Record().add(1, HALF_LIFE, accepted=1, rejected=1, missed=1)
    assert (record.accepted, record.rejected, record.missed) == (4294, 4295, 4295)
    whole = Record().add(1, HALF_LIFE, accepted=OUTCOME, rejected=OUTCOME, missed=OUTCOME)
    assert (whole.accepted, whole.rejected, whole.missed) == (1 << 32,) * 3


def test_a_record_has_no_past_and_no_negative_counts():
    record = Record().add(100, HALF_LIFE, accepted=1)
    with pytest.raises(InvalidInput):
        record.score_bps(99, HALF_LIFE)
    with pytest.raises(InvalidInput):
        record.add(100, HALF_LIFE, rejected=-1)


def test_a_change_is_read_from_the_event():
    word = 1 << 208 | 4000 << 192 | 20 << 128 | 3 << 64 | 7
    assert Change.from_word(word) == Change(role=1, score_bps=4000, accepted=20, rejected=3, missed=7)
    with pytest.raises(InvalidInput):
        Change.from_word(1 << 216)
