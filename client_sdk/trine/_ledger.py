"""What an account has promised one node: vouchers for many orders at once, of which none waits for another.

A voucher is over all that was promised so far. An order takes its worst price when it is made, and gives back what it
did not cost when its receipt is there. Pure.
"""

from __future__ import annotations

import itertools
import threading

ASK_AGAIN_AFTER = 256
"""Orders. Answers that verifiers rejected cost nothing: the node's account says so, sooner or later."""


class Ledger:
    """One node's. Thread-safe; amounts in wei."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._owed: int | None = None
        self._since = 0
        self._learned = 0  # how often
        self._taken: dict[int, tuple[int, int]] = {}  # the worst price, and how often was learned before

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

    def take(self, worst_wei: int) -> tuple[int, int]:
        """(number, voucher): a voucher of so many wei covers this order and all that are on their way."""
        with self._lock:
            number = next(self._numbers)
            self._taken[number] = worst_wei, self._learned
            return number, (self._owed or 0) + sum(worst for worst, _ in self._taken.values())

    def give_back(self, number: int, fee_wei: int | None) -> None:
        """The order is over: it cost `fee_wei`, or nobody knows. Twice is once."""
        with self._lock:
            taken = self._taken.pop(number, None)
            if taken is None:
                return
            self._since += 1
            if fee_wei is None or (fee_wei and taken[1] != self._learned):
                # What was learned meanwhile may hold this fee already, or not.
                self._owed = None
            elif self._owed is not None:
                self._owed += fee_wei
