"""Writes `sampling.json`: what every implementation of the rule `gumbel-1` must agree on. Run after a new rule.

Words are hexadecimal and exact; noise is rounded to 1e-10, margins to 1e-6. Positions hold their logits, so that nobody
needs a model. `tests/unit/test_vectors.py` fails when the file is stale, `tests/unit/test_sampling.py` when the
engine's code disagrees with it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from trine.protocol import sampling
from trine.protocol.inputs import chat_input
from trine.protocol.sampling import MILLION, RULE, RULE_NUMBER, Sampling

FILE = Path(__file__).with_name("sampling.json")
WAYS = (
    Sampling(700_000, 1),
    Sampling(1_000_000, -1, top_p_millionths=900_000),
    Sampling(1_500_000, (1 << 63) - 1, top_k=5),
    Sampling(1, -(1 << 63), top_p_millionths=1, min_p_millionths=MILLION),
    Sampling(2_000_000, 2**53, top_p_millionths=500_000, top_k=40, min_p_millionths=50_000),
)
NOISE = ((0, 0, 0), (0, 0, 3), (0, 0, 4), (1, 2, 49_151), (-1, 1023, 151_935), ((1 << 63) - 1, (1 << 20) - 1, 0))
"""Seed, position, token."""
TOKENS = 24


def vectors() -> dict[str, Any]:
    lot = random.Random(17)
    asked = [{"role": "user", "content": "Hello"}]
    return {
        "rule": RULE,
        "inputs": [
            {
                "canonical": chat_input(asked, None, way).canonical().decode(),
                "hash": "0x" + chat_input(asked, None, way).hash().hex(),
            }
            for way in WAYS
        ],
        "noise": [
            {
                "seed": str(seed),
                "position": position,
                "token": token,
                "block": [
                    f"{word:016x}"
                    for word in sampling.philox((token // 4, position, 0, RULE_NUMBER), (seed % (1 << 64), 0))
                ],
                "noise": round(sampling.noise(seed, position, token), 10),
            }
            for seed, position, token in NOISE
        ],
        "positions": [_position(lot, way, position) for way in WAYS for position in range(4)],
    }


def _position(lot: random.Random, way: Sampling, position: int) -> dict[str, Any]:
    logits = [round(lot.gauss(0, 3) * 1024) / 1024 for _ in range(TOKENS)]  # exact in binary32
    return {
        "sampling": way.document(),
        "position": position,
        "logits": logits,
        "allowed": sampling.allowed(logits, way),
        "choice": sampling.choose(logits, way, position),
        "margins": [round(sampling.margin(logits, way, position, token), 6) for token in range(TOKENS)],
    }


def render() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())
    print(f"wrote {FILE}")
