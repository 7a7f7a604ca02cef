"""Which of the nodes that serve a model is asked first: by reputation, by measured speed, or by what it takes to pay.

The price of a token is the model's, the same at every node. What differs is whether the account has a deposit with the
node already: a new one takes a transaction, and ties tokens up. Speed and price choose among nodes whose reputation is
near the best one's only: a cheat is fast, and takes any deposit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Preference = Literal["reputation", "speed", "price"]
PREFERENCES = ("reputation", "speed", "price")
NEAR_BEST_BPS = 500
"""Of the best score: nodes this close are as good as it."""
USUAL_TOKENS = 128
"""Of an answer, when nodes are compared."""
MEASURED_SECONDS = 600.0
"""After that a node is measured anew: it may have got faster, or slower."""
WEIGHT = 0.3
"""Of the last measurement in the moving average."""
MEASURED_NODES = 4_096


@dataclass(frozen=True, slots=True)
class Speed:
    """What one node's answers took lately, as this client saw it."""

    first_seconds: float
    """To the first text."""
    tokens_per_second: float
    """After it."""

    def seconds(self, tokens: int = USUAL_TOKENS) -> float:
        """What an answer of so many tokens would take."""
        return self.first_seconds + tokens / max(self.tokens_per_second, 1e-9)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that serves the model. `score_bps`: its reputation, 0 to 10,000."""

    node: str
    url: str
    score_bps: int
    has_deposit: bool = False
    speed: Speed | None = None


def ranked(candidates: Sequence[Candidate], prefer: Preference) -> list[Candidate]:
    """Best first. By speed, who was not measured comes before who was: each is tried."""
    by_score = sorted(candidates, key=lambda each: -each.score_bps)
    if prefer == "reputation" or not by_score:
        return by_score
    near = [each for each in by_score if each.score_bps >= by_score[0].score_bps - NEAR_BEST_BPS]
    if prefer == "price":
        near.sort(key=lambda each: not each.has_deposit)
    else:
        near.sort(key=lambda each: each.speed.seconds() if each.speed else 0.0)
    return near + by_score[len(near) :]


class Speeds:
    """Measurements of nodes, by address. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Speed]] = {}

    def note(self, node: str, first_seconds: float | None, tokens: int, seconds: float) -> None:
        """An answer: `tokens` came in the `seconds` after the first text, or, where it came whole, since it was asked
        for."""
        self._note(node, first_seconds, tokens / max(seconds, 1e-3))

    def note_late(self, node: str, first_seconds: float) -> None:
        """There was no text by then, and nobody waited any longer."""
        self._note(node, first_seconds, None)

    def of(self, node: str) -> Speed | None:
        """None where it was not measured lately."""
        with self._lock:
            at, speed = self._known.get(node, (0.0, None))
        return speed if speed is not None and time.monotonic() - at < MEASURED_SECONDS else None

    def _note(self, node: str, first: float | None, rate: float | None) -> None:
        before = self.of(node) or Speed(first or 0.0, rate or 1.0)
        with self._lock:
            self._known.pop(node, None)
            self._known[node] = (
                time.monotonic(),
                Speed(_moved(before.first_seconds, first), _moved(before.tokens_per_second, rate)),
            )
            while len(self._known) > MEASURED_NODES:
                self._known.pop(next(iter(self._known)))


def _moved(before: float, last: float | None) -> float:
    return before if last is None else (1 - WEIGHT) * before + WEIGHT * last
