"""What a demo sees, and its words for it: questions with what came of them, accounts before and after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from trine import Answer
from trine.protocol.certificate import Certificate
from trine_devnet.acts.act import Played

HOT = "temperature 0.9"
"""A request that a node must refuse."""


@dataclass(slots=True)
class Seen:
    """One question and everything that came of it."""

    prompt: str
    via: str
    node: str
    cheat: str | None = None
    answer: Answer | None = None
    certificate: Certificate | None = None
    refused: str | None = None
    votes: list[str] = field(default_factory=list)
    gas: int = 0
    fault: str | None = None
    state: str = ""
    """How far it is, for a person who waits; empty when nothing is waited for."""

    @property
    def is_certified(self) -> bool:
        return self.certificate is not None

    @property
    def verdict(self) -> str:
        if self.fault:
            return "error"
        return self.certificate.result if self.certificate else "refused" if self.refused else "?"


@dataclass(frozen=True, slots=True)
class Standing:
    """An account at one moment."""

    balance: int
    stake: int
    deposit: int
    score_bps: int
    accepted: float
    rejected: float


@dataclass(slots=True)
class Outcome:
    seen: list[Seen]
    before: dict[str, Standing]
    after: dict[str, Standing]
    first_certificate_seconds: float | None
    failures: list[str]
    played: list[Played] = field(default_factory=list)
    """Acts beside the questions."""

    @property
    def answers(self) -> dict[str, int]:
        """How many questions came to which verdict."""
        return dict(Counter(question.verdict for question in self.seen))


def summary(question: Seen) -> str:
    if question.fault:
        return question.fault
    if question.refused:
        return f"refused, as it must be: {question.refused}"
    assert question.answer
    return f"{question.answer.tokens_per_second:.1f} tokens/s, receipt checked"


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def vote_line(name: str, vote: str, statistics: dict[str, object] | None) -> str:
    short = name.replace("verifier-", "v")
    if statistics is None:
        return f"{short} {vote}"
    if statistics["reason"] in ("honest", "deviation", "margin", "between bounds"):
        return f"{short} {vote} d={statistics['deviation']:.4f} m={statistics['worst_margin']:.2f}"
    return f"{short} {vote} ({statistics['reason']})"
