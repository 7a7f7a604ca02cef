"""Stages of `gpu_day` about bits: kernels on awkward shapes, the engine's promise, answers for verifiers elsewhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from gpu_answers import PROMPTS, SEED, TOKENS, read
from gpu_stage import Day, Keep, load

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.manifest import Manifest
from trine_node.engines.base import render
from trine_node.engines.cli import folder_of
from trine_node.engines.running import _linear_of
from trine_node.engines.selftest import Loader, selftest
from trine_node.engines.transformers_engine import DTYPES, TransformersEngine
from trine_node.models import RendererMismatch, require_golden
from trine_research.study import observations
from trine_research.study.observe import Leaf, Plan, observe_cheats, observe_honest
from trine_research.study.recheck import recheck
from trine_research.study.subject import Subject, Variant, render_all

OBSERVATIONS = "observations.jsonl.gz"
CHEATS = ("int8-weights", "int8-group-weights", "int6-weights", "int4-weights", "perturbed-weights")
INNER = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 1, 17, 300, 576, 1536, 4095, 11_008)
"""Powers of two first: other batch-invariant kernels broke there."""
OUTPUTS = (4096, 192, 33)
ROWS = (1, 2, 3, 8, 17, 32, 33, 64, 300, 2100)


def shapes(day: Day, keep: Keep) -> dict[str, Any]:
    """Each row of a product, a sum and attention: the same alone, in front, behind, and among any number of others.

    Tiles of products that have other bits than the first one are no difference: no engine uses them on this device.
    """
    found: dict[str, Any] = {"different": [], "compared": 0, "error": {}, "tiles_left_out": {}}
    arithmetic = "triton" if day.device != "cpu" else "invariant"
    if day.device != "cpu":
        from trine_node.engines.gpu.kernels import keep_tiles_that_agree

    product = _linear_of(arithmetic, day.threads)
    for dtype in ("bf16", "fp16", "fp32"):
        worst = 0.0
        if day.device != "cpu":
            left_out = keep_tiles_that_agree(torch.device(day.device), DTYPES[dtype])
            found["tiles_left_out"][dtype] = [str(tile) for tile in left_out]
            keep(found)
        for inner in day.pick(INNER, (64, 17)):
            for outputs in day.pick(OUTPUTS, (33,)):
                draw = torch.Generator(day.device).manual_seed(inner)
                counts = day.pick(ROWS, (1, 3, 33))
                x, w = (
                    torch.randn(n, inner, generator=draw, device=day.device).to(DTYPES[dtype])
                    for n in (max(counts), outputs)
                )
                whole = product(x, w, None)
                exact = x.double() @ w.double().T
                worst = max(worst, float((whole.double() - exact).norm() / exact.norm()))
                last = max(counts) - 1
                ways = [(f"first {n}", slice(0, n)) for n in counts]
                ways += [(f"last {n}", slice(last + 1 - n, last + 1)) for n in counts]
                for way, rows in ways:
                    found["compared"] += 1
                    if not torch.equal(product(x[rows].clone(), w, None), whole[rows]):
                        found["different"].append(f"product {dtype} [{outputs}, {inner}] {way}")
        found["error"][dtype] = worst
        keep(found)
        if day.device != "cpu":
            _attention_in_company(day, dtype, found)
            keep(found)
    return found


def _attention_in_company(day: Day, dtype: str, found: dict[str, Any]) -> None:
    from trine_node.engines.gpu.kernels import attention, row_sums

    block, heads, shared = 16, 12, 4
    draw = torch.Generator().manual_seed(9)
    for width in (64, 128):
        lengths = [1, 15, 16, 17, 64, 65, 500, 2047, 4000] * 8
        longest = max(lengths) // block + 1
        keys, values = (
            torch.randn(longest * block * 2, shared, width, generator=draw).to(DTYPES[dtype]).to(day.device)
            for _ in range(2)
        )
        tables = torch.stack([torch.randperm(2 * longest, generator=draw)[:longest] for _ in lengths]).int()
        places = torch.tensor([[row, length - 1] for row, length in enumerate(lengths)], dtype=torch.int32)
        query = torch.randn(len(lengths), heads, width, generator=draw).to(DTYPES[dtype]).to(day.device)
        tables, places = tables.to(day.device), places.to(day.device)
        options: dict[str, Any] = {"scale": width**-0.5, "window": 0, "cap": 0.0, "block": block}
        whole = attention(query, keys, values, tables, places, **options)
        sums = row_sums(query)
        for first in (0, 7, 40):
            for count in (1, 8, 31):
                rows = slice(first, first + count)
                found["compared"] += 2
                if not torch.equal(attention(query[rows], keys, values, tables, places[rows], **options), whole[rows]):
                    found["different"].append(f"attention {dtype} width {width}, {count} rows from {first}")
                if not torch.equal(row_sums(query[rows]), sums[rows]):
                    found["different"].append(f"sums {dtype} width {width}, {count} rows from {first}")


def promise(dtype: str, day: Day, keep: Keep) -> dict[str, Any]:
    """The engine's self-test, and many prompts alone and by 64."""
    found: dict[str, Any] = {"dtype": dtype, "prompts": 0, "same": 0, "findings": []}
    engine = load(day, dtype)
    found["engine_class"] = engine.engine_class
    draw = random.Random(0)  # noqa: S311 - prompts
    rows, tokens = day.pick(64, 4), day.pick(16, 3)
    # The rest of the stage needs a third of its time.
    reserved = max(0.0, day.left() / 3) if day.left() < 1e6 else 0.0
    while found["prompts"] < day.pick(1000, 8) and day.left() > reserved:
        count = min(rows, day.pick(1000, 8) - found["prompts"])
        prompts = [
            [draw.randrange(1, engine.vocab_size) for _ in range(draw.randint(4, day.pick(200, 20)))]
            for _ in range(count)
        ]
        alone = engine.generate_batch(prompts, tokens, rows=1)
        together = engine.generate_batch(prompts, tokens, rows=rows)
        found["prompts"] += count
        found["same"] += sum(a == b for a, b in zip(alone, together, strict=True))
        keep(found)
    del engine
    loader = Loader(folder_of(day.model), dtype, day.device, day.threads)
    restart = dtype == "bf16" or not day.reduced
    for finding in selftest(loader, day.pick(24, 3), lambda _message: None, restart=restart):
        found["findings"].append(asdict(finding))
        keep(found)
    found["kept"] = found["same"] == found["prompts"] and all(each["same"] for each in found["findings"])
    return found


def answers(day: Day, keep: Keep) -> dict[str, Any]:
    """Honest and cheating answers of this machine as its own verifiers see them, and those of CPUs that were carried.

    All go into one file: what CPUs think of them, `trine-study recheck` tells where there is one. A stage that was cut
    off goes on behind what is in it.
    """
    subject = Subject.find(day.model, day.threads)
    file = day.out / OBSERVATIONS
    seen = list(observations.read(file)) if file.exists() else []
    dtypes = tuple(DTYPES)
    verifiers = {dtype: subject.engine(dtype, device=day.device) for dtype in dtypes}
    done = list(dict.fromkeys(leaf.prover for leaf in seen))
    found: dict[str, Any] = {"file": file.name, "leaves": len(seen), "provers": [*done]}
    found["golden"] = _golden(day, verifiers["fp32"])
    asked = subject.prompts(day.pick(PROMPTS, 4), SEED)
    tokens = day.pick(TOKENS, 8)
    plan = Plan(subject, render_all(verifiers["fp32"], asked), tokens, verifiers, device=day.device)
    variants = [Variant(dtype, dtype, rows=64) for dtype in dtypes]
    others = [Variant(f"{dtype}, torch", dtype, arithmetic="sdpa", rows=6) for dtype in day.pick(("bf16", "fp16"), ())]
    here = verifiers["fp32"].engine_class.rpartition("-")[0]

    def take(leaves: list[Leaf], name: Callable[[str], str] = str) -> None:
        observations.append(file, [replace(leaf, prover=name(leaf.prover)) for leaf in leaves])
        found["leaves"] += len(leaves)
        found["provers"].append(name(leaves[0].prover))
        keep(found)

    def silent(_message: str) -> None:
        pass

    def ours(prover: str) -> str:
        return f"{here}, {prover}"

    for leaves in observe_honest(plan, [each for each in variants if ours(each.name) not in done], silent):
        take(leaves, ours)
    if day.answers:
        try:
            carried = read(day.answers, subject.model_id, plan.prompts, tokens)
        except InvalidInput as error:  # what this machine's own answers show is worth having all the same
            carried, found["refused"] = [], str(error)
        for leaves in recheck(plan, [leaf for leaf in carried if leaf.prover not in done], silent):
            take(leaves)
    cheats = [each for each in day.pick(CHEATS, CHEATS[:1]) if ours(each) not in done]
    for leaves in observe_cheats(plan, cheats, "bf16", range(min(len(asked), 64)), silent):
        take(leaves, ours)
    for leaves in observe_honest(plan, [each for each in others if ours(each.name) not in done], silent):
        take(leaves, ours)
    return found


def _golden(day: Day, engine: TransformersEngine) -> str:
    """Whether this machine's libraries turn text into the model's tokens."""
    if ":" in day.model:
        return "a model without a record"
    record = load_record(day.model)
    rendering = Manifest.from_bytes(record.manifest).pinned_rendering(day.model)
    try:
        require_golden(rendering, day.model, partial(render, engine))
    except RendererMismatch as error:
        return str(error)
    return "all vectors as registered"
