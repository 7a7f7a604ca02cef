"""What a payer signed, read from the header PAYMENT-SIGNATURE, and whether it pays for an order. Pure.

Everything in it comes from a stranger: bounded, typed, and compared with what was offered, never with what the payer
says was offered.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak
from pydantic import ValidationError
from pydantic_core import from_json
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization
from x402.schemas import PaymentPayload, PaymentRequirements

from trine.errors import BadSignature
from trine.protocol.messages import require_signer
from trine_node.x402.terms import SCHEME, Terms
from trine_operator.refusal import Refusal

MAX_HEADER_CHARACTERS = 8_192
"""A payment of the stock client's takes 1,400."""
SHOWN = 40
"""Characters of a stranger's words that are said back to it, in a header."""
MAX_TIME = 1 << 40
"""Of a time in seconds. OpenZeppelin's token takes times with bit 47 set for numbers of blocks."""
NUMBER = re.compile("0|[1-9][0-9]{0,77}", re.ASCII)
NONCE = re.compile("0x[0-9a-fA-F]{64}", re.ASCII)
SIGNATURE = re.compile("0x[0-9a-fA-F]{130}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Authorization:
    """EIP-3009's TransferWithAuthorization of one token, signed by an account with a key of its own."""

    asset: str
    payer: str
    pay_to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes
    signature: bytes  # r, s, v; v is 27 or 28

    @property
    def name(self) -> bytes:
        """Whatever else two payments say, with the same token, payer and nonce only one of them is ever executed."""
        return bytes(keccak(bytes.fromhex(self.asset[2:] + self.payer[2:]) + self.nonce))

    def arguments(self) -> tuple[Any, ...]:
        """Of the token's `transferWithAuthorization`."""
        r, s, v = self.signature[:32], self.signature[32:64], self.signature[64]
        return (
            self.payer, self.pay_to, self.value, self.valid_after, self.valid_before, self.nonce, v, r, s,
        )  # fmt: skip


def parse_payment(header: str) -> tuple[PaymentRequirements, Authorization]:
    """What the payer says was offered, and what it signed. Raises Refusal (402) saying what is wrong."""
    if len(header) > MAX_HEADER_CHARACTERS:
        raise _bad(f"the header PAYMENT-SIGNATURE is longer than {MAX_HEADER_CHARACTERS} characters")
    try:
        # Not the library's decoder, whose `json` follows a deeply nested header until the interpreter's stack ends.
        payload = PaymentPayload.model_validate(from_json(b64decode(header, validate=True), allow_inf_nan=False))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))[:SHOWN] or "payload"
        raise _bad(f"the header PAYMENT-SIGNATURE is no payment of x402 version 2: {where}") from None
    except ValueError:
        raise _bad("the header PAYMENT-SIGNATURE is not JSON in base64") from None
    if payload.x402_version != 2:
        raise _bad(f"x402 version {payload.x402_version} is not served, version 2 is")
    signed = payload.payload.get("authorization")
    if not isinstance(signed, dict):
        raise _bad("the payment has no EIP-3009 authorization: Permit2 is not served")
    return payload.accepted, Authorization(
        asset=_address(payload.accepted.asset, "accepted.asset"),
        payer=_address(signed.get("from"), "authorization.from"),
        pay_to=_address(signed.get("to"), "authorization.to"),
        value=_number(signed, "value"),
        valid_after=_number(signed, "validAfter"),
        valid_before=_number(signed, "validBefore"),
        nonce=bytes.fromhex(_matching(NONCE, signed.get("nonce"), "authorization.nonce", "0x and 64 digits")[2:]),
        signature=_signature(payload.payload.get("signature")),
    )


def check_payment(
    accepted: PaymentRequirements,
    authorization: Authorization,
    terms: Terms,
    *,
    units: int,
    now: int,
) -> None:
    """Raises Refusal (402) unless the payment is exactly what was offered, signed, and good until the last moment at
    which a verdict on the answer can become final. `now`: the chain's seconds."""
    faults = {
        f"scheme {accepted.scheme[:SHOWN]!r} is not offered": accepted.scheme != SCHEME,
        f"network {accepted.network[:SHOWN]!r} is not offered, {terms.network} is": accepted.network != terms.network,
        f"token {authorization.asset} is not offered, {terms.asset} is": authorization.asset != terms.asset,
        f"it pays {authorization.pay_to}, not {terms.pay_to}": authorization.pay_to != terms.pay_to,
        f"it pays {authorization.value} units, the answer costs {units}": authorization.value != units,
        f"it is not valid before {authorization.valid_after}, the chain's time is {now}": authorization.valid_after
        >= now,
        f"it is valid until {authorization.valid_before}, and must be until a verdict is final, for "
        f"{terms.valid_seconds} s from now, {now}": authorization.valid_before < now + terms.valid_seconds,
        "its times are beyond any clock": authorization.valid_before >= MAX_TIME,
        "it pays from the account that is to be paid": authorization.payer == authorization.pay_to,
    }
    for fault, present in faults.items():
        if present:
            raise _bad(f"the payment does not fit: {fault}", "payment_mismatch")
    try:
        require_signer(_digest(authorization, terms), authorization.signature, authorization.payer, "the payment")
    except BadSignature as error:
        raise _bad(
            f"{error}; a wallet that is a contract cannot pay here, because it can take its signature back",
            "bad_signature",
        ) from None


def _digest(authorization: Authorization, terms: Terms) -> bytes:
    signed = ExactEIP3009Authorization(
        from_address=authorization.payer,
        to=authorization.pay_to,
        value=str(authorization.value),
        valid_after=str(authorization.valid_after),
        valid_before=str(authorization.valid_before),
        nonce="0x" + authorization.nonce.hex(),
    )
    return bytes(hash_eip3009_authorization(signed, terms.chain_id, terms.asset, terms.name, terms.version))


def _bad(message: str, code: str = "invalid_payment") -> Refusal:
    return Refusal(message, status=402, code=code, param="payment-signature")


def _matching(pattern: re.Pattern[str], value: object, name: str, expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _bad(f"the payment's {name} is malformed: expected {expected}")
    return value


def _address(value: object, name: str) -> str:
    if not isinstance(value, str) or not is_address(value):
        raise _bad(f"the payment's {name} is no address")
    return to_checksum_address(value)


def _number(signed: dict[str, Any], name: str) -> int:
    number = int(_matching(NUMBER, signed.get(name), f"authorization.{name}", "a decimal number as a string"))
    if number >= 1 << 256:
        raise _bad(f"the payment's authorization.{name} exceeds 256 bits")
    return number


def _signature(value: object) -> bytes:
    raw = bytes.fromhex(_matching(SIGNATURE, value, "signature", "65 bytes in hexadecimal")[2:])
    # Signers write the last byte in two ways, tokens take one.
    return raw[:64] + bytes([raw[64] + 27 if raw[64] < 2 else raw[64]])
