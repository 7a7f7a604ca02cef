"""Requests that are posted on the chain: their ids, and what a receipt must say to answer one.

A node that answers an `Order` signs a receipt whose `request_hash` is the order's id and whose client is the
requester. `contracts/Requests.sol` is the twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.messages import ZERO_ADDRESS, Receipt

MAX_INPUT_BYTES = 24 * 1024
MAX_OUTPUT_BYTES = 64 * 1024
MAX_CALLBACK_GAS = 2_000_000
MAX_WAIT_SECONDS = 365 * 86_400


class RequestState(IntEnum):
    """See `IRequests.State`."""

    NONE = 0
    OPEN = 1
    FULFILLED = 2
    EXPIRED = 3


@dataclass(frozen=True, slots=True)
class Order:
    """A posted request, as the event `RequestPosted` shows it."""

    request_id: bytes
    requester: str
    model_id: bytes
    node: str  # the zero address: any
    input: bytes  # canonical JSON of what is asked
    max_tokens: int
    max_fee_wei: int
    deadline: int  # seconds since 1970; the answer must be on the chain by then, after its verdict
    callback_gas: int
    wait_for_final: bool

    def values(self) -> tuple[object, ...]:
        """`IRequests.Order`, as ABI encoders take it."""
        return (
            self.model_id,
            self.node,
            self.input,
            self.max_tokens,
            self.max_fee_wei,
            self.deadline,
            self.callback_gas,
            self.wait_for_final,
        )


@dataclass(frozen=True, slots=True)
class Posted:
    """A posted request, as the contract keeps it: all but the input's text. It stays when the request is over."""

    requester: str
    deadline: int
    callback_gas: int
    node: str
    max_tokens: int
    wait_for_final: bool
    state: RequestState
    escrow: int
    paid: int
    model_id: bytes
    input_hash: bytes

    def is_of(self, order: Order) -> bool:
        """Whether the event that showed the order is the contract's own word."""
        return (
            _same(self.requester, order.requester)
            and _same(self.node, order.node)
            and (self.model_id, self.input_hash) == (order.model_id, keccak(order.input))
            and (self.max_tokens, self.escrow, self.deadline) == (order.max_tokens, order.max_fee_wei, order.deadline)
            and (self.callback_gas, self.wait_for_final) == (order.callback_gas, order.wait_for_final)
        )


def posted_fault(posted: Posted, receipt: Receipt) -> str | None:
    """Why a receipt does not honour the posted request that it names, or None: what verifiers look for."""
    if not _same(posted.requester, receipt.client):
        return "receipt names another client than the one who posted the request"
    if not _same(posted.node, ZERO_ADDRESS) and not _same(posted.node, receipt.node):
        return "the request is for another node"
    if posted.model_id != receipt.model_id:
        return "the request is for another model"
    if posted.input_hash != receipt.input_hash:
        return "the request asks something else"
    if posted.max_tokens != receipt.max_tokens:
        return f"the request is for at most {posted.max_tokens} tokens, the receipt says {receipt.max_tokens}"
    if receipt.fee_wei > posted.escrow:
        return f"fee {receipt.fee_wei} is over what waits for the answer, {posted.escrow}"
    return None


def request_id(chain_id: int, requests: str, requester: str, nonce: int) -> bytes:
    """Id of the requester's request number `nonce`, counted from zero, at the contract `requests`."""
    if nonce < 0:
        raise InvalidInput(f"a nonce counts from zero, not {nonce}")
    kinds = ["uint256", "address", "address", "uint256"]
    return bytes(keccak(encode(kinds, [chain_id, requests, requester, nonce])))


def mismatch(order: Order, receipt: Receipt, output: bytes) -> str | None:
    """Which field of the receipt is not what the order asks for, in the contract's words and order; None if all are.

    `output` is the answer's text, UTF-8. Raises InvalidInput if it is longer than the contract takes.
    """
    if len(output) > MAX_OUTPUT_BYTES:
        raise InvalidInput(f"an answer on the chain has at most {MAX_OUTPUT_BYTES} bytes, not {len(output)}")
    matches = {
        "requestHash": receipt.request_hash == order.request_id,
        "client": _same(receipt.client, order.requester),
        "node": _same(order.node, ZERO_ADDRESS) or _same(receipt.node, order.node),
        "modelId": receipt.model_id == order.model_id,
        "inputHash": receipt.input_hash == keccak(order.input),
        "outputTokens": receipt.output_tokens <= order.max_tokens,
        "textHash": receipt.text_hash == keccak(output),
    }
    return next((field for field, holds in matches.items() if not holds), None)


def _same(address: str, other: str) -> bool:
    return address.lower() == other.lower()
