"""Models whose layers `kernels.decoder` computes in one call: Llama and those built like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trine_node.engines.kernels import use_threads
from trine_node.engines.kernels.decoder import FIELDS, decode
from trine_node.engines.kernels.products import KINDS

if TYPE_CHECKING:
    from trine_node.engines.passes import Pass

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


class Decoder:
    """The layers of a transformers model, computed by `kernels.decoder`."""

    def __init__(self, model: Any) -> None:
        self.base = model.base_model
        config = model.config
        self.hidden = int(config.hidden_size)
        self.heads = int(config.num_attention_heads)
        self.shared = int(config.num_key_value_heads)
        self.width = int(getattr(config, "head_dim", None) or self.hidden // self.heads)
        self.inner = int(config.intermediate_size)
        self.layers = list(self.base.layers)[: config.num_hidden_layers]
        self._weights = [_weights_of(layer) for layer in self.layers]
        attention = [layer.self_attn for layer in self.layers]
        self.windows = np.array([getattr(a, "sliding_window", None) or 0 for a in attention], dtype=np.int64)
        if config.model_type == "mistral":
            self.windows[:] = config.sliding_window or 0

    @classmethod
    def of(cls, model: Any) -> Decoder | None:
        """None for a model that is not built so, or whose sizes do not suit the kernels."""
        config = model.config
        if config.model_type not in MODEL_TYPES or config.hidden_act not in ("silu", "swish"):
            return None
        found = cls(model)
        unsuited = any(size % 8 for size in (found.hidden, found.width, found.inner))
        turned, _ = found.base.rotary_emb(torch.zeros(1, 1, found.hidden), torch.zeros(1, 1, dtype=torch.int64))
        unsuited = unsuited or turned.shape[-1] != found.width  # only a part of each head is rotated
        biased = any(
            layer.mlp.down_proj.bias is not None or layer.self_attn.o_proj.bias is not None for layer in found.layers
        )
        return None if unsuited or biased or model.dtype not in KINDS else found

    @torch.inference_mode()
    def run(self, ids: torch.Tensor, current: Pass) -> torch.Tensor:
        """Final hidden states of a pass, [rows, hidden], in the model's precision."""
        embedded = self.base.embed_tokens(ids)
        cosine, sine = (
            part[0].float().contiguous() for part in self.base.rotary_emb(embedded, current.positions[None])
        )
        x = embedded.float().contiguous()
        count, dtype = len(current.rows), embedded.dtype
        line = current.tables.shape[1] * current.block
        group = self.heads // self.shared
        buffers = [
            torch.empty(count, size)
            for size in (
                self.hidden, self.heads * self.width, self.shared * self.width, self.shared * self.width,
                self.inner, self.inner,
            )
        ]  # fmt: skip
        buffers.append(torch.empty(current.threads, line + 1, group))
        first = self.layers[0].self_attn
        norm = self.base.norm
        parts = use_threads(current.threads)
        meeting = np.zeros(3, dtype=np.int64)
        while meeting[1] != 1:
            meeting[:] = 0
            decode(
                KINDS[dtype], self._addresses(current, dtype), x.data_ptr(),
                np.array([buffer.data_ptr() for buffer in buffers]), cosine.data_ptr(), sine.data_ptr(), current.tables,
                current.rows, current.slots.numpy(), self.hidden, self.heads, self.shared, self.width, self.inner, line,
                np.float32(norm.variance_epsilon), np.float32(first.scaling), self.windows, norm.weight.data_ptr(),
                parts, meeting,
            )  # fmt: skip
            parts = 1  # if the threads could not run at the same time
        return buffers[0].to(dtype)

    def _addresses(self, current: Pass, dtype: torch.dtype) -> np.ndarray:
        """Read anew for every pass: whoever gives a weight other numbers is obeyed."""
        table = np.zeros((len(self.layers), FIELDS), dtype=np.int64)
        shape = (1, self.shared, self.width)
        for number, weights in enumerate(self._weights):
            keys, values = current.storage.layer(number, shape, shape, dtype)
            table[number] = [
                *(0 if weight is None else weight.data_ptr() for weight in weights),
                keys.data_ptr(),
                values.data_ptr(),
            ]
        return table


def _weights_of(layer: Any) -> list[Any]:
    """In the order of the table of addresses; None for what a model has not."""
    a, m = layer.self_attn, layer.mlp
    return [
        layer.input_layernorm.weight, a.q_proj.weight, a.k_proj.weight, a.v_proj.weight, a.o_proj.weight,
        layer.post_attention_layernorm.weight, m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight,
        a.q_proj.bias, a.k_proj.bias, a.v_proj.bias,
        *(getattr(getattr(a, name, None), "weight", None) for name in ("q_norm", "k_norm")),
    ]  # fmt: skip
