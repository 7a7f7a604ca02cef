"""What a client builds, checks and keeps: the pure half that `Client` and `AsyncClient` share."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trine.chain.records import ModelEntry
from trine.errors import InvalidInput, NodeRefused, PaymentRequired, VerificationFailed
from trine.protocol.certificate import Certificate
from trine.protocol.inputs import Input, chat_input
from trine.protocol.messages import (
    Domain,
    Receipt,
    Request,
    Voucher,
    require_signer,
    text_hash,
)

TEMPLATE_ALLOWANCE_TOKENS = 256
"""Tokens that a chat template may add; the rest of a prompt has at most one token a byte."""
REQUEST_LIFETIME_SECONDS = 900
MAX_RETRY_AFTER_SECONDS = 60.0
MAX_REASON = 2_000

Messages = str | Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Answer:
    """An answer with the node's signed promise, and the chain's certificate once asked for."""

    text: str
    finish_reason: str
    receipt: Receipt
    receipt_signature: bytes
    digest: bytes  # the receipt's struct hash: its name at the node
    node_url: str
    seconds: float = 0.0
    certificate: Certificate | None = field(default=None)

    @property
    def tokens_per_second(self) -> float:
        """As the client saw it: output tokens over the whole time of the call."""
        return self.receipt.output_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A request about to be sent."""

    input: Input
    request: Request
    digest: bytes
    body: dict[str, Any]
    number: int  # in the node's ledger


def as_input(messages: Messages, stop: Sequence[str] = ()) -> Input:
    """A plain string is one user message. Raises InvalidInput."""
    return chat_input([{"role": "user", "content": messages}] if isinstance(messages, str) else messages, list(stop))


def draft_request(asked: Input, model: ModelEntry, client: str, max_tokens: int, now: int) -> Request:
    """A request whose fee limit covers the longest prompt that the text can make. Raises InvalidInput.

    `now` is the chain's time, seconds.
    """
    if not 1 <= max_tokens < 1 << 20:
        raise InvalidInput(f"max_tokens is {max_tokens}, expected 1 to {(1 << 20) - 1}")
    prompt_tokens = len(asked.canonical()) + TEMPLATE_ALLOWANCE_TOKENS
    return Request(
        client=client,
        model_id=model.model_id,
        input_hash=asked.hash(),
        max_tokens=max_tokens,
        max_fee_wei=model.price_per_token_wei * (prompt_tokens + max_tokens),
        nonce=secrets.randbits(256),
        deadline=now + REQUEST_LIFETIME_SECONDS,
    )


def order_body(
    asked: Input, model: ModelEntry, request: Request, signature: bytes, voucher: Voucher, voucher_signature: bytes
) -> dict[str, Any]:
    return {
        "model": model.name,
        "messages": asked.as_messages(),
        "max_tokens": request.max_tokens,
        "temperature": 0,
        **({"stop": list(asked.stop)} if asked.stop else {}),
        "trine": {
            "request": request.to_json(),
            "signature": "0x" + signature.hex(),
            "voucher": {"voucher": voucher.to_json(), "signature": "0x" + voucher_signature.hex()},
        },
    }


def owed_by_proof(account: Any, client: str, node: str, domain: Domain) -> int:
    """What the client owes by the node's count, as far as the client's own vouchers prove it.

    Raises VerificationFailed when the node claims more than it can prove.
    """
    try:
        owed = int(account["owedWei"])
        proof = account["voucher"]
        if owed == 0:
            return 0
        voucher = Voucher(client, node, int(proof["cumulativeWei"]))
        signature = bytes.fromhex(proof["signature"].removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node's account of what is owed is malformed: {error!r}") from None
    require_signer(voucher.digest(domain), signature, client, "the voucher that the node shows")
    if not 0 <= owed <= voucher.cumulative_wei:
        raise VerificationFailed(f"the node claims {owed} wei, our highest voucher is over {voucher.cumulative_wei}")
    return owed


def checked_answer(
    extras: Any, text: str, finish_reason: str, draft: Draft, node: str, node_url: str, domain: Domain
) -> Answer:
    """The answer, once the receipt is for exactly this request, this text and this node. Raises VerificationFailed."""
    try:
        receipt = Receipt.from_json(extras["receipt"])
        signature = bytes.fromhex(extras["signature"].removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node gave no readable receipt: {error!r}") from None
    require_signer(receipt.digest(domain), signature, node, "receipt")
    request = draft.request
    faults = {
        "another node": receipt.node.lower() != node.lower(),
        "another request": receipt.request_hash != draft.digest,
        "another client": receipt.client.lower() != request.client.lower(),
        "another model": receipt.model_id != request.model_id,
        "another input": receipt.input_hash != request.input_hash,
        "another limit of tokens": receipt.max_tokens != request.max_tokens,
        "another text": receipt.text_hash != text_hash(text),
        "a higher fee than allowed": receipt.fee_wei > request.max_fee_wei,
    }
    for fault, present in faults.items():
        if present:
            raise VerificationFailed(f"the receipt is for {fault}: do not use this answer")
    return Answer(text, finish_reason, receipt, signature, receipt.struct_hash(), node_url)


def placed_certificate(document: Any, answer: Answer, domain: Domain) -> Certificate | None:
    """A certificate without result from a node's `/v1/receipts` answer; None before the answer is in a batch."""
    try:
        place = document["batch"]
        if place is None:
            return None
        return Certificate(
            chain_id=domain.chain_id,
            batches=domain.verifying_contract,
            root=bytes.fromhex(place["root"].removeprefix("0x")),
            canary=bytes.fromhex(place["canary"].removeprefix("0x")),
            index=int(place["index"]),
            receipt=answer.receipt,
            receipt_signature=answer.receipt_signature,
            proof=tuple(bytes.fromhex(s.removeprefix("0x")) for s in place["proof"]),
            accepted=0,
            rejected=0,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node's account of the batch is malformed: {error!r}") from None


def refusal(status: int, document: Any, retry_after: str | None = None) -> NodeRefused:
    """The node's error as an exception. `retry_after`: the header, in seconds."""
    error = document.get("error") if isinstance(document, dict) else None
    message, code = (error.get("message"), error.get("code")) if isinstance(error, dict) else (None, None)
    kind = PaymentRequired if status == 402 else NodeRefused
    wait = min(float(retry_after), MAX_RETRY_AFTER_SECONDS) if retry_after and retry_after.isdecimal() else None
    said = f"{message or 'no reason given'}"[:MAX_REASON]
    return kind(
        f"the node refused ({status}): {said}",
        status=status,
        code=code if isinstance(code, str) else None,
        retry_after=wait,
    )
