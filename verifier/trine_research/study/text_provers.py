"""Provers of the text study: honest engines of each class, and cheats, with the answers that they give.

Responsible for decoding and fingerprinting; compares nothing.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trine.models import ModelRecord
from trine.protocol.inputs import Input
from trine_node.engines.base import Engine
from trine_node.engines.transformers_engine import TransformersEngine
from trine_research.adversaries import PrunedLayers, RoundedWeights
from trine_research.text.regeneration import Answer, decode, regenerate

BATCH = 24
TEMPERATURE = 0.3
OTHER_SYSTEM = {"role": "system", "content": "You are a helpful assistant. Answer briefly."}
Edit = Callable[[Answer, random.Random, int], Answer]


@dataclass(slots=True)
class Prover:
    """One party's answers. `words` are the fingerprints of the greedy ones; empty: those of the right model."""

    name: str
    honest: bool
    numbers: list[int]  # of the prompts it answered
    greedy: list[Answer]
    beams: list[list[Answer]] = field(default_factory=list)  # best first; empty for cheats that edit or sample
    words: list[tuple[bytes, ...]] = field(default_factory=list)


def load_engine(record: ModelRecord, folder: Path, dtype: str, threads: int) -> TransformersEngine:
    """An honest engine."""
    return TransformersEngine.load(
        folder, model_name=record.name, model_id=record.model_id, dtype=dtype, threads=threads
    )


def answer(
    engine: TransformersEngine,
    name: str,
    prompts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    tokens: int,
    *,
    beams: int,
    done: Callable[[int], None],
    honest: bool = False,
    batch: int = BATCH,
) -> Prover:
    """What `engine` says to the prompts of those numbers, greedily and, with `beams` above 1, by beam search."""
    made = Prover(name, honest, list(numbers), [])
    for start in range(0, len(numbers), batch):
        asked = [prompts[n] for n in numbers[start : start + batch]]
        made.greedy += [found[0] for found in regenerate(engine, asked, tokens)]
        if beams > 1:
            made.beams += regenerate(engine, asked, tokens, beams)
        done(len(asked))
    return made


def fingerprinted(prover: Prover, engine: Engine, prompts: Sequence[Sequence[int]]) -> Prover:
    """With the words of its own weights for its greedy answers, under the prompts as they were asked."""
    prover.words = [engine.check(prompts[n], a).words for n, a in zip(prover.numbers, prover.greedy, strict=True)]
    return prover


def sampled(
    engine: TransformersEngine, prompts: Sequence[Sequence[int]], numbers: Sequence[int], tokens: int, seed: int
) -> Prover:
    """The right model at a temperature, where greedy answers were asked for."""
    torch.manual_seed(seed)
    asked = [prompts[n] for n in numbers]
    options: dict[str, Any] = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0}
    return Prover(f"temperature {TEMPERATURE}", False, list(numbers), decode(engine, asked, tokens, **options))


def cheaper_models(engine: TransformersEngine, seed: int) -> Iterator[tuple[str, TransformersEngine]]:
    """Weights other than the registered ones, made when they are asked for: each takes as much memory as the model."""
    for bits in (8, 6, 4):
        yield f"int{bits} weights", RoundedWeights(engine, bits).cheap
    yield "1 % perturbed weights", _perturbed(engine, 0.01, seed)
    pruned = PrunedLayers(engine).cheap
    yield "1 layer of 30 left out", pruned
    for _ in range(7):
        pruned = PrunedLayers(pruned).cheap
    yield "8 layers of 30 left out", pruned


def render(engine: Engine, asked: Input, system: dict[str, str] | None = None) -> list[int]:
    """Prompt tokens; `system` is put before chat messages (a plain completion has no place for it)."""
    if asked.text is not None:
        return engine.encode_text((system["content"] + "\n" if system else "") + asked.text)
    return engine.encode_chat([*([system] if system else []), *asked.as_messages()])


def _swapped(tokens: Answer, draw: random.Random, vocab: int) -> Answer:
    at = draw.randrange(len(tokens))
    return (*tokens[:at], draw.randrange(3, vocab), *tokens[at + 1 :])


def _inserted(tokens: Answer, draw: random.Random, vocab: int) -> Answer:
    at = draw.randrange(len(tokens))
    return (*tokens[:at], draw.randrange(3, vocab), *tokens[at:-1])


def _dropped(tokens: Answer, draw: random.Random, vocab: int) -> Answer:
    at = draw.randrange(len(tokens))
    return (*tokens[:at], *tokens[at + 1 :]) or tokens


EDITS: dict[str, Edit] = {
    "1 token swapped": _swapped,
    "1 token inserted": _inserted,
    "1 token dropped": _dropped,
}


def edited(honest: Prover, numbers: Sequence[int], engine: Engine, seed: int) -> list[Prover]:
    """The right model's answers, tampered with; and those to another of the prompts."""
    own = dict(zip(honest.numbers, honest.greedy, strict=True))
    made = [Prover("answer to another prompt", False, list(numbers), [own[n] for n in _rotated(numbers)])]
    for name, edit in EDITS.items():
        draw = random.Random(f"{seed} {name}")  # noqa: S311 - a study repeats its draws
        made.append(Prover(name, False, list(numbers), [edit(own[n], draw, engine.vocab_size) for n in numbers]))
    # Ended by hand: without its end token a short answer contradicts itself, and no model is needed to see it.
    half = [(*own[n][: max(1, len(own[n]) // 2)], min(engine.eos_ids)) for n in numbers]
    made.append(Prover("cut to half", False, list(numbers), half))
    return made


def _rotated(numbers: Sequence[int]) -> list[int]:
    return [numbers[-1], *numbers[:-1]]


def _perturbed(engine: TransformersEngine, share: float, seed: int) -> TransformersEngine:
    """Every weight of the linear layers times a normal variable of mean 1 and standard deviation `share`."""
    model = copy.deepcopy(engine.model)
    draw = torch.Generator().manual_seed(seed)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data *= 1 + share * torch.randn(module.weight.shape, generator=draw)
    dtype = engine.engine_class.rsplit("-", 1)[1]
    return TransformersEngine(
        model, engine.tokenizer, model_name=engine.model_name, model_id=engine.model_id, dtype=dtype
    )
