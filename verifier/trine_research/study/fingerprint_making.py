"""Makes the file of fingerprints that `trine-study billion` compares.

A row is 256 bits, the words of four tokens in a row. The text is the fp32 model's own; honest engines and cheats
fingerprint it in one pass each, so that rows of the same place differ by the engine alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trine.errors import InvalidInput
from trine_node.engines.transformers_engine import TransformersEngine, packed
from trine_research.adversaries.weights import PerturbedWeights, RoundedWeights
from trine_research.study.observe import Progress
from trine_research.study.subject import Subject, render_all

TOKENS_A_ROW = 4
MAX_TOKENS = 4096

Case = tuple[list[int], list[int]]


def make(
    out: Path, model: str, prompts: int, tokens: int, seed: int, threads: int | None, progress: Progress
) -> tuple[int, int]:
    """Writes the file whole or not at all; returns the numbers of reference and claimed rows."""
    if not TOKENS_A_ROW <= tokens <= MAX_TOKENS:
        raise InvalidInput(f"answers of {tokens} tokens: choose {TOKENS_A_ROW} to {MAX_TOKENS}")
    subject = Subject.find(model, threads)
    fp32, bf16, fp16 = (subject.engine(dtype) for dtype in ("fp32", "bf16", "fp16"))
    rendered = render_all(fp32, subject.prompts(prompts, seed))
    answers = [[step.token_id for step in answer] for answer in fp32.generate_batch(rendered, tokens)]
    cases = [(p, a) for p, a in zip(rendered, answers, strict=True) if len(a) >= TOKENS_A_ROW]
    if not cases:
        raise InvalidInput(f"no answer has {TOKENS_A_ROW} tokens: ask for more or longer ones")
    reference = rows_of(fp32, cases)
    progress(f"reference: {len(reference)} rows")
    claimed: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for name, engine in (
        ("honest bf16", bf16),
        ("honest fp16", fp16),
        ("int8 per channel", RoundedWeights(fp32, 8).cheap),
        ("int8 per channel, bf16", RoundedWeights(bf16, 8).cheap),
        ("int4", RoundedWeights(fp32, 4).cheap),
        ("1 % perturbed", PerturbedWeights(fp32).cheap),
    ):
        claimed.append(rows_of(engine, cases))
        names.append(name)
        progress(f"{name}: {len(claimed[-1])} rows")
    incoming = out.with_name(out.name + ".incoming")
    with incoming.open("wb") as file:
        np.savez(
            file,
            reference=reference,
            claimed=np.concatenate(claimed),
            match=np.tile(np.arange(len(reference), dtype=np.int32), len(names)),
            engine=np.repeat(np.arange(len(names), dtype=np.int16), len(reference)),
            engines=np.array(names),
            honest=np.array([name.startswith("honest") for name in names]),
        )
    incoming.replace(out)
    return len(reference), sum(map(len, claimed))


def rows_of(engine: TransformersEngine, cases: Sequence[Case]) -> NDArray[np.uint8]:
    """[rows, 32]: the words of every four tokens in a row, sliding by one, answer after answer."""
    words: dict[int, list[bytes]] = {}
    for group in packed([len(prompt) + len(answer) for prompt, answer in cases]):
        states = engine.output_states([cases[number] for number in group])
        for number, state in zip(group, states, strict=True):
            words[number] = engine.words(state)
    rows = [
        b"".join(words[number][start : start + TOKENS_A_ROW])
        for number in range(len(cases))
        for start in range(len(words[number]) - TOKENS_A_ROW + 1)
    ]
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
