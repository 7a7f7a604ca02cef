"""Named ways to cheat, as engines: what devnets, tests and studies run against the verifiers.

Each wraps an honest engine, keeps its interface and lies in one way. `make_adversary` also takes `module:attribute`,
so anybody can bring a cheat of their own: a callable that takes the honest engine and returns an engine.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from trine.errors import InvalidInput
from trine.protocol.verdict import Recomputation
from trine_node.engines.base import Engine, Step
from trine_node.engines.transformers_engine import TransformersEngine


class Adversary:
    """Passes everything to the honest engine; subclasses change `generate`."""

    def __init__(self, honest: Engine) -> None:
        self.honest = honest
        self.model_name = honest.model_name
        self.model_id = honest.model_id
        self.engine_class = honest.engine_class
        self.context_tokens = honest.context_tokens
        self.vocab_size = honest.vocab_size
        self.eos_ids = honest.eos_ids

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return self.honest.encode_chat(messages)

    def encode_text(self, text: str) -> list[int]:
        return self.honest.encode_text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.honest.decode(token_ids)

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        return self.honest.generate(prompt_ids, max_tokens, cancelled)

    def check(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputation:
        return self.honest.check(prompt_ids, output_ids)


class RoundedWeights(Adversary):
    """Runs weights rounded to `bits` bits (symmetric, per output channel or per tensor), names the full ones."""

    def __init__(self, honest: Engine, bits: int, per_channel: bool = True) -> None:
        super().__init__(honest)
        self.cheap = _with_changed_weights(honest, lambda w: _rounded(w, bits, per_channel))

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        return self.cheap.generate(prompt_ids, max_tokens, cancelled)


class SwappedToken(Adversary):
    """Replaces the token in the middle by the `rank`-th best and goes on from it, with that run's own fingerprint."""

    def __init__(self, honest: Engine, rank: int = 8) -> None:
        super().__init__(honest)
        self.rank = rank

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        steps = list(self.honest.generate(prompt_ids, max_tokens, cancelled))
        position = len(steps) // 2
        kept = [step.token_id for step in steps[:position]]
        swapped = self._alternative([*prompt_ids, *kept])
        yield from steps[:position]
        yield Step(swapped, steps[position].word)
        left = max_tokens - position - 1
        if left > 0:
            yield from self.honest.generate([*prompt_ids, *kept, swapped], left, cancelled)

    def _alternative(self, ids: Sequence[int]) -> int:
        engine = _transformers(self.honest)
        with torch.inference_mode():
            logits = engine.model(input_ids=torch.tensor([list(ids)], device=engine.device)).logits[0, -1]
        ranked = [int(i) for i in logits.topk(self.rank + len(self.eos_ids) + 1).indices]
        return [i for i in ranked if i not in self.eos_ids][self.rank - 1]


class OtherPrompt(Adversary):
    """Answers a prompt of its own and passes the answer off as one to the client's."""

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        other = self.honest.encode_chat([{"role": "user", "content": "Say something nice about the weather."}])
        return self.honest.generate(other, max_tokens, cancelled)


class Truncated(Adversary):
    """Stops half-way and claims that the model did."""

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        steps = list(self.honest.generate(prompt_ids, max_tokens, cancelled))
        kept = steps[: max(1, len(steps) // 2)]
        yield from kept[:-1]
        yield Step(min(self.eos_ids), kept[-1].word)


class CopiedFingerprint(RoundedWeights):
    """Cheap weights write the tokens; the fingerprint is the honest model's run of its own answer."""

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest, bits=4)

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        cheap = list(self.cheap.generate(prompt_ids, max_tokens, cancelled))
        real = list(self.honest.generate(prompt_ids, max_tokens, cancelled))
        for position, step in enumerate(cheap):
            yield Step(step.token_id, real[min(position, len(real) - 1)].word)


class CheapTokens(RoundedWeights):
    """Cheap weights write the tokens; the right model fingerprints exactly those tokens."""

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest, bits=4)

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        ids = [step.token_id for step in self.cheap.generate(prompt_ids, max_tokens, cancelled)]
        words = self.honest.check(prompt_ids, ids).words
        yield from (Step(token, word) for token, word in zip(ids, words, strict=True))


class PrunedLayers(Adversary):
    """Leaves out one of the middle layers."""

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest)
        engine = _transformers(honest)
        model = copy.deepcopy(engine.model)
        layers = model.base_model.layers
        middle = len(layers) // 2
        model.base_model.layers = torch.nn.ModuleList([m for i, m in enumerate(layers) if i != middle])
        for index, layer in enumerate(model.base_model.layers):
            layer.self_attn.layer_idx = index
        model.config.num_hidden_layers -= 1
        if getattr(model.config, "layer_types", None):
            model.config.layer_types = model.config.layer_types[: model.config.num_hidden_layers]
        self.cheap = _sibling(engine, model)

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        return self.cheap.generate(prompt_ids, max_tokens, cancelled)


ADVERSARIES: dict[str, Callable[[Engine], Engine]] = {
    "int8-weights": lambda engine: RoundedWeights(engine, 8),
    "int8-tensor-weights": lambda engine: RoundedWeights(engine, 8, per_channel=False),
    "int6-weights": lambda engine: RoundedWeights(engine, 6),
    "int4-weights": lambda engine: RoundedWeights(engine, 4),
    "swapped-token": SwappedToken,
    "runner-up-token": lambda engine: SwappedToken(engine, rank=2),
    "other-prompt": OtherPrompt,
    "truncated": Truncated,
    "copied-fingerprint": CopiedFingerprint,
    "cheap-tokens": CheapTokens,
    "pruned-layers": PrunedLayers,
}


def make_adversary(name: str, engine: Engine) -> Engine:
    """An adversary by name, or by `module:attribute`. Raises InvalidInput naming the known ones."""
    if name in ADVERSARIES:
        return ADVERSARIES[name](engine)
    module, separator, attribute = name.partition(":")
    if not separator:
        raise InvalidInput(f"no adversary {name!r}: choose from {', '.join(ADVERSARIES)} or give module:attribute")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"cannot load the adversary {name!r}: {error}") from None
    made: Engine = factory(engine)
    return made


def _transformers(engine: Engine) -> TransformersEngine:
    if not isinstance(engine, TransformersEngine):
        raise InvalidInput("this adversary needs the transformers engine")
    return engine


def _with_changed_weights(engine: Engine, change: Callable[[torch.Tensor], torch.Tensor]) -> TransformersEngine:
    honest = _transformers(engine)
    model = copy.deepcopy(honest.model)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = change(module.weight.data)
    return _sibling(honest, model)


def _sibling(engine: TransformersEngine, model: Any) -> TransformersEngine:
    dtype = engine.engine_class.rsplit("-", 1)[1]
    return TransformersEngine(
        model, engine.tokenizer, model_name=engine.model_name, model_id=engine.model_id, dtype=dtype
    )


def _rounded(weight: torch.Tensor, bits: int, per_channel: bool) -> torch.Tensor:
    exact = weight.float()
    peak = exact.abs().amax(dim=1, keepdim=True) if per_channel else exact.abs().max()
    step = (peak / (2 ** (bits - 1) - 1)).clamp_min(1e-12)
    rounded: torch.Tensor = (exact / step).round() * step
    return rounded.to(weight.dtype)
