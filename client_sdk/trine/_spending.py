"""What a client's orders may cost together. Pure but for its lock.

An order counts with its worst price from before it is signed until it is known what it cost; where nobody will ever
know, it goes on counting so. So no number of orders at once, retries and fallbacks included, can go beyond the limit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from trine.errors import InvalidInput, SpendLimitReached
from trine.wording import amount

MOST_UNKNOWN = 1 << 16
"""Orders whose cost may still turn out to be less than their worst price."""


class Spending:
    """Thread-safe; amounts in wei."""

    def __init__(self, limit_wei: int | None) -> None:
        """None: no limit. Raises InvalidInput."""
        if limit_wei is not None and limit_wei < 0:
            raise InvalidInput("spend_limit_wei cannot be negative")
        self._limit_wei = limit_wei
        self._lock = threading.Lock()
        self._spent_wei = 0
        self._open: dict[bytes, int] = {}  # worst prices by the hash of the order
        self._unknown: OrderedDict[bytes, int] = OrderedDict()  # the same, of those that count with them

    @property
    def spent_wei(self) -> int:
        """What finished orders have cost, or may have."""
        with self._lock:
            return self._spent_wei

    @property
    def left_wei(self) -> int | None:
        """What orders may still cost; None without a limit."""
        with self._lock:
            return None if self._limit_wei is None else self._left()

    def begin(self, order: bytes, worst_wei: int) -> None:
        """Raises SpendLimitReached."""
        with self._lock:
            if self._limit_wei is not None and worst_wei > self._left():
                raise SpendLimitReached(
                    f"this order may cost {amount(worst_wei)}, and of the client's limit of {amount(self._limit_wei)} "
                    f"{amount(self._left())} are left: lower max_tokens, or allow more by spend_limit_wei"
                )
            self._open[order] = worst_wei

    def end(self, order: bytes, cost_wei: int | None) -> None:
        """None: nobody knows what it cost, unless its fee is told later. Twice is once."""
        with self._lock:
            worst = self._open.pop(order, None)
            if worst is not None:
                self._spent_wei += worst if cost_wei is None else cost_wei
                if cost_wei is None:
                    self._unknown[order] = worst
                    while len(self._unknown) > MOST_UNKNOWN:
                        self._unknown.popitem(last=False)
            elif cost_wei and (worst := self._unknown.pop(order, None)) is not None:
                self._spent_wei += cost_wei - worst

    def _left(self) -> int:
        return max(0, (self._limit_wei or 0) - self._spent_wei - sum(self._open.values()))
