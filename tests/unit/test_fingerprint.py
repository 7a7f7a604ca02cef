"""Fingerprints: one encoding, a distance that behaves like one, and a deviation in proportion to noise."""

from __future__ import annotations

import hashlib
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol import fingerprint

words = st.binary(min_size=8, max_size=8)
answers = st.lists(words, max_size=20)


@given(answers)
def test_an_encoded_answer_decodes_to_itself(answer: list[bytes]) -> None:
    assert fingerprint.decode(fingerprint.encode(answer)) == answer


@given(answers, st.data())
def test_cut_or_lengthened_bytes_are_refused(answer: list[bytes], data: st.DataObject) -> None:
    encoded = fingerprint.encode(answer)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + b"\0", b"\x01" + encoded[1:]):
        with pytest.raises(InvalidInput):
            fingerprint.decode(wrong)


def test_more_words_than_allowed_are_refused_before_they_are_read() -> None:
    count = fingerprint.MAX_WORDS + 1
    with pytest.raises(InvalidInput):
        fingerprint.decode(b"\x02\x00\x40" + count.to_bytes(4, "big") + bytes(8 * count))


@pytest.mark.parametrize("word", [bytes(7), bytes(9)])
def test_a_word_has_8_bytes(word: bytes) -> None:
    with pytest.raises(InvalidInput):
        fingerprint.encode([word])


@given(st.integers(0, 20))
def test_an_answer_of_an_engine_without_states_has_no_words(tokens: int) -> None:
    assert fingerprint.decode(fingerprint.encode([b""] * tokens)) == []


@given(st.lists(words, min_size=1, max_size=5), st.integers(0, 5))
def test_either_all_tokens_have_words_or_none(answer: list[bytes], place: int) -> None:
    with pytest.raises(InvalidInput):
        fingerprint.encode([*answer[:place], b"", *answer[place:]])


def test_directions_are_those_of_the_specification() -> None:
    model = bytes(range(32))
    stream = hashlib.shake_256(b"trine/fingerprint/v2" + model).digest(576 * 8)
    assert fingerprint.directions(model, 576) == stream
    assert fingerprint.directions(model, 8) == stream[:64]
    assert fingerprint.directions(bytes(32), 8) != stream[:64]


@pytest.mark.parametrize("size", [0, -1, (1 << 17) + 1])
def test_hidden_sizes_are_bounded(size: int) -> None:
    with pytest.raises(InvalidInput):
        fingerprint.directions(bytes(32), size)


@given(words, words, words)
def test_flipped_is_a_metric(a: bytes, b: bytes, c: bytes) -> None:
    assert fingerprint.flipped(a, b) == fingerprint.flipped(b, a)
    assert (fingerprint.flipped(a, b) == 0) == (a == b)
    assert fingerprint.flipped(a, c) <= fingerprint.flipped(a, b) + fingerprint.flipped(b, c)


states = st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=24)


@given(states, st.binary(min_size=32, max_size=32), st.floats(0.01, 100))
def test_a_word_does_not_depend_on_the_scale_of_the_state(state: list[float], model: bytes, scale: float) -> None:
    projection = fingerprint.directions(model, len(state))
    word = fingerprint.word(state, projection)
    assert len(word) == fingerprint.WORD_BYTES
    assert fingerprint.flipped(word, fingerprint.word([x * scale for x in state], projection)) <= 4


def test_one_huge_component_does_not_hide_the_others() -> None:
    random = Random(1)
    state = [random.gauss(0, 1) for _ in range(64)]
    moved = [x + random.gauss(0, 0.1) for x in state]
    projection = fingerprint.directions(bytes(32), 64)
    plain = fingerprint.flipped(fingerprint.word(state, projection), fingerprint.word(moved, projection))
    state[0] = moved[0] = 30.0
    outlier = fingerprint.flipped(fingerprint.word(state, projection), fingerprint.word(moved, projection))
    assert outlier > plain / 2


def test_twice_the_noise_flips_twice_the_bits() -> None:
    random = Random(2)
    projection = fingerprint.directions(bytes(32), 128)
    states = [[random.gauss(0, 1) for _ in range(128)] for _ in range(120)]
    words = [fingerprint.word(state, projection) for state in states]

    def deviation(noise: float) -> float:
        noisy = [[x + random.gauss(0, noise) for x in state] for state in states]
        return fingerprint.deviation([fingerprint.word(state, projection) for state in noisy], words)

    assert deviation(0.04) == pytest.approx(2 * deviation(0.02), rel=0.25)
    assert deviation(0.06) == pytest.approx(3 * deviation(0.02), rel=0.25)
    assert deviation(3.0) > 0.4


def test_a_state_of_zeros_has_a_word_of_zeros() -> None:
    assert fingerprint.word([0.0] * 8, fingerprint.directions(bytes(32), 8)) == bytes(8)


def test_directions_must_fit_the_state() -> None:
    with pytest.raises(InvalidInput):
        fingerprint.word([1.0] * 8, fingerprint.directions(bytes(32), 9))


@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_deviation_is_a_mean_of_shares(tokens: list[tuple[bytes, bytes]]) -> None:
    claimed, own = zip(*tokens, strict=True)
    shares = [fingerprint.flipped(a, b) / 64 for a, b in tokens]
    deviation = fingerprint.deviation(claimed, own)
    assert min(shares) - 1e-9 <= deviation <= sum(shares) / len(shares) + 1e-9
    assert deviation == fingerprint.deviation(own, claimed)
    assert fingerprint.deviation(own, own) == 0


def test_single_noisy_tokens_weigh_less_than_many_slightly_wrong_ones() -> None:
    own = [bytes(8)] * 16
    one_wrong = [b"\xff" * 8, *own[1:]]
    all_a_little = [b"\x0f" + bytes(7)] * 16
    assert fingerprint.deviation(one_wrong, own) < fingerprint.deviation(all_a_little, own) / 10


def test_a_deviation_compares_equally_many_tokens() -> None:
    with pytest.raises(InvalidInput):
        fingerprint.deviation([], [])
    with pytest.raises(InvalidInput):
        fingerprint.deviation([bytes(8)], [bytes(8)] * 2)


def unit(state: list[float]) -> list[float]:
    """Clipped and normalised, as a verifier does to tell its own noise."""
    bound = sum(map(abs, state)) / len(state)
    clipped = [max(-bound, min(bound, x)) for x in state]
    norm = math.sqrt(sum(x * x for x in clipped))
    return [x / norm for x in clipped]


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1, 0.3])
def test_the_expected_share_is_what_noise_flips(noise: float) -> None:
    random = Random(5)
    projection = fingerprint.directions(bytes(32), 200)
    flips, expected = 0, 0.0
    for _ in range(200):
        state = [random.gauss(0, 1) for _ in range(200)]
        moved = [x + random.gauss(0, noise) for x in state]
        flips += fingerprint.flipped(fingerprint.word(state, projection), fingerprint.word(moved, projection))
        expected += fingerprint.expected_share(math.dist(unit(state), unit(moved)))
    assert flips / 64 == pytest.approx(expected, rel=0.12)


@given(st.floats(0, 10), st.floats(0, 10))
def test_more_noise_never_lowers_the_expected_share(a: float, b: float) -> None:
    less, more = sorted((a, b))
    assert 0 <= fingerprint.expected_share(less) <= fingerprint.expected_share(more) + 1e-4 <= 0.5001


@pytest.mark.parametrize("noise", [float("nan"), float("inf"), -0.1])
def test_noise_is_a_number(noise: float) -> None:
    with pytest.raises(InvalidInput):
        fingerprint.expected_share(noise)


def test_an_engine_that_rounds_nothing_divides_by_no_zero() -> None:
    assert fingerprint.expected_deviation([0.0] * 4) == fingerprint.MIN_NOISE
    with pytest.raises(InvalidInput):
        fingerprint.expected_deviation([])
