"""Compiles the kernels for GPUs that are not here; prints their shared memory and PTX as JSON."""

import json

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_source

from trine_node.engines.gpu import kernels

BYTES = {"*bf16": 2, "*fp32": 4}
WIDTH = 128


def compiled(kernel, capability, types, constants, warps=kernels.WARPS, stages=kernels.STAGES):
    """With what a launch knows of its arguments: addresses and sizes of weights are multiples of 16."""
    aligned = {name for name, kind in types.items() if kind[0] == "*"} | {"outputs", "inputs", "width"}
    attributes = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(types) if name in aligned}
    source = ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constants, attributes)
    options = {"num_warps": warps, "num_stages": stages}
    result = compile_source(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert result.asm["cubin"]
    return {"shared": result.metadata.shared, "ptx": result.asm["ptx"]}


def product(kind, capability, tile):
    types = {"x": kind, "w": kind, "bias": kind, "y": kind, "rows": "i32", "outputs": "i32", "inputs": "i32"}
    sizes = {"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": kernels.LINE_BYTES // BYTES[kind]}
    return compiled(kernels._product, capability, types, {"BIASED": True} | sizes, tile.warps, tile.stages)


def attention(kind, capability):
    types = dict.fromkeys("qkv", kind) | {"tables": "*i32", "places": "*i32"}
    types |= dict.fromkeys(("tops", "totals", "answers"), "*fp32")
    types |= {"line": "i32", "scale": "fp32", "cap": "fp32", "window": "i32"}
    sizes = dict.fromkeys(("WIDTH", "WIDE", "VALUE_WIDTH", "VALUE_WIDE"), WIDTH)
    sizes |= {"SHARED": 4, "GROUP": 4, "QUERIES": kernels.LEAST_DOT, "BLOCK": 16, "STEP": kernels.KEY_STEP}
    return compiled(kernels._attend, capability, types, sizes | {"CAPPED": True, "PARTS": kernels.PARTS})


def joining(kind, capability):
    types = dict.fromkeys(("tops", "totals", "answers"), "*fp32") | {"places": "*i32", "y": kind, "window": "i32"}
    sizes = {"HEADS": 16, "VALUE_WIDTH": WIDTH, "VALUE_WIDE": WIDTH, "STEP": kernels.KEY_STEP, "PARTS": kernels.PARTS}
    return compiled(kernels._join, capability, types, sizes, warps=1)


def sums(kind, capability):
    return compiled(kernels._sum, capability, {"x": kind, "y": "*fp32", "width": "i32"}, {"STEP": kernels.SUM_STEP})


if __name__ == "__main__":
    found = [
        (function.__name__, kind, function(kind, capability))
        for function in (attention, joining, sums)
        for kind in BYTES
        for capability in (80, 90)
    ]
    found += [
        ("product", kind, product(kind, capability, tile))
        for kind, dtype in (("*bf16", torch.bfloat16), ("*fp32", torch.float32))
        for tile in kernels.all_tiles(dtype)
        for capability in (80, 90)
    ]
    print(json.dumps(found))
