"""Ways to make a picture: honest ones that differ in rounding, and cheats that save work. Studies run them all.

Each takes the model and requests and returns pictures. A cheat starts from the honest noise wherever it can:
that is its best case.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DModel,
)
from diffusers.models.attention_processor import Attention, AttnProcessor
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from trine_research.images import latents, photographs
from trine_research.images.files import from_file, to_jpeg
from trine_research.images.pipeline import ImageRequest, Pictures, PinnedPipeline

Maker = Callable[[PinnedPipeline, Sequence[ImageRequest]], Pictures]


def with_network(pipeline: PinnedPipeline, unet: UNet2DModel) -> PinnedPipeline:
    """The same pipeline around another network."""
    return PinnedPipeline(unet, pipeline.scheduler, pipeline.config.classes, pipeline.config.steps)


def with_steps(pipeline: PinnedPipeline, steps: int, scheduler: Any = None) -> PinnedPipeline:
    """The same network, another number of steps, another scheduler."""
    return PinnedPipeline(pipeline.unet, scheduler or pipeline.scheduler, pipeline.config.classes, steps)


# Honest engines


def honest(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    return pipeline.make(requests)


def one_by_one(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    return np.concatenate([pipeline.make([request]) for request in requests])


def on_threads(threads: int) -> Maker:
    def make(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return pipeline.make(requests)
        finally:
            torch.set_num_threads(before)

    return make


def plain_attention(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """Softmax and two products instead of the fused kernel."""
    unet = copy.deepcopy(pipeline.unet)
    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())
    return with_network(pipeline, unet).make(requests)


def channels_last(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """Another memory layout: other kernels, other orders of summation."""
    return with_network(pipeline, copy.deepcopy(pipeline.unet).to(memory_format=torch.channels_last)).make(requests)


def native(dtype: torch.dtype) -> Maker:
    """Weights and arithmetic in `dtype`. Many times slower than fp32 on a CPU without instructions for it."""

    def make(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
        unet = copy.deepcopy(pipeline.unet)
        for module in unet.modules():
            module._apply(lambda tensor: tensor.to(dtype), recurse=False)
        return with_network(pipeline, unet).make(requests)

    return make


def rounded_to(dtype: torch.dtype) -> Maker:
    """Weights and every layer's result rounded to `dtype`, sums in fp32: what tensor cores do, at fp32's speed here."""

    def rounded(module: nn.Module, inputs: object, result: Any) -> Any:
        return result.to(dtype).float() if isinstance(result, torch.Tensor) else result

    def make(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
        unet = _changed(pipeline.unet, lambda weight: weight.to(dtype).float())
        for module in unet.modules():
            if not any(module.children()):
                module.register_forward_hook(rounded)
        return with_network(pipeline, unet).make(requests)

    return make


# Cheats


def other_class(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """The right noise, the class after the right one."""
    noise = torch.from_numpy(np.stack([pipeline.noise_of(request) for request in requests]))
    labels = torch.tensor([(pipeline.class_of(request) + 1) % len(pipeline.config.classes) for request in requests])
    return pipeline(labels, noise)


def fewer_steps(steps: int) -> Maker:
    return lambda pipeline, requests: with_steps(pipeline, steps).make(requests)


def dpm_solver(steps: int) -> Maker:
    """A better solver of the same equation."""

    def make(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
        scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        return with_steps(pipeline, steps, scheduler).make(requests)

    return make


def ancestral(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """DDPM: fresh noise at every step."""
    with torch.random.fork_rng():
        torch.manual_seed(requests[0].seed)
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        return with_steps(pipeline, pipeline.config.steps, scheduler).make(requests)


def quantized(bits: int) -> Maker:
    """Weights of every layer rounded to `bits` bits, symmetric, a scale for each output channel."""
    most = 2 ** (bits - 1) - 1

    def rounded(weight: torch.Tensor) -> torch.Tensor:
        if weight.ndim < 2:
            return weight
        rows = weight.flatten(1)
        scale: torch.Tensor = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / most
        return ((rows / scale).round().clamp(-most, most) * scale).reshape(weight.shape)

    return _reweighted(rounded)


def perturbed(share: float, seed: int = 0) -> Maker:
    """Every weight times 1 + `share` times a standard normal number."""

    def make(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
        generator = torch.Generator().manual_seed(seed)
        unet = _changed(pipeline.unet, lambda w: w * (1 + share * torch.randn(w.shape, generator=generator)))
        return with_network(pipeline, unet).make(requests)

    return make


def pruned(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """Without the middle block."""
    unet = copy.deepcopy(pipeline.unet)
    unet.mid_block = _Skip()
    return with_network(pipeline, unet).make(requests)


class _Skip(nn.Module):
    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return hidden


def low_resolution(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """A picture of half the sides, from the honest noise averaged to unit variance, enlarged."""
    noise = torch.from_numpy(np.stack([pipeline.noise_of(request) for request in requests]))
    small = interpolate(noise, scale_factor=0.5, mode="area") * 2
    labels = torch.tensor([pipeline.class_of(request) for request in requests])
    return np.stack([_enlarged(picture) for picture in pipeline(labels, small)])


def photograph(pipeline: PinnedPipeline, requests: Sequence[ImageRequest]) -> Pictures:
    """No model at all: a crop of the training data."""
    pictures = photographs.load()
    side = latents.PATCH * pipeline.noise_shape[1]
    generator = random.Random(requests[0].seed)  # noqa: S311 - a cheat, not a secret
    return np.stack([photographs.crop(pictures[request.label], generator, side) for request in requests])


def replaced_by(other: PinnedPipeline) -> Maker:
    """Another model, started from the noise of the right one."""
    return lambda pipeline, requests: other.make(requests)


def re_encoded(pictures: Pictures, quality: int) -> Pictures:
    """(n, …) pictures through JPEG: no cheat, and a hash that looks at what people see should pass it."""
    return np.stack([from_file(to_jpeg(picture, quality)) for picture in pictures])


def _enlarged(picture: Any) -> Any:
    side = picture.shape[0] * 2
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def _changed(unet: UNet2DModel, change: Callable[[torch.Tensor], torch.Tensor]) -> UNet2DModel:
    copied = copy.deepcopy(unet)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.copy_(change(parameter))
    return copied


def _reweighted(change: Callable[[torch.Tensor], torch.Tensor]) -> Maker:
    return lambda pipeline, requests: with_network(pipeline, _changed(pipeline.unet, change)).make(requests)
