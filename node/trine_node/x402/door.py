"""Lets orders in that are paid by x402: says what an answer costs, checks what a payer sent, keeps it.

A payment is reserved before the answer is begun and tied to the answer as that is stored. What was begun is finished,
also when the payer leaves: its text may have been read. Money is `settling`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from eth_utils.crypto import keccak
from x402.http.utils import encode_payment_response_header
from x402.schemas import PaymentRequirements, SettleResponse

from trine.chain import Chain
from trine_node.generating import Accepted, Finished
from trine_node.orders import Order
from trine_node.x402.asset import Asset
from trine_node.x402.authorization import Authorization, check_payment, parse_payment
from trine_node.x402.ledger import Caps, Ledger, Payment, State, in_progress, reused
from trine_node.x402.terms import Terms
from trine_operator.refusal import Refusal
from trine_operator.store import Store, StoredAnswer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shown:
    """A payment, as its payer is told of it."""

    document: dict[str, str | None]
    settlement: str | None
    """For the header PAYMENT-RESPONSE; None before it is settled: nothing was charged, so there is nothing to say."""


class Door:
    """Of one node."""

    def __init__(
        self,
        chain: Chain,
        store: Store,
        ledger: Ledger,
        terms: Terms,
        caps: Caps,
        url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`url`: where this node is reached. `clock`: this machine's, seconds since 1970."""
        self.terms = terms
        self._chain = chain
        self._store = store
        self.ledger = ledger
        self.caps = caps
        self._url = url
        self._clock = clock
        self.asset = Asset(chain, terms.asset)
        if lost := ledger.forget_reserved():
            log.info("payments_released", payments=lost, hint="a crash has ended their answers; nothing is charged")

    def units(self, order: Order, prompt_tokens: int) -> int:
        """What the order may cost, and costs: the scheme `exact` knows no less."""
        return self.terms.units(prompt_tokens + order.max_tokens)

    def accept(self, order: Order, prompt_ids: tuple[int, ...], request_hash: bytes, client: str) -> (
        Accepted | StoredAnswer
    ):  # fmt: skip
        """The order with its payment reserved; or the answer, where the same payment has brought it before.

        Raises Refusal, with what to pay wherever paying helps; ChainUnreachable; StoreError.
        """
        now = self._chain.now()
        offer = self.terms.requirements(self.units(order, len(prompt_ids)), now - round(self._clock()))
        if order.payment is None:
            raise self._required(order, offer)
        try:
            accepted, authorization = parse_payment(order.payment)
            ordered = _hash(order)
            if known := self._answer_to(authorization, ordered):
                return known
            check_payment(accepted, authorization, self.terms, units=int(offer.amount), now=now)
            if self.asset.is_used(authorization):
                raise Refusal("this payment was used or cancelled: sign another", status=402, code="payment_used")
            balance = self.asset.balance(authorization.payer)
            self.ledger.reserve(authorization, ordered, self._chain.block_number(), balance, self.caps)
        except Refusal as refusal:
            raise self._required(order, offer, refusal) if refusal.status == 402 else refusal from None
        return Accepted(order, prompt_ids, request_hash, client, authorization.name)

    def keep(self, accepted: Accepted, finished: Finished) -> None:
        """Stores the answer and ties its payment to it. Raises StoreError."""
        assert accepted.payment
        self.ledger.keep(accepted.payment, finished.digest, finished.evidence)

    def release(self, accepted: Accepted) -> None:
        """Lets go of the payment for an answer that was not given; does nothing to one that was."""
        assert accepted.payment
        self.ledger.release(accepted.payment)

    def shown(self, name: bytes) -> Shown | None:
        payment = self.ledger.payment(name)
        return None if payment is None else self._shown(payment)

    def name_of(self, header: str) -> bytes:
        return parse_payment(header)[1].name

    def _answer_to(self, authorization: Authorization, ordered: bytes) -> StoredAnswer | None:
        """The answer that this very payment has brought before. Raises Refusal when it was for something else."""
        known = self.ledger.payment(authorization.name)
        if known is None:
            return None
        if known.authorization != authorization or known.ordered != ordered:
            raise reused()
        if known.state is State.RESERVED or known.answer is None:
            raise in_progress()
        return self._store.answer(known.answer)

    def _required(self, order: Order, offer: PaymentRequirements, refusal: Refusal | None = None) -> Refusal:
        path = "/v1/chat/completions" if order.is_chat else "/v1/completions"
        return self.terms.required(self._url + path, offer, refusal)

    def _shown(self, payment: Payment) -> Shown:
        signed, executed = payment.authorization, payment.executed
        transaction = "0x" + executed.hex() if executed else None
        settlement = None
        if payment.state is State.SETTLED and transaction:
            settlement = encode_payment_response_header(
                SettleResponse(
                    success=True,
                    payer=signed.payer,
                    transaction=transaction,
                    network=self.terms.network,
                    amount=str(signed.value),
                )
            )
        return Shown(
            {
                "payment": "0x" + payment.name.hex(),
                "state": payment.state.value,
                "status": f"{self._url}/v1/payments/0x{payment.name.hex()}",
                "payer": signed.payer,
                "asset": signed.asset,
                "amount": str(signed.value),
                "receiptDigest": "0x" + payment.answer.hex() if payment.answer else None,
                "transaction": transaction,
            },
            settlement,
        )


def _hash(order: Order) -> bytes:
    """Of what is paid for. How it is sent, as a stream or whole, makes no other order of it."""
    return bytes(keccak(order.input.hash() + order.max_tokens.to_bytes(8, "big")))
