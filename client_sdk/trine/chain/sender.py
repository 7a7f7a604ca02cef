"""Sends transactions: simulate, sign, send, wait, decode.

One sender an account and process. Nonces are handed out under a lock, so threads may send at once. A revert is
found in the simulation, before gas is spent, and raised with the contract's own error and arguments.
"""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import requests.exceptions
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_utils.abi import abi_to_signature
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError, TimeExhausted, Web3Exception, Web3RPCError
from web3.types import TxParams, TxReceipt

from trine.chain.deployment import CONTRACTS, abi
from trine.errors import ChainError, ChainUnreachable, NotReady, TransactionReverted

GAS_HEADROOM = 1.25
RECEIPT_TIMEOUT_SECONDS = 60.0
NONCE_RETRIES = 3


class Sender:
    """Sends contract calls from one account."""

    def __init__(self, web3: Web3, account: LocalAccount) -> None:
        self._web3 = web3
        self._account = account
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign(self, digest: bytes) -> bytes:
        """65-byte signature (r, s, v) over a 32-byte digest."""
        return bytes(self._account.unsafe_sign_hash(cast(Any, digest)).signature)

    def send(self, call: ContractFunction) -> TxReceipt:
        """Sends the call and waits for its receipt. Raises TransactionReverted, ChainUnreachable, NotReady."""
        try:
            with self._lock:
                transaction_hash = self._submit(call)
            receipt = self._web3.eth.wait_for_transaction_receipt(
                transaction_hash, timeout=RECEIPT_TIMEOUT_SECONDS, poll_latency=0.2
            )
        except ContractLogicError as error:
            raise reverted(call.fn_name, error) from None
        except TimeExhausted:
            raise NotReady(f"{call.fn_name}: not mined within {RECEIPT_TIMEOUT_SECONDS:.0f} s") from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise unreachable(error) from None
        except Web3RPCError as error:
            # A node that mines at once refuses a revert when it is sent: another account was faster since the estimate.
            details = (error.rpc_response or {}).get("error")
            reason = decode_error(details.get("data")) if isinstance(details, dict) else None
            if reason is None:
                raise ChainError(f"{call.fn_name}: {error}") from None
            raise TransactionReverted(f"{call.fn_name}: {reason}", reason=reason) from None
        except Web3Exception as error:
            raise ChainError(f"{call.fn_name}: {error}") from None
        if receipt["status"] != 1:
            raise self._why(call, receipt)
        return receipt

    def _submit(self, call: ContractFunction) -> HexBytes:
        gas = int(call.estimate_gas({"from": self._account.address}) * GAS_HEADROOM)
        for attempt in range(NONCE_RETRIES):
            nonce = self._web3.eth.get_transaction_count(self._account.address, "pending")
            transaction = call.build_transaction({"from": self._account.address, "nonce": nonce, "gas": gas})
            signed = self._account.sign_transaction(cast(Any, transaction))
            try:
                return self._web3.eth.send_raw_transaction(signed.raw_transaction)
            except Web3RPCError as error:
                # Another process of the same account was faster.
                if "nonce" not in str(error).lower() or attempt + 1 == NONCE_RETRIES:
                    raise
                time.sleep(0.2 * (attempt + 1))
        raise AssertionError("unreachable")

    def _why(self, call: ContractFunction, receipt: TxReceipt) -> TransactionReverted:
        transaction: TxParams = {"from": self._account.address}
        try:
            call.call(transaction, block_identifier=receipt["blockNumber"])
        except ContractLogicError as error:
            return reverted(call.fn_name, error)
        reason = f"mined as failed in block {receipt['blockNumber']}"
        return TransactionReverted(f"{call.fn_name}: {reason}", reason=reason)


def reverted(function: str, error: ContractLogicError) -> TransactionReverted:
    """The revert with the contract's custom error decoded."""
    reason = decode_error(error.data) or str(error.message or error)
    return TransactionReverted(f"{function}: {reason}", reason=reason)


def unreachable(error: Exception) -> ChainUnreachable:
    return ChainUnreachable(f"no answer from the RPC endpoint ({type(error).__name__}): is the chain running?")


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


def _error_table() -> dict[str, tuple[str, list[str]]]:
    if not _ERRORS:
        for contract in CONTRACTS:
            for item in abi(contract):
                if item["type"] == "error":
                    selector = keccak(text=abi_to_signature(item))[:4].hex()  # type: ignore[arg-type]
                    _ERRORS[selector] = (item["name"], [i["type"] for i in item["inputs"]])
    return _ERRORS


_ERRORS: dict[str, tuple[str, list[str]]] = {}
