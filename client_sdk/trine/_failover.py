"""Which node an order goes to next when one does not answer: the next best, a bounded number of them, within one time.

What a node may have begun may cost something: such an order goes elsewhere only with its worst price kept apart for the
node that had it first, and the answer says so. Once text was shown, or where a node is named, nothing goes elsewhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trine._answer import Tried
from trine.errors import NodeError, NodeRefused, NodeUnreachable, PaymentRequired

if TYPE_CHECKING:
    from trine._core import Core
    from trine._options import Wanted
    from trine._ordering import Draft
    from trine._repeats import Sent
    from trine.chain import ModelEntry

MAX_NODES = 3
"""That one order is sent to."""
CONNECT_SECONDS = 10.0
FIRST_TOKEN_SECONDS = 60.0
"""How long a node may take to show the first token where there is another to ask: queues are long, promises short."""
SOON_SECONDS = 5.0
"""A busy node that says so is waited for; one that names a later time is not where there is another."""
BUSY_ATTEMPTS = 8
"""Nor one that has said "soon" so often."""
UNSERVED = frozenset({400, 401, 402, 403, 404, 413, 429})
"""A node that answers with one of these has served nothing, so nothing is owed for it."""


class Trying:
    """One order's way."""

    def __init__(self, core: Core, timeout: float, asked: Wanted) -> None:
        """`timeout`: seconds, unless what is asked says otherwise."""
        self._core = core
        self._asked = asked
        self.deadline = time.monotonic() + (timeout if asked.timeout is None else asked.timeout)
        self.tried: tuple[Tried, ...] = ()
        self.noted: Sent | None = None
        """The order that this one knows to be kept under its name."""
        self._attempt = 0

    def choose(self, model: ModelEntry) -> tuple[str, str]:
        """(address, endpoint) of the node to ask now. Raises NotReady."""
        return self._core.choose(model, self._avoided)

    def remembered_choice(self, model: ModelEntry) -> tuple[str, str] | None:
        """As `choose`, without asking the chain; None where that must be asked."""
        return self._core.remembered_choice(model, self._avoided)

    def patience(self, model: ModelEntry, place: tuple[str, str]) -> Patience:
        """With a node that streams."""
        node, url = place
        left = max(0.1, self.deadline - time.monotonic())
        return Patience(url, min(FIRST_TOKEN_SECONDS, left / 2) if self._has_other(model, node) else left, left)

    def whole_seconds(self, model: ModelEntry, node: str) -> float:
        """How long a node may take for a whole answer that does not come as a stream."""
        left = max(0.1, self.deadline - time.monotonic())
        return left / 2 if self._has_other(model, node) else left

    def again(
        self,
        error: NodeError,
        earlier: Sent | None,
        model: ModelEntry,
        place: tuple[str, str],
        order: Draft | None,
        *,
        begun: bool = False,
    ) -> tuple[Sent | None, float]:
        """As `after`, where the order may be one that was sent before: that one is sent again while the node is at it,
        and no more where it says that it has not served it."""
        if isinstance(error, NodeRefused) and error.code == "in_progress":
            earlier = earlier or self.noted  # who asks under the same name may have sent it first
        if earlier is None or begun or not isinstance(error, NodeRefused):
            return None, self.after(error, model, place, order, begun=begun)
        if error.code == "in_progress":
            pause = self._core.pause_after(error, place[0], self._attempt, self.deadline)
            if pause is not None:
                self._attempt += 1
                return earlier, pause
            raise error
        if _is_unserved(error):
            return None, 0.0
        return None, self.after(error, model, place, order)

    def after(
        self, error: NodeError, model: ModelEntry, place: tuple[str, str], order: Draft | None, *, begun: bool = False
    ) -> float:
        """Seconds until the next try, with the same node or with another. Raises where there is none."""
        node, url = place
        core = self._core
        cost = 0 if _is_unserved(error) and not begun else None
        pause = None
        if isinstance(error, NodeRefused) and not begun:
            pause = core.pause_after(error, node, self._attempt, self.deadline)
        is_left = pause is None or (self._is_long(error, pause) and self._has_other(model, node))
        may_cost = order.request.max_fee_wei if order and cost is None else 0
        moves = is_left and not begun and self._moves_on(error) and self._has_other(model, node)
        moves = moves and (order is None or self.affords(order.request.max_fee_wei, may_cost))
        if order and moves and cost is None:
            core.reserve(node, order)
        elif order:
            core.end(node, order, cost)
        if is_left and not moves:
            self._give_up(error, url)
        if moves:
            core.rest(node)
            self.tried += (Tried(node, url, str(error), may_cost),)
            self._attempt = 0
            return 0.0
        self._attempt += 1
        return pause or 0.0

    @property
    def left_wei(self) -> int | None:
        """What the next order may cost; None: no limit."""
        most = self._asked.max_cost_wei
        return None if most is None else max(0, most - sum(each.may_cost_wei for each in self.tried))

    def affords(self, wei: int, beside_wei: int) -> bool:
        """Whether one more order may cost so much, beside one that may still cost the other."""
        left = self.left_wei
        return left is None or wei + beside_wei <= left

    def worst_wei(self, model: ModelEntry, order: Draft | None) -> int:
        """What an order of this question may cost one node."""
        if order is not None:
            return order.request.max_fee_wei
        return self._core.worst_fee_wei(self._asked, model)

    def second(self, model: ModelEntry, place: tuple[str, str], order: Draft | None) -> tuple[str, str] | None:
        """Who is asked as well, where the first one is slow: None where there is nobody, or no money for both."""
        worst = self._core.worst_fee_wei(self._asked, model)
        if not self._has_other(model, place[0]) or not self.affords(worst, self.worst_wei(model, order)):
            return None
        return self._core.remembered_choice(model, self._avoided | {place[0]})

    def lose(self, place: tuple[str, str], order: Draft | None, error: NodeError) -> None:
        """It was asked as well as another, and is left: it may have begun, and be paid for it."""
        if order is None:
            return
        may_cost = 0 if _is_unserved(error) else order.request.max_fee_wei
        if may_cost:
            self._core.reserve(place[0], order)
        else:
            self._core.end(place[0], order, 0)
        self.tried += (Tried(*place, str(error), may_cost),)

    @property
    def _avoided(self) -> frozenset[str]:
        return self._asked.without | {each.node for each in self.tried}

    def _has_other(self, model: ModelEntry, node: str) -> bool:
        may = len(self.tried) + 1 < MAX_NODES and time.monotonic() < self.deadline
        return may and self._core.has_other(model, self._avoided | {node})

    def _is_long(self, error: NodeError, pause: float) -> bool:
        if not isinstance(error, NodeRefused) or error.status not in (429, 500, 502, 503, 504):
            return False
        return error.status >= 500 or pause > SOON_SECONDS or self._attempt >= BUSY_ATTEMPTS

    def _moves_on(self, error: NodeError) -> bool:
        """What another node may do better. What a fallback asks for (a deposit, say) is no reason to end there."""
        if isinstance(error, NodeUnreachable) or self.tried:
            return True
        return isinstance(error, NodeRefused) and (error.status >= 500 or error.status in (404, 408, 429))

    def _give_up(self, error: NodeError, url: str) -> None:
        """Raises the error, or one that says what each of the nodes said."""
        if isinstance(error, NodeUnreachable):
            self._core.forget_nodes()
        if not self.tried:
            if isinstance(error, PaymentRequired) and error.code == "deposit_too_low":
                raise error.hinted("; `deposit_wei=` lets the client deposit when that is needed")
            raise error
        said = [f"{each.node_url:.200}: {each.reason:.200}" for each in self.tried]
        hint = ""
        if isinstance(error, PaymentRequired):
            hint = "; deposits are with one node each, `deposit_wei` lets the client make them"
        raise NodeUnreachable(
            f"none of {len(said) + 1} nodes answered: {'; '.join(said)}; {url:.200}: {error!s:.200}{hint}"
        ) from None


class Patience:
    """How long one node may take: to begin, and in all. Only time that was waited counts, not what a reader takes."""

    def __init__(self, url: str, first: float, whole: float) -> None:
        """Seconds."""
        self._url = url
        self._first = first
        self._whole = whole
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        """For the next bytes."""
        return self._first

    def spend(self, seconds: float, *, begun: bool) -> None:
        """Raises NodeUnreachable."""
        self._waited += seconds
        if not begun and self._waited > self._first:
            raise NodeUnreachable(f"{self._url:.200}: no token within {self._first:.0f} s")
        if self._waited > self._whole:
            raise NodeUnreachable(f"{self._url:.200}: the answer did not end within {self._whole:.0f} s")


def _is_unserved(error: NodeError) -> bool:
    if isinstance(error, NodeUnreachable):
        return error.unsent
    return isinstance(error, NodeRefused) and error.status in UNSERVED
