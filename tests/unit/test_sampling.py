"""The rule by which sampled tokens are chosen, what a client signs of it, and what its margins promise."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trine._ordering import as_input
from trine.errors import InvalidField, InvalidInput
from trine.protocol import sampling as rule
from trine.protocol.inputs import chat_input, parse_input
from trine.protocol.sampling import MILLION, Sampling, requested
from trine_node.engines import sampling as engine

VECTORS = Path(__file__).parents[1] / "vectors" / "sampling.json"
MESSAGES = [{"role": "user", "content": "Hi"}]
GREEDY = chat_input(MESSAGES)

ways = st.builds(
    Sampling,
    st.sampled_from([1, 1000, 300_000, 700_000, 1_000_000, 2_000_000]),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([MILLION, MILLION, 999_999, 900_000, 500_000, 100_000, 1]),
    st.sampled_from([0, 0, 1, 2, 5, 40]),
    st.sampled_from([0, 0, 1, 50_000, 500_000, MILLION]),
)
logit = st.integers(-12_000, 12_000).map(lambda n: n / 1024) | st.integers(-8, 8).map(float)  # the latter often equal
flat = st.integers(-64, 64).map(lambda n: n / 1024)
rows = st.lists(logit, min_size=1, max_size=40) | st.lists(flat, min_size=2, max_size=12)


# The generator.


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # Random123's known answers, `philox4x64 10`.
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
        ),
        (
            ((1 << 64) - 1,) * 4,
            ((1 << 64) - 1,) * 2,
            (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
        ),
        (
            (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0x452821E638D01377, 0xBE5466CF34E90C6C),
            (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
        ),
    ],
)
def test_philox_gives_its_authors_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, int, int, int]
) -> None:
    assert rule.philox(counter, key) == words


@settings(max_examples=50, deadline=None)
@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 20), st.integers(0, 200))
def test_the_engines_noise_is_the_rules(seed: int, position: int, token: int) -> None:
    assert engine.noise(seed, position, token + 1)[token] == pytest.approx(rule.noise(seed, position, token), abs=1e-12)


def test_noise_stays_within_what_is_said_of_it() -> None:
    ends = [-math.log(-math.log(u)) for u in (0.5 / (1 << 52), ((1 << 52) - 0.5) / (1 << 52))]
    assert ends == [pytest.approx(-3.61, abs=0.01), pytest.approx(36.74, abs=0.01)]
    assert ((1 << 52) - 0.5) / (1 << 52) < 1


def test_tokens_are_drawn_by_their_probabilities() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1], dtype=np.float32))
    drawn = [engine.choose(logits, Sampling(MILLION, 5), position) for position in range(20_000)]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.015)  # four standard deviations
    cold = [engine.choose(logits, Sampling(500_000, 5), position) for position in range(20_000)]
    squares = np.array([0.25, 0.0625, 0.0225, 0.01])
    assert np.bincount(cold, minlength=4) / len(cold) == pytest.approx(squares / squares.sum(), abs=0.015)


# What is chosen, and how far a token is from it.


def test_the_engine_gives_what_the_vectors_say() -> None:
    for case in json.loads(VECTORS.read_text())["positions"]:
        way, logits = Sampling.from_document(case["sampling"]), np.array(case["logits"], dtype=np.float32)
        tokens = engine.allowed(logits, way)
        assert tokens is None or [*tokens] == case["allowed"]
        assert tokens is not None or sorted(case["allowed"]) == list(range(len(logits)))
        assert case["choice"] == engine.choose(logits, way, case["position"])
        margins = [engine.margin(logits, way, case["position"], token) for token in range(len(logits))]
        assert margins == pytest.approx(case["margins"], abs=1e-4)


@settings(max_examples=400, deadline=None)
@given(rows, ways, st.integers(0, 1000), st.data())
def test_the_engine_follows_the_rule(row: list[float], way: Sampling, position: int, data: st.DataObject) -> None:
    logits = np.array(row, dtype=np.float32)
    tokens = engine.allowed(logits, way)
    assert tokens is None or [*tokens] == rule.allowed(row, way)
    assert engine.choose(logits, way, position) == rule.choose(row, way, position)
    claimed = data.draw(st.integers(0, len(row) - 1))
    expected = rule.margin(row, way, position, claimed)
    assert engine.margin(logits, way, position, claimed) == pytest.approx(expected, abs=1e-4, rel=1e-4)
    best = engine.ranked(logits, way, position, 3)
    assert best[0] == rule.choose(row, way, position)
    assert set(best) <= set(rule.allowed(row, way))


@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_setting_tokens_aside_changes_no_margin(spread: float) -> None:
    lot = random.Random(5)
    for _ in range(60):
        row = [float(np.float32(lot.gauss(0, spread))) for _ in range(300)]
        temperature, top_p = lot.choice([1, 700_000, 2_000_000]), lot.choice([MILLION, 950_000, 500_000])
        way = Sampling(temperature, lot.getrandbits(60), top_p, lot.choice([0, 3, 100, 299]), lot.choice([0, 300_000]))
        claimed = lot.randrange(300)
        expected = rule.margin(row, way, 0, claimed)
        assert engine.margin(np.array(row, dtype=np.float32), way, 0, claimed) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=600, deadline=None)
@given(rows, ways, st.integers(0, 1000), st.sampled_from([1e-3, 0.1, 1.0, 4.0]), st.data())
def test_nobody_within_half_a_margin_is_ever_given_more(
    row: list[float], way: Sampling, position: int, apart: float, data: st.DataObject
) -> None:
    """The promise to honest nodes: whatever rounding does to their logits, and whatever it pushes over an edge."""
    moves = data.draw(st.lists(st.floats(-1, 1) | st.sampled_from([-1.0, 1.0]), min_size=len(row), max_size=len(row)))
    theirs = [a + b * apart / 2 for a, b in zip(row, moves, strict=True)]
    claimed = rule.choose(theirs, way, position)
    assert rule.margin(row, way, position, claimed) <= apart + 1e-6


@settings(max_examples=300, deadline=None)
@given(rows, ways, st.integers(0, 1000), st.data())
def test_without_an_edge_the_margin_is_the_lead_of_the_best_score(
    row: list[float], way: Sampling, position: int, data: st.DataObject
) -> None:
    way = Sampling(way.temperature_millionths, way.seed)
    claimed = data.draw(st.integers(0, len(row) - 1))
    scores = rule.scores(row, way, position, range(len(row)))
    assert rule.margin(row, way, position, claimed) == pytest.approx(max(scores) - scores[claimed], abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.lists(logit, min_size=2, max_size=30, unique=True), ways, st.data())
def test_a_token_outside_is_excused_no_further_than_needed(
    row: list[float], way: Sampling, data: st.DataObject
) -> None:
    """The case that `Edge` counts with does bring it inside."""
    token = data.draw(st.integers(0, len(row) - 1))
    edge = rule.Edge.of(row, way, row[token])
    by = _least(edge.may_enter)
    assert by is not None, "a token can always enter"
    moved = _entered(row, token, by)
    assert max(abs(a - b) for a, b in zip(row, moved, strict=True)) <= by / 2 + 1e-12
    assert token in rule.allowed(moved, way)


@settings(max_examples=300, deadline=None)
@given(st.lists(logit, min_size=2, max_size=30, unique=True), ways, st.data())
def test_rivals_are_left_out_together_no_further_than_needed(
    row: list[float], way: Sampling, data: st.DataObject
) -> None:
    """The case that `Edge` counts with does keep them all outside, without letting one be unbeaten inside for it."""
    lead = st.floats(-2, 4) | st.just(1000.0)
    leads = [0.0, *data.draw(st.lists(lead, min_size=len(row) - 1, max_size=len(row) - 1))]
    edge, field = rule.Edge.of(row, way, row[0]), rule.Everybody(row, leads, way.temperature)
    by = _least(lambda moved: edge.may_keep_out(field.parted(moved), moved))
    if by is None:
        assert max(leads) > 100
        return
    outside = {token for token, lead in enumerate(leads) if lead > by}
    if not outside:
        return
    least = max(row[token] for token in outside) - by
    counts = [z - max(lead, 0.0) for z, lead in zip(row, leads, strict=True)]
    inside = {token for token, z in enumerate(counts) if token not in outside and z >= least}
    moved = [counts[token] + by / 2 if token in inside else z - by / 2 for token, z in enumerate(row)]
    assert max(abs(a - b) for a, b in zip(row, moved, strict=True)) <= by / 2 + 1e-12
    assert 0 in inside
    assert not outside & {*rule.allowed(moved, way)}


def _least(holds: Callable[[float], bool]) -> float | None:
    """A hair more than the least movement with which it does; None if 100 logits are too few."""
    low, high = 0.0, 100.0
    if not holds(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high * (1 + 1e-9) + 1e-6


def _entered(row: list[float], token: int, by: float) -> list[float]:
    """The token and what ranks after it up, what ranks before it down, but what it reaches, which stays behind it."""
    top = row[token] + by / 2
    return [
        top if i == token else z - by / 2 if z > row[token] + by else min(z + by / 2, top - 1e-12)
        for i, z in enumerate(row)
    ]


@pytest.mark.parametrize(("top_p", "top_k"), [(900_000, 0), (950_000, 0), (MILLION, 9)])
def test_among_tokens_that_are_about_equally_likely_a_node_has_no_choice(top_p: int, top_k: int) -> None:
    """A digit, a die, a vote: each rival alone may be left out, but not all of them for the token that a node likes."""
    lot, worst, plain, near = random.Random(3), 0.0, 0.0, 0
    row = [lot.uniform(-0.025, 0.025) for _ in range(10)] + [-20.0] * 30
    for seed in range(40):
        way = Sampling(MILLION, seed, top_p, top_k)
        margins = [rule.margin(row, way, 0, token) for token in range(10)]
        worst += max(margins)
        plain += max(rule.margin(row, Sampling(MILLION, seed), 0, token) for token in range(10))
        near += sum(margin <= 0.1 for margin in margins)
    # One can be left out, where each of the ten has about a tenth; all ten were once within 0.05.
    assert worst > 0.5 * plain > 40
    assert near < 2.5 * 40


def test_hardly_more_is_excused_than_some_movement_gives() -> None:
    """On flat distributions: of all tokens that a margin says are possible, nearly all are chosen by the rule for some
    logits that near, which are looked for among movements that suit each token."""
    lot, excused, given = random.Random(8), 0, 0
    for _ in range(60):
        row = [lot.uniform(-0.2, 0.2) for _ in range(6)]
        way = Sampling(MILLION, lot.getrandbits(60), lot.choice([900_000, 700_000, 500_000, MILLION]))
        way = dataclasses.replace(way, top_k=lot.choice([2, 4, 5])) if way.top_p == 1 else way
        noises = [rule.noise(way.seed, 0, token) for token in range(len(row))]
        by = lot.choice([0.05, 0.2, 0.5])
        near = {token for token in range(len(row)) if rule.margin(row, way, 0, token) <= by}
        found = set()
        for moves in product((-by / 2, 0.0, by / 2), repeat=len(row)):
            moved = [z + move for z, move in zip(row, moves, strict=True)]
            found.add(max(rule.allowed(moved, way), key=lambda token: moved[token] + noises[token]))
        assert found <= near
        excused, given = excused + len(near), given + len(found)
    assert excused <= 1.1 * given


def test_a_token_far_outside_the_nucleus_has_no_excuse() -> None:
    logits = [5.0, 1.0, 0.9]
    way = Sampling(MILLION, 3, top_p_millionths=900_000)
    assert rule.allowed(logits, way) == [0]
    position = next(p for p in range(1000) if rule.choose(logits, Sampling(MILLION, 3), p) == 2)
    assert rule.choose(logits, way, position) == 0
    # Its score is the best: only the edge is in its way. 97 % are before it, which must become 90.
    assert 1.0 < rule.margin(logits, way, position, 2) < 5 - 0.9


def test_a_rival_that_rounding_may_put_outside_is_no_argument() -> None:
    """Two tokens at the edge of top_k, alike up to rounding: a node may have had either of them inside."""
    logits = [0.0, -1.0, -1.001]
    way = Sampling(MILLION, 3, top_k=2)

    def position_where(ahead: int, between: int, behind: int) -> int:
        for position in range(10_000):
            scores = rule.scores(logits, way, position, range(3))
            if scores[ahead] > scores[between] + 1 > scores[behind] + 2:
                return position
        raise AssertionError

    assert rule.margin(logits, way, position_where(1, 2, 0), 2) == pytest.approx(0.001, abs=1e-6)
    assert rule.margin(logits, way, position_where(0, 2, 1), 2) > 0.9, "that one is inside for anybody"


@pytest.mark.parametrize("temperature", [1, MILLION, 2 * MILLION])
def test_hostile_logits_end_in_a_number(temperature: int) -> None:
    for row in ([1e8, -1e8, 0.0], [3e38, -3e38, 0.0], [0.0] * 50, [1.0]):
        for way in (Sampling(temperature, 1), Sampling(temperature, 1, 1), Sampling(temperature, 1, 500_000, 2, 1)):
            for token in range(len(row)):
                assert math.isfinite(rule.margin(row, way, 0, token))
                logits = np.array(row, dtype=np.float32)
                assert math.isfinite(engine.margin(logits, way, 0, token))


# What the client signs.


@settings(max_examples=200, deadline=None)
@given(ways)
def test_what_is_signed_is_read_back_and_asked_for_in_the_same_words(way: Sampling) -> None:
    asked = chat_input(MESSAGES, None, way)
    assert parse_input(asked.canonical()) == asked
    assert requested(json.loads(json.dumps(way.fields()))) == way


def test_a_greedy_input_has_the_hash_that_it_had() -> None:
    for fields in ({}, {"temperature": 0}, {"temperature": 0, "top_p": 0.5, "seed": 3}, {"seed": 3}, {"top_p": 1}):
        assert chat_input(MESSAGES, None, requested(fields)).canonical() == GREEDY.canonical()
    assert GREEDY.canonical() == b'{"messages":[{"content":"Hi","role":"user"}]}'


def test_every_parameter_is_in_the_hash() -> None:
    plain = Sampling(700_000, 1)
    others = [
        Sampling(700_001, 1),
        Sampling(700_000, 2),
        Sampling(700_000, 1, 999_999),
        Sampling(700_000, 1, MILLION, 1),
        Sampling(700_000, 1, MILLION, 0, 1),
    ]
    hashes = {chat_input(MESSAGES, None, way).hash() for way in (None, plain, *others)}
    assert len(hashes) == 7


@pytest.mark.parametrize(
    "sampling",
    [
        "null",
        "[]",
        "{}",
        '{"rule":"gumbel-1","seed":"1"}',
        '{"rule":"gumbel-2","seed":"1","temperature":"0.7"}',
        '{"rule":"gumbel-1","seed":1,"temperature":"0.7"}',
        '{"rule":"gumbel-1","seed":"01","temperature":"0.7"}',
        '{"rule":"gumbel-1","seed":"-0","temperature":"0.7"}',
        '{"rule":"gumbel-1","seed":"9223372036854775808","temperature":"0.7"}',
        '{"rule":"gumbel-1","seed":"1","temperature":0.7}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0.70"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"2.1"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0.0000001"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0.7","top_p":"1"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0.7","top_p":"0"}',
        '{"min_p":"0","rule":"gumbel-1","seed":"1","temperature":"0.7"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0.7","top_k":"0"}',
        '{"rule":"gumbel-1","seed":"1","temperature":"0.7","top_k":"\\u0663"}',
        '{"best_of":"2","rule":"gumbel-1","seed":"1","temperature":"0.7"}',
    ],
)
def test_no_other_spelling_is_read(sampling: str) -> None:
    whole = '{"messages":[{"content":"Hi","role":"user"}],"sampling":%s}'
    good = '{"rule":"gumbel-1","seed":"1","temperature":"0.7"}'
    assert parse_input((whole % good).encode()).sampling == Sampling(700_000, 1)
    with pytest.raises(InvalidInput):
        parse_input((whole % sampling).encode())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temperature": 0.7}, "seed"),
        ({"temperature": 0.7, "seed": None}, "seed"),
        ({"temperature": 0.7, "seed": 1.0}, "seed"),
        ({"temperature": 0.7, "seed": True}, "seed"),
        ({"temperature": 0.7, "seed": 1 << 63}, "seed"),
        ({"temperature": -0.1, "seed": 1}, "temperature"),
        ({"temperature": 2.1, "seed": 1}, "temperature"),
        ({"temperature": "0.7", "seed": 1}, "temperature"),
        ({"temperature": False}, "temperature"),
        ({"temperature": math.nan, "seed": 1}, "temperature"),
        ({"temperature": math.inf, "seed": 1}, "temperature"),
        ({"temperature": 10**400, "seed": 1}, "temperature"),
        ({"temperature": 1, "seed": 1, "top_p": 1.1}, "top_p"),
        ({"temperature": 1, "seed": 1, "top_k": 1.5}, "top_k"),
        ({"temperature": 1, "seed": 1, "top_k": -2}, "top_k"),
        ({"temperature": 1, "seed": 1, "min_p": [0.1]}, "min_p"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 40, "seed": 1}, "top_k"),
        ({"min_p": 0.1}, "min_p"),
    ],
)
def test_what_cannot_be_signed_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        requested(fields)
    assert refused.value.field == named


def test_numbers_are_taken_to_the_nearest_millionth() -> None:
    assert requested({"temperature": 0.1 + 0.2, "seed": 1, "top_p": 1 - 1e-9}) == Sampling(300_000, 1)
    assert requested({"temperature": 1e-9}) is None
    assert requested({"temperature": 1, "seed": 1, "top_p": 0, "top_k": -1}) == Sampling(MILLION, 1, 1)


def test_the_client_draws_a_seed_where_none_is_given() -> None:
    first, second = (as_input("Hi", temperature=0.7).sampling for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.seed != second.seed
    assert len(str(first.seed)) == 16
    assert first.seed < 1 << 53
    assert as_input("Hi").sampling is None
    assert as_input("Hi", temperature=0, seed=4).sampling is None
    assert as_input("Hi", temperature=0.7, seed=4, top_k=3).sampling == Sampling(700_000, 4, MILLION, 3)
    with pytest.raises(TypeError):
        as_input("Hi", temprature=0.7)  # type: ignore[call-arg]
