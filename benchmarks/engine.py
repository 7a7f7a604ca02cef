"""The engine's speed beside its limits and its neighbours: `python benchmarks/engine.py [--json FILE]`.

Every part runs in a process of its own, one after the other; times are medians, comparisons are ratios within one run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUESTION = "Why is the sky blue? Explain it in detail, with the history of its discovery."
QUESTIONS = (
    QUESTION,
    "Tell me the story of a lighthouse keeper.",
    "Explain how bread is made.",
    "What is a prime number, and why does it matter?",
    "Describe a day in the life of a bee.",
    "Give the history of the bicycle.",
    "How does a steam engine work?",
    "Write a letter to a friend about the sea.",
)
PART_TIMEOUT_SECONDS = 3600
RANDOM_SHAPES: dict[str, dict[str, Any]] = {
    "random-tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "vocab_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    },
    "random-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "vocab_size": 128_256,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "random-7b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "vocab_size": 32_000,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    },
}
"""Random numbers in the shape of Llama 3.2 1B (1.2 billion) and of Mistral 7B (7.2 billion)."""


def median_of(function: Callable[[], float], runs: int) -> float:
    function()
    return statistics.median(function() for _ in range(runs))


def bandwidth(given: argparse.Namespace) -> dict[str, float]:
    """Bytes a second that all threads together read."""
    import torch

    torch.set_num_threads(given.threads)
    block = torch.ones(128 << 20)

    def once() -> float:
        start = time.perf_counter()
        block.sum()
        return block.nbytes / (time.perf_counter() - start)

    return {"bytes_per_second": median_of(once, 9)}


def load_ours(given: argparse.Namespace, **options: Any) -> Any:
    from trine_node.engines.cli import folder_of
    from trine_node.engines.transformers_engine import TransformersEngine

    if given.model in RANDOM_SHAPES:
        return random_model(given.model, given.dtype, given.device, given.threads, **options)
    return TransformersEngine.load(
        folder_of(given.model),
        model_name="benchmark",
        model_id=bytes(32),
        dtype=given.dtype,
        device=given.device,
        threads=given.threads,
        **options,
    )


def random_model(
    shape: str, dtype: str, device: str, threads: int, tokenizer: Path | None = None, **options: Any
) -> Any:
    """An engine of random numbers in one of RANDOM_SHAPES: for speed, on machines without a model hub."""
    from transformers import AutoTokenizer

    from trine_node.engines.cli import DEFAULT_MODEL, folder_of
    from trine_node.engines.transformers_engine import TransformersEngine

    model = random_weights(shape, dtype, device)
    words = AutoTokenizer.from_pretrained(tokenizer or folder_of(DEFAULT_MODEL))
    named = {"model_name": shape, "model_id": bytes(32), "dtype": dtype, "threads": threads}
    return TransformersEngine(model, words, **named, **options)


def random_weights(shape: str, dtype: str, device: str) -> Any:
    """The model itself, as transformers makes it."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from trine_node.engines.transformers_engine import DTYPES

    torch.manual_seed(0)
    with torch.device(device):
        config = LlamaConfig(**RANDOM_SHAPES[shape])
        model: Any = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype]).requires_grad_(False)
    model.generation_config.eos_token_id = 2
    return model.train(False)


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """Decoding alone and by eight, reading prompts, checking."""
    engine = load_ours(given)
    engine.eos_ids = frozenset()  # answers of the same length in every precision
    prompts = [engine.encode_text(text) for text in QUESTIONS]
    parameters = {id(p): p for p in engine.model.parameters()}.values()
    weights = sum(p.nbytes for p in parameters)
    alone = [list(engine.generate(prompt, given.tokens)) for prompt in prompts]

    def decode() -> float:
        steps = engine.generate(prompts[0], given.tokens)
        next(steps)
        start = time.perf_counter()
        return sum(1 for _ in steps) / (time.perf_counter() - start)

    def together() -> float:
        answers: list[Any] = [None] * len(prompts)

        def ask(number: int) -> None:
            answers[number] = list(engine.generate(prompts[number], given.tokens))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        identical.append(answers == alone)
        return sum(map(len, answers)) / seconds

    identical: list[bool] = []
    single = median_of(decode, given.runs)
    eight = median_of(together, given.runs)
    cases = [(p, [s.token_id for s in a]) for p, a in zip(prompts, alone, strict=True)]
    answered = sum(len(output) for _, output in cases)

    def check_packed() -> float:
        start = time.perf_counter()
        engine.check_batch(cases)
        return answered / (time.perf_counter() - start)

    def check_single() -> float:
        start = time.perf_counter()
        for case in cases:
            engine.check(*case)
        return answered / (time.perf_counter() - start)

    def one_pass() -> float:
        start = time.perf_counter()
        for states in engine.output_states(cases):
            engine.logits(states)
        return answered / (time.perf_counter() - start)

    states = engine.output_states([cases[0]])[0]

    def words() -> float:
        start = time.perf_counter()
        for row in range(20):
            engine.words(states[row : row + 1])
        return (time.perf_counter() - start) / 20

    prompt = (prompts[0] * 40)[:256]
    fresh = iter(range(10_000))

    def first_token() -> float:
        ids = [next(fresh) + 300, *prompt[1:]]  # another beginning every time: nothing of it is known
        start = time.perf_counter()
        next(iter(engine.generate(ids, 1)))
        return time.perf_counter() - start

    packed, one_by_one = median_of(check_packed, given.runs), median_of(check_single, given.runs)
    return {
        "weight_bytes": weights,
        "decode_tokens_per_second": single,
        "eight_tokens_per_second": eight,
        "eight_identical_to_alone": all(identical),
        "check_packed_tokens_per_second": packed,
        "check_one_by_one_tokens_per_second": one_by_one,
        "check_one_pass_tokens_per_second": median_of(one_pass, given.runs),
        "words_share_of_decoding": median_of(words, given.runs) * single,
        "first_token_seconds": median_of(first_token, given.runs),
    }


def unpromised(given: argparse.Namespace) -> dict[str, Any]:
    """Decoding by the same engine with torch's own products and attention."""
    engine = load_ours(given, arithmetic="sdpa")
    engine.eos_ids = frozenset()
    prompt = engine.encode_text(QUESTION)

    def decode() -> float:
        steps = engine.generate(prompt, given.tokens)
        next(steps)
        start = time.perf_counter()
        return sum(1 for _ in steps) / (time.perf_counter() - start)

    return {"decode_tokens_per_second": median_of(decode, given.runs)}


def equality(given: argparse.Namespace) -> dict[str, Any]:
    """Answers to many prompts one by one and by 64, which must be the same to the last bit of their fingerprints."""
    engine = load_ours(given)
    draw = random.Random(0)  # noqa: S311 - prompts
    prompts = [[draw.randrange(300, 40_000) for _ in range(draw.randint(4, 200))] for _ in range(given.equality)]
    alone = engine.generate_batch(prompts, 16, rows=1)
    together = engine.generate_batch(prompts, 16, rows=64)
    return {"prompts": len(prompts), "same": sum(a == b for a, b in zip(alone, together, strict=True))}


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """Peak resident memory of a process that loads a model, and then answers eight requests of 512 tokens at once."""
    engine = load_ours(given)
    loading = peak_resident()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins anew
    draws = [[(17 * i + 29 * j) % 40_000 + 300 for j in range(256)] for i in range(8)]
    threads = [threading.Thread(target=lambda ids=ids: list(engine.generate(ids, 256))) for ids in draws]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"loading_bytes": loading, "serving_bytes": peak_resident()}


def peak_resident() -> int:
    """Bytes; VmHWM of proc(5)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def plain(given: argparse.Namespace) -> dict[str, float]:
    """transformers' own `generate` with its defaults."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trine_node.engines.cli import folder_of

    torch.set_num_threads(given.threads)
    folder = folder_of(given.model)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[given.dtype]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(given.device)
    ids = torch.tensor([tokenizer(QUESTION)["input_ids"]], device=given.device)
    long = ids.repeat(1, 40)[:, :256]

    def run(prompt: Any, tokens: int) -> float:
        start = time.perf_counter()
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
        )
        return time.perf_counter() - start

    def decode() -> float:
        return (given.tokens - 1) / (run(ids, given.tokens) - run(ids, 1))

    return {
        "decode_tokens_per_second": median_of(decode, given.runs),
        "first_token_seconds": median_of(lambda: run(long, 1), given.runs),
    }


def llamacpp(given: argparse.Namespace) -> dict[str, Any]:
    """llama.cpp's own server on the same weights in the same precision; the figure that it reports itself."""
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        return {"missing": "xllamacpp is not installed"}
    from trine.models import load_record
    from trine_node.models import parse_source

    script = Path(__file__).parents[1] / "deploy" / "scripts" / "llama_server.py"
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        source = given.model if ":" in given.model else load_record(given.model).source
        packed = parse_source(source).fetch(Path(folder))
        if packed.suffix != ".gguf":
            return {"missing": "the model does not come as GGUF"}
        weights = Path(folder) / f"{given.dtype}.gguf"
        dense_gguf(packed, weights, given.dtype)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, str(script), str(weights), str(port), "--threads", str(given.threads)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                speed = median_of(lambda: asked_of_llamacpp(port, given.tokens), given.runs)
            finally:
                server.kill()
    return {"decode_tokens_per_second": speed, "version": importlib.metadata.version("xllamacpp")}


def dense_gguf(packed: Path, result: Path, dtype: str) -> None:
    """The model of a GGUF file with all its numbers in one precision."""
    import gguf

    reader = gguf.GGUFReader(packed)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(result, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind, *inner = field.types
        writer.add_key_value(name, field.contents(), kind, inner[-1] if inner else None)
    half = gguf.GGMLQuantizationType.BF16
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if dtype == "fp32" or values.ndim == 1:
            writer.add_tensor(tensor.name, values.astype("float32"))
        elif dtype == "bf16":
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, half), raw_dtype=half)
        else:
            writer.add_tensor(tensor.name, values.astype("float16"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def asked_of_llamacpp(port: int, tokens: int) -> float:
    """Tokens a second of one greedy answer."""
    import httpx2

    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx2.get(f"{url}/health", timeout=5).status_code == 200:
                break
        except httpx2.HTTPError:
            pass
        if time.monotonic() > deadline:
            sys.exit("error: llama.cpp's server did not start within 120 s")
        time.sleep(0.2)
    body = {"prompt": QUESTION, "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    answer = httpx2.post(f"{url}/completion", json=body, timeout=600).json()
    return float(answer["timings"]["predicted_per_second"])


def part(given: argparse.Namespace, name: str, dtype: str) -> dict[str, Any]:
    """One part in a process of its own."""
    command = [sys.executable, __file__, "--part", name, "--dtype", dtype, "--model", given.model]
    command += ["--threads", str(given.threads), "--tokens", str(given.tokens), "--runs", str(given.runs)]
    command += ["--equality", str(given.equality)]
    print(f"… {name} {dtype}", file=sys.stderr)
    run = subprocess.run(
        [*command, "--device", given.device], capture_output=True, text=True, timeout=PART_TIMEOUT_SECONDS
    )
    if run.returncode:
        sys.exit(f"error: {name} in {dtype} failed:\n{run.stderr[-2000:]}")
    return dict(json.loads(run.stdout.splitlines()[-1]))


def figures(found: dict[str, Any], dtypes: list[str]) -> list[tuple[str, str, str]]:
    """(what, found, asked) for people."""
    on_gpu = found["conditions"]["device"] != "cpu"
    read = found["bandwidth"]["bytes_per_second"]
    rows = [("the processor's read bandwidth", f"{read / 1e9:.1f} GB/s", "")]
    for dtype in dtypes:
        own = found[f"ours {dtype}"]
        single = own["decode_tokens_per_second"]
        packed, one_by_one = own["check_packed_tokens_per_second"], own["check_one_by_one_tokens_per_second"]
        of_dtype = [
            ("decoding, one stream", f"{single:.1f} tokens/s", ""),
            ("eight at once, times one", f"{own['eight_tokens_per_second'] / single:.2f}", "3"),
            ("eight at once, bits as alone", "same" if own["eight_identical_to_alone"] else "DIFFERENT", ""),
            ("checking, both passes, times decoding", f"{packed / single:.2f}", "50" if on_gpu else "15"),
            ("checking, first pass, times decoding", f"{own['check_one_pass_tokens_per_second'] / single:.2f}", ""),
            ("eight checked together, times one by one", f"{packed / one_by_one:.2f}", "1.5"),
            ("fingerprint, share of decoding", f"{own['words_share_of_decoding']:.1%}", "at most 3 %"),
        ]
        if on_gpu:
            plain = found[f"unpromised {dtype}"]["decode_tokens_per_second"]
            of_dtype.append(("times the same without the promise", f"{single / plain:.2f}", "0.8"))
        else:
            share = single * own["weight_bytes"] / read
            of_dtype.append(("share of the bandwidth limit", f"{share:.0%}", "60 %"))
            for when, wanted in (("serving", "at most 1.6"), ("loading", "")):
                peak = found[f"memory {dtype}"][f"{when}_bytes"]
                of_dtype.append(
                    (f"peak memory, {when}, times the weights", f"{peak / own['weight_bytes']:.2f}", wanted)
                )
            of_dtype.append(("times llama.cpp", times_llamacpp(single, found[f"llamacpp {dtype}"]), ""))
        if other := found.get(f"transformers {dtype}"):
            times = single / other["decode_tokens_per_second"]
            asked = {"fp32": "4", "bf16": "1.3"}.get(dtype, "")
            of_dtype.append(("times transformers.generate", f"{times:.2f}", "" if on_gpu else asked))
            first = own["first_token_seconds"] / other["first_token_seconds"]
            of_dtype.append(("first token of 256, times transformers", f"{first:.2f}", "at most 1.1"))
        if equal := found.get(f"equality {dtype}"):
            of_dtype.append(("answers alone and by 64, the same", f"{equal['same']} of {equal['prompts']}", "all"))
        rows += [(f"{dtype}: {what}", value, asked) for what, value, asked in of_dtype]
    return rows


def times_llamacpp(single: float, found: dict[str, Any]) -> str:
    theirs = found.get("decode_tokens_per_second")
    return f"{single / theirs:.2f} ({theirs:.1f})" if theirs else str(found.get("missing", "not measured"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--model", default="smollm2-135m-instruct", help=f"or random weights: {', '.join(RANDOM_SHAPES)}"
    )
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--equality", type=int, default=0, help="prompts answered alone and by 64, to compare the bits")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="fp32", help=argparse.SUPPRESS)
    given = parser.parse_args()
    parts = {
        "bandwidth": bandwidth,
        "ours": ours,
        "transformers": plain,
        "memory": memory,
        "llamacpp": llamacpp,
        "unpromised": unpromised,
        "equality": equality,
    }
    if given.part:
        print(json.dumps(parts[given.part](given)))
        return
    dtypes = given.dtypes.split(",")
    found: dict[str, Any] = {
        "conditions": {
            "model": given.model,
            "device": given.device,
            "threads": given.threads,
            "tokens": given.tokens,
            "runs": given.runs,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[0],
        }
    }
    for name, value in found["conditions"].items():
        print(f"{name}: {value}")
    found["bandwidth"] = part(given, "bandwidth", "fp32")
    for dtype in dtypes:
        names = ["ours", *(["memory", "llamacpp"] if given.device == "cpu" else ["unpromised"])]
        names += ["transformers"] * (given.model not in RANDOM_SHAPES) + ["equality"] * (given.equality > 0)
        for name in names:
            found[f"{name} {dtype}"] = part(given, name, dtype)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for what, value, asked in figures(found, dtypes):
        print(f"{what:<52}{value:>16}   {'asked: ' + asked if asked else ''}".rstrip())


if __name__ == "__main__":
    main()
