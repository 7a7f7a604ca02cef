"""What an account has promised one node: vouchers for many orders at once, of which none waits for another.

A voucher limits, and acknowledges. Its limit is over all that was promised so far: an order takes its worst price when
it is made, and gives back what it did not cost when its receipt is there. What it acknowledges was proved, answer by
answer: see `_answer.Earned`. Pure.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

ASK_AGAIN_AFTER = 256
"""Orders. Answers that verifiers rejected cost nothing, and those that they accepted are to be acknowledged: the node's
account says which, sooner or later."""


REMEMBERED = 1 << 16
"""Orders whose fees are known, of each node."""


RESERVED_SECONDS = 3_600
"""After its deadline an order that a node may have begun is answered, or never will be: its time-outs are shorter."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An order's place in the ledger, and what its voucher says. `deadline` is the order's, seconds."""

    number: int
    cumulative_wei: int
    earned_wei: int
    as_of: int
    deadline: int


@dataclass(frozen=True, slots=True)
class _OnItsWay:
    worst_wei: int
    learned: int  # how often was learned before
    deadline: int


class Ledger:
    """One node's. Thread-safe; amounts in wei."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._owed: int | None = None
        self._earned, self._as_of = 0, 0
        self._since = 0
        self._learned = 0  # how often
        self._taken: dict[int, _OnItsWay] = {}
        self._reserved: dict[int, _OnItsWay] = {}
        self._fees: dict[bytes, int] = {}  # by hash of the order

    @property
    def is_known(self) -> bool:
        """Whether the node need not be asked what is owed."""
        with self._lock:
            return self._owed is not None and self._since < ASK_AGAIN_AFTER

    def learn(self, owed_wei: int) -> None:
        """What the node says is owed, as far as it can prove it."""
        with self._lock:
            self._owed, self._since = owed_wei, 0
            self._learned += 1

    def forget(self) -> None:
        """The node sees it otherwise: it is asked before the next order."""
        with self._lock:
            self._owed = None

    @property
    def open_since(self) -> int | None:
        """The earliest deadline of an order that is on its way: later ones cannot be acknowledged yet."""
        with self._lock:
            return min((order.deadline for order in self._open()), default=None)

    def note_fee(self, request_hash: bytes, fee_wei: int) -> None:
        """What the receipt says that an order costs. Of the last ones it is remembered."""
        with self._lock:
            self._fees[request_hash] = min(fee_wei, self._fees.get(request_hash, fee_wei))
            while len(self._fees) > REMEMBERED:
                self._fees.pop(next(iter(self._fees)))

    def fee_of(self, request_hash: bytes) -> int | None:
        """What `note_fee` was told; None where that is not known (any more)."""
        with self._lock:
            return self._fees.get(request_hash)

    @property
    def acknowledged(self) -> tuple[int, int]:
        """(earned wei, asOf): see `acknowledge`."""
        with self._lock:
            return self._earned, self._as_of

    @property
    def earned_wei(self) -> int:
        return self.acknowledged[0]

    def acknowledge(self, earned_wei: int, as_of: int) -> None:
        """What orders with a deadline before `as_of`, seconds, have earned in all. Less than before changes nothing,
        nor does what an order on its way would be part of."""
        with self._lock:
            if as_of > self._as_of and all(as_of <= order.deadline for order in self._open()):
                self._earned, self._as_of = max(self._earned, earned_wei), as_of

    def take(self, worst_wei: int, deadline: int = 0) -> Taken:
        """A voucher of its limit covers this order and all that are on their way. The order's deadline is a later one
        where orders with this one are acknowledged."""
        with self._lock:
            number, deadline = next(self._numbers), max(deadline, self._as_of)
            self._taken[number] = _OnItsWay(worst_wei, self._learned, deadline)
            limit = (self._owed or 0) + sum(order.worst_wei for order in self._open())
            # Never less than what is acknowledged: that much may be collected in any case.
            return Taken(number, max(limit, self._earned), self._earned, self._as_of, deadline)

    def reserve(self, number: int) -> None:
        """The order goes to another node though this one may have begun it: its worst price stays promised here, and
        no later voucher takes it for done, until `expire`."""
        with self._lock:
            order = self._taken.pop(number, None)
            if order is not None:
                self._reserved[number] = order

    def expire(self, now: int) -> None:
        """Of what is reserved, that whose time is over is what the node can prove: it is asked. `now`: the chain's."""
        with self._lock:
            over = [n for n, order in self._reserved.items() if order.deadline + RESERVED_SECONDS < now]
            for number in over:
                del self._reserved[number]
                self._owed = None

    @property
    def reserved_wei(self) -> int:
        with self._lock:
            return sum(order.worst_wei for order in self._reserved.values())

    def _open(self) -> list[_OnItsWay]:
        return [*self._taken.values(), *self._reserved.values()]

    def give_back(self, number: int, fee_wei: int | None) -> None:
        """The order is over: it cost `fee_wei`, or nobody knows. Twice is once."""
        with self._lock:
            taken = self._taken.pop(number, None)
            if taken is None:
                return
            self._since += 1
            if fee_wei is None or (fee_wei and taken.learned != self._learned):
                # What was learned meanwhile may hold this fee already, or not.
                self._owed = None
            elif self._owed is not None:
                self._owed += fee_wei
