"""The promise on a CPU: the same bits alone and together, in any order, chunked or not, from any architecture."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from trine_node.engines.base import EngineError, Step
from trine_node.engines.decoder import Decoder
from trine_node.engines.passes import Segment, Storage
from trine_node.engines.transformers_engine import DTYPES, TransformersEngine

TOKENS = 14
SMALL = {"vocab_size": 211, "max_position_embeddings": 256, "eos_token_id": 3, "bos_token_id": 1, "pad_token_id": 0}
LLAMA_LIKE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": LLAMA_LIKE,
    "llama, odd sizes": LLAMA_LIKE | {"hidden_size": 60, "intermediate_size": 90, "head_dim": 14},
    "mistral": LLAMA_LIKE | {"sliding_window": 9},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE | {"head_dim": 24},
    "gemma2": LLAMA_LIKE | {"head_dim": 16, "sliding_window": 9, "attn_logit_softcapping": 5.0},
    "phi3": LLAMA_LIKE,
    "gpt_neox": LLAMA_LIKE,
    "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 256},
    "opt": {
        "hidden_size": 48,
        "ffn_dim": 70,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "word_embed_proj_dim": 48,
    },
}


def made(name: str, dtype: str, sizes: dict[str, Any] | None = None, **options: Any) -> TransformersEngine:
    kind = name.split(",")[0]
    torch.manual_seed(7)
    config = AutoConfig.for_model(kind, **SMALL | ARCHITECTURES[name] | (sizes or {}))
    model = AutoModelForCausalLM.from_config(config).to(DTYPES[dtype]).requires_grad_(False).train(False)
    for parameter in model.parameters():  # the usual beginning is so small that nothing depends on anything
        if parameter.dim() == 2:
            parameter.mul_(4)
    model.generation_config.eos_token_id = 3
    return TransformersEngine(model, None, model_name=name, model_id=bytes(32), dtype=dtype, **{"threads": 1} | options)


def prompts(count: int, seed: int = 5) -> list[list[int]]:
    draw = random.Random(seed)
    common = [draw.randrange(4, 211) for _ in range(40)]
    return [common[: draw.randrange(40)] + [draw.randrange(4, 211) for _ in range(1 + i % 30)] for i in range(count)]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_do_not_depend_on_company(name: str, dtype: str) -> None:
    engine = made(name, dtype, prompt_tokens=13, rows=4, cache_tokens=640)
    asked = prompts(6)
    alone = [list(engine.generate(prompt, TOKENS)) for prompt in asked]
    assert len({step.word for answer in alone for step in answer}) > 40, "the model always thinks the same"
    together = answered_by_threads(engine, asked, TOKENS, order=[3, 5, 0, 2, 4, 1])
    assert together == alone
    other = made(name, dtype, threads=2, prompt_tokens=64, rows=32)
    assert other.generate_batch(asked, TOKENS) == alone
    checked = other.check_batch([(p, [s.token_id for s in a]) for p, a in zip(asked, alone, strict=True)])
    for answer, own in zip(alone, checked, strict=True):
        assert own.words == tuple(step.word for step in answer)
        assert max(own.margins) == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_states_are_those_of_transformers(name: str) -> None:
    engine = made(name, "fp32")
    ids = prompts(1)[0] * 3
    config = AutoConfig.for_model(name.split(",")[0], **SMALL | ARCHITECTURES[name])
    plain = AutoModelForCausalLM.from_config(config, attn_implementation="eager").train(False)
    plain.load_state_dict(engine.model.state_dict())
    with torch.no_grad():
        expected = plain.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    [found] = engine.output_states([(ids[:1], [*ids[1:], 0])])
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4), (found - expected).abs().max()


@pytest.mark.parametrize("arithmetic", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_torchs_own_arithmetic_answers_the_same_in_fp32(name: str, arithmetic: str) -> None:
    asked = prompts(4)
    own, torchs = made(name, "fp32"), made(name, "fp32", arithmetic=arithmetic)
    cases = [(p, [s.token_id for s in a]) for p, a in zip(asked, own.generate_batch(asked, 12), strict=True)]
    assert max(margin for checked in torchs.check_batch(cases) for margin in checked.margins) < 1e-3


@pytest.mark.parametrize(
    ("kind", "sizes", "complaint"),
    [
        ("bloom", {"hidden_size": 32, "n_layer": 1, "n_head": 2}, "BloomForCausalLM: only models whose attention"),
        ("mixtral", LLAMA_LIKE | {"num_hidden_layers": 1, "num_local_experts": 2}, "mixtures of experts"),
    ],
)
def test_an_architecture_that_cannot_be_driven_is_refused(kind: str, sizes: dict[str, Any], complaint: str) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=64, **sizes))
    with pytest.raises(EngineError, match=complaint):
        TransformersEngine(model, None, model_name=kind, model_id=bytes(32), dtype="fp32")


class HalfRotation(torch.nn.Module):
    """Rotates half of each head, as some models do."""

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (*position_ids.shape, 8)
        return torch.ones(shape), torch.zeros(shape)


def test_heads_that_are_rotated_in_part_take_the_other_way() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL | LLAMA_LIKE))
    assert Decoder.of(model) is not None
    model.base_model.rotary_emb = HalfRotation()
    assert Decoder.of(model) is None


def test_a_weight_that_is_replaced_is_obeyed() -> None:
    engine = made("llama", "fp32")
    storage = Storage(2)
    segments = [Segment([5, 6, 7], 0, [0, 1])]
    before = engine._runner.states(storage, segments)
    engine.model.base_model.layers[1].mlp.up_proj.weight.data = torch.zeros(96, 64)
    assert not torch.equal(engine._runner.states(storage, segments), before)


def test_answers_that_lose_their_room_to_others_are_the_same() -> None:
    engine = made("llama", "bf16", prompt_tokens=13, rows=4, cache_tokens=256)
    engine.eos_ids = frozenset()
    asked = [prompt[:20] for prompt in prompts(4)]
    alone = [list(engine.generate(prompt, 90)) for prompt in asked]
    assert engine._batch.put_back == 0
    assert answered_by_threads(engine, asked, 90, order=[2, 0, 3, 1]) == alone
    assert engine._batch.put_back > 0


def answered_by_threads(
    engine: TransformersEngine, asked: list[list[int]], tokens: int, order: list[int]
) -> list[list[Step]]:
    """All asked at once, in this order."""
    answers: dict[int, list[Step]] = {}

    def ask(number: int) -> None:
        answers[number] = list(engine.generate(asked[number], tokens))

    threads = [threading.Thread(target=ask, args=(number,)) for number in order]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return [answers[number] for number in range(len(asked))]
