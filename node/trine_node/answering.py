"""Answers orders: generate, fingerprint, sign, store, and only then promise.

Runs the engine in a thread of its own. Knows neither HTTP nor how answers get on the chain.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eth_utils.crypto import keccak

from trine.chain import Chain, Model
from trine.protocol import fingerprint
from trine.protocol.evidence import Evidence, parsed_input
from trine.protocol.inputs import Input, first_stop, shown
from trine.protocol.messages import (
    ZERO_ADDRESS,
    ZERO_HASH,
    FinishReason,
    Receipt,
    engine_class_bytes,
    text_hash,
)
from trine.protocol.tokens import tokens_hash
from trine_node.engines.base import Engine, EngineError, Step
from trine_node.engines.detokenizer import TextStream
from trine_node.orders import Order, Refusal, check_signed, check_voucher
from trine_node.store import Store, StoredAnswer

COVERED_SECONDS = 10.0
COVERED_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class Finished:
    """A signed and stored answer."""

    digest: bytes  # struct hash of the receipt: its name everywhere
    evidence: Evidence
    text: str

    @property
    def finish_reason(self) -> str:
        return "stop" if self.evidence.receipt.finish_reason == FinishReason.STOP else "length"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that was checked and will be served."""

    order: Order
    prompt_ids: tuple[int, ...]
    request_hash: bytes
    client: str


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

    def accept(self, order: Order) -> Accepted | StoredAnswer:
        """Checks an order before anything is spent on it; a request that was answered before returns that answer.

        Raises Refusal, or the engine's InvalidInput.
        """
        prompt_ids = tuple(render(self.engine, order.input))
        if len(prompt_ids) + order.max_tokens > self.engine.context_tokens:
            raise Refusal(
                f"{len(prompt_ids)} prompt tokens and {order.max_tokens} answer tokens exceed the context of "
                f"{self.engine.context_tokens}: shorten the prompt or lower max_tokens",
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

    def answer(
        self, accepted: Accepted, cancelled: Callable[[], bool], *, store: bool = True
    ) -> Iterator[str | Finished]:
        """Text as it is generated, then the signed answer. Ends without one when cancelled.

        With `store` the answer is durable before it is yielded, and will be anchored.
        """
        text = TextStream(self.engine, accepted.order.input.stop)
        steps: list[Step] = []
        try:
            for step in self.engine.generate(accepted.prompt_ids, accepted.order.max_tokens, cancelled):
                steps.append(step)
                if more := text.push(step.token_id):
                    yield more
                if text.stopped:
                    break
            if cancelled():
                return
            if rest := text.flush():
                yield rest
            finished = self._sign(accepted, steps)
            # The same unsigned question within one second makes the same receipt: one promise, kept once.
            if store and self.store.answer(finished.digest) is None:
                self.store.add_answer(finished.digest, finished.evidence)
            yield finished
        finally:
            self.release(accepted)

    def _sign(self, accepted: Accepted, steps: list[Step]) -> Finished:
        order = accepted.order
        signed = order.signed if accepted.request_hash != ZERO_HASH else None
        output_ids = tuple(step.token_id for step in steps)
        encoded = fingerprint.encode([step.word for step in steps])
        canonical = order.input.canonical()
        whole, stop = self.engine.decode(output_ids), order.input.stop
        text = shown(whole, stop)
        if stop and first_stop(self.engine.decode(output_ids[:-1]), stop) is not None:
            # To verifiers the answer goes on after its end: never seen, and never to be signed.
            raise EngineError("the text of these tokens is not what it was while they came")
        tokens = len(accepted.prompt_ids) + len(output_ids)
        stopped = output_ids[-1] in self.engine.eos_ids or first_stop(whole, stop) is not None
        receipt = Receipt(
            request_hash=accepted.request_hash,
            client=accepted.client,
            node=self.chain.address,
            model_id=self.model.model_id,
            input_hash=bytes(keccak(canonical)),
            prompt_hash=tokens_hash(accepted.prompt_ids),
            output_hash=tokens_hash(output_ids),
            text_hash=text_hash(text),
            fingerprint_hash=bytes(keccak(encoded)),
            prompt_tokens=len(accepted.prompt_ids),
            output_tokens=len(output_ids),
            max_tokens=order.max_tokens,
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            engine_class=engine_class_bytes(self.engine.engine_class),
            fee_wei=self.model.price_per_token_wei * tokens if signed else 0,
            issued_at=self.chain.now(),
        )
        evidence = Evidence(
            receipt=receipt,
            receipt_signature=self.chain.sign(receipt.digest(self.chain.domain)),
            input=canonical,
            prompt_ids=accepted.prompt_ids,
            output_ids=output_ids,
            fingerprint=encoded,
            request=signed.request if signed else None,
            request_signature=signed.signature if signed else None,
        )
        return Finished(receipt.struct_hash(), evidence, text)

    def recall(self, stored: StoredAnswer) -> Finished:
        """An answer that was given before."""
        whole = self.engine.decode(stored.evidence.output_ids)
        return Finished(stored.digest, stored.evidence, shown(whole, parsed_input(stored.evidence).stop))


def render(engine: Engine, asked: Input) -> list[int]:
    """Prompt token ids of a client's input: what node and verifier must agree on."""
    if asked.text is not None:
        return engine.encode_text(asked.text)
    return engine.encode_chat(asked.as_messages())
