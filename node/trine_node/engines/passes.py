"""What a pass works on: pieces of sequences, the blocks that hold their keys and values, and one pass over them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Cache

from trine_node.engines.paging import BLOCK


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of one sequence, and where the sequence's blocks are."""

    ids: Sequence[int]
    start: int  # position of the first of them
    table: Sequence[int]


class Storage:
    """Keys and values of every layer, [(blocks + 1) * BLOCK, heads, width]; memory is touched as blocks are used."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.recorded: dict[Any, Any] = {}  # passes over this storage, see `gpu.replay`

    def layer(
        self, number: int, key: Sequence[int], value: Sequence[int], dtype: torch.dtype, device: Any = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's tensors, made at first use for keys and values of these shapes, [_, heads, width]."""
        if number not in self.layers:
            slots = (
                self.blocks + 1
            ) * BLOCK  # the last block is nobody's: rows that fill up a recorded pass write there
            self.layers[number] = (
                torch.empty(slots, *key[1:], dtype=dtype, device=device),
                torch.empty(slots, *value[1:], dtype=dtype, device=device),
            )
        return self.layers[number]

    @property
    def token_bytes(self) -> int:
        """Of a token over all layers, once they are known."""
        return sum(k[0].nbytes + v[0].nbytes for k, v in self.layers.values())


class Pass(Cache):
    """What attention needs to know during one pass; transformers hands it through as the cache."""

    def __init__(self, storage: Storage, segments: Sequence[Segment], arithmetic: str, threads: int) -> None:
        super().__init__(layers=[])
        self.storage = storage
        self.segments = segments
        self.arithmetic = arithmetic
        self.threads = threads
        self.block = BLOCK
        longest = max(-(-(s.start + len(s.ids)) // BLOCK) for s in segments)
        self.tables = np.zeros((len(segments), longest), dtype=np.int32)
        for number, segment in enumerate(segments):
            used = segment.table[:longest]
            self.tables[number, : len(used)] = used
        lengths = [len(s.ids) for s in segments]
        sequence = np.repeat(np.arange(len(segments), dtype=np.int32), lengths)
        position = np.concatenate([np.arange(s.start, s.start + len(s.ids), dtype=np.int32) for s in segments])
        self.rows = np.stack([sequence, position], axis=1)
        slots = self.tables[sequence, position // BLOCK].astype(np.int64) * BLOCK + position % BLOCK
        self.slots = torch.from_numpy(slots)
        self.positions = torch.from_numpy(position.astype(np.int64))

    @functools.cached_property
    def on_device(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`tables` and `rows` where keys and values are."""
        device = next(iter(self.storage.layers.values()))[0].device
        return torch.from_numpy(self.tables).to(device), torch.from_numpy(self.rows).to(device)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores the rows' keys and values, [1, heads, rows, width]; hands them back as they came."""
        key, value = (by_row(states, self.arithmetic) for states in (key_states, value_states))
        keys, values = self.storage.layer(layer_idx, key.shape, value.shape, key.dtype, key.device)
        slots = self.slots.to(key.device)
        keys.index_copy_(0, slots, key)
        values.index_copy_(0, slots, value)
        return key_states, value_states


def by_row(states: torch.Tensor, arithmetic: str) -> torch.Tensor:
    """[rows, heads, width] from [1, heads, rows, width]; the kernels want widths in multiples of 8."""
    rows = states[0].transpose(0, 1)
    missing = -rows.shape[-1] % 8 if arithmetic == "invariant" else 0
    return torch.nn.functional.pad(rows, (0, missing)) if missing else rows
