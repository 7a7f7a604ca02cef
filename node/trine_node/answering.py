"""Answers orders: who may ask and for how much, then generate, store, and only then promise.

Knows neither HTTP nor how answers get on the chain.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator

from trine.chain import Chain, Model
from trine.protocol.evidence import parsed_input
from trine.protocol.inputs import shown
from trine.protocol.messages import ZERO_ADDRESS, ZERO_HASH
from trine_node.engines.base import Engine, render
from trine_node.generating import Accepted, Finished, generate
from trine_node.orders import Order, check_signed, check_voucher
from trine_operator.refusal import Refusal
from trine_operator.store import Store, StoredAnswer

COVERED_SECONDS = 10.0
COVERED_CLIENTS = 10_000
TERMS_SECONDS = 600.0
"""Between looks at the chain's parameters; a change is announced long before."""


class Answering:
    """One engine, one account, one store."""

    def __init__(self, engine: Engine, chain: Chain, store: Store, model: Model, *, allow_unsigned: bool) -> None:
        self.engine = engine
        self.chain = chain
        self.store = store
        self.model = model
        self.allow_unsigned = allow_unsigned
        self._covered: dict[str, tuple[float, int]] = {}  # what clients' deposits cover, and when that was read
        self._promised: dict[bytes, tuple[str, int]] = {}  # worst-case fees of answers being generated
        self._promised_lock = threading.Lock()
        self._anchorable = (-math.inf, 0)  # when the chain's parameters were read, and the tokens that a batch may hold

    def accept(self, order: Order) -> Accepted | StoredAnswer:
        """Checks an order before anything is spent on it; a request that was answered before returns that answer.

        Raises Refusal, or the engine's InvalidInput.
        """
        prompt_ids = tuple(render(self.engine, order.input))
        limit, of = min((self.engine.context_tokens, "the context"), (self._batch_tokens(), "what a batch may hold"))
        if len(prompt_ids) + order.max_tokens > limit:
            raise Refusal(
                f"{len(prompt_ids)} prompt tokens and {order.max_tokens} answer tokens exceed {of}, {limit}: "
                "shorten the prompt or lower max_tokens",
                code="context_length_exceeded",
                param="messages" if order.is_chat else "prompt",
            )
        if order.signed is None and self.allow_unsigned:
            return Accepted(order, prompt_ids, ZERO_HASH, ZERO_ADDRESS)
        digest = check_signed(order, domain=self.chain.domain, model_id=self.model.model_id, now=self.chain.now())
        signed = order.signed
        if signed is None:
            raise AssertionError("check_signed refuses unsigned orders")
        if earlier := self.store.answer_to(digest):
            return earlier
        client = signed.request.client
        worst = self.model.price_per_token_wei * (len(prompt_ids) + order.max_tokens)
        # Asked before the lock: an endpoint that is slow must not keep everybody else's orders waiting.
        covered = self._covered_by(client, self._owed_and_promised(client) + worst)
        with self._promised_lock:
            if digest in self._promised:
                raise Refusal("this request is being answered right now", status=429, code="in_progress")
            kept = self.store.voucher(client)
            check_voucher(
                signed,
                domain=self.chain.payments_domain,
                node=self.chain.address,
                owed_wei=self._owed_and_promised(client),
                worst_fee_wei=worst,
                covered_wei=covered,
                kept_wei=kept[0] if kept else 0,
            )
            if signed.voucher and signed.voucher_signature:
                self.store.save_voucher(client, signed.voucher.cumulative_wei, signed.voucher_signature)
            self._promised[digest] = (client, worst)
        return Accepted(order, prompt_ids, digest, client)

    def _batch_tokens(self) -> int:
        """The most tokens that an answer may have with its prompt, to be anchored."""
        at, tokens = self._anchorable
        if time.monotonic() - at > TERMS_SECONDS:
            tokens = self.chain.parameters().max_batch_tokens
            self._anchorable = time.monotonic(), tokens
        return tokens

    def _owed_and_promised(self, client: str) -> int:
        return self.store.owed(client) + sum(fee for who, fee in list(self._promised.values()) if who == client)

    def _covered_by(self, client: str, required_wei: int) -> int:
        """What the client's deposit covers in all. Asked again when it is not enough, or was asked a while ago: who
        withdraws gives notice, and what is under notice can still be collected."""
        if not required_wei:
            return 0
        at, covered = self._covered.get(client, (-math.inf, 0))
        if covered < required_wei or time.monotonic() - at > COVERED_SECONDS:
            account = self.chain.account(client, self.chain.address)
            covered = account.collected + account.firm
            self._covered[client] = time.monotonic(), covered
            while len(self._covered) > COVERED_CLIENTS:
                self._covered.pop(next(iter(self._covered)), None)
        return covered

    def release(self, accepted: Accepted) -> None:
        """Forgets the worst-case fee of an order that is finished or was given up."""
        with self._promised_lock:
            self._promised.pop(accepted.request_hash, None)

    def answer(self, accepted: Accepted, cancelled: Callable[[], bool]) -> Iterator[str | Finished]:
        """Text as it is generated, then the signed answer, durable before it is yielded; none when cancelled."""
        try:
            for piece in generate(self.engine, self.chain, self.model, accepted, cancelled):
                # The same unsigned question within one second makes the same receipt: one promise, kept once.
                if isinstance(piece, Finished) and self.store.answer(piece.digest) is None:
                    self.store.add_answer(piece.digest, piece.evidence)
                yield piece
        finally:
            self.release(accepted)

    def recall(self, stored: StoredAnswer) -> Finished:
        """An answer that was given before."""
        whole = self.engine.decode(stored.evidence.output_ids)
        return Finished(stored.digest, stored.evidence, shown(whole, parsed_input(stored.evidence).stop))
