"""What a seat may have to do, on a batch or on an appealed leaf, and how patient it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from trine.chain import Parameters

EVIDENCE_SHARE = 0.5
"""Evidence that is not shown within this share of `commitSeconds` counts as withheld."""
ALONE_SHARE = 0.25
"""Within this share the node alone is asked. From then on others who have a seat are, too, and the node again."""
SENDING_SHARE = 0.25
"""Of `commitSeconds`, kept for sending the commitment: what is not checked by then is voted on as inconclusive."""
MIN_FETCH_SECONDS, MAX_FETCH_SECONDS = 2.0, 30.0
"""Whoever is asked for evidence is listened to for so long, however many bytes it drips."""
MAX_PAUSE_SECONDS = 8.0
"""Between tries of a duty that fails, at most: a reveal is due within `revealSeconds`."""
FINALIZE_GRACE_SECONDS = 3
"""A node finalizes its batches, and its verifiers are paid then; they do it, one seat after another with so many
seconds between, when it has not: it may be about to lose stake."""


class Duty(Enum):
    """What a seat has to do next."""

    CHECK = "check"
    COMMIT = "commit"
    REVEAL = "reveal"
    SETTLE = "settle"
    FINALIZE = "finalize"
    OVER = "over"
    WAIT = "wait"


def evidence_deadline(clock: int, terms: Parameters, tokens: int) -> float:
    """When evidence that does not come counts as withheld, in the chain's time; `clock` ends the commit window.

    What is left then is the time that so many tokens take, and the other share of what all have besides.
    """
    return clock - terms.check_seconds(tokens) - terms.commit_seconds * (1 - EVIDENCE_SHARE)


def is_time_for(seconds: float, clock: int, terms: Parameters, now: int) -> bool:
    """Whether a part of a check that takes so long still lets the vote be sent; `clock` ends the commit window."""
    return now + seconds <= clock - terms.commit_seconds * SENDING_SHARE


@dataclass(frozen=True, slots=True)
class Listening:
    """For how many seconds the node is listened to, and all others together; zero: they are not asked yet."""

    node: float
    others: float


def listening(clock: int, terms: Parameters, tokens: int, now: int, crowd: int) -> Listening:
    """Who is listened to for how long. Before the deadline, all the `crowd` of a node's batches must be asked for;
    after it, what is left of the commit window must do for the check.

    The others are asked late on purpose: an honest node has shown everybody everything by then, so nobody asks for
    what it could have had; and late enough that whoever the node did show it to has it.
    """

    def share(seconds: float) -> float:
        return min(max(seconds * 2 / (1 + crowd), MIN_FETCH_SECONDS), MAX_FETCH_SECONDS)

    deadline = evidence_deadline(clock, terms, tokens)
    alone = deadline - terms.commit_seconds * (EVIDENCE_SHARE - ALONE_SHARE)
    if now < alone:
        return Listening(share(alone - now), 0.0)
    left = deadline - now if now < deadline else (clock - now) / 4
    return Listening(share(left / 2), share(left / 2))
