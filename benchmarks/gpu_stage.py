"""What the stages of `gpu_day` have in common: where they run, how large they are, models, clocks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from engine import RANDOM_SHAPES, random_model

from trine_node.engines.cli import folder_of
from trine_node.engines.transformers_engine import TransformersEngine

T = TypeVar("T")
Keep = Callable[[Mapping[str, Any]], None]
"""Writes what a stage has found so far: a stage that is killed leaves that."""


@dataclass(frozen=True, slots=True)
class Day:
    """One machine, one model, one folder."""

    device: str
    model: str
    out: Path
    answers: Path | None  # of CPUs, to be judged here: see `gpu_answers`
    reduced: bool  # the rehearsal: everything once, on next to nothing
    threads: int
    until: float = float("inf")  # of the monotonic clock: a stage that repeats itself stops before

    def pick(self, full: T, small: T) -> T:
        return small if self.reduced else full

    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()


def load(day: Day, dtype: str, **options: Any) -> TransformersEngine:
    """The model of the day, or one of random numbers."""
    if day.model in RANDOM_SHAPES:
        raise ValueError(f"{day.model} answers nothing")
    return TransformersEngine.load(
        folder_of(day.model),
        model_name="gpu-day",
        model_id=bytes(32),
        dtype=dtype,
        device=day.device,
        threads=day.threads,
        **options,
    )


def load_any(day: Day, name: str, dtype: str, **options: Any) -> TransformersEngine:
    """`name`: "real", or a key of RANDOM_SHAPES. Never ends an answer before it is as long as may be."""
    if name == "real":
        engine = load(day, dtype, **options)
    else:
        shape = day.pick(name, "random-tiny")
        engine = random_model(shape, dtype, day.device, day.threads, tokenizer=folder_of(day.model), **options)
    engine.eos_ids = frozenset()
    engine._batch.model.eos_ids = frozenset()
    return engine


def wait_for(device: str) -> None:
    """Until the device has computed what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(day: Day, function: Callable[[], Any], runs: int = 3) -> float:
    """Median of some runs after a first one that does not count."""
    times = []
    for _ in range(1 + runs):
        wait_for(day.device)
        started = time.perf_counter()
        function()
        wait_for(day.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def weight_bytes(model: Any) -> int:
    return sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values())


def peak_bytes(device: str) -> int:
    """Of the device's memory since the last call; 0 where nobody counts it."""
    if not device.startswith("cuda"):
        return 0
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return int(peak)
