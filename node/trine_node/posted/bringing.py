"""Takes settled answers to the contract that pays for them and calls whoever asked back. Through the outbox, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog

from trine.chain import Chain
from trine.chain.writes import CALLS
from trine.protocol.evidence import parsed_input
from trine.protocol.inputs import shown
from trine.protocol.requests import Order, Posted, RequestState
from trine_node.posted.rules import Costs, Terms, is_worth_bringing
from trine_node.posted.table import BROUGHT, LOST, Answered, PostedRequests
from trine_operator.apart import Apart
from trine_operator.outbox import Act, Due, Submits
from trine_operator.payments import opening_of
from trine_operator.store import Store, StoredAnswer

log = structlog.get_logger()

MAX_PAUSE_SECONDS = 60.0
FORGET_SECONDS = 3_600.0


def is_ready(answered: Answered) -> bool:
    """Whether the contract would take the answer, as far as the store knows."""
    enough = ("final",) if answered.order.wait_for_final else ("settled", "final")
    return answered.batch_state in enough and answered.result == "accept"


def is_hopeless(answered: Answered) -> bool:
    """Whether it never will."""
    return answered.batch_state in ("final", "void") and answered.result not in (None, "accept")


class Bringing:
    """For one account. `step` is to be repeated at every block. `clock` is in seconds."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        outbox: Submits,
        posted: PostedRequests,
        terms: Terms,
        costs: Callable[[], Costs],
        text_of: Callable[[StoredAnswer], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`text_of` gives an answer's text, as its client sees it."""
        self._store = store
        self._chain = chain
        self._outbox = outbox
        self._posted = posted
        self._terms = terms
        self._costs = costs
        self._text_of = text_of
        self._clock = clock
        self._apart = Apart(MAX_PAUSE_SECONDS, clock)
        self._forgotten_at = clock()

    def step(self) -> None:
        """Raises TrineError when the chain or the store cannot be read."""
        if self._clock() - self._forgotten_at > FORGET_SECONDS:
            self._forgotten_at = self._clock()
            self._posted.forget(self._chain.now())
        in_flight = self._outbox.open_names()  # before the chain is asked: see `Submits`
        for answered in self._posted.answered():
            if _name(answered.order) in in_flight or not (is_ready(answered) or self._is_late(answered)):
                if is_hopeless(answered):
                    self._over(answered.order, LOST, f"the verdict was {answered.result}")
                continue
            request_id = answered.order.request_id
            self._apart.run(request_id, partial(self._see_to, answered), request=request_id.hex())

    def _is_late(self, answered: Answered) -> bool:
        return self._chain.now() > answered.order.deadline

    def _see_to(self, answered: Answered) -> None:
        """Looks what the contract has, and brings what it waits for. Raises TransactionReverted."""
        order = answered.order
        posted = self._chain.posted_request(order.request_id)
        if posted is None:
            return  # its block is gone, and may come again
        if posted.state is not RequestState.OPEN:
            self._note_over(order, posted)
        elif self._is_late(answered):
            self._over(order, LOST, "the deadline has passed")
        elif is_ready(answered):
            self._bring(answered)

    def _bring(self, answered: Answered) -> None:
        order = answered.order
        answer = self._store.answer(answered.digest)
        if answer is None or answered.batch_id is None or answered.leaf is None:
            raise AssertionError("an answer that was judged is in a batch")
        batch = self._store.batch(answered.batch_id)
        if batch is None:
            raise AssertionError("an answer's batch is in the store")
        output = self._text_of(answer).encode()
        if not is_worth_bringing(self._terms, self._costs(), order, answer.receipt.fee_wei, len(output)):
            return  # gas is too dear just now
        opening = opening_of(batch, answered.leaf, answer.receipt.values())
        call = CALLS.fulfil_request(order.request_id, answered.batch_id, opening, output)
        self._outbox.submit(Act((_name(order),), call, Due(at=order.deadline)))
        log.info("request_fulfilling", request=order.request_id.hex(), batch=answered.batch_id.hex())

    def _note_over(self, order: Order, posted: Posted) -> None:
        if posted.state is RequestState.EXPIRED:
            self._over(order, LOST, "it expired")
            return
        state = BROUGHT if self._is_paid_to_us(order) else LOST
        self._over(order, state, "" if state is BROUGHT else "another node has answered it")

    def _is_paid_to_us(self, order: Order) -> bool:
        event = self._chain.newest_event("Requests", "RequestFulfilled", requestId=order.request_id)
        return event is not None and str(event.args["node"]).lower() == self._chain.address.lower()

    def _over(self, order: Order, state: str, why: str) -> None:
        self._posted.note(order.request_id, state, why)
        self._apart.forget(order.request_id)
        log.info("request_over", request=order.request_id.hex(), state=state, why=why)


def text_by(decode: Callable[[tuple[int, ...]], str]) -> Callable[[StoredAnswer], str]:
    """How an answer's text follows from its evidence. Raises EvidencePruned."""

    def text_of(answer: StoredAnswer) -> str:
        return shown(decode(answer.evidence.output_ids), parsed_input(answer.evidence).stop)

    return text_of


def _name(order: Order) -> str:
    return f"fulfil {order.request_id.hex()}"
