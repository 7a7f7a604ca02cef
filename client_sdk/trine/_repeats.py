"""Orders with a name of the caller's: asked for again, the same order is sent, or its answer is given. Pure but for its
lock.

A node answers the same signed order with the same answer and is paid for it once, so sending it again is safe where
signing another would not be. Remembered by one client, for as long as it lives and among its last names.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from trine._answer import Answer
from trine._options import Wanted
from trine._ordering import Draft
from trine.errors import InvalidInput

MOST = 1_024
"""Names that are remembered."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An order, and address and endpoint of the node that it went to."""

    place: tuple[str, str]
    order: Draft


class Repeats:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[bytes, Sent | Answer | None]] = OrderedDict()

    def earlier(self, asked: Wanted, now: int) -> Sent | Answer | None:
        """What was sent or answered under this name; None where nothing was, or what was sent is over. `now`: the
        chain's time. Raises InvalidInput where the name is another question's."""
        name = asked.idempotency_key
        if name is None:
            return None
        with self._lock:
            question, found = self._known.get(name, (asked.question, None))
            if question != asked.question:
                raise InvalidInput("this idempotency_key was used for another question: use another one")
            self._keep(name, question, found)
        return None if isinstance(found, Sent) and found.order.request.deadline <= now else found

    def note(self, asked: Wanted, what: Sent | Answer | None) -> None:
        """What came of the order so far; None: it was not served and will not be."""
        if asked.idempotency_key is not None:
            with self._lock:
                self._keep(asked.idempotency_key, asked.question, what)

    def _keep(self, name: str, question: bytes, what: Sent | Answer | None) -> None:
        self._known[name] = question, what
        self._known.move_to_end(name)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
