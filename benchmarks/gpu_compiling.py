"""Kernels compiled for a GPU that is not here, to be carried there: nothing is left to compile in its minutes.

What is compiled is what launches on that GPU would ask Triton for: the real functions are called, and stop short of
launching. Triton keeps kernels under a hash of their source, options and its own files; where another version of it is
installed nothing is found, and all of it is compiled there, as without this.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from trine.errors import InvalidInput

FILE = "kernels.tar.gz"
GROUP = "__grp__"
MAX_FILES = 20_000
HERE = "."
"""What stands for the folder while it travels: Triton writes whole paths."""


def make(out: Path, capability: int) -> int:
    """Writes an archive of everything that the day's stages launch; returns how many kernels there are in it.

    Raises InvalidInput where Triton is not installed, or interprets.
    """
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name)
        with _compiling_only(cache, capability):
            _launch_everything()
        kernels = len(list(cache.glob("*/*.cubin")))
        for path in cache.glob(f"*/{GROUP}*"):
            group = json.loads(path.read_text("utf-8"))["child_paths"]
            moved = {child: f"{HERE}/{Path(at).relative_to(cache)}" for child, at in group.items()}
            path.write_text(json.dumps({"child_paths": moved}), "utf-8")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(out, "w:gz") as archive:
            for path in sorted(cache.glob("*/*")):
                archive.add(path, str(path.relative_to(cache)))
    return kernels


def unpack(archive: Path, folder: Path) -> int:
    """What `make` wrote, where TRITON_CACHE_DIR is to be `folder`; returns how many files there are now.

    Raises InvalidInput for anything else.
    """
    folder = folder.resolve()
    try:
        with tarfile.open(archive) as opened:
            members = opened.getmembers()
            if len(members) > MAX_FILES or not all(member.isfile() for member in members):
                raise InvalidInput(f"{archive}: these are no kernels")
            opened.extractall(folder, filter="data")
        for path in folder.glob(f"*/{GROUP}*"):
            group = json.loads(path.read_text("utf-8"))["child_paths"]
            moved = {child: str(folder / at) for child, at in group.items()}
            path.write_text(json.dumps({"child_paths": moved}), "utf-8")
    except (OSError, tarfile.TarError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise InvalidInput(f"{archive}: these are no kernels: {error}") from None
    return len(members)


@contextmanager
def _compiling_only(cache: Path, capability: int) -> Iterator[None]:
    """In it, launches compile into `cache` for a GPU of that compute capability and launch nothing."""
    try:
        from triton import knobs
        from triton.backends.compiler import GPUTarget
        from triton.backends.nvidia import driver as nvidia
        from triton.runtime import build, driver, jit
    except ImportError as error:
        raise InvalidInput(f"Triton is not here: {error}") from None
    if knobs.runtime.interpret:
        raise InvalidInput("Triton interprets here: unset TRITON_INTERPRET")
    run = jit.JITFunction.run
    absent: Any = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda _device: 0,
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
        utils=mock.MagicMock(),
    )
    # Triton has a module of Python compiled for every form of call, which links with the driver of a GPU.
    stub = cache / "driver" / "libcuda.so.1"
    stub.parent.mkdir(parents=True)

    def compile_only(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        compiled = run(kernel, *arguments, grid=grid, warmup=True, **options)
        if has_stub:
            nvidia.CudaLauncher(compiled.src, compiled.metadata)
        return compiled

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(knobs.cache, "dir", str(cache)))
        stack.enter_context(mock.patch.object(knobs.compilation, "store_binary_only", True))
        stack.enter_context(mock.patch.object(knobs.nvidia, "libcuda_path", str(stub.parent)))
        stack.enter_context(mock.patch.object(build, "_load_module_from_path", return_value=mock.MagicMock()))
        stack.enter_context(mock.patch.object(jit.JITFunction, "run", compile_only))
        stack.enter_context(mock.patch.object(driver, "_active", absent))
        stack.callback(stub.unlink, missing_ok=True)
        if has_stub := _made_stub(stub):
            nvidia.CudaUtils()
        yield


def _made_stub(stub: Path) -> bool:
    """An empty library by the driver's name; whether there is a compiler to make it with."""
    command = ["cc", "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libcuda.so.1", "-o", str(stub)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _launch_everything() -> None:
    """Every kernel in every form that Triton tells apart: precision, tile, sizes that are multiples of 16 or not."""
    import gpu_speed

    from trine_node.engines.gpu import kernels
    from trine_node.engines.transformers_engine import DTYPES

    wide = torch.empty(2, 64, dtype=torch.bfloat16)
    for sides in gpu_speed.TILES:
        kernels.matmul(wide, wide, tile=kernels.Tile(*sides))
    for dtype in DTYPES.values():
        for tile, outputs, inputs in product(kernels.all_tiles(dtype), (64, 33), (64, 17, 1)):
            x, w = (torch.empty(rows, inputs, dtype=dtype) for rows in (2, outputs))
            kernels.matmul(x, w, tile=tile)
        # [heads, shared heads, width]: of the stage `shapes`, the real model, and the random ones.
        for heads, shared, width in ((12, 4, 64), (12, 4, 128), (9, 3, 64), (32, 8, 128), (32, 8, 64)):
            keys = torch.empty(64, shared, width, dtype=dtype)
            query = torch.empty(2, heads, width, dtype=dtype)
            tables = torch.zeros(2, 4, dtype=torch.int32)
            places = torch.zeros(3, 2, dtype=torch.int32)
            for rows in (places[:2], places[1:]):
                kernels.attention(query, keys, keys, tables, rows, scale=0.1, window=0, cap=0.0, block=16)
        for width in (64, 128):
            kernels.row_sums(torch.empty(2, width, dtype=dtype))
