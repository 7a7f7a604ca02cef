"""Fingerprints: one encoding, a distance that behaves like one, and a deviation that weighs what is damning."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol import fingerprint

words = st.binary(min_size=32, max_size=32)
answers = st.lists(words, max_size=20)
magnitudes = st.binary(min_size=256, max_size=256)


@given(answers)
def test_an_encoded_answer_decodes_to_itself(answer: list[bytes]) -> None:
    assert fingerprint.decode(fingerprint.encode(answer)) == answer


@given(answers, st.data())
def test_cut_or_lengthened_bytes_are_refused(answer: list[bytes], data: st.DataObject) -> None:
    encoded = fingerprint.encode(answer)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + b"\0", b"\x02" + encoded[1:]):
        with pytest.raises(InvalidInput):
            fingerprint.decode(wrong)


def test_more_words_than_allowed_are_refused_before_they_are_read() -> None:
    count = fingerprint.MAX_WORDS + 1
    with pytest.raises(InvalidInput):
        fingerprint.decode(b"\x01\x01\x00" + count.to_bytes(4, "big") + bytes(32 * count))


@pytest.mark.parametrize("word", [b"", bytes(31), bytes(33)])
def test_a_word_has_32_bytes(word: bytes) -> None:
    with pytest.raises(InvalidInput):
        fingerprint.encode([word])


def test_directions_are_those_of_the_specification() -> None:
    model = bytes(range(32))
    stream = hashlib.shake_256(b"trine/fingerprint/v1" + model).digest(576 * 32)
    assert fingerprint.directions(model, 576) == stream
    assert fingerprint.directions(model, 8) == stream[:256]
    assert fingerprint.directions(bytes(32), 8) != stream[:256]


@pytest.mark.parametrize("size", [0, -1, (1 << 17) + 1])
def test_hidden_sizes_are_bounded(size: int) -> None:
    with pytest.raises(InvalidInput):
        fingerprint.directions(bytes(32), size)


@given(words, words, words)
def test_flipped_is_a_metric(a: bytes, b: bytes, c: bytes) -> None:
    assert fingerprint.flipped(a, b) == fingerprint.flipped(b, a)
    assert (fingerprint.flipped(a, b) == 0) == (a == b)
    assert fingerprint.flipped(a, c) <= fingerprint.flipped(a, b) + fingerprint.flipped(b, c)


@given(words, words, magnitudes)
def test_amplitude_sums_the_magnitudes_of_flipped_signs(a: bytes, b: bytes, magnitude: bytes) -> None:
    signs = [
        (a[i // 8] >> (7 - i % 8)) & 1 != (b[i // 8] >> (7 - i % 8)) & 1 for i in range(fingerprint.BITS)
    ]
    expected = sum(m for m, differs in zip(magnitude, signs, strict=True) if differs) / (128 * 256)
    assert fingerprint.flip_amplitude(a, b, magnitude) == pytest.approx(expected)


@given(words, magnitudes, st.integers(0, 255))
def test_another_flip_never_lowers_the_amplitude(word: bytes, magnitude: bytes, bit: int) -> None:
    other = (int.from_bytes(word, "big") ^ (1 << bit)).to_bytes(32, "big")
    assert fingerprint.flip_amplitude(word, word, magnitude) == 0
    assert fingerprint.flip_amplitude(other, word, magnitude) == magnitude[255 - bit] / (128 * 256)


@given(st.lists(st.tuples(words, words, magnitudes), min_size=1, max_size=6))
def test_deviation_is_the_mean_over_tokens(tokens: list[tuple[bytes, bytes, bytes]]) -> None:
    claimed, own, magnitude = zip(*tokens, strict=True)
    expected = sum(math.sqrt(fingerprint.flip_amplitude(*token)) for token in tokens) / len(tokens)
    assert fingerprint.deviation(claimed, own, magnitude) == pytest.approx(expected)
    assert fingerprint.deviation(own, own, magnitude) == 0


def test_a_deviation_compares_equally_many_tokens() -> None:
    with pytest.raises(InvalidInput):
        fingerprint.deviation([], [], [])
    with pytest.raises(InvalidInput):
        fingerprint.deviation([bytes(32)], [bytes(32)] * 2, [bytes(256)] * 2)
