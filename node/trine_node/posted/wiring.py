"""Puts together what serves posted requests, from settings."""

from __future__ import annotations

import time
from collections.abc import Callable

from trine.chain import Chain, Model
from trine_node.answering import Answering
from trine_node.posted.bringing import Bringing, text_by
from trine_node.posted.rules import Costs, Terms, worst_fee
from trine_node.posted.serving import Serving
from trine_node.posted.table import PostedRequests
from trine_node.posted.watching import Watching
from trine_node.service.posted import Price
from trine_node.settings import NodeSettings
from trine_operator.outbox import Submits

COSTS_SECONDS = 12.0
"""Between looks at what gas costs: a slot of Ethereum."""


class CostsNow:
    """What gas and committees cost, asked now and then. Thread-safe."""

    def __init__(self, answering: Answering, clock: Callable[[], float] = time.monotonic) -> None:
        self._answering = answering
        self._gateway = answering.chain.gateway()
        self._clock = clock
        self._known: tuple[float, Costs] | None = None

    def __call__(self) -> Costs:
        """Raises ChainUnreachable."""
        known = self._known
        if known is None or self._clock() - known[0] > COSTS_SECONDS:
            market, chain = self._gateway.market(), self._answering.current_terms()
            gas_price = (market.base_fee_wei or 0) + market.tip_wei
            costs = Costs(gas_price, chain.verifier_fee_per_leaf, chain.verifier_fee_per_token)
            self._known = known = self._clock(), costs
        return known[1]


def terms_of(settings: NodeSettings, chain: Chain, model: Model) -> Terms:
    """What this node asks for."""
    return Terms(
        node=chain.address,
        model_id=model.model_id,
        price_per_token_wei=model.price_per_token_wei,
        least_profit_wei=settings.request_least_profit_wei,
        coin_micro=settings.request_coin_micro,
        max_callback_gas=settings.request_max_callback_gas,
        max_tokens=settings.request_max_tokens,
        batch_wait_seconds=round(settings.batch_max_wait_seconds),
        margin_seconds=settings.request_margin_seconds,
    )


class Posted:
    """What a node does about posted requests, if its settings say that it does."""

    def __init__(
        self, settings: NodeSettings, answering: Answering, outbox: Submits, stopped: Callable[[], bool]
    ) -> None:
        self._is_on = settings.answer_requests
        chain, store = answering.chain, answering.store
        self._terms, self._costs = terms_of(settings, chain, answering.model), CostsNow(answering)
        posted = PostedRequests(store)
        self._watching = Watching(store, chain, posted, self._terms, self._costs, queue=settings.request_queue)
        self._serving = Serving(
            answering,
            chain,
            posted,
            self._terms,
            self._costs,
            turn_seconds=settings.request_turn_seconds,
            timeout_seconds=settings.limits.request_timeout_seconds,
            max_busy=settings.limits.max_running,
            stopped=stopped,
        )
        text_of = text_by(lambda ids: answering.engine.decode(ids))
        self._bringing = Bringing(store, chain, outbox, posted, self._terms, self._costs, text_of)

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        """By name, each to be repeated at every block in a thread of its own.

        Where no more requests are answered, those that were still are brought.
        """
        if not self._is_on:
            return {"requests": self._bringing.step}
        return {"requests": self._watch_and_bring, "request-answers": self._serving.step}

    @property
    def price(self) -> Price | None:
        """What an answer costs at most; None where none is given."""
        return self._price if self._is_on else None

    def _price(self, prompt_tokens: int, max_tokens: int, callback_gas: int) -> int:
        return worst_fee(self._terms, self._costs(), prompt_tokens, max_tokens, callback_gas)

    def _watch_and_bring(self) -> None:
        self._watching.step()
        self._bringing.step()
