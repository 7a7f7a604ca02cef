"""One pass of a transformers model over rows of many sequences at once, without padding.

Every row is a token at its place in a sequence; keys and values live in blocks (`passes`, `paging`). The arithmetic is
one of

- `invariant` (CPU): our kernels, where a row's result does not depend on what else is in the pass;
- `triton` (CUDA, or Triton's interpreter): our kernels for GPUs, which promise the same;
- `sdpa` or `eager` (any device): torch's own, which promise nothing of the kind.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.activations import ACT2CLS
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from trine_node.engines.base import EngineError
from trine_node.engines.paging import BLOCK
from trine_node.engines.passes import Pass, Segment, Storage, by_row

if TYPE_CHECKING:
    from trine_node.engines.decoder import Decoder
    from trine_node.engines.gpu.replay import Replays

ATTENTION = "trine"
log = logging.getLogger(__name__)
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


_running = threading.local()


class Runner:
    """A model made fit for passes, in place. Raises EngineError for architectures that cannot be driven so."""

    def __init__(self, model: Any, arithmetic: str, threads: int) -> None:
        self.model = _adapted(model, arithmetic, threads)
        self.arithmetic = arithmetic
        self.threads = threads
        self.device = next(model.parameters()).device
        self._decoder: Decoder | None = None
        self.replays: Replays | None = None
        if arithmetic == "invariant":
            from trine_node.engines.decoder import Decoder

            self._decoder = Decoder.of(model)
        if arithmetic == "triton":
            from trine_node.engines.gpu.replay import Replays, recorder_for

            if self.device.type == "cuda":
                from trine_node.engines.gpu.kernels import keep_tiles_that_agree

                for tile in keep_tiles_that_agree(self.device, model.dtype):
                    log.warning("%s has other bits than smaller tiles on this device: it is not used", tile)
            self._refuse_other_sums()
            context = int(model.config.get_text_config().max_position_embeddings)
            self.replays = Replays(self._forward, recorder_for(self.device), context, self.device)

    def own_sums(self) -> contextlib.AbstractContextManager[Any]:
        """In it, torch's sums over rows are ours where the arithmetic promises something and torch's do not keep it."""
        if self.arithmetic != "triton":
            return contextlib.nullcontext()
        from trine_node.engines.gpu.invariance import OwnSums

        return OwnSums()

    def product(self, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """rows [n, inputs] times weight [outputs, inputs], transposed, in this arithmetic."""
        linear = _linear_of(self.arithmetic, self.threads)
        return linear(rows, weight, None)

    def _refuse_other_sums(self) -> None:
        from trine_node.engines.gpu.invariance import Audit

        with Audit() as audit:
            self.states(Storage(3), [Segment([1, 2, 3], 0, [0]), Segment([4] * 18, 0, [1, 2])])
        if audit.found:
            raise EngineError(
                f"{type(self.model).__name__}: {', '.join(sorted(audit.found))} may give a row another result in other "
                "company, and there is no kernel of ours for it; arithmetic 'sdpa' serves the model without the promise"
            )

    @torch.inference_mode()
    def states(self, storage: Storage, segments: Sequence[Segment]) -> torch.Tensor:
        """Final hidden states of all rows, [rows, hidden], after the last norm."""
        if self.replays and (found := self.replays.states(storage, segments)) is not None:
            return found
        # torch splits work by its number of threads, and with it the order of some sums.
        torch.set_num_threads(1 if self.arithmetic == "invariant" else self.threads)
        current = Pass(storage, segments, self.arithmetic, self.threads)
        ids = torch.tensor([[i for segment in segments for i in segment.ids]], device=self.device)
        if self._decoder:
            return self._decoder.run(ids[0], current)
        return self._forward(current, ids)

    def _forward(self, current: Pass, ids: torch.Tensor) -> torch.Tensor:
        """Final hidden states of a pass by transformers' own modules; `ids`: [1, rows]."""
        _running.current = current
        try:
            with self.own_sums():
                output = self.model.base_model(
                    input_ids=ids,
                    position_ids=current.positions[None].to(self.device),
                    past_key_values=current,
                    use_cache=True,
                )
        finally:
            _running.current = None
        return torch.as_tensor(output.last_hidden_state[0])


def pin_settings() -> None:
    """All of torch's settings that let a GPU round differently from one run or one shape to the next."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = False
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _adapted(model: Any, arithmetic: str, threads: int) -> Any:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not getattr(model, "_supports_attention_backend", False) or not kinds <= {"full_attention", "sliding_attention"}:
        raise EngineError(
            f"{type(model).__name__}: only models whose attention transformers lets others compute can be served"
        )
    if arithmetic in ("invariant", "triton") and any(getattr(config, name, None) for name in EXPERTS):
        raise EngineError(
            f"{type(model).__name__}: mixtures of experts are not served with the promise: torch gathers the rows of "
            "an expert and adds up the experts' answers in an order that depends on what else is in the pass; "
            "arithmetic 'sdpa' serves them without it"
        )
    model.config._attn_implementation = ATTENTION
    if arithmetic in ("invariant", "triton"):
        from transformers.pytorch_utils import Conv1D

        linear = _linear_of(arithmetic, threads)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                setattr(module, "forward", functools.partial(_linear, module, linear))  # noqa: B010 - mypy: a method
            elif isinstance(module, Conv1D):
                setattr(module, "forward", functools.partial(_conv1d, module, linear))  # noqa: B010
            elif arithmetic == "invariant" and isinstance(module, _ACTIVATIONS) and not list(module.children()):
                setattr(module, "forward", functools.partial(_activation, type(module).forward, module))  # noqa: B010
    elif next(model.parameters()).device.type == "cpu" and model.dtype != torch.float32 and not _has_half_precision():
        for module in model.base_model.modules():
            if isinstance(module, torch.nn.Linear):
                setattr(module, "forward", functools.partial(widened, module))  # noqa: B010
    return model


def widened(module: torch.nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """`module` of rows [..., inputs]: many are multiplied in fp32 and rounded to the module's precision.

    The same rounding in fp32's time, where a CPU without instructions for half precision would emulate them.
    """
    if rows.numel() // rows.shape[-1] < WIDENED_ROWS:
        return torch.nn.functional.linear(rows, module.weight, module.bias)
    bias = None if module.bias is None else module.bias.float()
    return torch.nn.functional.linear(rows.float(), module.weight.float(), bias).to(rows.dtype)


def _has_half_precision() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


WIDENED_ROWS = 4
"""From so many rows on, multiplying in fp32 pays for widening the weights."""
_VECTOR = 64
_ACTIVATIONS: Any = tuple(
    {torch.nn.GELU, *(entry[0] if isinstance(entry, tuple) else entry for entry in ACT2CLS.values())}
)


def _activation(function: Any, module: Any, x: torch.Tensor) -> torch.Tensor:
    """torch computes the last elements of a tensor one by one, which may differ from its vectors: there are none."""
    if torch.is_grad_enabled() or x.numel() % _VECTOR == 0:
        return torch.as_tensor(function(module, x))
    flat = torch.nn.functional.pad(x.reshape(-1), (0, -x.numel() % _VECTOR))
    return torch.as_tensor(function(module, flat))[: x.numel()].reshape(x.shape)


Linear = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def _linear_of(arithmetic: str, threads: int) -> Linear:
    if arithmetic in ("sdpa", "eager"):
        return torch.nn.functional.linear
    if arithmetic == "triton":
        from trine_node.engines.gpu.kernels import linear as on_gpu

        return on_gpu
    from trine_node.engines.kernels.linear import linear as on_cpu

    return functools.partial(on_cpu, threads=threads)


def _linear(module: Any, linear: Linear, x: torch.Tensor) -> torch.Tensor:
    if torch.is_grad_enabled():
        return torch.nn.functional.linear(x, module.weight, module.bias)
    return linear(x, module.weight, module.bias)


def _conv1d(module: Any, linear: Linear, x: torch.Tensor) -> torch.Tensor:
    """GPT-2's linear layer, whose weight is [inputs, outputs]; the transpose is kept until the weight changes."""
    if torch.is_grad_enabled():
        return torch.nn.functional.linear(x, module.weight.T, module.bias)
    weight = module.weight
    source = (weight.data_ptr(), None if weight.is_inference() else weight._version)
    if getattr(module, "transposed_from", None) != source:
        module.transposed, module.transposed_from = weight.T.contiguous(), source
    return linear(x, module.transposed, module.bias)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' interface of attention: [1, heads, rows, width] to [1, rows, heads, width]."""
    current: Pass | None = getattr(_running, "current", None)
    if current is None:  # the model is used by itself, not through `forward`
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **rest)
        return output, None
    if rest.get("s_aux") is not None or not getattr(module, "is_causal", True):
        raise EngineError(f"{type(module).__name__}: attention with sinks, or not causal, cannot be served")
    keys, values = current.storage.layers[module.layer_idx]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if current.arithmetic == "invariant":
        from trine_node.engines.kernels.attention import attention

        result = attention(
            by_row(query, "invariant"),
            keys,
            values,
            current.tables,
            current.rows,
            scale=scale,
            window=sliding_window or 0,
            cap=softcap or 0.0,
            threads=current.threads,
        )
        return result[None, :, :, : value.shape[-1]].to(query.dtype), None
    if current.arithmetic == "triton":
        from trine_node.engines.gpu.kernels import attention as on_gpu

        rows = by_row(query, "triton")
        tables, places = current.on_device
        cap, window = softcap or 0.0, sliding_window or 0
        result = on_gpu(rows, keys, values, tables, places, scale=scale, window=window, cap=cap, block=BLOCK)
        return result[None], None
    return _by_sequence(current, query, keys, values, scale, sliding_window or 0, softcap), None


def _by_sequence(
    current: Pass,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
    window: int,
    cap: float | None,
) -> torch.Tensor:
    """torch's attention, one sequence after the other; in fp32 and rounded where a CPU would emulate half precision."""
    results = []
    dtype = query.dtype
    wide = torch.float32 if query.device.type == "cpu" and not _has_half_precision() else dtype
    query = query.to(wide)
    row = 0
    for segment, table in zip(current.segments, current.tables, strict=True):
        end = segment.start + len(segment.ids)
        places = torch.arange(end, device=query.device)
        slots = torch.from_numpy(table).to(query.device)[places // BLOCK].long() * BLOCK + places % BLOCK
        own = query[:, :, row : row + len(segment.ids)]
        row += len(segment.ids)
        group = query.shape[1] // keys.shape[1]
        key, value = (of[slots].to(wide).transpose(0, 1)[None].repeat_interleave(group, dim=1) for of in (keys, values))
        ahead = places[None, :] - places[segment.start :, None]
        seen = (ahead <= 0) & ((ahead > -window) if window else True)
        if current.arithmetic == "eager" or cap:
            scores = own @ key.transpose(2, 3) * scale
            scores = cap * torch.tanh(scores / cap) if cap else scores
            shares = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1, dtype=torch.float32).to(own.dtype)
            results.append(shares @ value)
        else:
            results.append(torch.nn.functional.scaled_dot_product_attention(own, key, value, seen, scale=scale))
    return torch.cat(results, dim=2).transpose(1, 2).to(dtype)


AttentionInterface.register(ATTENTION, _attention)
