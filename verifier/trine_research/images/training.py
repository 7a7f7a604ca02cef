"""Trains the small diffusion model that image mode is studied with: one core, minutes, the same weights every time.

The same on one machine and one release of torch, that is; others round otherwise, and the model's id tells them apart.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.nn.functional import mse_loss

from trine.errors import InvalidInput
from trine_research.images import latents, photographs
from trine_research.images.latents import CHANNELS, PATCH
from trine_research.images.pipeline import PinnedPipeline, pinned_scheduler

WARM_UP_STEPS = 50
EMA_DECAY = 0.99
MAX_GRADIENT_NORM = 1.0
LAYOUT = 1
"""Part of the folder's name: a change of recipe trains anew."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides which weights come out."""

    seed: int = 1
    steps: int = 1500
    batch: int = 32
    side: int = 32
    channels: tuple[int, ...] = (64, 96)
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if not (0 <= self.seed < 1 << 32 and 0 < self.steps <= 1_000_000 and 0 < self.batch <= 1024):
            raise InvalidInput("training: seed from 0 to 2^32 - 1, 1 to 1,000,000 steps, batches of 1 to 1024")
        halvings = PATCH << (len(self.channels) - 1)
        if not 8 <= self.side <= 256 or self.side % halvings:
            raise InvalidInput(f"training: a side of 8 to 256 pixels that {halvings} divides, not {self.side}")
        if not all(0 < width <= 1024 and width % 16 == 0 for width in self.channels):
            raise InvalidInput("training: channels are multiples of 16, at most 1024")
        if not 0 < self.learning_rate <= 1:
            raise InvalidInput("training: a learning rate lies between 0 and 1")


def folder_of(recipe: Recipe) -> Path:
    """Where the model of a recipe is kept: under `$TRINE_HOME/images`, else the user's cache folder."""
    home = os.environ.get("TRINE_HOME")
    root = Path(home) if home else Path(platformdirs.user_cache_dir("trine"))
    widths = "x".join(map(str, recipe.channels))
    name = f"v{LAYOUT}-seed{recipe.seed}-{recipe.steps}x{recipe.batch}-side{recipe.side}-{widths}"
    return root / "images" / f"{name}-lr{recipe.learning_rate:g}"


def network(recipe: Recipe) -> UNet2DModel:
    """An untrained one; attention at the lowest resolution only."""
    plain = len(recipe.channels) - 1
    return UNet2DModel(
        sample_size=recipe.side // PATCH,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=recipe.channels,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        norm_num_groups=8,
        attention_head_dim=16,
        num_class_embeds=len(photographs.CLASSES),
    )


def train(recipe: Recipe, progress: Callable[[int, float], None] = lambda step, loss: None) -> PinnedPipeline:
    """The trained pipeline, weights averaged over the last steps. Sets torch's seed. `progress` gets step and loss."""
    torch.manual_seed(recipe.seed)
    unet = network(recipe).train()
    scheduler = pinned_scheduler()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.learning_rate, weight_decay=0.01)
    average = EMAModel(unet.parameters(), decay=EMA_DECAY)
    batches = _Batches(recipe)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe.steps)
        clean, labels = batches.draw()
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (recipe.batch,))
        noisy = scheduler.add_noise(clean, noise, timesteps)
        target = scheduler.get_velocity(clean, noise, timesteps)
        loss = mse_loss(unet(noisy, timesteps, class_labels=labels).sample, target)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(unet.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        average.step(unet.parameters())
        progress(step + 1, float(loss.detach()))
    average.copy_to(unet.parameters())
    return PinnedPipeline(unet.eval(), scheduler, classes={name: i for i, name in enumerate(photographs.CLASSES)})


def train_once(recipe: Recipe, progress: Callable[[int, float], None] = lambda step, loss: None) -> Path:
    """The folder with the recipe's model: found, or trained now. It appears under its name only when it is complete."""
    folder = folder_of(recipe)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="incoming-") as scratch:
            result = Path(scratch) / "model"
            train(recipe, progress).save_pretrained(result, safe_serialization=True)
            result.rename(folder)
    return folder


class _Batches:
    """Crops, class numbers drawn evenly, from the recipe's seed alone."""

    def __init__(self, recipe: Recipe) -> None:
        self._generator = random.Random(recipe.seed)  # noqa: S311 - data, not secrets
        self._pictures: list[Image.Image] = list(photographs.load().values())
        self._recipe = recipe

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (batch, 16, side / 4, side / 4) and class numbers (batch)."""
        labels = [self._generator.randrange(len(self._pictures)) for _ in range(self._recipe.batch)]
        crops = [photographs.crop(self._pictures[label], self._generator, self._recipe.side) for label in labels]
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return latents.encode(pixels), torch.tensor(labels)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return 0.5 * (1 + float(np.cos(np.pi * done)))
