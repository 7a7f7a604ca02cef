"""What the outbox decides, as pure functions: who goes first, which nonce is free, what is stuck."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from trine.chain.follower import Head
from trine.chain.transactions import REPLACE_SECONDS
from trine_operator.outbox.acts import Due

T = TypeVar("T")

URGENT_SECONDS = 90.0
"""Who has less left offers more."""
SHORTEST_PATIENCE_SECONDS = 2.0
TRIES_LEFT = 6
"""What is due is offered for more about so often in the time that is left."""
MAX_IN_FLIGHT = 16
"""So many transactions of an account a pool keeps for certain (go-ethereum's `accountslots`)."""
MAX_PATIENT = 8
"""Of them that have time: what is due does not wait for a place."""


def seconds_left(due: Due, head: Head, block_seconds: float) -> float:
    """Until the act is of no use any more; infinite for one that has time, negative for one that is late."""
    by_time = math.inf if due.at is None else due.at - head.timestamp
    by_block = math.inf if due.block is None else (due.block - head.number) * block_seconds
    return min(by_time, by_block)


def in_order(acts: Iterable[T], left: Callable[[T], float], number: Callable[[T], int]) -> list[T]:
    """Who is due first goes first, then who came first."""
    return sorted(acts, key=lambda act: (left(act), number(act)))


def has_place(in_flight: Sequence[float], left: float) -> bool:
    """Whether one more may be sent, by the seconds left of those that are not mined yet."""
    if len(in_flight) >= MAX_IN_FLIGHT:
        return False
    patient = sum(math.isinf(each) for each in in_flight)
    return not math.isinf(left) or patient < MAX_PATIENT


def free_nonce(latest: int, pending: int, held: Collection[int]) -> int:
    """The lowest nonce that nobody has: not the chain, not the pool, not a transaction of ours.

    `pending` may lag behind what was just sent, or be ahead of it by transactions that others sent for the account.
    """
    nonce = max(latest, pending)
    while nonce in held:
        nonce += 1
    return nonce


def gaps(latest: int, pending: int, held: Collection[int]) -> list[int]:
    """Nonces without a transaction, below ours: something was dropped, and all behind it waits."""
    highest = max(held, default=-1)
    return [nonce for nonce in range(max(latest, pending), highest) if nonce not in held]


def urgencies(left_by_nonce: Mapping[int, float]) -> dict[int, float]:
    """Seconds left of each nonce or of any behind it: what is due waits for all before it."""
    found, least = {}, math.inf
    for nonce in sorted(left_by_nonce, reverse=True):
        least = min(least, left_by_nonce[nonce])
        found[nonce] = least
    return found


def patience_seconds(left: float) -> float:
    """How long a transaction may take before it is replaced by one that pays more."""
    return min(REPLACE_SECONDS, max(SHORTEST_PATIENCE_SECONDS, left / TRIES_LEFT))
