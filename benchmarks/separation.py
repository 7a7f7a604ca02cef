"""Tells how well the two statistics of the verdict part honest engines from cheating ones.

    python benchmarks/separation.py --prompts 24 --tokens 64 --json build/separation.json

Honest provers of every precision answer prompts of the registered calibration set and held-out ones; every verifier
checks every answer. Cheats get the hardest case: the honest text, fingerprinted by the wrong weights, so only the
fingerprint can betray them. Swapped tokens are measured at every position: the margin of the token of rank k.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trine.models import load_record
from trine.protocol import fingerprint
from trine.protocol.calibration import parse_prompt_set
from trine.protocol.inputs import Input
from trine.protocol.messages import FinishReason
from trine.protocol.policy import Policy
from trine.protocol.verdict import Claim, Recomputation, decide
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.models import prepare
from trine_verifier.adversaries import PrunedLayers, RoundedWeights

MODEL = "smollm2-135m-instruct"
HELD_OUT = Path(__file__).with_name("held_out_prompts.json")
PRECISIONS = ("fp32", "bf16", "fp16")
LENGTHS = (4, 8, 16, 24, 32, 64)
RANKS = (2, 3, 5, 8, 20, 50)


@dataclass(frozen=True, slots=True)
class Row:
    """One answer, one fingerprinting prover, one verifier."""

    prompt: int
    held_out: bool
    text_by: str
    prover: str
    verifier: str
    honest: bool
    shares: list[float]  # bits that differ, of 256, by token
    margins: list[float]
    outcome: str
    reason: str

    def deviation(self, tokens: int) -> float:
        """As `fingerprint.deviation`, of the answer's first tokens."""
        return statistics.fmean(share**0.5 for share in self.shares[:tokens]) ** 2


def collect(prompts: list[tuple[bool, Input]], tokens: int, threads: int) -> tuple[list[Row], dict[int, list[float]]]:
    """All rows, and the margins of the token of each rank at every position of fp32's answers."""
    record = load_record(MODEL)
    folder = prepare(record.source, progress=print)
    policy = Policy.from_bytes(record.policy)
    honest = {
        dtype: TransformersEngine.load(
            folder, model_name=record.name, model_id=record.model_id, dtype=dtype, threads=threads
        )
        for dtype in PRECISIONS
    }
    cheats = {
        "int8": RoundedWeights(honest["fp32"], 8).cheap,
        "int8-tensor": RoundedWeights(honest["fp32"], 8, per_channel=False).cheap,
        "int8-bf16": RoundedWeights(honest["bf16"], 8).cheap,
        "int6": RoundedWeights(honest["fp32"], 6).cheap,
        "int4": RoundedWeights(honest["fp32"], 4).cheap,
        "pruned": PrunedLayers(honest["fp32"]).cheap,
    }
    rows: list[Row] = []
    ranks: dict[int, list[float]] = {rank: [] for rank in RANKS}
    for number, (held_out, asked) in enumerate(prompts):
        engine = honest["fp32"]
        ids = engine.encode_text(asked.text) if asked.text is not None else engine.encode_chat(asked.as_messages())
        for text_by in ("fp32", "bf16"):
            steps = list(honest[text_by].generate(ids, tokens))
            output = tuple(step.token_id for step in steps)
            own = {dtype: honest[dtype].check(ids, output) for dtype in PRECISIONS}
            words = {dtype: own[dtype].words for dtype in PRECISIONS} | {text_by: tuple(step.word for step in steps)}
            if text_by == "fp32":
                words |= {name: cheat.check(ids, output).words for name, cheat in cheats.items()}
                margins = _rank_margins(engine, ids, output)
                for rank in RANKS:
                    ranks[rank] += margins[rank]
            for prover, verifier in ((p, v) for p in words for v in PRECISIONS):
                claim = _claim(output, words[prover], tokens, prover, engine.eos_ids)
                rows.append(_row(number, held_out, text_by, prover, verifier, claim, own[verifier], engine, policy))
        print(f"  {number + 1} of {len(prompts)}: {len(ids)} + {len(output)} tokens", file=sys.stderr, flush=True)
    return rows, ranks


def _claim(output: tuple[int, ...], words: tuple[bytes, ...], tokens: int, prover: str, eos: frozenset[int]) -> Claim:
    """Cheats of full precision say so; the bf16 one claims bf16."""
    claimed = prover if prover in PRECISIONS else "bf16" if prover.endswith("bf16") else "fp32"
    reason = FinishReason.STOP if output[-1] in eos else FinishReason.LENGTH
    return Claim(output, words, reason, tokens, f"cpu-{claimed}")


def _row(
    number: int,
    held_out: bool,
    text_by: str,
    prover: str,
    verifier: str,
    claim: Claim,
    own: Recomputation,
    engine: TransformersEngine,
    policy: Policy,
) -> Row:
    verdict = decide(claim, own, eos_ids=engine.eos_ids, verifier_class=f"cpu-{verifier}", policy=policy)
    shares = [fingerprint.flipped(a, b) / fingerprint.BITS for a, b in zip(claim.words, own.words, strict=True)]
    # A text by another precision would carry that one's margins: only its author's verdict counts as honest.
    honest = prover == text_by
    margins = list(own.margins) if honest else []
    return Row(number, held_out, text_by, prover, verifier, honest, shares, margins, verdict.outcome, verdict.reason)


def _rank_margins(engine: TransformersEngine, ids: list[int], output: tuple[int, ...]) -> dict[int, list[float]]:
    """Best logit minus the logit of each rank, at the positions that predict the answer."""
    with torch.inference_mode():
        logits = engine.model(input_ids=torch.tensor([[*ids, *output[:-1]]])).logits[0, len(ids) - 1 :].float()
    top = logits.topk(max(RANKS)).values
    return {rank: (top[:, 0] - top[:, rank - 1]).tolist() for rank in RANKS}


def report(rows: list[Row], ranks: dict[int, list[float]]) -> Iterator[str]:
    """The tables, line by line."""
    provers = list(dict.fromkeys(row.prover for row in rows))
    yield "\nDeviation of an answer's first n tokens: least, median, most (answers)"
    for prover in provers:
        for verifier in PRECISIONS:
            cells = []
            for length in LENGTHS:
                found = [
                    row.deviation(length)
                    for row in rows
                    if (row.prover, row.verifier) == (prover, verifier) and len(row.shares) >= length
                ]
                low, middle, high = (min(found), statistics.median(found), max(found)) if found else (0, 0, 0)
                cells.append(f"{length}: {low:.3f} {middle:.3f} {high:.3f} ({len(found)})")
            yield f"  {prover:12} by {verifier}   " + "   ".join(cells)
    yield "\nLeast int8 over worst honest deviation, verifier and prover of any precision / without bf16"
    for length in LENGTHS:
        yield f"  {length:3} tokens   {_gap(rows, length, True):.2f}   {_gap(rows, length, False):.2f}"
    yield "\nVerdicts on whole answers (of at least 24 tokens where the prover cheats)"
    for prover in provers:
        for verifier in PRECISIONS:
            chosen = [
                row
                for row in rows
                if (row.prover, row.verifier) == (prover, verifier)
                and (row.honest or (prover not in PRECISIONS and len(row.shares) >= 24))
            ]
            outcomes = Counter(row.outcome for row in chosen)
            if not chosen:
                continue
            yield f"  {prover:12} by {verifier}   " + ", ".join(f"{n} {name}" for name, n in outcomes.most_common())
    yield "\nWorst margin of honest answers, logits"
    for prover in ("fp32", "bf16"):
        for verifier in PRECISIONS:
            worst = max(
                max(row.margins) for row in rows if row.honest and (row.prover, row.verifier) == (prover, verifier)
            )
            yield f"  {prover} by {verifier}   {worst:.3f}"
    yield "\nMargin of the token of rank k, logits: 0.1%, 1%, 10% quantile over positions"
    for rank, margins in ranks.items():
        ordered = sorted(margins)
        yield f"  {rank:3}   " + "   ".join(f"{ordered[int(len(ordered) * q)]:.3f}" for q in (0.001, 0.01, 0.1))


def _gap(rows: list[Row], length: int, with_bf16: bool) -> float:
    used = [
        row for row in rows if len(row.shares) >= length and (with_bf16 or "bf16" not in f"{row.prover} {row.verifier}")
    ]
    cheating = [row.deviation(length) for row in used if row.prover in ("int8", "int8-bf16")]
    honest = [row.deviation(length) for row in used if row.prover in PRECISIONS]
    return min(cheating, default=0.0) / max(honest, default=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=24, help="how many, half of them held out")
    parser.add_argument("--tokens", type=int, default=64, help="the longest answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write every row")
    options = parser.parse_args()
    registered = [(False, asked) for asked in parse_prompt_set(load_record(MODEL).prompts)]
    held_out = [(True, asked) for asked in parse_prompt_set(HELD_OUT.read_bytes())]
    half = options.prompts // 2
    prompts = _spread(registered, options.prompts - half) + _spread(held_out, half)
    conditions: dict[str, Any] = {
        "model": MODEL,
        "prompts": len(prompts),
        "tokens": options.tokens,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": options.threads,
    }
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    rows, ranks = collect(prompts, options.tokens, options.threads)
    print("\n".join(report(rows, ranks)))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"conditions": conditions, "rows": [asdict(row) for row in rows], "ranks": ranks}
        options.json.write_text(json.dumps(document), "utf-8")


def _spread(items: list[tuple[bool, Input]], count: int) -> list[tuple[bool, Input]]:
    """`count` items, evenly spread over the list."""
    return [items[i * len(items) // count] for i in range(min(count, len(items)))]


if __name__ == "__main__":
    main()
