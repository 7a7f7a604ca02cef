"""Cheats that run another model than they name: cheaper, smaller, changed, or simply not that one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from trine_node.engines.base import Decodings, Engine, Step
from trine_node.engines.transformers_engine import TransformersEngine
from trine_research.adversaries.base import Adversary

FINE_TUNING_TEXT = (
    "The harbour master wrote every arrival into the ledger by hand, the name of the ship, the depth of her keel and "
    "what she carried, and at the end of each month he drew a line and added it all up twice, once from above and "
    "once from below, because his father had told him that a sum is only true when it is true in both directions."
)


class OtherModel(Adversary):
    """Runs `self.cheap` in the place of the honest engine's model."""

    cheap: TransformersEngine

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        return self.cheap.generate_batch(prompts, max_tokens, decodings=decodings)


class RoundedWeights(OtherModel):
    """Weights rounded to `bits` bits, symmetric, with a scale for each output channel, tensor, or group of inputs."""

    def __init__(self, honest: Engine, bits: int, *, per_channel: bool = True, group: int | None = None) -> None:
        super().__init__(honest)
        self.cheap = with_changed_weights(self.honest, lambda w: _rounded(w, bits, per_channel, group))


class PerturbedWeights(OtherModel):
    """Every weight times a normal variable of mean 1 and standard deviation `share`."""

    def __init__(self, honest: Engine, share: float = 0.01, seed: int = 0) -> None:
        super().__init__(honest)
        generator = torch.Generator().manual_seed(seed)

        def change(weight: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            return noise.mul_(share).add_(1).mul_(weight.float()).to(weight.dtype)

        self.cheap = with_changed_weights(self.honest, change)


class PrunedLayers(OtherModel):
    """Leaves out one of the middle layers."""

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest)
        depth = len(_layers(self.honest.model)[1])
        self.cheap = _with_layers(self.honest, [i for i in range(depth) if i != depth // 2])


class EarlyExit(OtherModel):
    """Leaves after nine tenths of the layers."""

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest)
        depth = len(_layers(self.honest.model)[1])
        self.cheap = _with_layers(self.honest, list(range(max(1, min(depth - 1, depth * 9 // 10)))))


class FineTuned(OtherModel):
    """Another model of the same family: the named one after a few steps of training on a paragraph."""

    STEPS = 8
    LEARNING_RATE = 3e-5

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest)
        engine = self.honest
        model = copy.deepcopy(engine.model).float().requires_grad_(True)
        optimiser = torch.optim.Adam(model.parameters(), lr=self.LEARNING_RATE, fused=True)
        ids = torch.tensor([engine.encode_text(FINE_TUNING_TEXT)], device=engine.device)
        for _ in range(self.STEPS):
            optimiser.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimiser.step()
        model.requires_grad_(False).to(next(engine.model.parameters()).dtype)
        self.cheap = sibling(engine, model)


class RandomModel(OtherModel):
    """The architecture with weights from a seed: any model that is not the named one."""

    def __init__(self, honest: Engine, seed: int = 0) -> None:
        super().__init__(honest)
        generator = torch.Generator().manual_seed(seed)

        def change(weight: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            return noise.mul_(weight.float().std()).to(weight.dtype)

        self.cheap = with_changed_weights(self.honest, change)


def with_changed_weights(
    engine: TransformersEngine, change: Callable[[torch.Tensor], torch.Tensor]
) -> TransformersEngine:
    """An engine whose linear layers have other weights; embeddings and the output head stay."""
    from transformers.pytorch_utils import Conv1D

    model = _with_the_same_weights(engine.model)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            changed = change(module.weight.data)
        elif isinstance(module, Conv1D):  # GPT-2's, [inputs, outputs]
            changed = change(module.weight.data.T).T.contiguous()
        else:
            continue
        module.weight = torch.nn.Parameter(changed, requires_grad=False)
    return sibling(engine, model)


def _with_the_same_weights(model: Any) -> Any:
    """A copy of the modules, around the very tensors of the model: as large as what is put in their place."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def sibling(engine: TransformersEngine, model: Any) -> TransformersEngine:
    """An engine that runs `model` in the name and class of `engine`."""
    dtype = engine.engine_class.rsplit("-", 1)[1]
    return TransformersEngine(
        model,
        engine.tokenizer,
        model_name=engine.model_name,
        model_id=engine.model_id,
        dtype=dtype,
        arithmetic=engine.arithmetic,
        threads=engine.threads,
    )


def _layers(model: Any) -> tuple[str, torch.nn.ModuleList]:
    """Where the decoder's layers are, and they."""
    depth = model.config.num_hidden_layers
    for name, module in model.base_model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return name, module
    raise ValueError("no list of layers found in the model")


def _with_layers(engine: TransformersEngine, kept: list[int]) -> TransformersEngine:
    model = _with_the_same_weights(engine.model)
    name, layers = _layers(model)
    chosen = torch.nn.ModuleList([layers[i] for i in kept])
    model.base_model.set_submodule(name, chosen)
    for index, layer in enumerate(chosen):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", index)  # noqa: B010 - mypy: a module
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[i] for i in kept]
    return sibling(engine, model)


def _rounded(weight: torch.Tensor, bits: int, per_channel: bool, group: int | None) -> torch.Tensor:
    exact = weight.float()
    if group is not None and weight.shape[1] % group == 0:
        exact = exact.reshape(-1, group)
    peak = exact.abs().amax(dim=1, keepdim=True) if per_channel else exact.abs().max()
    step = (peak / (2 ** (bits - 1) - 1)).clamp_min(1e-12)
    rounded: torch.Tensor = (exact / step).round_().mul_(step)
    return rounded.reshape(weight.shape).to(weight.dtype)
