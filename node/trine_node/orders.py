"""From the JSON that a client posts to an order that the node may serve, or a refusal that says why.

Pure but for the chain's answer to "what has this client deposited". Which of OpenAI's fields are served, and what they
ask for, is in `trine.protocol.fields`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trine.errors import BadSignature, InvalidField, InvalidInput, what_is_wrong
from trine.protocol.fields import read_wish
from trine.protocol.grammar import field_of
from trine.protocol.inputs import Input
from trine.protocol.messages import Domain, Request, Voucher, require_signer
from trine.protocol.salts import read_salt
from trine.wording import amount
from trine_operator.refusal import Refusal

MAX_LIFETIME_SECONDS = 86_400
"""Of an order: nobody can acknowledge later ones while it might still be answered."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The client's signed wish and how it pays."""

    request: Request
    signature: bytes
    voucher: Voucher | None
    voucher_signature: bytes | None


@dataclass(frozen=True, slots=True)
class Order:
    """What to answer."""

    input: Input
    max_tokens: int
    stream: bool
    include_usage: bool
    signed: SignedRequest | None
    shaped_by: str | None = None  # the field that says what the answer must be
    payment: str | None = None  # the header PAYMENT-SIGNATURE of x402, unread

    @property
    def is_chat(self) -> bool:
        return self.input.messages is not None


def parse_order(body: Any, *, chat: bool, model_name: str, default_max_tokens: int, limit_tokens: int) -> Order:
    """Raises Refusal naming the parameter."""
    if not isinstance(body, dict):
        raise Refusal("the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str):
        raise Refusal("model is missing: name the model to ask", param="model")
    if model != model_name:
        raise Refusal(
            f"the model {model!r:.200} is not served here, {model_name!r} is",
            status=404,
            code="model_not_found",
            param="model",
        )
    try:
        wish = read_wish(body, chat=chat, default_max_tokens=default_max_tokens, limit_tokens=limit_tokens)
    except InvalidField as error:
        raise Refusal(str(error), code=error.code, param=error.field) from None
    signed, salt = _extras(body.get("trine"))
    try:
        asked = wish.input.salted(salt) if salt else wish.input
    except InvalidInput as error:
        raise Refusal(str(error), param="trine") from None
    return Order(asked, wish.max_tokens, wish.stream, wish.include_usage, signed, field_of(body))


def check_signed(order: Order, *, domain: Domain, model_id: bytes) -> bytes:
    """Digest of the order's signed request. Raises Refusal unless it is for exactly this order."""
    signed = order.signed
    if signed is None:
        raise Refusal(
            "this node serves signed requests only: use the Trine client, or send `trine.request` and its signature",
            status=402,
            code="signed_request_required",
        )
    request = signed.request
    digest = request.digest(domain)
    try:
        require_signer(digest, signed.signature, request.client, "request")
    except BadSignature as error:
        raise Refusal(str(error), status=401, code="bad_signature", param="trine") from None
    faults = {
        "modelId is not this model's": request.model_id != model_id,
        "inputHash is not the hash of the messages sent": request.input_hash != order.input.hash(),
        f"maxTokens is {request.max_tokens}, the body asks for {order.max_tokens}": request.max_tokens
        != order.max_tokens,
    }
    for fault, present in faults.items():
        if present:
            raise Refusal(f"signed request: {fault}", code="request_mismatch", param="trine")
    return digest


def check_time(request: Request, now: int) -> None:
    """Raises Refusal for an order that is not to be begun any more, or too early."""
    if request.deadline < now:
        raise Refusal(
            f"signed request: the deadline {request.deadline} has passed, the chain's time is {now}",
            code="request_expired",
            param="trine",
        )
    if request.deadline > now + MAX_LIFETIME_SECONDS:
        raise Refusal(
            f"signed request: the deadline {request.deadline} is more than {MAX_LIFETIME_SECONDS} s ahead of the "
            f"chain's time, {now}",
            code="deadline_too_far",
            param="trine",
        )


def check_voucher(
    signed: SignedRequest,
    *,
    domain: Domain,
    node: str,
    owed_wei: int,
    worst_fee_wei: int,
    covered_wei: int,
    kept_wei: int = 0,
) -> bool:
    """Raises Refusal (402) unless the voucher pays for what is owed and the worst case of this answer. Whether there
    is a voucher that was looked at: nothing has to be promised for what costs nothing.

    `kept_wei` is the client's highest voucher so far: of orders sent together, the later ones' may come first.
    `covered_wei` is what the client's deposit with this node covers in all: collected so far plus what is not under
    notice of withdrawal.
    """
    request = signed.request
    if worst_fee_wei > request.max_fee_wei:
        raise Refusal(
            f"the answer may cost {amount(worst_fee_wei)}, the request allows {amount(request.max_fee_wei)}: shorten "
            "the prompt, lower max_tokens or allow more",
            status=402,
            code="max_fee_too_low",
            param="trine",
        )
    required = owed_wei + worst_fee_wei
    if required == 0:
        return False
    voucher, signature = signed.voucher, signed.voucher_signature
    if voucher is None or signature is None:
        raise Refusal(f"a voucher over {required} wei is needed", status=402, code="voucher_required", param="trine")
    if voucher.payer.lower() != request.client.lower() or voucher.payee.lower() != node.lower():
        raise Refusal("the voucher must be from the request's client to this node", status=402, code="voucher_mismatch")
    try:
        require_signer(voucher.digest(domain), signature, voucher.payer, "voucher")
    except BadSignature as error:
        raise Refusal(str(error), status=401, code="bad_signature", param="trine") from None
    promised = max(voucher.cumulative_wei, kept_wei)
    if promised < required:
        raise Refusal(
            f"the voucher is over {amount(promised)}, {amount(owed_wei)} are owed and this answer may cost "
            f"{amount(worst_fee_wei)}",
            status=402,
            code="voucher_too_low",
        )
    if covered_wei < required:
        raise Refusal(
            f"the deposit with {node} covers {amount(covered_wei)} in all, {amount(required)} are needed: deposit more",
            status=402,
            code="deposit_too_low",
        )
    return True


def check_acknowledged(voucher: Voucher, deadline: int, kept_as_of: int, earned_before: Callable[[int], int]) -> None:
    """Raises Refusal (402) unless the voucher acknowledges all that was earned by the orders that it is for, and not
    this order, whose deadline is given.

    `kept_as_of` is that of the client's highest acknowledgement so far; `earned_before` tells what orders with a
    deadline before some time have earned, or may yet.
    """
    if deadline < max(voucher.as_of, kept_as_of):
        raise Refusal(
            f"the client has acknowledged all orders with a deadline before {max(voucher.as_of, kept_as_of)}, this "
            f"one has {deadline}: sign it with a later one",
            status=402,
            code="order_behind",
        )
    earned = earned_before(voucher.as_of) if voucher.as_of else 0
    if voucher.earned_wei < earned:
        raise Refusal(
            f"the voucher acknowledges {voucher.earned_wei} wei for orders with a deadline before {voucher.as_of}, "
            f"they are {earned}: GET /v1/accounts shows which",
            status=402,
            code="acknowledged_too_little",
        )


def parse_voucher(body: Any) -> tuple[Voucher, bytes]:
    """A voucher that comes without an order, and its signature. Raises Refusal."""
    try:
        return Voucher.from_json(body["voucher"]), bytes.fromhex(str(body["signature"]).removeprefix("0x"))
    except (InvalidInput, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"expected a voucher and its signature: {error}", param="voucher") from None


def check_voucher_alone(voucher: Voucher, signature: bytes, *, domain: Domain, node: str, now: int) -> None:
    """Raises Refusal unless the voucher is its payer's, to this node, and acknowledges nothing that nobody could have
    ordered yet."""
    if voucher.payee.lower() != node.lower():
        raise Refusal("the voucher must be to this node", status=402, code="voucher_mismatch")
    if voucher.as_of > now + MAX_LIFETIME_SECONDS + 1:
        raise Refusal(f"the voucher acknowledges orders beyond the chain's time, {now}", code="acknowledged_too_far")
    try:
        require_signer(voucher.digest(domain), signature, voucher.payer, "voucher")
    except BadSignature as error:
        raise Refusal(str(error), status=401, code="bad_signature", param="voucher") from None


def _extras(extra: Any) -> tuple[SignedRequest | None, bytes]:
    """What is signed, and the input's salt: each of them may be missing. Raises Refusal."""
    if extra is None:
        return None, b""
    try:
        salt = b"" if extra.get("salt") is None else read_salt(extra["salt"])
        if extra.keys() == {"salt"}:
            return None, salt
        voucher = extra.get("voucher")
        signed = SignedRequest(
            request=Request.from_json(extra["request"]),
            signature=bytes.fromhex(str(extra["signature"]).removeprefix("0x")),
            voucher=Voucher.from_json(voucher["voucher"]) if voucher else None,
            voucher_signature=bytes.fromhex(str(voucher["signature"]).removeprefix("0x")) if voucher else None,
        )
        return signed, salt
    except (InvalidInput, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"trine: malformed signed request: {what_is_wrong(error)}", param="trine") from None
