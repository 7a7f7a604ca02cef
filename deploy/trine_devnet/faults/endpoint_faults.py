"""What can be wrong with an RPC endpoint, each fault a value, and what it makes of a call. Pure; `proxy` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak

Call = Mapping[str, Any]
"""A JSON-RPC request."""

SEND = "eth_sendRawTransaction"
HEADER_NOT_FOUND = (-32000, "header not found")
"""As go-ethereum words it for a block that it does not have."""
RANGE_REFUSED = -32005
"""EIP-1474: limit exceeded."""
AT_BLOCK = {
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_feeHistory": 1,
    "eth_getBalance": 1,
    "eth_getBlockByNumber": 0,
    "eth_getCode": 1,
    "eth_getStorageAt": 2,
    "eth_getTransactionCount": 1,
}
"""Which parameter names the block that a method is about. Without it, the newest is meant."""
MOVING_TAGS = ("latest", "pending", "safe", "finalized")


@dataclass(frozen=True, slots=True)
class Silent:
    """Takes requests and connections, and never answers."""


@dataclass(frozen=True, slots=True)
class Refusing:
    """Answers everything with an HTTP status; `retry_after` in seconds."""

    status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Cutting:
    """Cuts every connection after so many bytes of the answer's body, or before any of it."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Saying:
    """Answers everything with `head`, `times` repetitions of `part`, and `tail`."""

    part: bytes
    times: int = 1
    head: bytes = b""
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Dripping:
    """Answers right, but so slowly."""

    bytes_per_second: int


@dataclass(frozen=True, slots=True)
class Lagging:
    """Answers as of so many blocks ago; with `logs_only`, nothing but events is late."""

    blocks: int
    logs_only: bool = False


@dataclass(frozen=True, slots=True)
class WithoutLogs:
    """Says that there are no events."""


@dataclass(frozen=True, slots=True)
class NarrowLogs:
    """Refuses events of more blocks than these at once."""

    blocks: int


@dataclass(frozen=True, slots=True)
class OtherChain:
    """Names another chain."""

    chain_id: int


@dataclass(frozen=True, slots=True)
class Sending:
    """What becomes of transactions: whether they get on, and whether their sender is told `error`, or anything.

    Without an error, the sender is told the transaction's hash.
    """

    forwards: bool
    error: str | None = None
    answers: bool = True


Fault = (
    Silent
    | Refusing
    | Cutting
    | Saying
    | Dripping
    | Lagging
    | WithoutLogs
    | NarrowLogs
    | OtherChain
    | Sending
)  # fmt: skip

GARBAGE = Saying(b"<html><body>502 Bad Gateway</body></html>")
HUGE = Saying(b"00" * 8192, 2048, b'{"jsonrpc":"2.0","id":1,"result":"0x', b'"}')
"""32 MiB."""
DEEP = Saying(b"[", 100_000)
FAULTS: dict[str, Fault] = {
    "429": Refusing(429),
    "429 with retry-after": Refusing(429, retry_after=2),
    "500": Refusing(500),
    "cuts connections": Cutting(),
    "cuts answers": Cutting(20),
    "garbage": GARBAGE,
    "huge": HUGE,
    "deep": DEEP,
    "drips": Dripping(64),
    "no logs": WithoutLogs(),
    "narrow ranges": NarrowLogs(1),
    "other chain": OtherChain(1),
    "swallows transactions": Sending(forwards=False),
    "sends, but tells an error": Sending(forwards=True, error="internal error"),
    "sends, but tells nothing": Sending(forwards=True, answers=False),
    "already known": Sending(forwards=False, error="already known"),
    "sends, but tells already known": Sending(forwards=True, error="already known"),
    "nonce too low": Sending(forwards=False, error="nonce too low"),
    "sends, but tells nonce too low": Sending(forwards=True, error="nonce too low"),
    "underpriced": Sending(forwards=False, error="replacement transaction underpriced"),
}
"""By the names that tables use."""


def result_of(call: Call, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call.get("id"), "result": result}


def error_of(call: Call, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call.get("id"), "error": {"code": code, "message": message}}


def answered(fault: Fault | None, call: Call) -> dict[str, Any] | None:
    """The answer that needs no chain; None where the chain is to be asked."""
    match fault, call.get("method"):
        case WithoutLogs(), "eth_getLogs":
            return result_of(call, [])
        case OtherChain(chain_id), "eth_chainId":
            return result_of(call, hex(chain_id))
        case OtherChain(chain_id), "net_version":
            return result_of(call, str(chain_id))
        case Sending(forwards=False, error=None), method if method == SEND:
            return result_of(call, hash_of(raw_transaction(call)))
        case Sending(forwards=False, error=error), method if method == SEND:
            return error_of(call, -32000, str(error))
    return None


def retold(fault: Fault | None, call: Call, answer: dict[str, Any]) -> dict[str, Any]:
    """What the caller is told of the chain's answer."""
    if isinstance(fault, Sending) and fault.error and call.get("method") == SEND:
        return error_of(call, -32000, fault.error)
    return answer


def raw_transaction(call: Call) -> bytes:
    """Empty for what is no hexadecimal."""
    try:
        return bytes.fromhex(str(parameters_of(call)[0]).removeprefix("0x"))
    except (IndexError, ValueError):
        return b""


def hash_of(raw: bytes) -> str:
    return "0x" + keccak(raw).hex()


def parameters_of(call: Call) -> list[Any]:
    found = call.get("params")
    return list(found) if isinstance(found, list) else []


# Events


def refused_range(call: Call, widest: int, head: int) -> dict[str, Any] | None:
    """The refusal of a range of more than `widest` blocks, as a provider words it. `head`: the newest block."""
    if call.get("method") != "eth_getLogs":
        return None
    asked = _filter_of(call)
    first, last = (_number(asked.get(name), head) for name in ("fromBlock", "toBlock"))
    if first is None or last is None or last - first < widest:
        return None
    return error_of(call, RANGE_REFUSED, f"block range is too wide: at most {widest} blocks")


def logs_as_of(call: Call, head: int) -> Call | None:
    """The same question, for an endpoint that has events up to block `head`; None if it has none of them."""
    asked = _filter_of(call)
    if "blockHash" in asked:
        return call
    first, last = _number(asked.get("fromBlock"), head), _number(asked.get("toBlock"), head)
    if first is None or last is None:
        return call
    if first > head:
        return None
    return {**call, "params": [{**asked, "fromBlock": hex(first), "toBlock": hex(min(last, head))}]}


# Endpoints that are late


def as_of(call: Call, head: int) -> Call | dict[str, Any]:
    """The question to ask the chain instead, or at once the answer, of an endpoint whose newest block is `head`."""
    method = str(call.get("method"))
    if method == "eth_blockNumber":
        return result_of(call, hex(head))
    if method == "eth_getLogs":
        return logs_as_of(call, head) or result_of(call, [])
    place = AT_BLOCK.get(method)
    if place is None:
        return call
    parameters = parameters_of(call)
    parameters += ["latest"] * (place + 1 - len(parameters))
    number = _number(parameters[place], head)
    if number is None:
        return call
    if number > head:
        return result_of(call, None) if method == "eth_getBlockByNumber" else error_of(call, *HEADER_NOT_FOUND)
    parameters[place] = hex(number)
    return {**call, "params": parameters}


def seen_as_of(call: Call, answer: dict[str, Any], head: int) -> dict[str, Any]:
    """What of the chain's answer is known to an endpoint whose newest block is `head`."""
    found = answer.get("result")
    if not isinstance(found, dict):
        return answer
    at = _number(found.get("blockNumber"), head)
    match call.get("method"):
        case "eth_getTransactionReceipt" if at is not None and at > head:
            return {**answer, "result": None}
        case "eth_getTransactionByHash" if at is not None and at > head:
            return {**answer, "result": {**found, "blockNumber": None, "blockHash": None, "transactionIndex": None}}
        case "eth_getBlockByHash":
            number = _number(found.get("number"), head)
            return {**answer, "result": None} if number is not None and number > head else answer
    return answer


def _filter_of(call: Call) -> dict[str, Any]:
    parameters = parameters_of(call)
    return dict(parameters[0]) if parameters and isinstance(parameters[0], dict) else {}


def _number(block: Any, head: int) -> int | None:
    """A block's number by number or tag; None for what names a block otherwise."""
    if block is None or block in MOVING_TAGS:
        return head
    if block == "earliest":
        return 0
    try:
        return int(str(block), 16)
    except ValueError:
        return None
