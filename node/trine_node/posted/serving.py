"""Has posted requests answered, one at a time beside the node's clients, best paid first. `bringing` does the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from trine.chain import Chain, Role
from trine.errors import InvalidInput, TrineError
from trine.protocol.inputs import Input, parse_input
from trine.protocol.messages import ZERO_ADDRESS, Receipt
from trine.protocol.requests import Order, RequestState
from trine_node.answering import Answering
from trine_node.engines.base import EngineError
from trine_node.generating import Finished, Unaffordable
from trine_node.orders import Order as Asked
from trine_node.posted.peers import promised
from trine_node.posted.rules import Costs, Ruling, Terms, decide, fee_of, needed_seconds, ranking, surplus, turn_of
from trine_node.posted.table import ANSWERED, LOST, REFUSED, PostedRequests, Waiting
from trine_operator.apart import Apart
from trine_operator.refusal import Refusal

log = structlog.get_logger()

AT_ONCE = 8
"""Answered in one step, before the chain is read again."""
NODES_SECONDS = 60.0
"""Between looks at who else could answer."""
NODE_PAGES = 4
MAX_PAUSE_SECONDS = 60.0
REMEMBERED = 16_384
RENDERED = 256


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request whose input is in order."""

    asked: Input
    prompt_tokens: int


class Serving:
    """One thread uses it. `clock` is in seconds."""

    def __init__(
        self,
        answering: Answering,
        chain: Chain,
        posted: PostedRequests,
        terms: Terms,
        costs: Callable[[], Costs],
        *,
        turn_seconds: int,
        timeout_seconds: float,
        max_busy: int,
        stopped: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """While `max_busy` orders of clients are being answered, none of these is begun."""
        self._answering = answering
        self._chain = chain
        self._posted = posted
        self._terms = terms
        self._costs = costs
        self._turn_seconds = turn_seconds
        self._timeout_seconds = timeout_seconds
        self._max_busy = max_busy
        self._stopped = stopped
        self._clock = clock
        self._apart = Apart(MAX_PAUSE_SECONDS, clock)
        self._nodes: tuple[float, dict[str, str]] = (-NODES_SECONDS, {})  # when they were read, endpoints by address
        self._in_order: dict[bytes, Rendered] = {}  # of those that wait for their turn
        self._since: dict[bytes, int] = {}  # when each was first looked at, its block being taken to stay
        self._rankings: dict[bytes, tuple[float, list[str]]] = {}  # by when the nodes were read
        self._left_to: dict[bytes, int] = {}  # requests that others have answered: until when they are left to them

    def step(self) -> None:
        """Answers some of those that are due. Raises TrineError when the chain or the store cannot be read."""
        for _ in range(AT_ONCE):
            if self._stopped() or not self._answer_next():
                return

    def _answer_next(self) -> bool:
        """Whether one was taken, and there may be more."""
        if self._answering.in_progress >= self._max_busy:
            return False
        waiting = self._posted.waiting()
        if not waiting or not self._is_calibrated():
            return False
        confirmed, costs = self._chain.confirmed_block(), self._costs()
        # What a re-org could still take away would be an answer that nobody asked for: that costs stake.
        stay = [each for each in waiting if each.block <= confirmed]
        stay.sort(key=lambda each: (-surplus(self._terms, costs, each.order), each.seen_at))
        taken: list[bool] = []
        for each in stay:
            request_id = each.order.request_id
            self._apart.run(
                request_id,
                lambda each=each: taken.append(self._consider(each, costs)),  # type: ignore[misc]
                request=request_id.hex(),
            )
            if self._stopped():
                return False
            if any(taken):
                return True
        return False

    def _consider(self, each: Waiting, costs: Costs) -> bool:
        """Whether the request was answered."""
        order, now = each.order, self._chain.now()
        if self._left_to.get(order.request_id, 0) > now:
            return False
        try:
            rendered = self._rendered(order)
        except EngineError:
            raise  # not the text's fault: tried again
        except Exception as error:  # noqa: BLE001  (whatever a stranger's text does to a template)
            self._refuse(order, f"the input cannot be answered: {error}")
            return False
        turn = 0 if order.node != ZERO_ADDRESS else turn_of(order, self._terms.node, self._ranked(order))
        decision = decide(
            self._terms,
            costs,
            self._answering.current_terms(),
            order,
            prompt_tokens=rendered.prompt_tokens,
            since=self._seen_since(order, now),
            turn_seconds=self._turn_seconds,
            turn=turn,
            now=now,
        )
        if decision.ruling is Ruling.REFUSE:
            self._refuse(order, decision.why)
        if decision.ruling is not Ruling.ANSWER:
            return False
        return self._is_open(order) and not self._is_left_to(order, turn) and self._answer(order, rendered, costs)

    def _rendered(self, order: Order) -> Rendered:
        """Raises whatever the engine does."""
        known = self._in_order.get(order.request_id)
        if known is None:
            asked = _public(parse_input(order.input))
            known = self._in_order[order.request_id] = Rendered(asked, len(self._answering.render(asked)))
            while len(self._in_order) > RENDERED:
                self._in_order.pop(next(iter(self._in_order)))
        return known

    def _seen_since(self, order: Order, now: int) -> int:
        """From when turns are counted: before, nobody could have answered."""
        since = self._since.setdefault(order.request_id, now)
        while len(self._since) > REMEMBERED:
            self._since.pop(next(iter(self._since)))
        return since

    def _is_open(self, order: Order) -> bool:
        """Asks the contract itself: what verifiers will ask, too. Of who has answered before, the answer goes on."""
        if self._answering.store.answer_to(order.request_id) is not None:
            self._posted.note(order.request_id, ANSWERED)
            return False
        posted = self._chain.posted_request(order.request_id)
        if posted is not None and posted.is_of(order) and posted.state is RequestState.OPEN:
            return True
        self._posted.note(order.request_id, LOST, "another has answered, or it is not the contract's")
        return False

    def _is_calibrated(self) -> bool:
        """Without that no batch is taken, and a receipt that is in none costs stake."""
        return self._chain.is_calibrated(self._terms.node, Role.NODE, self._terms.model_id)

    def _ranked(self, order: Order) -> list[str]:
        """Whose turn it is, one after the other: hashed once, as long as the nodes are the same."""
        nodes = self._nodes_now()
        at, ranked = self._rankings.get(order.request_id, (-1.0, []))
        if at != self._nodes[0]:
            ranked = ranking(order, list(nodes))
            self._rankings[order.request_id] = self._nodes[0], ranked
            while len(self._rankings) > RENDERED:
                self._rankings.pop(next(iter(self._rankings)))
        return ranked

    def _is_left_to(self, order: Order, turn: int) -> bool:
        """Whether one of those that come first has answered."""
        if not turn:
            return False
        endpoints = self._nodes_now()
        first = [(node, endpoints[node]) for node in self._ranked(order)[:turn] if endpoints[node]]
        receipt = promised(order.request_id, first, self._chain.domain)
        if receipt is None:
            return False
        self._leave(order, receipt)
        return True

    def _leave(self, order: Order, receipt: Receipt) -> None:
        """To another node, for as long as it may take; afterwards the request is anybody's again."""
        # A receipt may say any time: what is left to somebody is left from now on.
        until = self._chain.now() + needed_seconds(self._terms, self._answering.current_terms(), order)
        self._left_to[order.request_id] = until
        while len(self._left_to) > REMEMBERED:
            self._left_to.pop(next(iter(self._left_to)))
        log.info("request_left", request=order.request_id.hex(), to=receipt.node, until=until)

    def _nodes_now(self) -> dict[str, str]:
        """Endpoints of all nodes that are calibrated for the model, this one among them, by lower-case addresses."""
        at, nodes = self._nodes
        if self._clock() - at >= NODES_SECONDS:
            entries = self._chain.operators(self._terms.model_id, Role.NODE, at_most_pages=NODE_PAGES)
            nodes = {entry.operator.lower(): entry.endpoint for entry in entries if entry.calibrated}
            self._nodes = self._clock(), nodes
        return nodes

    def _answer(self, order: Order, rendered: Rendered, costs: Costs) -> bool:
        """Whether it was answered. The answer is durable before it counts as one."""
        asked = Asked(rendered.asked, order.max_tokens, stream=False, include_usage=False, signed=None)
        until = self._clock() + self._timeout_seconds

        def fee(tokens: int, text: str) -> int | None:
            return fee_of(self._terms, costs, order, tokens, len(text.encode()))

        def cancelled() -> bool:
            return self._stopped() or self._clock() > until

        try:
            accepted = self._answering.accept_posted(asked, order.request_id, order.requester, fee)
            for piece in self._answering.answer(accepted, cancelled):
                if isinstance(piece, Finished):
                    self._posted.note(order.request_id, ANSWERED)
                    receipt = piece.evidence.receipt
                    log.info(
                        "request_answered",
                        request=order.request_id.hex(),
                        receipt=piece.digest.hex(),
                        tokens=receipt.output_tokens,
                        fee_wei=receipt.fee_wei,
                    )
                    return True
        except (Refusal, InvalidInput, Unaffordable) as error:
            self._refuse(order, str(error))
            return False
        if not self._stopped():
            raise TrineError(f"no answer within {self._timeout_seconds:.0f} s")  # is tried again, less and less often
        return False

    def _refuse(self, order: Order, why: str) -> None:
        self._posted.note(order.request_id, REFUSED, why)
        self._apart.forget(order.request_id)
        log.info("request_refused", request=order.request_id.hex(), why=why[:200])


def _public(asked: Input) -> Input:
    """Raises InvalidInput for a question with a salt: `Requests` compares the bare text of the answer."""
    if asked.salt:
        raise InvalidInput("a request that is posted on the chain is public, and has no salt")
    return asked
