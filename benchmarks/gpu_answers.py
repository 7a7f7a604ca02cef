"""Answers of CPUs to the policy's prompts, kept beside the benchmarks: a GPU has them to judge from its first minute.

    python benchmarks/gpu_day.py answer       writes benchmarks/data/cpu-answers.json.gz anew, in some minutes

Only claims are kept: token ids and words. What a verifier here thinks of them `trine-study recheck` tells at any time.
The file says which model and prompts they are answers to, and is of no use with others.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import zlib
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import torch
import transformers

from trine.errors import InvalidInput
from trine.protocol.fingerprint import WORD_BYTES
from trine.protocol.messages import FinishReason
from trine.protocol.verdict import Claim, Recomputation
from trine_node.engines.transformers_engine import DTYPES
from trine_research.study.observe import Answered, Leaf, Plan, Progress, answer_by_cheats, answer_honestly
from trine_research.study.subject import Subject, Variant, honest_variants, render_all

FILE = Path(__file__).parent / "data" / "cpu-answers.json.gz"
PROMPTS, CHEAT_PROMPTS, TOKENS, SEED = 112, 30, 68, 0
"""Those of the shipped policy: docs/statistics.md."""
CHEATS = ("int8-weights", "int8-group-weights")
VERSION = 1
MAX_BYTES = 1 << 26
_UNSEEN = Recomputation((), (), ())


def make(
    model: str, file: Path, threads: int | None, progress: Progress, prompts: int = PROMPTS, tokens: int = TOKENS
) -> None:
    """Answers on this machine's CPU, of the honest variants that the policy was calibrated with and of two cheats.

    What the file holds already is kept, if model, prompts, machine and software are the same.
    """
    subject = Subject.find(model, threads)
    engines = {dtype: subject.engine(dtype) for dtype in DTYPES}
    rendered = render_all(engines["fp32"], subject.prompts(prompts, SEED))
    plan = Plan(subject, rendered, tokens, engines)
    document: dict[str, Any] = {
        "version": VERSION,
        "model_id": subject.model_id.hex(),
        "tokens": tokens,
        "prompts": [_hash(prompt) for prompt in rendered],
        "conditions": {
            "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            "software": f"torch {torch.__version__}, transformers {transformers.__version__}, "
            f"Python {platform.python_version()}",
        },
        "provers": [],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    document["provers"] = _kept(file, document)
    done = {prover["prover"] for prover in document["provers"]}
    ours, others = _split(variant for variant in honest_variants(tuple(DTYPES)) if variant.name not in done)
    cheats = [name for name in CHEATS if name not in done]
    for answered in chain(
        answer_honestly(plan, ours),
        answer_by_cheats(plan, cheats, "bf16", range(min(CHEAT_PROMPTS, prompts))),
        answer_honestly(plan, others),  # torch's own arithmetic: the slowest
    ):
        progress(f"{answered.prover}: {len(answered)} tokens")
        document["provers"].append(_prover(answered))
        incoming = file.with_name(f"{file.name}.incoming")
        incoming.write_bytes(gzip.compress(json.dumps(document).encode(), 9, mtime=0))
        incoming.replace(file)  # what comes after it may be cut off


def _kept(file: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Provers of a file that says the same of itself as `document` does."""
    try:
        before = json.loads(gzip.decompress(file.read_bytes()))
        provers = list(before.pop("provers"))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, AttributeError):
        return []
    return provers if before | {"provers": []} == document else []


def _split(variants: Iterable[Variant]) -> tuple[list[Variant], list[Variant]]:
    """Those in the engine's own arithmetic, and the others."""
    chosen = list(variants)
    return [each for each in chosen if not each.arithmetic], [each for each in chosen if each.arithmetic]


def read(file: Path, model_id: bytes, prompts: Sequence[list[int]], tokens: int) -> list[Leaf]:
    """The answers to these prompts, as leaves that no verifier has seen yet.

    `prompts` may be the first of those that were answered, and `tokens` fewer: an answer then ends there. Raises
    InvalidInput for a file that `make` did not write, or wrote for another model, other prompts or shorter answers.
    """
    again = f"{file}: answers to other questions; `python benchmarks/gpu_day.py answer` makes them anew"
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{file}: over {MAX_BYTES} bytes")
        document = json.loads(gzip.decompress(file.read_bytes()))
        if document["version"] != VERSION:
            raise InvalidInput(f"{again}: the file has form {document['version']}, not {VERSION}")
        if document["model_id"] != model_id.hex():
            raise InvalidInput(f"{again}: the model is {model_id.hex()[:16]}…, theirs {document['model_id'][:16]}…")
        answered = document["prompts"]
        if len(answered) < len(prompts) or document["tokens"] < tokens:
            raise InvalidInput(
                f"{again}: {len(prompts)} prompts and {tokens} tokens are asked for, there are {len(answered)} and "
                f"{document['tokens']}"
            )
        if others := sum(_hash(prompt) != hashed for prompt, hashed in zip(prompts, answered, strict=False)):
            raise InvalidInput(f"{again}: {others} of {len(prompts)} prompts are not those that were answered")
        return [
            leaf for prover in document["provers"] for leaf in _leaves(prover, document["tokens"], len(prompts), tokens)
        ]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file}: these are no answers of CPUs: {error}") from None


def check(file: Path, model: str) -> None:
    """Whether the file fits the model and the policy's prompts. Raises InvalidInput."""
    subject = Subject.find(model)
    tokenizing = subject.engine("fp32")
    read(file, subject.model_id, render_all(tokenizing, subject.prompts(PROMPTS, SEED)), TOKENS)


def _prover(answered: Answered) -> dict[str, Any]:
    claims = answered.claims
    return {
        "prover": answered.prover,
        "honest": answered.honest,
        "engine_class": claims[0].engine_class,
        "lengths": [len(claim.output_ids) for claim in claims],
        "stopped": [int(claim.finish_reason == FinishReason.STOP) for claim in claims],
        "output_ids": [token for claim in claims for token in claim.output_ids],
        "words": b"".join(word for claim in claims for word in claim.words).hex(),
    }


def _leaves(prover: dict[str, Any], answered: int, prompts: int, tokens: int) -> list[Leaf]:
    lengths, ids, words = prover["lengths"], prover["output_ids"], bytes.fromhex(prover["words"])
    if sum(lengths) != len(ids) or len(words) != len(ids) * WORD_BYTES or len(prover["stopped"]) != len(lengths):
        raise ValueError(f"the lengths of {prover['prover']} do not fit its tokens")
    leaves = []
    for number, (start, end) in enumerate(pairwise(accumulate(lengths, initial=0))):
        if number >= prompts:
            break
        stop = min(end, start + tokens)
        ended = bool(prover["stopped"][number]) and stop == end
        claim = Claim(
            output_ids=tuple(map(int, ids[start:stop])),
            words=tuple(words[at * WORD_BYTES : (at + 1) * WORD_BYTES] for at in range(start, stop)),
            finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
            max_tokens=min(tokens, answered) if ended else stop - start,
            engine_class=str(prover["engine_class"]),
        )
        leaves.append(Leaf(str(prover["prover"]), bool(prover["honest"]), "", number, claim, _UNSEEN, frozenset()))
    return leaves


def _hash(ids: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:32]
