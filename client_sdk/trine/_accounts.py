"""What a node says about its account with a client, believed as far as the client's own signatures prove it; and its
refusals. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.exceptions import EncodingError

from trine._answer import Answer
from trine.errors import InvalidInput, VerificationFailed
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Domain, Receipt, Request, Voucher, require_signer
from trine.protocol.numbers import whole

MAX_ORDERS = 4_096


@dataclass(frozen=True, slots=True)
class Earned:
    """An answer to an order of the client's that is where the node says: what it has earned if it was accepted."""

    request_hash: bytes
    batch_id: bytes
    index: int
    deadline: int  # of the order, seconds
    fee_wei: int


def owed_by_proof(account: Any, client: str, node: str, domain: Domain) -> int:
    """What the client owes by the node's count, as far as the client's own vouchers prove it.

    Raises VerificationFailed when the node claims more than it can prove.
    """
    try:
        owed = whole(account["owedWei"])
        proof = account["voucher"]
        if owed == 0:
            return 0
        voucher = Voucher(client, node, whole(proof["cumulativeWei"]), whole(proof["earnedWei"]), whole(proof["asOf"]))
        signature = bytes.fromhex(proof["signature"].removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node's account of what is owed is malformed: {error!r:.300}") from None
    try:
        digest = voucher.digest(domain)
    except EncodingError as error:
        raise VerificationFailed(f"the node's account of what is owed is malformed: {error!r:.300}") from None
    require_signer(digest, signature, client, "the voucher that the node shows")
    if not 0 <= owed <= voucher.cumulative_wei:
        raise VerificationFailed(f"the node claims {owed} wei, our highest voucher is over {voucher.cumulative_wei}")
    return owed


def acknowledged_by_proof(account: Any, client: str, node: str, domain: Domain) -> tuple[int, int]:
    """(earned wei, asOf) of the client's own voucher that the node shows; zeros where it shows none.

    Raises VerificationFailed.
    """
    try:
        shown = account["acknowledged"]
        if shown is None:
            return 0, 0
        voucher = Voucher(client, node, whole(shown["cumulativeWei"]), whole(shown["earnedWei"]), whole(shown["asOf"]))
        signature = bytes.fromhex(shown["signature"].removeprefix("0x"))
        require_signer(voucher.digest(domain), signature, client, "the voucher that the node shows")
    except (KeyError, TypeError, ValueError, AttributeError, EncodingError) as error:
        raise VerificationFailed(f"the node's account of what was acknowledged is malformed: {error!r:.300}") from None
    return voucher.earned_wei, voucher.as_of


def earned_by_proof(account: Any, client: str, node: str, domain: Domain, since: int) -> tuple[list[Earned], int]:
    """The answers that the node shows as accepted, to orders with a deadline from `since` on, and the deadline before
    which it says these are all; oldest first. Whether they were accepted, the chain says.

    The client keeps no record: it has signed every order, and one that it did not sign, or that is shown twice, or
    costs more than it allowed, or is in no such batch, is found here. Raises VerificationFailed.
    """
    try:
        shown, as_of = account["orders"], whole(account["asOf"])
        if not isinstance(shown, list) or len(shown) > MAX_ORDERS:
            raise ValueError(f"at most {MAX_ORDERS} orders are looked at")
        known: set[bytes] = set()
        earned = []
        for each in shown:
            request, receipt = Request.from_json(each["request"]), Receipt.from_json(each["receipt"])
            signature = bytes.fromhex(each["requestSignature"].removeprefix("0x"))
            place = _certificate(each["batch"], receipt, b"", domain)
            digest = request.digest(domain)
            require_signer(digest, signature, client, "an order that the node shows")
            faults = {
                "is not this answer's": receipt.request_hash != digest or receipt.client.lower() != client.lower(),
                "was answered by another node": receipt.node.lower() != node.lower(),
                "is shown twice": digest in known,
                "is outside of what is to be acknowledged": not since <= request.deadline < as_of,
                "costs more than it allowed": receipt.fee_wei > request.max_fee_wei,
                "is not in the batch that is named": not place.is_bound,
            }
            for fault, present in faults.items():
                if present:
                    raise VerificationFailed(f"an order that the node wants to be paid for {fault}")
            known.add(digest)
            earned.append(Earned(digest, place.batch_id, place.index, request.deadline, receipt.fee_wei))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidInput) as error:
        raise VerificationFailed(f"the node's account of what was earned is malformed: {error!r:.300}") from None
    return sorted(earned, key=lambda one: one.deadline), as_of


def placed_certificate(document: Any, answer: Answer, domain: Domain) -> Certificate | None:
    """A certificate without result from a node's `/v1/receipts` answer; None before the answer is in a batch."""
    try:
        place = document["batch"]
        if place is None:
            return None
        return _certificate(place, answer.receipt, answer.receipt_signature, domain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node's account of the batch is malformed: {error!r:.300}") from None


def _certificate(place: Any, receipt: Receipt, signature: bytes, domain: Domain) -> Certificate:
    return Certificate(
        chain_id=domain.chain_id,
        batches=domain.verifying_contract,
        root=bytes.fromhex(place["root"].removeprefix("0x")),
        canary=bytes.fromhex(place["canary"].removeprefix("0x")),
        index=whole(place["index"]),
        receipt=receipt,
        receipt_signature=signature,
        proof=tuple(bytes.fromhex(s.removeprefix("0x")) for s in place["proof"]),
        accepted=0,
        rejected=0,
    )
