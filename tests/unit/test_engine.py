"""The engine: the model's own greedy tokens, the specified words, typed errors, and agreement across precisions."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from trine.errors import InvalidInput
from trine.models import ModelRecord
from trine.protocol import fingerprint
from trine.protocol.calibration import MAX_OUTPUT_TOKENS, parse_prompt_set, prompt_words, with_words
from trine.protocol.verdict import Outcome, Verdict
from trine_node.engines.base import ContextOverflow, EmptyPrompt, NumericalFault, Step, TokenOutOfRange, render
from trine_node.engines.detokenizer import Detokenizer
from trine_node.engines.running import widened
from trine_node.engines.transformers_engine import TransformersEngine, packed

QUESTION = [{"role": "user", "content": "Why is the sky blue? Answer in two sentences."}]
Judge = Callable[..., Verdict]
PRECISIONS = ("fp32", "bf16", "fp16")


@pytest.fixture(scope="module")
def answers(engines: dict[str, TransformersEngine]) -> dict[str, list[Step]]:
    ids = engines["fp32"].encode_chat(QUESTION)
    return {dtype: list(engines[dtype].generate(ids, 24)) for dtype in PRECISIONS}


def test_tokens_are_those_of_transformers(engine: TransformersEngine, answers: dict[str, list[Step]]) -> None:
    ids = engine.encode_chat(QUESTION)
    expected = engine.model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=24,
        do_sample=False,
    )[0, len(ids) :].tolist()
    assert [step.token_id for step in answers["fp32"]] == expected


@pytest.mark.parametrize("verifier", PRECISIONS)
@pytest.mark.parametrize("prover", PRECISIONS)
def test_honest_answers_are_accepted_across_precisions(
    prover: str,
    verifier: str,
    engines: dict[str, TransformersEngine],
    answers: dict[str, list[Step]],
    judge: Judge,
) -> None:
    ids = engines[prover].encode_chat(QUESTION)
    verdict = judge(ids, answers[prover], 24, engines[prover], engines[verifier])
    assert verdict.outcome is Outcome.ACCEPT, verdict


@pytest.mark.parametrize("text", ["Paris is the capital of", "1, 2, 3,", "ok"])
def test_short_honest_answers_are_accepted(text: str, engines: dict[str, TransformersEngine], judge: Judge) -> None:
    ids = engines["bf16"].encode_text(text)
    steps = list(engines["bf16"].generate(ids, 4))
    for verifier in PRECISIONS:
        verdict = judge(ids, steps, 4, engines["bf16"], engines[verifier])
        assert verdict.outcome is Outcome.ACCEPT, verdict


def test_words_are_those_of_the_specification(engine: TransformersEngine) -> None:
    state = torch.randn(2, 576, generator=torch.Generator().manual_seed(3)) * torch.tensor([[1.0], [20.0]])
    state[:, 5] *= 40
    projection = fingerprint.directions(engine.model_id, 576)
    for row, word in zip(state, engine.words(state), strict=True):
        # A projection may lie on a cell's very border, where the order of additions decides.
        assert fingerprint.flipped(word, fingerprint.word(row.tolist(), projection)) <= 1


def test_checking_in_pieces_changes_nothing(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = engine.encode_chat(QUESTION)
    output = [step.token_id for step in engine.generate(ids, 8)]
    whole = engine.check(ids, output)
    monkeypatch.setattr("trine_node.engines.transformers_engine.PACKED_TOKENS", 5)
    monkeypatch.setattr("trine_node.engines.transformers_engine.LOGIT_ROWS", 3)
    assert engine.check(ids, output) == whole


def test_an_answer_ends_when_it_is_cancelled(engine: TransformersEngine) -> None:
    ids = engine.encode_chat(QUESTION)
    seen: list[Step] = []
    seen.extend(engine.generate(ids, 20, lambda: True))
    assert len(seen) == 1


def test_an_abandoned_answer_frees_the_engine_in_any_thread(engine: TransformersEngine) -> None:
    ids = engine.encode_chat(QUESTION)
    answer = engine.generate(ids, 20)
    first = next(answer)
    assert not torch.is_inference_mode_enabled()
    rest: list[Step] = []
    thread = threading.Thread(target=lambda: rest.append(next(answer)))
    thread.start()
    thread.join()
    assert len(rest) == 1
    answer.close()
    assert next(engine.generate(ids, 1)) == first


@pytest.mark.parametrize(
    ("prompt", "output", "error"),
    [
        ([], [1], EmptyPrompt),
        ([1], [], InvalidInput),
        ([49152], [1], TokenOutOfRange),
        ([-1], [1], TokenOutOfRange),
        ([1], [49152], TokenOutOfRange),
        ([1], [-1], TokenOutOfRange),
        ([1] * 8000, [1] * 193, ContextOverflow),
    ],
)
def test_hostile_tokens_are_refused(
    engine: TransformersEngine, prompt: list[int], output: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        engine.check(prompt, output)


@pytest.mark.parametrize(
    ("prompt", "tokens", "error"),
    [([], 1, EmptyPrompt), ([1], 0, InvalidInput), ([1 << 40], 1, TokenOutOfRange), ([1] * 8192, 1, ContextOverflow)],
)
def test_generation_refuses_them_too(
    engine: TransformersEngine, prompt: list[int], tokens: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        next(iter(engine.generate(prompt, tokens)))


def test_broken_numbers_are_no_answer(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = engine.model.base_model.norm.weight
    kept = weight[0].item()
    weight[0] = float("nan")
    try:
        with pytest.raises(NumericalFault):
            next(iter(engine.generate([1, 2], 1)))
        with pytest.raises(NumericalFault):
            engine.check([1, 2], [3])
    finally:
        weight[0] = kept


@pytest.mark.parametrize("text", ["plain words", "naïve café 🙂🚀 漢字かな", "日本語", "\n\n  tabs\t"])
def test_streamed_text_is_the_text(engine: TransformersEngine, text: str) -> None:
    ids = engine.encode_text(text)
    detokenizer = Detokenizer(engine)
    pieces = [detokenizer.push(token) for token in ids]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.flush() == engine.decode(ids) == text


def test_half_a_character_comes_out_at_the_end(engine: TransformersEngine) -> None:
    ids = engine.encode_text("🙂")[:-1]
    detokenizer = Detokenizer(engine)
    assert "".join(map(detokenizer.push, ids)) == ""
    assert detokenizer.flush() == engine.decode(ids)


def test_an_unknown_precision_is_refused(engine: TransformersEngine, tmp_path: object) -> None:
    with pytest.raises(InvalidInput, match="fp32, bf16, fp16"):
        TransformersEngine.load(tmp_path, model_name="m", model_id=bytes(32), dtype="int8")  # type: ignore[arg-type]


PROMPTS = ["Name a colour.", "Why is the sky blue? Answer in detail.", "Count from one to ten.", "Say hi."]


def test_answers_made_together_are_those_made_alone(engine: TransformersEngine) -> None:
    prompts = [engine.encode_chat([{"role": "user", "content": text}]) for text in PROMPTS]
    together = engine.generate_batch(prompts, 12, rows=3)
    for prompt, answer in zip(prompts, together, strict=True):
        assert list(engine.generate(prompt, 12)) == answer


def test_answers_checked_together_are_those_checked_alone(engine: TransformersEngine) -> None:
    prompts = [engine.encode_chat([{"role": "user", "content": text}]) for text in PROMPTS]
    cases = [(p, [s.token_id for s in a]) for p, a in zip(prompts, engine.generate_batch(prompts, 10), strict=True)]
    for case, checked in zip(cases, engine.check_batch(cases), strict=True):
        assert engine.check(*case) == checked
        assert len(checked.words) == len(checked.noise) == len(case[1])


def test_the_noise_is_that_of_an_honest_engine_in_bf16(engines: dict[str, TransformersEngine]) -> None:
    ids = engines["bf16"].encode_chat(QUESTION)
    steps = list(engines["bf16"].generate(ids, 24))
    own = engines["fp32"].check(ids, [step.token_id for step in steps])
    deviation = fingerprint.deviation([step.word for step in steps], own.words)
    assert 0.6 < deviation / fingerprint.expected_deviation(own.noise) < 1.6


def test_a_prompt_that_does_not_fit_is_refused_in_a_batch_too(engine: TransformersEngine) -> None:
    with pytest.raises(ContextOverflow):
        engine.generate_batch([[1], [1] * engine.context_tokens], 4)
    with pytest.raises(TokenOutOfRange):
        engine.check_batch([([1], [2]), ([1], [engine.vocab_size])])


def test_packing_keeps_every_answer_and_the_limit() -> None:
    lengths = [900, 3, 5000, 300, 300, 40, 1, 1000, 24]
    groups = packed(lengths)
    assert [index for group in groups for index in group] == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[index] for index in group) <= 1024 for group in groups)


def test_widened_layers_compute_what_the_processor_does_in_16_bits() -> None:
    draw = torch.Generator().manual_seed(3)
    linear = torch.nn.Linear(576, 64, bias=False, dtype=torch.bfloat16)
    linear.weight.data = torch.randn(64, 576, generator=draw).bfloat16()
    x = torch.randn(5, 576, generator=draw).bfloat16()
    exactly = x.double() @ linear.weight.double().T
    rounding = torch.finfo(torch.bfloat16).eps
    assert torch.all((widened(linear, x).double() - exactly).abs() <= exactly.abs() * rounding + 1e-3)
    assert torch.all((linear(x).double() - exactly).abs() <= exactly.abs() * rounding + 1e-3)


@pytest.mark.parametrize("registered", [0, 8, 61])  # a capital, a function in Python, a plain text
def test_attack_copying_the_answer_to_another_challenges_prompt(
    engine: TransformersEngine, record: ModelRecord, registered: int
) -> None:
    """Words of another challenge change most tokens of the answer, so each identity has to compute its own."""
    prompt = parse_prompt_set(record.prompts)[registered]
    first, second = (
        [
            step.token_id
            for step in engine.generate(
                tuple(render(engine, with_words(prompt, prompt_words(seed, bytes(32), 0)))), MAX_OUTPUT_TOKENS
            )
        ]
        for seed in (bytes([1]) * 32, bytes([2]) * 32)
    )
    same = sum(1 for mine, copied in zip(first, second, strict=False) if mine == copied)
    assert same < max(len(first), len(second)) / 2
