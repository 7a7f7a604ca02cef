"""Observations in a file: what was measured once can be fitted and judged again without a model.

JSON lines, compressed, one leaf a line, complete after every prover: a run that ends early, or is killed, keeps what it
has.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trine.errors import InvalidInput
from trine.protocol.messages import FinishReason
from trine.protocol.verdict import Claim, Recomputation
from trine_research.study.observe import Leaf

MAX_LINE = 1 << 24


def append(file: Path, leaves: Iterable[Leaf]) -> None:
    """As a gzip member of its own, behind what is there: all of them or none."""
    incoming = file.with_name(f"{file.name}.incoming")
    if file.exists():
        shutil.copyfile(file, incoming)
    else:
        incoming.unlink(missing_ok=True)
    with gzip.open(incoming, "at", encoding="utf-8") as lines:
        for leaf in leaves:
            lines.write(json.dumps(_document(leaf)) + "\n")
    incoming.replace(file)


def read(file: Path) -> Iterator[Leaf]:
    """Raises InvalidInput for anything that `append` did not write."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            while line := lines.readline(MAX_LINE):
                yield _leaf(json.loads(line))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file}: these are no observations: {error}") from None


def _document(leaf: Leaf) -> dict[str, Any]:
    claim, own = leaf.claim, leaf.own
    return {
        "prover": leaf.prover,
        "honest": leaf.honest,
        "verifier": leaf.verifier,
        "prompt": leaf.prompt,
        "eos_ids": sorted(leaf.eos_ids),
        "output_ids": list(claim.output_ids),
        "claimed_words": [word.hex() for word in claim.words],
        "finish_reason": int(claim.finish_reason),
        "max_tokens": claim.max_tokens,
        "engine_class": claim.engine_class,
        "own_words": [word.hex() for word in own.words],
        "margins": list(own.margins),
        "noise": list(own.noise),
    }


def _leaf(document: dict[str, Any]) -> Leaf:
    claim = Claim(
        output_ids=tuple(map(int, document["output_ids"])),
        words=tuple(map(bytes.fromhex, document["claimed_words"])),
        finish_reason=FinishReason(document["finish_reason"]),
        max_tokens=int(document["max_tokens"]),
        engine_class=str(document["engine_class"]),
    )
    own = Recomputation(
        tuple(map(bytes.fromhex, document["own_words"])),
        tuple(map(float, document["margins"])),
        tuple(map(float, document["noise"])),
    )
    return Leaf(
        prover=str(document["prover"]),
        honest=bool(document["honest"]),
        verifier=str(document["verifier"]),
        prompt=int(document["prompt"]),
        claim=claim,
        own=own,
        eos_ids=frozenset(map(int, document["eos_ids"])),
    )
