"""The kernels for GPUs: interpreted on a CPU they compute what torch does, row by row the same in any company; for GPUs
they compile. What a GPU makes of them only a GPU shows: `trine engine selftest --device cuda`."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine_determinism import LLAMA_LIKE, SMALL, made, prompts
from transformers import AutoConfig, AutoModelForCausalLM

from trine.errors import InvalidInput
from trine_node.engines.base import EngineError
from trine_node.engines.passes import Segment, Storage
from trine_node.engines.transformers_engine import DTYPES, TransformersEngine

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton has no wheel for this platform")

BLOCK = 16
# An interpreted program takes milliseconds, and attention starts one for each row and each shared head of each layer.
FEW_HEADS = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
SIZES = {"llama": {"num_hidden_layers": 2}, "gpt2": {"n_head": 2}, "opt": {"num_attention_heads": 2}}


def small(name, dtype, **options):
    return made(name, dtype, SIZES.get(name, FEW_HEADS), **options)


def product_in_order(_self, a, b, sums, *_options):
    """The interpreter's `dot`, by plain loops: what BLAS computes depends on the place in a tile."""
    from triton.runtime.interpreter import TensorHandle

    left, right = (
        (x.data.astype(np.uint32) << 16).view(np.float32) if x.dtype.scalar.is_bf16() else x.data.astype(np.float32)
        for x in (a, b)
    )
    return TensorHandle(np.einsum("ik,kj->ij", left, right) + sums.data, sums.dtype.scalar)


@pytest.fixture(autouse=True)
def _products_in_order(monkeypatch):
    from triton.runtime.interpreter import InterpreterBuilder

    monkeypatch.setattr(InterpreterBuilder, "create_dot", product_in_order)


@pytest.fixture(scope="module")
def kernels():
    from trine_node.engines.gpu import kernels

    return kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "outputs", "inputs"), [(1, 7, 300), (37, 70, 128), (65, 33, 10)])
def test_a_product_is_torchs_and_a_row_of_it_the_same_alone(kernels, dtype, rows, outputs, inputs):
    draw = torch.Generator().manual_seed(rows)
    x, w, b = (
        torch.randn(shape, generator=draw).to(DTYPES[dtype])
        for shape in ((rows, inputs), (outputs, inputs), (outputs,))
    )
    found = kernels.matmul(x, w, b)
    assert found.dtype == x.dtype
    assert torch.allclose(
        found.double(), x.double() @ w.double().T + b.double(), rtol=1e-2, atol=1e-1 if dtype == "bf16" else 2e-2
    )
    if dtype == "fp32":
        assert torch.allclose(found, x @ w.T + b, rtol=1e-5, atol=1e-4)
    assert torch.equal(found[-1:], kernels.matmul(x[-1:], w, b))
    assert torch.equal(found[rows // 2 :], kernels.matmul(x[rows // 2 :], w, b))


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_no_tile_of_a_product_changes_a_bit(kernels, dtype):
    draw = torch.Generator().manual_seed(7)
    x, w = (torch.randn(rows, 150, generator=draw).to(DTYPES[dtype]) for rows in (130, 140))
    first, *others = (kernels.matmul(x, w, tile=tile) for tile in kernels.all_tiles(DTYPES[dtype]))
    assert all(torch.equal(other, first) for other in others)


def test_larger_tiles_where_they_are_full_and_leave_enough_programs(kernels):
    chosen = [kernels.tile_for(rows, 4096, torch.bfloat16).rows for rows in (1, 16, 17, 33, 64, 256, 2048)]
    assert chosen == [16, 16, 32, 64, 64, 64, 128]
    assert kernels.tile_for(256, 4096, torch.bfloat16).columns == 128
    assert kernels.tile_for(64, 576, torch.bfloat16).rows == 16, "a small matrix has few columns to share out"
    for dtype in DTYPES.values():
        for rows in (1, 5, 16, 40, 100, 3000):
            for outputs in (33, 4096, 128_256):
                assert kernels.tile_for(rows, outputs, dtype) in kernels.all_tiles(dtype)


def test_a_tile_with_other_bits_is_not_used(kernels, monkeypatch):
    tiles = (kernels.Tile(16, 16, 4, 2), kernels.Tile(32, 16, 4, 2), kernels.Tile(64, 16, 4, 2))
    monkeypatch.setattr(kernels, "HALF_TILES", tiles)
    monkeypatch.setattr(kernels, "BUSY", 1)
    monkeypatch.setattr(kernels, "_agreeing", {})
    matmul = kernels.matmul

    def other_order(rows, weight, bias=None, tile=None):
        result = matmul(rows, weight, bias, tile)
        return result + (tile == tiles[1])

    assert kernels.keep_tiles_that_agree(torch.device("cpu"), torch.bfloat16, 24) == []
    assert kernels.tile_for(32, 64, torch.bfloat16) == tiles[1]
    monkeypatch.setattr(kernels, "matmul", other_order)
    assert kernels.keep_tiles_that_agree(torch.device("cpu"), torch.bfloat16, 24) == [tiles[1]]
    assert kernels.tile_for(32, 64, torch.bfloat16) == tiles[0]
    assert kernels.tile_for(64, 64, torch.bfloat16) == tiles[2]
    assert kernels.tile_for(32, 64, torch.float16) == tiles[1], "each precision has its own"


@pytest.mark.parametrize("width", [1, 64, 1024, 2500])
def test_sums_of_rows(kernels, width):
    x = torch.randn(3, 2, width, generator=torch.Generator().manual_seed(width))
    assert torch.allclose(kernels.row_sums(x), x.sum(dim=-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("heads", "shared", "width", "value_width", "window", "cap"),
    [(6, 2, 24, 24, 0, 0.0), (3, 3, 16, 40, 9, 0.0), (4, 1, 64, 64, 0, 5.0), (20, 1, 8, 8, 70, 2.0)],
)
def test_attention_is_the_definitions_over_blocks_in_any_order(kernels, heads, shared, width, value_width, window, cap):
    draw = torch.Generator().manual_seed(heads)
    lengths = [5, 150]
    keys, values = (torch.randn(14 * BLOCK, shared, w, generator=draw) for w in (width, value_width))
    tables = torch.tensor([[3] + [0] * 9, [11, 2, 9, 0, 13, 4, 5, 8, 1, 6]], dtype=torch.int32)
    places = torch.tensor([[0, lengths[0] - 1], [1, lengths[1] - 1], [1, 70]], dtype=torch.int32)
    query = torch.randn(len(places), heads, width, generator=draw)
    options = {"scale": width**-0.5, "window": window, "cap": cap, "block": BLOCK}
    found = kernels.attention(query, keys, values, tables, places, **options)
    for row, (sequence, position) in enumerate(places.tolist()):
        seen = range(max(0, position - window + 1) if window else 0, position + 1)
        slots = [int(tables[sequence, p // BLOCK]) * BLOCK + p % BLOCK for p in seen]
        for head in range(heads):
            scores = keys[slots, head * shared // heads] @ query[row, head] * options["scale"]
            scores = cap * torch.tanh(scores / cap) if cap else scores
            expected = scores.softmax(dim=0) @ values[slots, head * shared // heads]
            assert torch.allclose(found[row, head], expected, rtol=1e-4, atol=1e-5)
    for row in range(len(places)):
        alone = kernels.attention(query[row : row + 1], keys, values, tables, places[row : row + 1], **options)
        assert torch.equal(alone[0], found[row])


@pytest.mark.parametrize(("name", "dtype"), [("llama", "bf16"), ("gemma2", "fp32"), ("gpt2", "fp16")])
def test_answers_do_not_depend_on_company(name, dtype):
    engine = small(name, dtype, arithmetic="triton", prompt_tokens=5, rows=2)
    asked = [prompts(1)[0][:7], prompts(2)[1][:4]]
    alone = [list(engine.generate(prompt, 3)) for prompt in asked]
    assert engine.generate_batch(asked, 3) == alone
    checked = engine.check_batch([(p, [s.token_id for s in a]) for p, a in zip(asked, alone, strict=True)])
    for answer, own in zip(alone, checked, strict=True):
        assert own.words == tuple(step.word for step in answer)
        assert max(own.margins) == 0


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3", "opt", "gpt_neox", "phi3"])
def test_states_are_those_of_the_kernels_for_cpus(name):
    ids = prompts(1)[0][:18]
    own, other = small(name, "fp32", arithmetic="triton"), small(name, "fp32")
    segments = [Segment(ids, 0, [0, 1])]
    found, expected = (engine._runner.states(Storage(2), segments) for engine in (own, other))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


class Softmaxed(torch.nn.Module):
    """A layer whose order of additions we do not know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(dim=-1)


def test_a_model_that_adds_up_in_ways_of_its_own_is_refused():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL | LLAMA_LIKE | FEW_HEADS)).train(
        False
    )
    model.base_model.layers[1].mlp.act_fn = Softmaxed()
    with pytest.raises(EngineError, match=r"aten::_softmax may give a row another result.*'sdpa' serves"):
        TransformersEngine(model, None, model_name="odd", model_id=bytes(32), dtype="fp32", arithmetic="triton")


def test_kernels_are_for_their_device(monkeypatch):
    with pytest.raises(InvalidInput, match="expected one of invariant, triton, sdpa, eager"):
        made("llama", "fp32", arithmetic="exact")
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(InvalidInput, match="on a cpu expected one of invariant, sdpa, eager"):
        made("llama", "fp32", arithmetic="triton")


COMPILE = Path(__file__).with_name("gpu_compilation.py")


def test_they_compile_for_gpus_to_what_the_promise_rests_on(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, str(COMPILE)], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert len(found) == 12 + 20
    for name, kind, result in found:
        assert result["shared"] <= 99 << 10, f"{name} {kind} does not fit the shared memory of small GPUs"
        assert ".local" not in result["ptx"], f"{name} {kind} spills registers"
        assert "wgmma" not in result["ptx"], "large tiles would be added up by another instruction than small ones"
        instructions = set(re.findall(r"mma\.sync\S+", result["ptx"]))
        if name in ("product", "attention") and kind == "*bf16":
            assert instructions == {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"}
        else:
            assert not instructions
        assert not re.search(r"\b(red|atom)\.", result["ptx"]), "sums by atomic additions have no order"


def test_a_recorded_pass_has_the_bits_of_one_that_is_not(monkeypatch):
    """Filled up to the next size, into the block of nobody, among prompts that come and answers that end. And a model
    whose passes cannot be recorded goes step by step."""
    from trine_node.engines.gpu import replay

    lengths = (2, 3, 4)
    asked = [prompts(1)[0][:length] for length in lengths]
    engine = small("llama", "bf16", arithmetic="triton", prompt_tokens=5, rows=3)
    monkeypatch.setattr(replay, "WORTH", 0)
    replays, engine._runner.replays = engine._runner.replays, None
    plain = [list(engine.generate(prompt, tokens)) for prompt, tokens in zip(asked, lengths, strict=True)]
    engine._runner.replays = replays
    draws = dict(enumerate(asked))
    found = {}

    def ask(row):
        found[row] = list(engine.generate(draws[row], lengths[row]))

    threads = [threading.Thread(target=ask, args=(row,)) for row in draws]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[row] for row in draws] == plain
    assert replays.replayed >= 3
    assert replays.fault is None
    keys, _ = engine._storage.layers[0]
    assert len(keys) == (engine._storage.blocks + 1) * BLOCK

    def refuses(_function):
        raise RuntimeError("operation not permitted when stream is capturing")

    engine._storage.recorded.clear()
    done, replays._record = replays.replayed, refuses
    assert list(engine.generate(asked[0], lengths[0])) == plain[0]
    assert replays.fault == "operation not permitted when stream is capturing"
    assert replays.replayed == done


def test_only_passes_of_single_tokens_are_recorded():
    from trine_node.engines.gpu.replay import SIZES, size_of

    single, longer = Segment([1], 4, [0]), Segment([1, 2], 4, [0])
    assert [size_of([single] * rows) for rows in (1, 3, 64)] == [1, 4, 64]
    assert size_of([single] * (SIZES[-1] + 1)) is None
    assert size_of([single, longer]) is None
