"""Keeps everything out of a pass whose result for one row could depend on the other rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from trine_node.engines.gpu.kernels import row_sums

INDEPENDENT = frozenset(
    {
        "aten::_local_scalar_dense",
        "aten::_to_copy",
        "aten::_unsafe_view",
        "aten::amax",
        "aten::any",
        "aten::arange",
        "aten::cat",
        "aten::clone",
        "aten::constant_pad_nd",
        "aten::copy_",
        "aten::detach_",
        "aten::embedding",
        "aten::empty",
        "aten::empty_like",
        "aten::empty_strided",
        "aten::full",
        "aten::gather",
        "aten::index",
        "aten::index_copy_",
        "aten::index_select",
        "aten::lift_fresh",
        "aten::max",
        "aten::native_layer_norm",
        "aten::new_empty",
        "aten::ones",
        "aten::repeat",
        "aten::scalar_tensor",
        "aten::set_",
        "aten::stack",
        "aten::zeros",
        "aten::_fused_rms_norm",
    }
)
"""Operations that are neither views nor element by element, and yet give a row the same whatever the others are: they
move numbers, compare them, or (the norms) have a block of threads of constant size for every row."""


class OwnSums(TorchFunctionMode):
    """Means and norms over the last dimension come from our kernel: torch cuts them up by the number of rows."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        own = _OWN.get(function)
        return (own or function)(*arguments, **keywords or {})


def _mean(x: torch.Tensor, dim: Any = None, keepdim: bool = False, dtype: torch.dtype | None = None) -> torch.Tensor:
    if not _is_last(x, dim):
        return torch.mean(x, dim=dim, keepdim=keepdim, dtype=dtype)
    result = (row_sums(x) / x.shape[-1]).to(dtype or x.dtype)
    return result[..., None] if keepdim else result


def _norm(
    x: torch.Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> torch.Tensor:
    if p not in (None, 2, "fro") or not _is_last(x, dim):
        return torch.as_tensor(torch.norm(x, p=p, dim=dim, keepdim=keepdim, dtype=dtype))
    result = row_sums(x.float() * x.float()).sqrt().to(dtype or x.dtype)
    return result[..., None] if keepdim else result


_OWN: dict[Any, Callable[..., torch.Tensor]] = {
    torch.mean: _mean,
    torch.Tensor.mean: _mean,
    torch.norm: _norm,
    torch.Tensor.norm: _norm,
}


def _is_last(x: torch.Tensor, dim: Any) -> bool:
    if isinstance(dim, list | tuple):
        return len(dim) == 1 and _is_last(x, dim[0])
    return dim is not None and dim in (-1, x.dim() - 1)


class Audit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operations of a pass that do not belong in one. Too slow to serve with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        with self:  # in inference mode composite operations arrive whole
            result = function.decompose(*arguments, **keywords)
        if result is not NotImplemented:
            return result
        name = function._schema.name
        independent = torch.Tag.pointwise in function.tags or function.is_view or name in INDEPENDENT
        if not independent and not _of_one_term(name, arguments):
            self.found.add(name)
        return function(*arguments, **keywords)


def _of_one_term(name: str, arguments: tuple[Any, ...]) -> bool:
    """A product whose sums have one term, as rotary embeddings have: there is no order."""
    return name in ("aten::bmm", "aten::mm") and arguments[0].shape[-1] == 1
