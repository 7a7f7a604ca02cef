"""Our verdict's statistic beside TOPLOC's and DiFR's, on the same windows of the same answers.

    make consensus            # builds TOPLOC from its source package first
    python benchmarks/consensus.py --prompts 40 --tokens 64 --json build/consensus.json

Honest engines of every precision and cheats run over the same text, the fp32 model's: a cheat's best case, since only
its states can betray it. All statistics are computed from those states, window by window, against an fp32 verifier.
Then the two figures of speed: 256 answers judged, and a billion fingerprints compared (`trine-study billion`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trine.protocol import fingerprint
from trine.protocol.messages import FinishReason
from trine.protocol.policy import Policy
from trine.protocol.verdict import Claim, Recomputation, decide
from trine_node.engines.transformers_engine import TransformersEngine, noise_between, packed
from trine_research.adversaries.weights import OtherModel, PerturbedWeights, RoundedWeights
from trine_research.study.calibrate import Options, conditions
from trine_research.study.fit import auc, clopper_pearson
from trine_research.study.subject import Subject, decodings_at, render_all

WINDOW = 32
TOPLOC_TOP_K = 128
# Prime Intellect's own thresholds for bf16, from the experiments' repository (arXiv 2501.16007).
TOPLOC_EXPONENTS, TOPLOC_MEAN, TOPLOC_MEDIAN = 38, 10, 8
DIFR_DIRECTIONS = 4  # of 16 bits each: 8 bytes a token


@dataclass(frozen=True, slots=True)
class Window:
    """The states of one window: what a prover has, and what the verifier has."""

    prover: str
    claimed: torch.Tensor  # [tokens, hidden], the prover's
    own: torch.Tensor  # the verifier's
    noise: torch.Tensor  # the verifier's in bf16


Statistic = Callable[[Window], float]


class Ours:
    """Relative deviation of fingerprints."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine

    def __call__(self, window: Window) -> float:
        raw = fingerprint.deviation(self.engine.words(window.claimed), self.engine.words(window.own))
        return raw / fingerprint.expected_deviation(noise_between(window.own, window.noise))


class OursUnscaled(Ours):
    """The same fingerprints without the verifier's own noise as the unit."""

    def __call__(self, window: Window) -> float:
        return fingerprint.deviation(self.engine.words(window.claimed), self.engine.words(window.own))


def toploc(window: Window) -> tuple[int, float, float]:
    """(exponent mismatches, mean and median mantissa error) of one TOPLOC proof of the window."""
    from toploc import build_proofs_bytes, verify_proofs_bytes

    states = [row.to(torch.bfloat16).unsqueeze(0) for row in window.claimed]
    mine = [row.to(torch.bfloat16).unsqueeze(0) for row in window.own]
    settings: dict[str, Any] = {"decode_batching_size": len(states), "topk": TOPLOC_TOP_K, "skip_prefill": True}
    [proof] = build_proofs_bytes(states, **settings)
    [result] = verify_proofs_bytes(mine, [proof], **settings)
    return int(result.exp_mismatches), float(result.mant_err_mean), float(result.mant_err_median)


def activation_difr(window: Window, directions: torch.Tensor) -> float:
    """Activation-DiFR (arXiv 2511.20621): mean distance of the states under a random orthogonal projection."""
    claimed = (window.claimed @ directions).to(torch.bfloat16).float()
    return float((claimed - window.own @ directions).norm(dim=-1).mean())


def collect(
    subject: Subject, prompts: int, tokens: int, seed: int, temperature: float, extra: Sequence[str]
) -> list[Window]:
    """The windows of every prover; honest ones first in the table."""
    verifier = subject.engine("fp32")
    rendered = render_all(verifier, subject.prompts(prompts, seed))
    answers = verifier.generate_batch(rendered, tokens, decodings=decodings_at(temperature, len(rendered), seed))
    outputs = [[step.token_id for step in answer] for answer in answers]
    cases = list(zip(rendered, outputs, strict=True))
    own, noise = states_of(verifier, cases), states_of(verifier, cases, companion=True)
    windows: list[Window] = []

    def add(name: str, engine: TransformersEngine) -> None:
        for number, states in enumerate(states_of(engine, cases)):
            for start in range(0, len(states) - WINDOW + 1, WINDOW):
                part = slice(start, start + WINDOW)
                windows.append(Window(name, states[part], own[number][part], noise[number][part]))
        print(f"  {name}: {len(windows)} windows so far", file=sys.stderr, flush=True)

    add("honest fp32, eager", subject.engine("fp32", "eager"))
    bf16 = subject.engine("bf16")
    add("honest bf16", bf16)
    add("honest bf16, eager", subject.engine("bf16", "eager"))
    add("honest fp16", subject.engine("fp16"))
    for base, precision in ((verifier, "fp32"), (bf16, "bf16")):
        add(f"int8 per channel, {precision}", RoundedWeights(base, 8).cheap)
        add(f"int8 per 32, {precision}", RoundedWeights(base, 8, group=32).cheap)
        add(f"int6, {precision}", RoundedWeights(base, 6).cheap)
        add(f"int4, {precision}", RoundedWeights(base, 4).cheap)
        add(f"1 % perturbed, {precision}", PerturbedWeights(base).cheap)
    for name in extra:
        from trine_research.adversaries import make_adversary

        made = make_adversary(name, verifier)
        assert isinstance(made, OtherModel), f"{name}: only cheats that run another model have states of their own"
        add(name, made.cheap)
    return windows


def states_of(
    engine: TransformersEngine, cases: list[tuple[list[int], list[int]]], *, companion: bool = False
) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for rows in packed([len(p) + len(o) for p, o in cases]):
        states = engine.output_states([cases[row] for row in rows], companion=companion)
        found.update({row: s.float() for row, s in zip(rows, states, strict=True)})
    return [found[row] for row in range(len(cases))]


def compare(windows: list[Window], engine: TransformersEngine) -> dict[str, Any]:
    """Every statistic of every window, and how well each parts int8 from the honest."""
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(windows[0].own.shape[1], windows[0].own.shape[1], generator=generator)
    directions = torch.linalg.qr(square)[0][:, :DIFR_DIRECTIONS]
    proofs = [toploc(window) for window in windows]
    ours, unscaled = Ours(engine), OursUnscaled(engine)
    columns: dict[str, tuple[float, list[float]]] = {
        "Trine, relative deviation": (8.0, [ours(w) for w in windows]),
        "Trine, unscaled deviation": (8.0, [unscaled(w) for w in windows]),
        "TOPLOC, mean mantissa error": (258 / WINDOW, [mean for _, mean, _ in proofs]),
        "TOPLOC, median mantissa error": (258 / WINDOW, [median for *_, median in proofs]),
        "TOPLOC, exponent mismatches": (258 / WINDOW, [float(e) for e, *_ in proofs]),
        "Activation-DiFR, 4 directions": (8.0, [activation_difr(w, directions) for w in windows]),
    }
    honest = [w.prover.startswith("honest") for w in windows]
    table: dict[str, Any] = {}
    for name, (size, values) in columns.items():
        good = [v for v, h in zip(values, honest, strict=True) if h]
        by_prover = {}
        for prover in dict.fromkeys(w.prover for w in windows):
            mine = [v for v, w in zip(values, windows, strict=True) if w.prover == prover]
            by_prover[prover] = {
                "least": min(mine),
                "median": statistics.median(mine),
                "most": max(mine),
                "auc": None if prover.startswith("honest") else auc(good, mine),
                # A threshold fitted like ours would lie just above every honest window.
                "over_all_honest": None
                if prover.startswith("honest")
                else sum(v > max(good) for v in mine) / len(mine),
            }
        int8 = [v for v, w in zip(values, windows, strict=True) if w.prover.startswith("int8 per channel")]
        table[name] = {
            "bytes_per_token": size,
            "int8_auc": auc(good, int8),
            "least_int8_over_worst_honest": min(int8) / max(good),
            "first_percentile_over_99th": float(np.quantile(int8, 0.01) / np.quantile(good, 0.99)),
            "provers": by_prover,
        }
    published = [e > TOPLOC_EXPONENTS or mean > TOPLOC_MEAN or med > TOPLOC_MEDIAN for e, mean, med in proofs]
    table["TOPLOC, published thresholds"] = {
        prover: {
            "rejected": sum(r for r, w in zip(published, windows, strict=True) if w.prover == prover),
            "windows": sum(w.prover == prover for w in windows),
        }
        for prover in dict.fromkeys(w.prover for w in windows)
    }
    return table


def decision_speed(policy: Policy, tokens: int = 64, leaves: int = 256) -> float:
    """Milliseconds to judge a batch, given activations' words, margins and noise; the median of five."""
    random = np.random.default_rng(0)
    words = tuple(random.bytes(fingerprint.WORD_BYTES) for _ in range(tokens))
    prover, verifier, _ = policy.pairs[0]
    claim = Claim(tuple(range(10, 10 + tokens)), words, FinishReason.LENGTH, tokens, prover)
    own = Recomputation(words, (0.0,) * tokens, (0.025,) * tokens)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(leaves):
            decide(claim, own, eos_ids=frozenset({2}), verifier_class=verifier, policy=policy)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def show(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, value in document["conditions"].items():
        console.print(f"{name}: {value}", highlight=False)
    summary = Table("statistic", "bytes a token", "AUC int8", "least int8 / worst honest", "1 % / 99 %")
    statistics_ = {n: row for n, row in document["statistics"].items() if "int8_auc" in row}
    for name, row in statistics_.items():
        summary.add_row(
            name,
            f"{row['bytes_per_token']:.1f}",
            f"{row['int8_auc']:.5f}",
            f"{row['least_int8_over_worst_honest']:.2f}",
            f"{row['first_percentile_over_99th']:.2f}",
        )
    console.print(summary)
    detail = Table("prover", *(f"{name}: least median most (AUC)" for name in statistics_))
    published = document["statistics"]["TOPLOC, published thresholds"]
    detail.add_column("TOPLOC's own verdict: rejected")
    for prover in next(iter(statistics_.values()))["provers"]:
        cells = []
        for row in statistics_.values():
            p = row["provers"][prover]
            area = "" if p["auc"] is None else f" ({p['auc']:.4f})"
            cells.append(f"{p['least']:.3g} {p['median']:.3g} {p['most']:.3g}{area}")
        low, high = clopper_pearson(published[prover]["rejected"], published[prover]["windows"])
        detail.add_row(prover, *cells, f"{published[prover]['rejected']} of {published[prover]['windows']}"
                       f" ({low:.1%} to {high:.1%})")  # fmt: skip
    console.print(detail)
    console.print(f"256 answers of 64 tokens judged in {document['decision_ms']:.1f} ms (median of five)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a record's name, or hf:…, pypi:… or file:…")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0, help="of the text; 0 is greedy")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--adversary", action="append", default=[], help="one more, by name or module:attribute")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        import toploc  # noqa: F401
    except ImportError:
        sys.exit("error: TOPLOC is not installed: run `make consensus`, which builds it from its source package")
    subject = Subject.find(arguments.model, arguments.threads)
    drawn = arguments.seed, arguments.temperature
    windows = collect(subject, arguments.prompts, arguments.tokens, *drawn, arguments.adversary)
    options = Options(
        arguments.model,
        prompts=arguments.prompts,
        cheat_prompts=arguments.prompts,
        tokens=arguments.tokens,
        seed=arguments.seed,
        temperatures=(arguments.temperature,),
        cheat_dtype="fp32",
    )
    document: dict[str, Any] = {
        "conditions": conditions(options)
        | {"precisions": "named with each prover", "windows": f"{WINDOW} tokens, verifier fp32, text by fp32"},
        "statistics": compare(windows, subject.engine("fp32")),
        "decision_ms": decision_speed(subject.policy or Policy(())) if subject.policy else float("nan"),
    }
    show(document)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
