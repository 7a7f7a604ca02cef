"""What an engine promises about bits, tried out on this machine.

The same prompts are answered and checked in every way that must not matter: alone and together, in several orders of
arrival, with and without common beginnings kept, in other pieces, on other numbers of threads, after a restart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trine.errors import TrineError
from trine.protocol.decoding import Decoding
from trine.protocol.sampling import MILLION, Sampling
from trine_node.engines.base import Step
from trine_node.engines.transformers_engine import TransformersEngine

PROMPTS = (
    "Why is the sky blue?",
    "Why is the sky blue? Answer in one sentence.",
    "Why is the sky blue at noon and red in the evening?",
    "Name three rivers.",
    "Count from one to twenty.",
    "Write a Python function that reverses a list.",
    "Say hi.",
    "Tell me a story about a lighthouse, a storm and a very small boat that would not sink.",
)
RESTART_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Loader:
    """How to load the same model again, in this process or another."""

    folder: Path
    dtype: str
    device: str
    threads: int

    def __call__(self, **options: Any) -> TransformersEngine:
        options = {"threads": self.threads} | options
        return TransformersEngine.load(
            self.folder, model_name="selftest", model_id=bytes(32), dtype=self.dtype, device=self.device, **options
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not matter, and whether it does."""

    what: str
    same: bool
    detail: str = ""


def prompts_of(engine: TransformersEngine) -> list[list[int]]:
    """Token ids; some prompts begin alike."""
    return [engine.encode_text(text) for text in PROMPTS]


def digest(engine: TransformersEngine, answers: Sequence[Sequence[Step]]) -> str:
    """SHA-256 over token ids, fingerprints, final hidden states and logits of the answers, to the last bit."""
    state = hashlib.sha256()
    cases = []
    for prompt, answer in zip(prompts_of(engine), answers, strict=True):
        cases.append((prompt, [step.token_id for step in answer]))
        for step in answer:
            state.update(step.token_id.to_bytes(4, "big") + step.word)
    for states in engine.output_states(cases):
        state.update(states.float().cpu().numpy().tobytes())
        state.update(engine.logits(states).cpu().numpy().tobytes())
    return state.hexdigest()


def selftest(
    loader: Loader, tokens: int, progress: Callable[[str], None], *, restart: bool = True
) -> Iterator[Finding]:
    """Findings one by one. The first engine's answers, each alone, are what all others are compared with.

    `restart`: in another process, too, which has to import everything anew.
    """
    progress("loading the model")
    engine = loader()
    asked = prompts_of(engine)
    progress("answering alone")
    alone = [list(engine.generate(prompt, tokens)) for prompt in asked]
    expected = digest(engine, alone)
    again = [list(engine.generate(prompt, tokens)) for prompt in asked]
    yield Finding("asked again, beginnings known", again == alone)
    for seed in (1, 2):
        order = list(range(len(asked)))
        random.Random(seed).shuffle(order)  # noqa: S311 - an order of arrival
        yield Finding(f"all at once, order of arrival {seed}", together(engine, asked, tokens, order) == alone)
    ways = [
        Decoding(Sampling(MILLION, number, top_p_millionths=900_000 if number % 2 else MILLION))
        for number in range(len(asked))
    ]
    drawn = [list(engine.generate(prompt, tokens, None, way)) for prompt, way in zip(asked, ways, strict=True)]
    yield Finding("drawn, all at once", engine.generate_batch(asked, tokens, decodings=ways) == drawn)
    progress("checking")
    cases = [(prompt, [step.token_id for step in answer]) for prompt, answer in zip(asked, alone, strict=True)]
    checked = engine.check_batch(cases)
    words = [own.words == tuple(step.word for step in answer) for own, answer in zip(checked, alone, strict=True)]
    yield Finding("fingerprints when checked together", all(words))
    yield Finding("margins when checked together", all(max(own.margins) == 0 for own in checked), "all must be 0")
    yield Finding("checked one by one", [engine.check(*case) for case in cases] == checked)
    for pieces in (5, 64):
        progress(f"reading prompts in pieces of {pieces} tokens")
        other = loader(prompt_tokens=pieces, rows=3)
        yield Finding(f"prompts in pieces of {pieces}, three at once", answered(other, asked, tokens) == alone)
    for threads in sorted({1, 2, os.cpu_count() or 1, 3} - {loader.threads}):
        progress(f"on {threads} threads")
        other = loader(threads=threads)
        yield Finding(f"on {threads} threads", digest(other, answered(other, asked, tokens)) == expected)
    if not restart:
        return
    progress("in another process")
    found = in_another_process(loader, tokens)
    yield Finding("in another process", found == expected, "" if len(found) == 64 else found)


def answered(engine: TransformersEngine, asked: Sequence[Sequence[int]], tokens: int) -> list[list[Step]]:
    return together(engine, asked, tokens, range(len(asked)))


def together(
    engine: TransformersEngine, asked: Sequence[Sequence[int]], tokens: int, order: Sequence[int]
) -> list[list[Step]]:
    """Answers to all, asked at once in this order. Raises what the first failed answer raised."""
    answers: dict[int, list[Step]] = {}
    errors: list[Exception] = []

    def ask(number: int) -> None:
        try:
            answers[number] = list(engine.generate(asked[number], tokens))
        except TrineError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in order]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [answers[number] for number in range(len(asked))]


def in_another_process(loader: Loader, tokens: int) -> str:
    """The digest that a fresh process arrives at, or its complaint."""
    arguments = [str(loader.folder), loader.dtype, loader.device, str(loader.threads), str(tokens)]
    run = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "trine_node.engines.selftest", *arguments],
        capture_output=True,
        text=True,
        timeout=RESTART_TIMEOUT_SECONDS,
        check=False,
    )
    if run.returncode:
        return f"the process ended with {run.returncode}: {run.stderr.strip().splitlines()[-1:]}"
    return str(json.loads(run.stdout.splitlines()[-1])["digest"])


def main() -> None:
    """Prints the digest: what `in_another_process` runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("dtype")
    parser.add_argument("device")
    parser.add_argument("threads", type=int)
    parser.add_argument("tokens", type=int)
    given = parser.parse_args()
    engine = Loader(given.folder, given.dtype, given.device, given.threads)()
    answers = [list(engine.generate(prompt, given.tokens)) for prompt in prompts_of(engine)]
    print(json.dumps({"digest": digest(engine, answers)}))


if __name__ == "__main__":
    main()
