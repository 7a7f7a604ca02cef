"""Text mode: signatures estimate, indexes find, verdicts never reject without bounds; on the model, classes agree."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol.verdict import Outcome
from trine_node.engines.base import ContextOverflow, EmptyPrompt
from trine_node.engines.transformers_engine import TransformersEngine
from trine_research.study.text import FALSE_REJECTS, HONEST, Compared, _bounds
from trine_research.study.text_provers import Prover, edited
from trine_research.study.text_report import auc
from trine_research.text.decision import (
    SCALE,
    Decoding,
    TextBounds,
    TextPolicy,
    TextReason,
    TextVerdict,
    agreement,
    decide_text,
)
from trine_research.text.index import AnswerIndex
from trine_research.text.regeneration import regenerate, retokenised
from trine_research.text.signature import (
    MAX_TOKENS,
    PERMUTATIONS,
    SHINGLE_TOKENS,
    SIGNATURE_BYTES,
    Signature,
    shingles,
    signature_of,
)

MODEL = bytes(range(32))
QUESTION = [{"role": "user", "content": "Why is the sky blue? Answer in two sentences."}]
ANOTHER = [{"role": "user", "content": "How is bread baked?"}]
tokens = st.lists(st.integers(0, 40), min_size=1, max_size=80)


def sign(ids: list[int] | range) -> Signature:
    return signature_of(list(ids), MODEL)


def exact(a: list[int], b: list[int]) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


@given(tokens, tokens)
def test_the_estimate_is_near_the_exact_index(a: list[int], b: list[int]) -> None:
    # Hoeffding: beyond this with a chance of 2 exp(-2 * 256 * 0.22^2), 1 in 30,000 million.
    assert abs(sign(a).jaccard(sign(b)) - exact(a, b)) <= 0.22


@given(tokens, st.integers(0, 79), st.integers(41, 80))
def test_the_estimate_is_near_for_edited_answers(ids: list[int], at: int, new: int) -> None:
    edited = list(ids)
    edited[at % len(ids)] = new
    assert abs(sign(ids).jaccard(sign(edited)) - exact(ids, edited)) <= 0.22
    assert exact(ids, edited) < 1


def test_the_estimate_has_no_bias_and_the_promised_error() -> None:
    draw = random.Random(5)
    errors = []
    for _ in range(300):
        ids = [draw.randrange(49152) for _ in range(64)]
        other = ids[: draw.randrange(8, 56)] + [draw.randrange(49152) for _ in range(8)]
        errors.append(sign(ids).jaccard(sign(other)) - exact(ids, other))
    assert abs(sum(errors) / len(errors)) < 0.01
    assert math.sqrt(sum(e * e for e in errors) / len(errors)) <= 1 / (2 * math.sqrt(PERMUTATIONS)) * 1.15


@given(tokens, tokens)
def test_comparing_is_symmetric_and_the_same_text_is_the_same(a: list[int], b: list[int]) -> None:
    assert sign(a).jaccard(sign(b)) == sign(b).jaccard(sign(a))
    assert sign(a).jaccard(sign(list(a))) == 1


@given(st.permutations(range(10, 18)))
def test_the_order_in_which_shingles_come_is_nothing(items: list[int]) -> None:
    # Items three shared tokens apart: every order of them has the same shingles, the one thing that is looked at.
    def spread(words: list[int]) -> list[int]:
        return [1, 2, 3, *(token for word in words for token in (word, 1, 2, 3))]

    assert sign(spread(items)) == sign(spread(sorted(items)))
    assert items == sorted(items) or sign(items) != sign(sorted(items))


def test_loops_of_other_lengths_differ() -> None:
    assert exact([7] * 20, [7] * 40) < 0.6
    assert exact([1, 2] * 30, [1, 2] * 29) < 1


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 64])
def test_every_token_counts_at_the_ends_too(length: int) -> None:
    ids = list(range(length))
    assert len(shingles(ids)) == length + SHINGLE_TOKENS - 1
    for at in {0, length // 2, length - 1}:
        assert len(shingles(ids) - shingles([*ids[:at], 99, *ids[at + 1 :]])) == SHINGLE_TOKENS


@given(tokens)
def test_signatures_survive_their_encoding(ids: list[int]) -> None:
    signature = sign(ids)
    encoded = signature.to_bytes()
    assert len(encoded) == SIGNATURE_BYTES
    assert Signature.from_bytes(encoded) == signature
    assert Signature.from_bytes(encoded).to_bytes() == encoded


def test_a_signature_is_the_same_on_every_machine() -> None:
    encoded = sign([1, 2, 3, 4, 5]).to_bytes()
    assert encoded[:12].hex() == "0104010025847da50f728b24"
    assert encoded[12:28].hex() == "30cf56ad054567e2318f2168304f547e"


@given(st.binary(max_size=2 * SIGNATURE_BYTES))
def test_bytes_that_are_no_signature_are_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidInput):
        Signature.from_bytes(encoded)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_other_versions_and_parameters_are_refused(at: int) -> None:
    encoded = bytearray(sign([1, 2, 3]).to_bytes())
    encoded[at] ^= 1
    with pytest.raises(InvalidInput):
        Signature.from_bytes(bytes(encoded))


@pytest.mark.parametrize("ids", [[], [-1], [2**32 - 1], [2**32], [1] * (MAX_TOKENS + 1)])
def test_hostile_tokens_are_refused(ids: list[int]) -> None:
    with pytest.raises(InvalidInput):
        sign(ids)


def test_signatures_of_two_models_are_never_compared() -> None:
    other = signature_of([1, 2, 3], bytes(32))
    with pytest.raises(InvalidInput, match="different models"):
        sign([1, 2, 3]).jaccard(other)
    assert other.values != sign([1, 2, 3]).values


# --- the index


def answers(count: int, length: int = 64) -> list[list[int]]:
    draw = random.Random(11)
    return [[draw.randrange(49152) for _ in range(length)] for _ in range(count)]


def test_an_index_finds_the_copies_among_many() -> None:
    index = AnswerIndex()
    stored = answers(300)
    for number, ids in enumerate(stored):
        index.add(str(number), sign(ids))
    assert len(index) == 300
    for number in range(0, 300, 10):
        copied = [*stored[number][:30], 7, *stored[number][31:]]
        assert [name for name, _ in index.agreeing(sign(copied), 0.6)] == [str(number)]
    assert index.agreeing(sign(answers(301)[300]), 0.5) == []


def test_an_index_gives_the_nearest_first_and_only_what_agrees() -> None:
    index = AnswerIndex()
    ids = list(range(64))
    index.add("half", sign([*ids[:32], *range(100, 132)]))
    index.add("same", sign(ids))
    index.add("swapped", sign([*ids[:20], 999, *ids[21:]]))
    found = index.agreeing(sign(ids), 0.7)
    assert [name for name, _ in found] == ["same", "swapped"]
    assert found[0][1] == 1


def test_an_index_refuses_names_twice_and_other_models(monkeypatch: pytest.MonkeyPatch) -> None:
    index = AnswerIndex()
    index.add("a", sign([1]))
    for name, signature in (("a", sign([2])), ("b", signature_of([1], bytes(32)))):
        with pytest.raises(InvalidInput):
            index.add(name, signature)
    with pytest.raises(InvalidInput):
        index.agreeing(signature_of([1], bytes(32)), 0.5)
    with pytest.raises(InvalidInput):
        index.agreeing(sign([1]), 0)
    monkeypatch.setattr("trine_research.text.index.MAX_ANSWERS", 1)
    with pytest.raises(InvalidInput, match="full"):
        index.add("c", sign([3]))


# --- the verdict

POLICY = TextPolicy(
    (
        ("bf16", "fp32", Decoding.GREEDY, TextBounds(accept=900_000, reject=0)),
        ("fp32", "fp32", Decoding.GREEDY, TextBounds(accept=SCALE, reject=500_000)),
        ("fp32", "fp32", Decoding.NEAREST_BEAM, TextBounds(accept=SCALE, reject=500_000)),
    )
)
SAME = list(range(64))
SWAPPED = [*SAME[:20], 999, *SAME[21:]]
UNRELATED = list(range(100, 164))


def judge(claimed: list[int], prover: str = "fp32", verifier: str = "fp32") -> TextVerdict:
    return decide_text(
        sign(claimed),
        [sign(SAME)],
        prover_class=prover,
        verifier_class=verifier,
        decoding=Decoding.GREEDY,
        policy=POLICY,
    )


@pytest.mark.parametrize(
    ("claimed", "prover", "outcome", "reason"),
    [
        (SAME, "fp32", Outcome.ACCEPT, TextReason.SAME),
        (SWAPPED, "fp32", Outcome.INCONCLUSIVE, TextReason.BETWEEN),
        (UNRELATED, "fp32", Outcome.REJECT, TextReason.DIFFERENT),
        (SAME, "bf16", Outcome.ACCEPT, TextReason.SAME),
        (UNRELATED, "bf16", Outcome.INCONCLUSIVE, TextReason.BETWEEN),
        (SAME, "fp16", Outcome.INCONCLUSIVE, TextReason.UNCALIBRATED),
        (UNRELATED, "fp16", Outcome.INCONCLUSIVE, TextReason.UNCALIBRATED),
    ],
)
def test_the_text_decides_within_calibrated_bounds(
    claimed: list[int], prover: str, outcome: Outcome, reason: TextReason
) -> None:
    verdict = judge(claimed, prover)
    assert (verdict.outcome, verdict.reason) == (outcome, reason), verdict


@given(tokens, tokens, st.sampled_from(Decoding), st.sampled_from(["fp32", "bf16", "cuda"]))
def test_an_uncalibrated_pair_is_never_rejected_nor_accepted(
    claimed: list[int], own: list[int], decoding: Decoding, prover: str
) -> None:
    verdict = decide_text(
        sign(claimed),
        [sign(own)],
        prover_class=prover,
        verifier_class="elsewhere",
        decoding=decoding,
        policy=POLICY,
    )
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, TextReason.UNCALIBRATED)


@given(tokens, st.integers(0, SCALE), st.integers(1, SCALE))
def test_a_nearer_text_never_fares_worse(claimed: list[int], reject: int, accept: int) -> None:
    reject, accept = min(reject, accept), max(reject, accept)
    policy = TextPolicy((("p", "v", Decoding.GREEDY, TextBounds(accept, reject)),))
    order = [Outcome.REJECT, Outcome.INCONCLUSIVE, Outcome.ACCEPT]
    verdicts = [
        decide_text(
            sign(ids), [sign(SAME)], prover_class="p", verifier_class="v", decoding=Decoding.GREEDY, policy=policy
        )
        for ids in (claimed, SWAPPED, SAME)
    ]
    verdicts.sort(key=lambda verdict: verdict.jaccard)
    assert [order.index(v.outcome) for v in verdicts] == sorted(order.index(v.outcome) for v in verdicts)


def test_a_verifier_without_an_answer_blames_nobody() -> None:
    verdict = decide_text(
        sign(UNRELATED), [], prover_class="fp32", verifier_class="fp32", decoding=Decoding.GREEDY, policy=POLICY
    )
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, TextReason.FAULT)


def test_the_nearest_beam_decides() -> None:
    beams = [sign(UNRELATED), sign(SWAPPED), sign(SAME)]
    options = {"prover_class": "fp32", "verifier_class": "fp32", "policy": POLICY}
    verdict = decide_text(sign(SAME), beams, decoding=Decoding.NEAREST_BEAM, **options)  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.jaccard) == (Outcome.ACCEPT, 1)
    for decoding, count in ((Decoding.GREEDY, 2), (Decoding.NEAREST_BEAM, 17)):
        with pytest.raises(InvalidInput, match="regenerations"):
            decide_text(sign(SAME), [sign(SAME)] * count, decoding=decoding, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("accept", "reject"), [(0, 0), (5, 6), (SCALE + 1, 0), (5, -1), (0.5, 0)])
def test_bounds_out_of_order_are_refused(accept: int, reject: int) -> None:
    with pytest.raises(InvalidInput):
        TextBounds(accept, reject)


def test_a_policy_has_each_pair_once_and_in_order() -> None:
    for pairs in (POLICY.pairs[::-1], POLICY.pairs[:1] * 2):
        with pytest.raises(InvalidInput):
            TextPolicy(pairs)


# --- agreement


@pytest.mark.parametrize(
    ("three", "pairs", "consensus"),
    [
        ([SAME, SAME, SAME], {(0, 1), (0, 2), (1, 2)}, (0, 1, 2)),
        ([SAME, UNRELATED, SAME], {(0, 2)}, (0, 2)),
        ([UNRELATED, SAME, SWAPPED], {(1, 2)}, (1, 2)),
        ([SAME, UNRELATED, list(range(200, 264))], set(), ()),
    ],
)
def test_three_answers_agree(three: list[list[int]], pairs: set[tuple[int, int]], consensus: tuple[int, ...]) -> None:
    found = agreement([sign(ids) for ids in three], 0.8)
    assert (found.pairs, found.consensus) == (pairs, consensus)


def test_agreement_is_pairwise_and_the_nearer_pair_counts() -> None:
    # The middle one agrees with both others, which do not agree with each other.
    left, middle, right = [*range(64)], [*range(8, 72)], [*range(14, 78)]
    found = agreement([sign(ids) for ids in (left, middle, right)], 0.6)
    assert found.pairs == {(0, 1), (1, 2)}
    assert found.consensus == (1, 2)


def test_two_of_five_are_no_consensus() -> None:
    five = [SAME, SAME, *answers(3)]
    assert agreement([sign(ids) for ids in five], 0.9).consensus == ()
    with pytest.raises(InvalidInput):
        agreement([sign(SAME)], 0.9)
    with pytest.raises(InvalidInput):
        agreement([sign(SAME)] * 10, 0.9)


# --- the model


def test_the_same_class_regenerates_the_same_text_and_another_prompt_is_rejected(engine: TransformersEngine) -> None:
    prompts = [engine.encode_chat(QUESTION), engine.encode_chat(ANOTHER)]
    (own,), (other,) = regenerate(engine, prompts, 16)
    streamed = tuple(step.token_id for step in engine.generate(prompts[0], 16))
    policy = TextPolicy(((engine.engine_class, engine.engine_class, Decoding.GREEDY, TextBounds(SCALE, 500_000)),))
    outcomes = [
        decide_text(
            signature_of(claimed, engine.model_id),
            [signature_of(own, engine.model_id)],
            prover_class=engine.engine_class,
            verifier_class=engine.engine_class,
            decoding=Decoding.GREEDY,
            policy=policy,
        ).outcome
        for claimed in (streamed, other)
    ]
    assert outcomes == [Outcome.ACCEPT, Outcome.REJECT]


def test_padding_changes_no_answer(engine: TransformersEngine) -> None:
    """Prompts of other lengths beside it once changed an answer, because nothing told attention what is padding."""
    texts = ["Name three rivers.", "Count from one to twenty. " * 12, "Why?"]
    prompts = [engine.encode_text(text) for text in texts]
    found = [answers[0] for answers in regenerate(engine, prompts, 12)]
    assert found == [tuple(step.token_id for step in engine.generate(prompt, 12)) for prompt in prompts]


def test_beams_repeat_themselves_and_differ_from_each_other(engine: TransformersEngine) -> None:
    prompts = [engine.encode_chat(QUESTION), engine.encode_chat(ANOTHER)]
    both = regenerate(engine, prompts, 6, beams=3)
    assert [len(set(found)) for found in both] == [3, 3]
    assert regenerate(engine, prompts[:1], 6, beams=3) == both[:1]


def test_what_cannot_be_regenerated_is_refused(engine: TransformersEngine) -> None:
    for prompts, error in (([], InvalidInput), ([[1], []], EmptyPrompt), ([[1], [1] * 8192], ContextOverflow)):
        with pytest.raises(error):
            regenerate(engine, prompts, 4)
    for beams in (0, 17):
        with pytest.raises(InvalidInput):
            regenerate(engine, [[1]], 4, beams)


def test_text_is_tokenised_again_as_the_model_writes_it(engine: TransformersEngine) -> None:
    ids = engine.encode_text("The sky is blue because air scatters short waves.")
    assert retokenised(engine, engine.decode(ids)) == tuple(ids)


# --- the study's own arithmetic


def test_an_area_of_one_half_tells_nothing() -> None:
    assert auc([0.9, 1.0], [0.1, 0.2]) == 1
    assert auc([0.5], [0.5]) == 0.5


def test_bounds_reject_no_more_calibrating_answers_than_stated() -> None:
    rows = [
        Compared(name, True, True, n, decoding, jaccard=((n * 37) % 250) / 250)
        for name in HONEST
        for decoding in Decoding
        for n in range(250)
    ]
    judged = Compared("int8 weights", False, True, 0, Decoding.GREEDY, 0.0)
    for (relation, _), (bound, count) in _bounds([*rows, judged]).items():
        assert count == (250 if relation == "same" else 500)
        below = sum(HONEST[r.prover] == relation and r.decoding is Decoding.GREEDY and r.jaccard < bound for r in rows)
        assert 0 < below <= FALSE_REJECTS * count


def test_edits_change_what_they_say(engine: TransformersEngine) -> None:
    own = Prover("verifier", True, [4, 9], [tuple(range(100, 132)), tuple(range(200, 232))])
    made = {prover.name: prover.greedy for prover in edited(own, [4, 9], engine, 1)}
    assert made.pop("answer to another prompt") == own.greedy[::-1]
    assert [len(text) for text in made["1 token dropped"]] == [31, 31]
    assert all(set(text) < set(right) for text, right in zip(made["1 token dropped"], own.greedy, strict=True))
    for text, right in zip(made["1 token swapped"], own.greedy, strict=True):
        assert sum(a != b for a, b in zip(text, right, strict=True)) == 1
    for text, right in zip(made["1 token inserted"], own.greedy, strict=True):
        assert len(text) == 32
        assert len(set(right) - set(text)) == 1
    assert [text[:16] == right[:16] for text, right in zip(made["cut to half"], own.greedy, strict=True)] == [True] * 2
    assert all(len(text) == 17 and text[-1] in engine.eos_ids for text in made["cut to half"])
