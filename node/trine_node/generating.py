"""From an accepted order to a signed answer: generate, fingerprint, sign. Stores nothing and promises nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from eth_utils.crypto import keccak

from trine.chain import Chain, Model
from trine.errors import NotReady, TrineError
from trine.protocol import fingerprint
from trine.protocol.calibration import MAX_OUTPUT_TOKENS
from trine.protocol.evidence import Evidence
from trine.protocol.inputs import Input, first_stop, shown
from trine.protocol.messages import (
    MAX_ANCHOR_SECONDS,
    ZERO_ADDRESS,
    ZERO_HASH,
    FinishReason,
    Receipt,
    engine_class_bytes,
    text_hash,
)
from trine.protocol.salts import salted_hash
from trine.protocol.tokens import tokens_hash
from trine_node.engines.base import Engine, EngineError, Step, render
from trine_node.engines.detokenizer import TextStream
from trine_node.orders import Order

ANCHOR_WITHIN_SECONDS = 3_600
"""What receipts promise: time enough for verifiers, credit or a cheaper block to be waited for."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A signed and stored answer."""

    digest: bytes  # struct hash of the receipt: its name everywhere
    evidence: Evidence
    text: str

    @property
    def finish_reason(self) -> str:
        return "stop" if self.evidence.receipt.finish_reason == FinishReason.STOP else "length"


class Unaffordable(TrineError):
    """The finished answer costs more than there is to pay for it."""


Fee = Callable[[int, str], int | None]
"""What an answer of so many tokens, prompt and answer, with that text costs in wei; None: more than there is."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that was checked and will be served."""

    order: Order
    prompt_ids: tuple[int, ...]
    request_hash: bytes
    client: str
    payment: bytes | None = None  # the name of the payment by x402 that it is made for
    fee: Fee | None = None  # of a request that was posted on the chain; None: the model's price a token


def generate(
    engine: Engine,
    chain: Chain,
    model: Model,
    accepted: Accepted,
    cancelled: Callable[[], bool],
    anchor_within_seconds: int = ANCHOR_WITHIN_SECONDS,
) -> Iterator[str | Finished]:
    """Text as it is generated, then the answer, signed by the chain's account. Ends without one when cancelled.

    Raises Unaffordable, before anything is signed, where the order's own fee does not cover the answer.
    """
    asked = accepted.order.input
    text = TextStream(engine, asked.stop)
    steps: list[Step] = []
    for step in engine.generate(accepted.prompt_ids, accepted.order.max_tokens, cancelled, asked.decoding):
        steps.append(step)
        if more := text.push(step.token_id):
            yield more
        if text.stopped:
            break
    if cancelled():
        return
    if rest := text.flush():
        yield rest
    yield _signed(engine, chain, model, accepted, steps, anchor_within_seconds)


def answer_prompt(engine: Engine, chain: Chain, model: Model, prompt: Input) -> Finished:
    """An answer to a calibration's prompt, which nobody ordered. Raises NotReady when the engine gives none."""
    order = Order(prompt, MAX_OUTPUT_TOKENS, stream=False, include_usage=False, signed=None)
    accepted = Accepted(order, tuple(render(engine, prompt)), ZERO_HASH, ZERO_ADDRESS)
    for piece in generate(engine, chain, model, accepted, lambda: False):
        if isinstance(piece, Finished):
            return piece
    raise NotReady("the engine gave no answer to a calibration prompt")


def _fee(model: Model, accepted: Accepted, tokens: int, text: str) -> int:
    """Raises Unaffordable."""
    if accepted.fee is not None:
        fee_wei = accepted.fee(tokens, text)
        if fee_wei is None:
            raise Unaffordable("the answer is longer than what waits for it pays for")
        return fee_wei
    return model.price_per_token_wei * tokens if accepted.order.signed and any(accepted.request_hash) else 0


def _signed(
    engine: Engine, chain: Chain, model: Model, accepted: Accepted, steps: list[Step], anchor_within_seconds: int
) -> Finished:
    order = accepted.order
    signed = order.signed if accepted.request_hash != ZERO_HASH else None
    output_ids = tuple(step.token_id for step in steps)
    encoded = fingerprint.encode([step.word for step in steps])
    canonical, salt = order.input.canonical(), order.input.salt
    whole, stop = engine.decode(output_ids), order.input.stop
    text = shown(whole, stop)
    if stop and first_stop(engine.decode(output_ids[:-1]), stop) is not None:
        # To verifiers the answer goes on after its end: never seen, and never to be signed.
        raise EngineError("the text of these tokens is not what it was while they came")
    fee_wei = _fee(model, accepted, len(accepted.prompt_ids) + len(output_ids), text)
    stopped = output_ids[-1] in engine.eos_ids or first_stop(whole, stop) is not None
    issued_at = chain.now()
    receipt = Receipt(
        request_hash=accepted.request_hash,
        client=accepted.client,
        node=chain.address,
        model_id=model.model_id,
        input_hash=bytes(keccak(canonical)),
        prompt_hash=tokens_hash(accepted.prompt_ids, salt),
        output_hash=tokens_hash(output_ids, salt),
        text_hash=text_hash(text, salt),
        fingerprint_hash=salted_hash(encoded, salt),
        prompt_tokens=len(accepted.prompt_ids),
        output_tokens=len(output_ids),
        max_tokens=order.max_tokens,
        finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
        engine_class=engine_class_bytes(engine.engine_class),
        fee_wei=fee_wei,
        issued_at=issued_at,
        anchor_by=issued_at + min(anchor_within_seconds, MAX_ANCHOR_SECONDS),
    )
    evidence = Evidence(
        receipt=receipt,
        receipt_signature=chain.sign(receipt.digest(chain.domain)),
        input=canonical,
        prompt_ids=accepted.prompt_ids,
        output_ids=output_ids,
        fingerprint=encoded,
        request=signed.request if signed else None,
        request_signature=signed.signature if signed else None,
    )
    return Finished(receipt.struct_hash(), evidence, text)
