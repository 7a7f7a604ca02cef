"""Reads posted requests off the chain into the store: those for this node, no more than the queue holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import structlog
from sqlalchemy.orm import Session

from trine.chain import Chain, Event
from trine.protocol.requests import Order
from trine_node.posted.rules import Costs, Terms, concerns, kept, surplus
from trine_node.posted.table import PostedRequests
from trine_operator.events import Changes, EventLog
from trine_operator.store import Store

log = structlog.get_logger()

WATCHED = (("Requests", "RequestPosted"),)
AGAIN_BLOCKS = 256
LOOK_BACK_SECONDS = 7 * 86_400
"""Of a new store."""
OVERTAKEN = "the queue is full of requests that pay more"


class Watching:
    """One reader. `step` is to be repeated at every block."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        posted: PostedRequests,
        terms: Terms,
        costs: Callable[[], Costs],
        *,
        queue: int,
    ) -> None:
        self._store = store
        self._chain = chain
        self._posted = posted
        self._terms = terms
        self._costs = costs
        self._queue = queue

    def step(self) -> bool:
        """Whether something has come. Raises TrineError when the chain or the store cannot be read."""
        # What the transaction below needs of the chain is asked before it: the store waits for nobody.
        now, costs = self._chain.now(), self._costs()
        changes = self._events.read(lambda session, changes: self._note(session, changes, now, costs))
        return bool(changes.added)

    @cached_property
    def _events(self) -> EventLog:
        chain = self._chain
        return EventLog(
            self._store,
            chain,
            "requests",
            WATCHED,
            # What nobody has answered for longer has been looked at by others.
            since=lambda: chain.block_before(chain.timestamp() - LOOK_BACK_SECONDS),
            again_blocks=AGAIN_BLOCKS,
            indexed=(None, None, "0x" + self._terms.model_id.hex()),
        )

    def _note(self, session: Session, changes: Changes, now: int, costs: Costs) -> None:
        self._posted.drop(session, [bytes(event.args["requestId"]) for event in changes.dropped])
        mine = [(order, block) for order, block in _orders(changes.added) if concerns(self._terms, order, now)]
        if not mine:
            return
        self._posted.add(session, mine, now)
        waiting = self._posted.waiting_within(session)
        if len(waiting) > self._queue:
            ranked = [(each.order.request_id, surplus(self._terms, costs, each.order)) for each in waiting]
            stay = kept(ranked, self._queue)
            gone = [request_id for request_id, _ in ranked if request_id not in stay]
            self._posted.refuse(session, gone, OVERTAKEN)
            log.warning("requests_overtaken", refused=len(gone), queue=self._queue)
        log.info("requests_posted", requests=len(mine), waiting=min(len(waiting), self._queue))


def _orders(events: Iterable[Event]) -> list[tuple[Order, int]]:
    return [(order_of(event), event.block) for event in events]


def order_of(event: Event) -> Order:
    """The order that `RequestPosted` shows."""
    args = event.args
    return Order(
        request_id=bytes(args["requestId"]),
        requester=str(args["requester"]),
        model_id=bytes(args["modelId"]),
        node=str(args["node"]),
        input=bytes(args["input"]),
        max_tokens=int(args["maxTokens"]),
        max_fee_wei=int(args["maxFeeWei"]),
        deadline=int(args["deadline"]),
        callback_gas=int(args["callbackGas"]),
        wait_for_final=bool(args["waitForFinal"]),
    )
