"""A client that knows nothing of Trine pays a node by x402: the library's own, with an account's key and a bound.

What became of its payment is read from the chain, not from what the node says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from trine import Answer
from trine.chain import Chain
from trine.errors import NodeError, NotReady, VerificationFailed
from trine.protocol.messages import Receipt, text_hash

LOOK_SECONDS = 0.5
ANSWER_SECONDS = 600.0
OVER = ("settled", "dropped", "expired", "unpaid")
PAID_BY_X402: dict[str, Any] = {"allow_unsigned": False, "x402.max_unsettled": 64}
"""Options of a node that takes unsigned requests for payment by x402, and for nothing else."""


@dataclass(frozen=True, slots=True)
class PaidAnswer:
    """What the stock client got, and the payment that it signed for it."""

    answer: Answer
    status_url: str
    payer: str
    asset: str
    amount: int  # units of the asset, which are wei for the deployment's token
    nonce: bytes  # of the EIP-3009 authorization


@dataclass(frozen=True, slots=True)
class Payment:
    """What became of a payment: charged by `transaction`, or `state` says why it was not."""

    state: str
    transaction: str | None

    @property
    def is_paid(self) -> bool:
        return self.transaction is not None


def ask_by_x402(
    endpoint: str, model: str, prompt: str, account: LocalAccount, *, asset: str, network: str, max_tokens: int = 24
) -> PaidAnswer:
    """Asks a node, pays what it wants in `asset` on `network` (CAIP-2). Raises NodeError, VerificationFailed."""
    from x402 import x402ClientSync
    from x402.http.clients import x402_requests
    from x402.http.utils import decode_payment_signature_header
    from x402.mechanisms.evm.exact import ExactEvmScheme

    started = time.monotonic()
    client = x402ClientSync()
    client.register(network, ExactEvmScheme(account))  # type: ignore[arg-type]
    client.set_spend_controls({"allowed_assets": [{"network": network, "asset": asset}]})
    order = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    with x402_requests(client) as session:
        response = session.post(f"{endpoint}/v1/chat/completions", json=order, timeout=ANSWER_SECONDS)
    if response.status_code != 200:
        raise NodeError(f"{endpoint} answered {response.status_code}: {response.text[:300]}")
    completion = response.json()
    choice, promise = completion["choices"][0], completion["trine"]
    text, receipt = choice["message"]["content"], Receipt.from_json(promise["receipt"])
    if receipt.text_hash != text_hash(text):
        raise VerificationFailed("the receipt is not for the text that the client got")
    signature = bytes.fromhex(promise["signature"].removeprefix("0x"))
    answer = Answer(
        text, choice["finish_reason"], receipt, signature, receipt.struct_hash(), endpoint, time.monotonic() - started
    )
    signed = decode_payment_signature_header(response.request.headers["PAYMENT-SIGNATURE"]).payload["authorization"]
    nonce = bytes.fromhex(signed["nonce"][2:])
    return PaidAnswer(answer, promise["payment"]["status"], account.address, asset, int(signed["value"]), nonce)


def wait_for_payment(answer: PaidAnswer, chain: Chain, timeout: float) -> Payment:
    """Until the payment is over. Raises NotReady after so many seconds, and VerificationFailed when the node says
    another thing than the chain."""
    import httpx2

    deadline = time.monotonic() + timeout
    with httpx2.Client(timeout=10, trust_env=False) as http:
        while (shown := http.get(answer.status_url).raise_for_status().json())["state"] not in OVER:
            if time.monotonic() > deadline:
                raise NotReady(f"the payment is {shown['state']} after {timeout:g} s")
            time.sleep(LOOK_SECONDS)
    payment = Payment(shown["state"], shown["transaction"])
    if payment.transaction != charge_of(answer, chain) or payment.is_paid != (payment.state == "settled"):
        raise VerificationFailed(f"the node says {payment}, the chain has {charge_of(answer, chain)}")
    return payment


def charge_of(answer: PaidAnswer, chain: Chain) -> str | None:
    """The transaction that took what the payer signed, by the token's own events."""
    used = chain.events_at(
        "TrineToken", answer.asset, "AuthorizationUsed", 0, authorizer=answer.payer, nonce=answer.nonce
    )
    return next(("0x" + event.transaction.hex() for event in used), None)
