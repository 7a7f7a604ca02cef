"""Writes `reputation.json`: decay and a record's history, which Python and Solidity must agree on to the last bit.

Same form as `protocol.json`; `history_…` is one record: what was written when, and what the views say right after
and after the wait until the next entry.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from trine.protocol.reputation import OUTCOME, Record, decay, multiplier

CASES = 64
HALF_LIFE = 30 * 24 * 3600
START = 1_000_000
FILE = Path(__file__).with_name("reputation.json")


def vectors() -> dict[str, Any]:
    """All cases, from one fixed seed."""
    rng = random.Random(11)
    half_lives = [rng.choice((1, 7, 86_400, HALF_LIFE, 2**64 - 1, rng.randrange(1, 2**64))) for _ in range(CASES)]
    spans = [rng.choice((0, h, h - 1, rng.randrange(h * 3), rng.randrange(h * 130))) for h in half_lives]
    values = [rng.randrange(2 ** rng.randrange(1, 129)) for _ in range(CASES)]

    record, now = Record(), START
    history: dict[str, list[Any]] = {
        name: [] for name in ("now", "accepted", "rejected", "missed", "micros", "score", "later")
    }
    for i in range(CASES):
        # One entry fills a sum: full stays full.
        accepted = 2**63 if i == CASES // 2 else rng.randrange(256 * OUTCOME)
        rejected, missed = rng.choice((0, 0, 3 * OUTCOME, 40 * OUTCOME + 1)), rng.choice((0, OUTCOME))
        record = record.add(now, HALF_LIFE, accepted=accepted, rejected=rejected, missed=missed)
        history["now"].append(_word(now))
        history["accepted"].append(_word(accepted))
        history["rejected"].append(_word(rejected))
        history["missed"].append(_word(missed))
        history["micros"].extend(_word(micro) for micro in record.micros(now, HALF_LIFE))
        history["score"].append(_word(record.score_bps(now, HALF_LIFE)))
        now += rng.choice((0, 1, 12, 3600, 86_400, HALF_LIFE, rng.randrange(HALF_LIFE)))
        history["later"].append(_word(record.score_bps(now, HALF_LIFE)))
    return {
        "decay_halfLife": [_word(h) for h in half_lives],
        "decay_elapsed": [_word(s) for s in spans],
        "decay_value": [_word(v) for v in values],
        "decay_multiplier": [_word(multiplier(s, h)) for s, h in zip(spans, half_lives, strict=True)],
        "decay_left": [_word(decay(v, s, h)) for v, s, h in zip(values, spans, half_lives, strict=True)],
        "halfLife": _word(HALF_LIFE),
        **{f"history_{name}": values for name, values in history.items()},
    }


def render() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


def _word(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()


if __name__ == "__main__":
    FILE.write_text(render())
    print(f"wrote {FILE}")
