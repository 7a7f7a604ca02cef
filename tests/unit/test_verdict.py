"""The verdict: structure first, then margins, then the fingerprint; never a statistical rejection without bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol import fingerprint
from trine.protocol.messages import FinishReason
from trine.protocol.policy import Bounds, Policy
from trine.protocol.verdict import NOISE_RANGE, Claim, Outcome, Reason, Recomputation, Verdict, decide

EOS = frozenset({2})
BOUNDS = Bounds(
    deviation_typical=1000,
    deviation_floor=50,
    deviation_scatter=600,
    margin_accept=12_800,
    margin_reject=19_200,
    margin_mean=64_000,
    margin_rms=320_000,
)
NOISE = 1 / 32  # a tenth of the bits, six of 64
# What BOUNDS allows a margin where the noise is NOISE, for verifiers that do not know the noise. The deviation's bounds
# are as tight as can be: a verdict without fingerprints may not depend on them.
PLAIN = Bounds(0, 0, 0, margin_accept=400, margin_reject=600, margin_mean=2000, margin_rms=10_000)
MARGINS_ONLY = replace(BOUNDS, deviation_typical=0, deviation_floor=0, deviation_scatter=0)
POLICY = Policy(
    (
        ("logprobs-prover", "logprobs-verifier", PLAIN),
        ("logprobs-prover", "verifier", MARGINS_ONLY),
        ("prover", "logprobs-verifier", PLAIN),
        ("prover", "verifier", BOUNDS),
    )
)
PAIRS_WITHOUT_STATES = [pair[:2] for pair in POLICY.pairs[:3]]
words = st.binary(min_size=8, max_size=8)


def word(flips: int) -> bytes:
    """A word that differs from zeros in so many bits."""
    return ((1 << flips) - 1).to_bytes(8, "big")


def claim(tokens: int = 32, flips: int = 0) -> Claim:
    return Claim((7,) * tokens, (word(flips),) * tokens, FinishReason.LENGTH, tokens, "prover")


def own(tokens: int = 32, margin: float = 0.0) -> Recomputation:
    return Recomputation((bytes(8),) * tokens, (0.0,) * (tokens - 1) + (margin,), (NOISE,) * tokens)


def wordless(tokens: int = 32) -> Claim:
    return replace(claim(tokens), words=(), engine_class="logprobs-prover")


def meeting(prover: str, verifier: str, margins: tuple[float, ...]) -> Verdict:
    """The verdict of a pair of classes on an answer whose margins are these."""
    tokens = len(margins)
    made = wordless(tokens) if prover.startswith("logprobs-") else claim(tokens)
    recomputed = Recomputation((word(32),) * tokens, margins, (NOISE,) * tokens)
    if verifier.startswith("logprobs-"):
        recomputed = Recomputation((), margins, ())
    return judge(made, recomputed, verifier)


def judge(made: Claim, recomputed: Recomputation | None = None, verifier: str = "verifier") -> Verdict:
    recomputed = recomputed or own(max(1, len(made.output_ids)))
    return decide(made, recomputed, eos_ids=EOS, verifier_class=verifier, policy=POLICY)


def test_an_equal_recomputation_accepts() -> None:
    verdict = judge(claim())
    assert (verdict.outcome, verdict.reason) == (Outcome.ACCEPT, Reason.HONEST)
    assert (verdict.deviation, verdict.worst_margin, verdict.tokens) == (0, 0, 32)


@pytest.mark.parametrize(
    ("flips", "outcome"),
    [(9, Outcome.ACCEPT), (10, Outcome.INCONCLUSIVE), (11, Outcome.REJECT), (32, Outcome.REJECT)],
)
def test_the_deviation_decides(flips: int, outcome: Outcome) -> None:
    verdict = judge(claim(64, flips), own(64))
    assert verdict.outcome is outcome
    assert verdict.deviation == pytest.approx(flips / 64 / fingerprint.expected_share(NOISE))


@pytest.mark.parametrize(
    ("margin", "outcome", "reason"),
    [
        (0.4, Outcome.ACCEPT, Reason.HONEST),
        (0.5, Outcome.INCONCLUSIVE, Reason.BETWEEN),
        (0.61, Outcome.REJECT, Reason.MARGIN),
    ],
)
def test_the_worst_margin_decides(margin: float, outcome: Outcome, reason: Reason) -> None:
    verdict = judge(claim(), own(margin=margin))
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.worst_margin == pytest.approx(margin / NOISE)


def test_short_answers_have_wider_bounds() -> None:
    assert judge(claim(64, 20), own(64)).outcome is Outcome.REJECT
    assert judge(claim(6, 20), own(6)).outcome is Outcome.INCONCLUSIVE
    assert judge(claim(3, 20), own(3)).outcome is Outcome.ACCEPT


def test_a_noisier_answer_may_deviate_more() -> None:
    made = claim(64, 12)
    assert judge(made, own(64)).outcome is Outcome.REJECT
    assert judge(made, replace(own(64), noise=(0.06,) * 64)).outcome is Outcome.ACCEPT


def test_where_rounding_moves_the_state_far_a_token_may_lie_far_below() -> None:
    """An honest bf16 answer once lay 2.28 logits below an fp32 verifier's choice, at a position with noise 0.32."""
    for place, outcome in ((31, Outcome.ACCEPT), (30, Outcome.REJECT)):
        noise = [NOISE] * 32
        noise[place] = 0.32
        verdict = judge(claim(), replace(own(margin=2.28), noise=tuple(noise)))
        assert verdict.outcome is outcome
    assert "token 31 lies 2.280 logits below the model's choice, over 0.600 there" in verdict.detail


def test_no_noise_excuses_everything_and_none_condemns_a_trifle() -> None:
    low, high = NOISE_RANGE
    for noise, limit in ((1e9, 19.2 * high), (high, 19.2 * high), (low, 19.2 * low), (0.0, 19.2 * low)):
        for margin, outcome in ((limit * 0.999, Outcome.INCONCLUSIVE), (limit * 1.001, Outcome.REJECT)):
            assert judge(claim(), replace(own(margin=margin), noise=(noise,) * 32)).outcome is outcome


def test_many_small_margins_are_too_many() -> None:
    def with_margins(each: float) -> Outcome:
        return judge(claim(200), replace(own(200), margins=(each,) * 200)).outcome

    assert with_margins(0.002) is Outcome.ACCEPT
    assert with_margins(0.0075) is Outcome.INCONCLUSIVE
    assert with_margins(0.02) is Outcome.REJECT


@pytest.mark.parametrize(
    ("made", "detail"),
    [
        (replace(claim(), output_ids=(), words=()), "no tokens"),
        (replace(claim(), words=(bytes(8),) * 31), "31 fingerprint words for 32 tokens"),
        (replace(claim(), max_tokens=31), "at most 31"),
        (replace(claim(), max_tokens=33), "length after 32 of 33"),
        (replace(claim(), finish_reason=FinishReason.STOP), "does not end the sequence"),
        (replace(claim(), output_ids=(7,) * 31 + (2,)), "finish reason is length, but"),
        (replace(claim(), output_ids=(7, 2) + (7,) * 30), "goes on after"),
        (replace(claim(), output_ids=(2,) + (7,) * 30 + (2,), finish_reason=FinishReason.STOP), "goes on after"),
        (replace(claim(), finish_reason=9), "unknown finish reason"),
    ],
)
def test_a_claim_that_contradicts_itself_is_rejected(made: Claim, detail: str) -> None:
    verdict = judge(made)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.STRUCTURE)
    assert detail in verdict.detail


def test_stopping_at_the_end_of_sequence_is_whole() -> None:
    made = replace(claim(5), output_ids=(7, 7, 7, 7, 2), finish_reason=FinishReason.STOP, max_tokens=50)
    assert judge(made, own(5)).outcome is Outcome.ACCEPT


@given(st.lists(st.tuples(words, words, st.floats(0, 100)), min_size=1, max_size=12))
def test_an_uncalibrated_pair_is_never_rejected_on_statistics(tokens: list[tuple[bytes, bytes, float]]) -> None:
    claimed, recomputed, margins = zip(*tokens, strict=True)
    made = Claim((7,) * len(tokens), claimed, FinishReason.LENGTH, len(tokens), "prover")
    verdict = judge(made, Recomputation(recomputed, margins, (NOISE,) * len(tokens)), verifier="another")
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.UNCALIBRATED)


@given(st.integers(1, 80), st.integers(0, 63), st.floats(0, 2), st.floats(0, 1))
def test_more_deviation_or_margin_never_helps(tokens: int, flips: int, margin: float, more: float) -> None:
    assume(flips < 63)
    order = [Outcome.ACCEPT, Outcome.INCONCLUSIVE, Outcome.REJECT]
    before = order.index(judge(claim(tokens, flips), own(tokens, margin)).outcome)
    assert order.index(judge(claim(tokens, flips + 1), own(tokens, margin)).outcome) >= before
    assert order.index(judge(claim(tokens, flips), own(tokens, margin + more)).outcome) >= before


def test_a_recomputation_of_another_length_is_the_callers_fault() -> None:
    with pytest.raises(InvalidInput):
        judge(claim(8), own(9))


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -0.1])
@pytest.mark.parametrize("part", ["margins", "noise"])
def test_a_verifiers_own_fault_is_never_held_against_the_node(part: str, broken: float) -> None:
    recomputed = replace(own(3, margin=9.0), **{part: (broken, 9.0, 0.0)})
    verdict = judge(claim(3), recomputed)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.FAULT)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_an_unrelated_fingerprint_is_never_accepted_however_short_the_answer(tokens: int) -> None:
    assert judge(claim(tokens, flips=32), own(tokens)).outcome is Outcome.REJECT


@pytest.mark.parametrize("pair", PAIRS_WITHOUT_STATES, ids="-".join)
@pytest.mark.parametrize(
    ("margin", "outcome", "reason"),
    [
        (0.4, Outcome.ACCEPT, Reason.HONEST),
        (0.5, Outcome.INCONCLUSIVE, Reason.BETWEEN),
        (0.61, Outcome.REJECT, Reason.MARGIN),
    ],
)
def test_without_hidden_states_margins_decide_alone(
    pair: tuple[str, str], margin: float, outcome: Outcome, reason: Reason
) -> None:
    verdict = meeting(*pair, (0.0,) * 31 + (margin,))
    assert (verdict.outcome, verdict.reason, verdict.deviation) == (outcome, reason, 0.0)
    assert verdict.worst_margin == pytest.approx(margin if pair[1].startswith("logprobs-") else margin / NOISE)


@given(st.sampled_from(PAIRS_WITHOUT_STATES), st.lists(st.floats(0, 2), min_size=1, max_size=40))
def test_without_hidden_states_the_verdict_is_that_of_the_same_margins_with_equal_ones(
    pair: tuple[str, str], margins: list[float]
) -> None:
    alike = replace(own(len(margins)), margins=tuple(margins))
    expected = judge(claim(len(margins)), alike)
    found = meeting(*pair, tuple(margins))
    assert (found.outcome, found.reason) == (expected.outcome, expected.reason)
    assert found.total_margin == pytest.approx(expected.total_margin * (NOISE if pair[1] != "verifier" else 1))


@given(
    st.sampled_from([("logprobs-prover", "another"), ("logprobs-another", "verifier"), ("prover", "logprobs-other")]),
    st.lists(st.floats(0, 100), min_size=1, max_size=12),
)
def test_an_uncalibrated_pair_without_hidden_states_is_never_rejected_on_statistics(
    pair: tuple[str, str], margins: list[float]
) -> None:
    prover, verifier = pair
    made = replace(wordless(len(margins)), engine_class=prover)
    made = made if prover.startswith("logprobs-") else replace(claim(len(margins)), engine_class=prover)
    recomputed = Recomputation((), tuple(margins), ())
    verdict = judge(made, recomputed, verifier)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.UNCALIBRATED)


@given(st.integers(1, 40), st.integers(1, 40), st.text(max_size=20))
def test_only_a_class_without_hidden_states_may_leave_the_words_out(tokens: int, count: int, name: str) -> None:
    assume(not name.startswith("logprobs-"))
    left_out = judge(replace(claim(tokens), words=(), engine_class=name))
    invented = judge(replace(wordless(tokens), words=(bytes(8),) * count), own(tokens))
    for verdict in (left_out, invented):
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.STRUCTURE)


@pytest.mark.parametrize("part", ["words", "noise"])
def test_a_recomputation_has_words_and_noise_or_neither(part: str) -> None:
    with pytest.raises(InvalidInput):
        judge(wordless(), replace(own(), **{part: ()}))


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -0.1])
def test_a_verifiers_own_fault_without_hidden_states_is_not_held_against_the_node(broken: float) -> None:
    verdict = judge(wordless(3), Recomputation((), (broken, 9.0, 0.0), ()))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.FAULT)
