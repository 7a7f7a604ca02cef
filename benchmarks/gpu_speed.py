"""Stages of `gpu_day` about time and memory: decoding, checking, many at once, what a pass is made of."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from engine import QUESTION, RANDOM_SHAPES, random_weights
from gpu_stage import Day, Keep, load_any, peak_bytes, seconds, wait_for, weight_bytes

from trine_node.engines.batching import blocks_for
from trine_node.engines.cli import folder_of
from trine_node.engines.computing import on_compute_thread
from trine_node.engines.passes import Segment, Storage
from trine_node.engines.transformers_engine import DTYPES, TransformersEngine

AT_ONCE = (1, 8, 64)
PROMPT_TOKENS = 40
TILES = (
    # (rows, columns, warps, stages), beside those that the kernels have
    (16, 16, 4, 8), (16, 32, 2, 8), (16, 64, 4, 6), (16, 32, 4, 12), (32, 64, 4, 6), (64, 64, 4, 4), (64, 64, 8, 4),
    (64, 32, 4, 8), (128, 64, 4, 4), (128, 128, 4, 3), (64, 256, 8, 4),
)  # fmt: skip
PRODUCTS = ((4096, 4096), (1024, 4096), (14_336, 4096), (4096, 14_336))
"""[outputs, inputs] of a 7B model."""


def speed(name: str, dtype: str, day: Day, keep: Keep) -> dict[str, Any]:
    """Decoding and checking with the promise, decoding without it, and by transformers' own `generate`."""
    found: dict[str, Any] = {"model": name, "dtype": dtype, "read_bytes_per_second": _bandwidth(day)}
    tokens, counts = day.pick(64, 4), day.pick(AT_ONCE, (1, 3))
    engine = load_any(day, name, dtype, rows=max(counts))
    found["weight_bytes"] = weight_bytes(engine.model)
    found["replays"] = getattr(engine, "replays", False)
    prompts = _prompts(engine, max(counts))
    for count in counts:
        found[f"decode_{count}"] = decoding(day, engine, prompts[:count], tokens)
        keep(found)
    answers = engine.generate_batch(prompts, tokens, rows=max(counts))
    cases = [(prompt, [step.token_id for step in answer]) for prompt, answer in zip(prompts, answers, strict=True)]
    for count in counts:
        took = seconds(day, partial(engine.check_batch, cases[:count]), runs=day.pick(3, 1))
        found[f"check_{count}"] = count * tokens / took
        took = seconds(day, partial(engine.output_states, cases[:count]), runs=day.pick(3, 1))
        found[f"check_one_pass_{count}"] = count * tokens / took
        keep(found)
    found["peak_bytes"] = peak_bytes(day.device)
    found["bandwidth_share"] = found["decode_1"] * found["weight_bytes"] / found["read_bytes_per_second"]
    found["check_over_decode"] = {str(n): found[f"check_{n}"] / found["decode_1"] for n in counts}
    del engine
    _free(day)
    plain = load_any(day, name, dtype, arithmetic="sdpa", rows=max(counts))
    found["unpromised_1"] = decoding(day, plain, prompts[:1], tokens)
    del plain
    _free(day)
    keep(found)
    model = _plain_model(day, name, dtype)
    for count in counts:
        found[f"transformers_{count}"] = _generate(day, model, prompts[:count], tokens)
        keep(found)
    return found


def decoding(day: Day, engine: TransformersEngine, prompts: Sequence[list[int]], tokens: int) -> float:
    """Tokens a second of all together, without reading the prompts."""
    runs = day.pick(3, 1)
    short, whole = (seconds(day, lambda n=n: _asked(engine, prompts, n), runs) for n in (1, tokens))
    return len(prompts) * (tokens - 1) / max(whole - short, 1e-9)


def at_once(day: Day, keep: Keep) -> dict[str, Any]:
    """Memory, and how soon the first token comes: alone after 256 tokens, with eight and with 64 asking."""
    found: dict[str, Any] = {}
    counts = day.pick((8, 64), (2, 4))
    prompt, tokens = day.pick(256, 20), day.pick(128, 4)
    peak_bytes(day.device)
    engine = load_any(day, "real", "bf16", rows=max(counts), cache_tokens=max(counts) * 512)
    found["weight_bytes"] = weight_bytes(engine.model)
    found["loading_bytes"] = peak_bytes(day.device)
    fresh = iter(range(10_000))

    def draw(length: int) -> list[int]:
        first = next(fresh)
        return [1 + (first * 31 + place * 17) % (engine.vocab_size - 1) for place in range(length)]

    found["first_token_seconds"] = seconds(day, lambda: _asked(engine, [draw(prompt)], 1), day.pick(5, 1))
    keep(found)
    for count in counts:
        _asked(engine, [draw(prompt) for _ in range(count)], 2)
        peak_bytes(day.device)
        started = time.perf_counter()
        firsts = _asked(engine, [draw(prompt) for _ in range(count)], tokens)
        took = time.perf_counter() - started
        found[f"at_once_{count}"] = {
            "tokens_per_second": count * tokens / took,
            "first_token_median": statistics.median(firsts),
            "first_token_most": max(firsts),
            "peak_bytes": peak_bytes(day.device),
        }
        keep(found)
    return found


def profile(day: Day, keep: Keep) -> dict[str, Any]:
    """One pass by kernels, alone and by 64; then products of a 7B model by tile."""
    found: dict[str, Any] = {"passes": [], "tiles": []}
    for name in ("real", "random-7b"):
        engine = load_any(day, name, "bf16")
        for rows in day.pick((1, 64), (1, 3)):
            found["passes"].append({"model": name, "rows": rows, **_one_pass(day, engine, rows)})
            keep(found)
        del engine
        _free(day)
    if day.device != "cpu":
        _tiles(day, found, keep)
    return found


@on_compute_thread
@torch.inference_mode()
def _one_pass(day: Day, engine: TransformersEngine, rows: int) -> dict[str, Any]:
    """In the computing thread, which is the one that a profiler sees there."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    blocks = blocks_for(PROMPT_TOKENS + 1)
    storage = Storage(rows * blocks)
    tables = [list(range(row * blocks, (row + 1) * blocks)) for row in range(rows)]
    prompt = [1 + place % (engine.vocab_size - 1) for place in range(PROMPT_TOKENS)]
    engine._runner.states(storage, [Segment(prompt, 0, table) for table in tables])
    segments = [Segment([5], PROMPT_TOKENS, table) for table in tables]

    def run() -> None:
        engine.steps_of(engine._runner.states(storage, segments), [None] * rows)

    took = seconds(day, run, day.pick(20, 1))
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (day.device != "cpu")
    with profiling(activities=kinds) as profiler:
        run()
        wait_for(day.device)
    on_device = day.device != "cpu"
    entries = []
    for event in profiler.key_averages():
        spent = getattr(event, "self_device_time_total" if on_device else "self_cpu_time_total", 0.0)
        if spent > 0:
            entries.append((float(spent), event.count, event.key))
    entries.sort(reverse=True)
    total = sum(spent for spent, _, _ in entries)
    return {
        "seconds": took,
        "launches": sum(count for _, count, _ in entries),
        "busy_share": total / 1e6 / took,
        "bytes_per_second": weight_bytes(engine.model) / took,
        "most": [{"name": key[:80], "count": count, "microseconds": spent} for spent, count, key in entries[:12]],
    }


def _tiles(day: Day, found: dict[str, Any], keep: Keep) -> None:
    """Times of products by tile, whole weights from memory every time, and whether the bits are those of the first."""
    from trine_node.engines.gpu import kernels

    own = kernels.all_tiles(torch.bfloat16)
    for outputs, inputs in PRODUCTS:
        weights = [torch.randn(outputs, inputs, device=day.device, dtype=torch.bfloat16) for _ in range(6)]
        for rows in (1, 64, 1024):
            x = torch.randn(rows, inputs, device=day.device, dtype=torch.bfloat16)
            expected = kernels.matmul(x, weights[0], tile=own[0])
            for tile in (*own, *(kernels.Tile(*each) for each in TILES)):
                if day.left() < 10:
                    return
                if tile.rows > max(16, 2 * rows):
                    continue
                took = seconds(day, lambda x=x, w=weights, t=tile: [kernels.matmul(x, each, tile=t) for each in w], 3)
                found["tiles"].append(
                    {
                        "tile": str(tile),
                        "chosen": tile == kernels.tile_for(rows, outputs, torch.bfloat16),
                        "product": [rows, outputs, inputs],
                        "same": torch.equal(kernels.matmul(x, weights[0], tile=tile), expected),
                        "bytes_per_second": sum(each.nbytes for each in weights) / took,
                        "flops": len(weights) * 2 * rows * outputs * inputs / took,
                    }
                )
            keep(found)


def _asked(engine: TransformersEngine, prompts: Sequence[list[int]], tokens: int) -> list[float]:
    """All at once, as clients would; seconds until each had its first token."""
    firsts: list[float] = []
    errors: list[Exception] = []
    started = time.perf_counter()

    def ask(prompt: list[int]) -> None:
        try:
            for number, _ in enumerate(engine.generate(prompt, tokens)):
                if number == 0:
                    firsts.append(time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(prompt,), daemon=True) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return firsts


def _prompts(engine: TransformersEngine, count: int) -> list[list[int]]:
    """Of the same length, all different."""
    ids = [1 + token % (engine.vocab_size - 1) for token in engine.encode_text(QUESTION)][:PROMPT_TOKENS]
    return [[1 + (ids[0] + number) % (engine.vocab_size - 1), *ids[1:]] for number in range(count)]


def _plain_model(day: Day, name: str, dtype: str) -> Any:
    if name in RANDOM_SHAPES:
        return random_weights(day.pick(name, "random-tiny"), dtype, day.device)
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder_of(day.model), dtype=DTYPES[dtype])
    return model.to(day.device).train(False)


def _generate(day: Day, model: Any, prompts: list[list[int]], tokens: int) -> float:
    ids = torch.tensor(prompts, device=day.device)

    def run(count: int) -> None:
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip

    short, whole = (seconds(day, lambda n=n: run(n), day.pick(2, 1)) for n in (1, tokens))
    return len(prompts) * (tokens - 1) / max(whole - short, 1e-9)


def _bandwidth(day: Day) -> float:
    """Bytes a second that a copy within the device reads and writes."""
    block = torch.ones(day.pick(1 << 30, 1 << 20), dtype=torch.float32, device=day.device)
    other = torch.empty_like(block)
    return 2 * block.nbytes / seconds(day, lambda: other.copy_(block), 5)


def _free(day: Day) -> None:
    gc.collect()
    if day.device != "cpu":
        torch.cuda.empty_cache()
