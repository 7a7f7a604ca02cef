"""What a node must show for a batch, and every check on it that needs no model.

`missing` answers: are these the very bytes that the anchored root fixed? What is not, was not shown: whoever sends it
may send the right bytes to others, so nothing follows from it but that. `binding_fault` answers: do those bytes honour
the client's request, signed or posted on the chain? A fault there is a reason to reject, because everybody who is shown
the leaf sees it. Whether the model really produces them is `verdict`'s question.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from eth_utils.crypto import keccak

from trine.errors import BadSignature, InvalidInput
from trine.protocol import merkle
from trine.protocol.inputs import MAX_INPUT_BYTES, Input, parse_input, salt_of
from trine.protocol.messages import ZERO_ADDRESS, ZERO_HASH, Domain, Receipt, Request, require_signer
from trine.protocol.requests import Posted, posted_fault
from trine.protocol.salts import salted_hash
from trine.protocol.tokens import tokens_hash

MAX_TOKENS = 1 << 17
MAX_FINGERPRINT_BYTES = 1 << 23


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer with everything that its receipt's hashes stand for."""

    receipt: Receipt
    receipt_signature: bytes
    input: bytes  # canonical JSON, see `inputs`
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    fingerprint: bytes  # canonical encoding, see `fingerprint`
    request: Request | None = None
    request_signature: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "receipt": self.receipt.to_json(),
            "receiptSignature": "0x" + self.receipt_signature.hex(),
            "input": self.input.decode("utf-8"),
            "promptIds": list(self.prompt_ids),
            "outputIds": list(self.output_ids),
            "fingerprint": base64.b64encode(self.fingerprint).decode("ascii"),
            "request": self.request.to_json() if self.request else None,
            "requestSignature": "0x" + self.request_signature.hex() if self.request_signature else None,
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form within bounds. Raises InvalidInput naming the part that is wrong."""
        if not isinstance(document, dict):
            raise InvalidInput("evidence must be a JSON object")
        request = document.get("request")
        signature = document.get("requestSignature")
        return cls(
            receipt=Receipt.from_json(document.get("receipt")),
            receipt_signature=_hex(document.get("receiptSignature"), "receiptSignature", 65),
            input=_text(document.get("input")),
            prompt_ids=_ids(document.get("promptIds"), "promptIds"),
            output_ids=_ids(document.get("outputIds"), "outputIds"),
            fingerprint=_base64(document.get("fingerprint")),
            request=None if request is None else Request.from_json(request),
            request_signature=None if signature is None else _hex(signature, "requestSignature", 65),
        )


def _nobody_posted(_request_id: bytes) -> Posted | None:
    return None


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the chain says of the batch that the evidence belongs to.

    `posted` tells what was posted on the chain under an id, if anything; what it raises goes on to who checks.
    """

    domain: Domain
    node: str
    model_id: bytes
    root: bytes
    leaf_count: int
    posted: Callable[[bytes], Posted | None] = field(default=_nobody_posted, compare=False)


def leaves_fault(leaves: list[bytes], anchor: Anchor) -> str | None:
    """Why the list of leaf hashes is not the anchored one, or None."""
    if len(leaves) != anchor.leaf_count:
        return f"{len(leaves)} leaf hashes for a batch of {anchor.leaf_count}"
    try:
        root = merkle.root(leaves)
    except InvalidInput as error:
        return str(error)
    return None if root == anchor.root else "leaf hashes do not lead to the anchored root"


def missing(evidence: Evidence, index: int, leaf: bytes, anchor: Anchor) -> str | None:
    """Which part of `evidence` is not what leaf `index` of the batch stands for, or None if all of it is.

    Signatures are in no hash, but a wrong one says as little of the node as wrong bytes: it may show others the right.
    """
    receipt = evidence.receipt
    if merkle.leaf_hash(index, receipt) != leaf:
        return "receipt does not hash to the anchored leaf"
    salt = salt_of(evidence.input)
    expected = {
        "input": (receipt.input_hash, keccak(evidence.input)),
        "prompt token ids": (receipt.prompt_hash, tokens_hash(evidence.prompt_ids, salt)),
        "output token ids": (receipt.output_hash, tokens_hash(evidence.output_ids, salt)),
        "fingerprint": (receipt.fingerprint_hash, salted_hash(evidence.fingerprint, salt)),
    }
    for what, (claimed, actual) in expected.items():
        if claimed != actual:
            return f"{what} shown do not hash to what the receipt says"
    try:
        require_signer(receipt.digest(anchor.domain), evidence.receipt_signature, anchor.node, "receipt")
    except BadSignature as error:
        return str(error)
    if receipt.request_hash == ZERO_HASH:
        return None
    request = evidence.request
    if request is None and evidence.request_signature is None and anchor.posted(receipt.request_hash) is not None:
        return None  # a post needs no signature: only its requester can have made it
    if request is None or evidence.request_signature is None:
        return "the signed request that the receipt names is not shown, and none of that id was posted"
    digest = request.digest(anchor.domain)
    if digest != receipt.request_hash:
        return "request shown does not hash to what the receipt says"
    try:
        require_signer(digest, evidence.request_signature, request.client, "request")
    except BadSignature as error:
        return str(error)
    return None


def binding_fault(evidence: Evidence, anchor: Anchor) -> str | None:
    """Why a leaf is not what its client asked for, or not the node's, or None. Call where nothing is `missing`."""
    receipt = evidence.receipt
    if receipt.node.lower() != anchor.node.lower():
        return f"receipt is in the name of {receipt.node}, the batch is {anchor.node}'s"
    if receipt.model_id != anchor.model_id:
        return "receipt names another model than the batch"
    if (receipt.prompt_tokens, receipt.output_tokens) != (len(evidence.prompt_ids), len(evidence.output_ids)):
        return "receipt counts other numbers of tokens than are shown"
    try:
        parse_input(evidence.input)
    except InvalidInput as error:
        return f"input: {error}"
    return _request_fault(evidence, anchor)


def parsed_input(evidence: Evidence) -> Input:
    """The client's wish. Call after `binding_fault` returned None."""
    return parse_input(evidence.input)


def _request_fault(evidence: Evidence, anchor: Anchor) -> str | None:
    receipt, request = evidence.receipt, evidence.request
    if receipt.request_hash != ZERO_HASH and request is None:
        posted = anchor.posted(receipt.request_hash)
        if posted is not None:
            return posted_fault(posted, receipt)
    if receipt.request_hash == ZERO_HASH or request is None:
        if receipt.client != ZERO_ADDRESS or receipt.fee_wei != 0:
            return "receipt charges a client who signed no request"
        return None
    if request.client.lower() != receipt.client.lower():
        return "receipt names another client than the request"
    if request.model_id != receipt.model_id:
        return "the client asked for another model"
    if request.input_hash != receipt.input_hash:
        return "the client asked something else"
    if receipt.max_tokens != request.max_tokens:
        return f"the client asked for at most {request.max_tokens} tokens, the receipt says {receipt.max_tokens}"
    if receipt.fee_wei > request.max_fee_wei:
        return f"fee {receipt.fee_wei} is over the client's limit {request.max_fee_wei}"
    return None


def _hex(value: Any, name: str, size: int) -> bytes:
    try:
        raw = bytes.fromhex(str(value).removeprefix("0x"))
    except ValueError:
        raise InvalidInput(f"{name} is not hexadecimal") from None
    if len(raw) != size:
        raise InvalidInput(f"{name} has {len(raw)} bytes instead of {size}")
    return raw


def _text(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > MAX_INPUT_BYTES:
        raise InvalidInput(f"input must be a string of at most {MAX_INPUT_BYTES} bytes")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("input holds a lone surrogate") from None


def _ids(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TOKENS:
        raise InvalidInput(f"{name} must be a list of 1 to {MAX_TOKENS} token ids")
    if any(type(token) is not int or not 0 <= token < 2**32 for token in value):
        raise InvalidInput(f"{name} holds something that is no token id")
    return tuple(value)


def _base64(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > MAX_FINGERPRINT_BYTES * 4 // 3 + 4:
        raise InvalidInput(f"fingerprint must be base64 of at most {MAX_FINGERPRINT_BYTES} bytes")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise InvalidInput("fingerprint is not base64") from None
