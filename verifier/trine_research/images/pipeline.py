"""A class-conditional diffusers pipeline in which nothing is left to chance: request in, picture out.

Pinned with the model: the scheduler with its number of steps (DDIM without added noise) and the names of the classes.
Pinned by the request: model, class, seed. Knows nothing of hashes and verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DModel
from numpy.typing import NDArray

from trine.errors import InvalidInput
from trine.protocol.manifest import File, Manifest, model_id
from trine_research.images import latents
from trine_research.images.noise import initial_noise

STEPS = 10
MAX_STEPS = 1000
MAX_CLASSES = 1000
MAX_BATCH = 1024

Pictures = NDArray[np.uint8]
"""(n, height, width, 3), RGB."""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What a client asks for. The noise depends on all three, so no two models or classes share a start."""

    model_id: bytes
    label: str
    seed: int


class PinnedPipeline(DiffusionPipeline):  # type: ignore[misc]
    """`unet` predicts the velocity of latents (16, side / 4, side / 4); `scheduler` is a DDIM scheduler.

    `classes` gives every class's number: diffusers takes a list, or what has no default, for a component.
    """

    def __init__(
        self, unet: UNet2DModel, scheduler: Any, classes: dict[str, int] | None = None, steps: int = STEPS
    ) -> None:
        super().__init__()
        if not classes or len(classes) > MAX_CLASSES or not 0 < steps <= MAX_STEPS:
            raise InvalidInput(f"a pipeline has 1 to {MAX_CLASSES} classes and 1 to {MAX_STEPS} steps")
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(classes=dict(classes), steps=steps)

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        side = int(self.unet.config.sample_size)
        return latents.CHANNELS, side, side

    def noise_of(self, request: ImageRequest) -> NDArray[np.float32]:
        """(16, side / 4, side / 4). Raises InvalidInput for a bad id or seed."""
        return initial_noise(request.model_id, request.label, request.seed, self.noise_shape)

    def class_of(self, request: ImageRequest) -> int:
        """Raises InvalidInput for a class that the model does not have."""
        classes: dict[str, int] = self.config.classes
        if request.label not in classes:
            raise InvalidInput(f"the model has no class {request.label!r}; it has {', '.join(classes)}")
        return classes[request.label]

    def make(self, requests: Sequence[ImageRequest]) -> Pictures:
        """One picture a request, all in one batch of at most 1024. Raises InvalidInput."""
        if not 0 < len(requests) <= MAX_BATCH:
            raise InvalidInput(f"a batch has 1 to {MAX_BATCH} requests, not {len(requests)}")
        labels = torch.tensor([self.class_of(request) for request in requests])
        noise = torch.from_numpy(np.stack([self.noise_of(request) for request in requests]))
        return self(labels, noise)

    @torch.inference_mode()
    def __call__(self, labels: torch.Tensor, noise: torch.Tensor) -> Pictures:
        """Denoises `noise` (n, 16, h, w), fp32, for class numbers `labels` (n).

        The state stays in fp32 whatever the weights' precision is, so that steps add no rounding of their own.
        """
        state = noise
        self.scheduler.set_timesteps(self.config.steps)
        for timestep in self.scheduler.timesteps:
            predicted = self.unet(state.to(self.unet.dtype), timestep, class_labels=labels).sample.float()
            state = self.scheduler.step(predicted, timestep, state).prev_sample
        pixels = latents.decode(state).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous().numpy()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From a folder that `save_pretrained` wrote. Raises InvalidInput where there is none, or a broken one."""
        try:
            pipeline: Self = cls.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{folder} holds no image model ({error}); train one: trine-study image train") from None
        pipeline.unet.eval()
        return pipeline


def pinned_scheduler() -> DDIMScheduler:
    """Cosine schedule, velocity, steps from pure noise to the end. eta is 0 unless somebody asks otherwise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
    )


def id_of(folder: Path, name: str) -> bytes:
    """The model's id as the registry computes it: a manifest of all files; folders become dots in their names."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            role = "weights" if path.suffix == ".safetensors" else "config"
            flat = ".".join(path.relative_to(folder).parts)
            files.append(File(flat, role, len(content), hashlib.sha256(content).hexdigest()))
    return model_id(name, Manifest(tuple(sorted(files))).content_hash())
