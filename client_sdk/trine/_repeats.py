"""Orders with a name of the caller's: asked for again, the same order is sent, or its answer is given.

A node answers the same signed order with the same answer and is paid for it once, so sending it again is safe where
signing another would not be. Remembered by one client, for as long as it lives and among its last names; with a file
(`_kept_orders`) also by the next one, whatever has ended the first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trine._answer import Answer
from trine._options import Wanted
from trine._ordering import Draft
from trine.errors import InvalidInput

if TYPE_CHECKING:
    from trine._kept_orders import KeptOrders
    from trine.chain import Chain

MOST = 1_024
"""Names that are remembered in memory."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An order, and address and endpoint of the node that it went to."""

    place: tuple[str, str]
    order: Draft


class Repeats:
    """Thread-safe."""

    def __init__(self, kept: KeptOrders | None = None) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[bytes, Sent | Answer]] = OrderedDict()
        self._kept = kept

    def earlier(self, asked: Wanted) -> Sent | Answer | None:
        """What was sent or answered under this name; None where nothing was. Raises InvalidInput where the name is
        another question's, or the file cannot be read.

        What was sent may be over by its deadline: only its node knows whether it was answered before.
        """
        name = asked.idempotency_key
        if name is None:
            return None
        with self._lock:
            known = self._known.get(name)
        if known is None and self._kept is not None:
            known = self._kept.find(name)
        if known is None:
            return None
        question, found = known
        _require_same(question, asked)
        self._remember(name, question, found)
        return found

    def note(self, asked: Wanted, what: Sent | Answer, instead_of: Sent | None = None) -> Sent | Answer | None:
        """What came of the order so far: before it is sent, and when its answer is there. Raises InvalidInput where
        what is to be sent cannot be kept; an answer that cannot is had again by its order.

        What is to be sent is not kept where another than `instead_of` is under this name by now: that one is returned,
        and is to be sent, or its answer given, in the place of this.
        """
        name = asked.idempotency_key
        if name is None:
            return None
        found = self._other(name, asked.question, what, instead_of)
        if found is None:
            self._remember(name, asked.question, what)
            return None
        question, other = found
        _require_same(question, asked)
        self._remember(name, question, other)
        return other

    def _other(
        self, name: str, question: bytes, what: Sent | Answer, instead_of: Sent | None
    ) -> tuple[bytes, Sent | Answer] | None:
        if self._kept is not None:
            with suppress(InvalidInput) if isinstance(what, Answer) else nullcontext():
                return self._kept.keep(name, question, what, instead_of)
            return None
        with self._lock:
            known = None if isinstance(what, Answer) else self._known.get(name)
            if known is not None and not is_same(known[1], instead_of):
                return known
            self._known[name] = question, what
        return None

    def _remember(self, name: str, question: bytes, what: Sent | Answer) -> None:
        with self._lock:
            self._known[name] = question, what
            self._known.move_to_end(name)
            while len(self._known) > MOST:
                self._known.popitem(last=False)


def is_same(found: Sent | Answer, sent: Sent | None) -> bool:
    """Whether it is this order, without an answer."""
    return isinstance(found, Sent) and sent is not None and found.order.digest == sent.order.digest


def _require_same(question: bytes, asked: Wanted) -> None:
    if question != asked.question:
        raise InvalidInput("this idempotency_key was used for another question: use another one")


def kept_orders(chain: Chain, state: str | Path | None) -> KeptOrders | None:
    """The file of the account's orders, where there is to be one. Raises InvalidInput."""
    if state is None:
        return None
    from trine._kept_orders import KeptOrders

    if not chain.has_account:
        raise InvalidInput("state keeps an account's orders: pass `account=`, too")
    return KeptOrders(Path(state), chain.address, chain.domain)
