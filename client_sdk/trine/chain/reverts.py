"""Errors of an RPC endpoint in our words: a contract's own error with its arguments, an endpoint that is not there."""

from __future__ import annotations

from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import abi_to_signature
from eth_utils.crypto import keccak
from web3.exceptions import ContractLogicError

from trine.chain.deployment import CONTRACTS, FOREIGN, abi
from trine.chain.endpoint import origin_of
from trine.chain.reasons import explained
from trine.errors import ChainUnreachable, TransactionReverted


def reverted(function: str, error: ContractLogicError) -> TransactionReverted:
    """The revert with the contract's custom error decoded."""
    return refused(function, decode_error(error.data) or str(error.message or error))


def refused(function: str, reason: str) -> TransactionReverted:
    """With the sentence for people, where there is one, in front of the contract's own words."""
    sentence = explained(reason)
    return TransactionReverted(
        f"{sentence} ({function}: {reason})" if sentence else f"{function}: {reason}", reason=reason
    )


def unreachable(error: Exception, rpc_url: str) -> ChainUnreachable:
    return ChainUnreachable(
        f"no answer from the RPC endpoint at {origin_of(rpc_url)} ({type(error).__name__}): "
        "is the chain running, and the endpoint right?"
    )


def decode_error(data: Any) -> str | None:
    """`BatchesWrongState(0x…, 4, 1)` for revert data of any of our contracts, else None."""
    if not isinstance(data, str) or not data.startswith("0x") or len(data) < 10:
        return None
    found = _error_table().get(data[2:10])
    if found is None:
        return None
    name, kinds = found
    try:
        values = decode(kinds, bytes.fromhex(data[10:]))
    except (DecodingError, ValueError, OverflowError):
        return name
    shown = ["0x" + v.hex() if isinstance(v, bytes) else str(v) for v in values]
    return f"{name}({', '.join(shown)})"


@cache
def _error_table() -> dict[str, tuple[str, list[str]]]:
    """By selector: names and types of the contracts' errors."""
    errors: dict[str, tuple[str, list[str]]] = {}
    for contract in (*CONTRACTS, *FOREIGN):
        for item in abi(contract):
            if item["type"] == "error":
                selector = keccak(text=abi_to_signature(item))[:4].hex()  # type: ignore[arg-type]
                errors[selector] = (item["name"], [i["type"] for i in item["inputs"]])
    return errors
