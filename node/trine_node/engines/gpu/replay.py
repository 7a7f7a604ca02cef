"""Passes of one token a sequence, recorded once and replayed: a GPU is given one graph instead of hundreds of kernels.

What a recorded pass reads lies in buffers that never move: ids, positions, places and tables are copied into them, and
rows that nobody asked for fill it up to the next of a few sizes. They change no other row: that is what the kernels
promise, and why only passes in that arithmetic are recorded. Their own keys and values go into a block of nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trine_node.engines.paging import BLOCK
from trine_node.engines.passes import Pass, Segment, Storage

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of a recorded pass. Longer ones keep a GPU busy for longer than it takes to launch their kernels."""
WORTH = 4
"""A size is recorded when so many passes of it have been made over one storage: recording costs as much as three."""

Forward = Callable[[Pass, torch.Tensor], torch.Tensor]
"""Final hidden states of a pass and its ids."""
Record = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]
"""From a function of buffers that do not move to one that does the same over again, perhaps into the same result."""


def size_of(segments: Sequence[Segment]) -> int | None:
    """Rows of the recorded pass that these fit into, None if they are none that can be recorded."""
    if any(len(segment.ids) != 1 for segment in segments):
        return None
    return next((size for size in SIZES if size >= len(segments)), None)


class Standing(Pass):
    """A pass over buffers that are filled anew each time; `size` rows, each of a sequence of its own."""

    def __init__(self, storage: Storage, size: int, width: int, arithmetic: str, device: torch.device) -> None:
        """`width`: blocks of the longest sequence that may come."""
        self.size = size
        self._tables = torch.zeros(size, width, dtype=torch.int32, device=device)
        self._rows = torch.zeros(size, 2, dtype=torch.int32, device=device)
        nobodys = storage.blocks * BLOCK + np.arange(size) % BLOCK
        filler = [Segment([0], 0, [storage.blocks])] * size
        super().__init__(storage, filler, arithmetic, threads=1)
        self._idle_slots = torch.from_numpy(nobodys.astype(np.int64))
        self.slots, self.positions = self._idle_slots.to(device), self.positions.to(device)
        self.ids = torch.zeros(1, size, dtype=torch.int64, device=device)
        self.on_device = (self._tables, self._rows)

    def fill(self, segments: Sequence[Segment]) -> None:
        """What is to be computed next: at most `size` segments of one token each."""
        current = Pass(self.storage, segments, self.arithmetic, self.threads)
        count = len(segments)
        rows = np.zeros((self.size, 2), dtype=np.int32)
        rows[:, 0] = np.arange(self.size)
        rows[:count] = current.rows
        ids = torch.zeros(1, self.size, dtype=torch.int64)
        ids[0, :count] = torch.tensor([segment.ids[0] for segment in segments])
        slots, positions = self._idle_slots.clone(), torch.zeros(self.size, dtype=torch.int64)
        slots[:count], positions[:count] = current.slots, current.positions
        self._tables[:count, : current.tables.shape[1]].copy_(torch.from_numpy(current.tables))
        self._tables[count:, 0] = self.storage.blocks
        self._rows.copy_(torch.from_numpy(rows))
        self.slots.copy_(slots)
        self.positions.copy_(positions)
        self.ids.copy_(ids)


@dataclass(slots=True)
class _Recorded:
    """Of one size over one storage: how often it was asked for, and what was recorded."""

    asked: int = 0
    standing: Standing | None = None
    again: Callable[[], torch.Tensor] | None = None


class Replays:
    """Records passes of a model over storages and replays them. What it records lives as long as the storage."""

    def __init__(self, forward: Forward, record: Record, context_tokens: int, device: torch.device) -> None:
        self.fault: str | None = None  # why nothing is recorded any more
        self.replayed = 0  # passes
        self._forward = forward
        self._record = record
        self._width = -(-context_tokens // BLOCK)
        self._device = device

    def states(self, storage: Storage, segments: Sequence[Segment]) -> torch.Tensor | None:
        """Final hidden states [rows, hidden] of a recorded pass; None where it has to be computed step by step."""
        size = size_of(segments)
        if size is None or self.fault is not None:
            return None
        recorded: _Recorded = storage.recorded.setdefault((id(self), size), _Recorded())
        recorded.asked += 1
        if recorded.again is None and recorded.asked <= WORTH:
            return None
        if recorded.standing is None:
            width = min(self._width, storage.blocks)
            recorded.standing = Standing(storage, size, width, "triton", self._device)
        recorded.standing.fill(segments)
        if recorded.again is None:
            standing = recorded.standing
            try:
                recorded.again = self._record(lambda: self._forward(standing, standing.ids))
            except RuntimeError as error:  # an operation that has to wait for the GPU: such a model goes step by step
                self.fault = str(error)
                storage.recorded.clear()
                return None
        self.replayed += 1
        return recorded.again()[: len(segments)].clone()


def as_graph(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """A CUDA graph of all kernels that `function` launches. Raises RuntimeError where it waits for one of them."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        function()  # compiles, and makes what is made at first use
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()

    def again() -> torch.Tensor:
        graph.replay()
        return result

    return again


def step_by_step(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Computes it anew every time: what is left of a recording without a GPU, buffers and filled-up rows included."""
    return function


def recorder_for(device: Any) -> Record:
    return as_graph if device.type == "cuda" else step_by_step
