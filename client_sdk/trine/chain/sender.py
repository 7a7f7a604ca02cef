"""Sends transactions: simulate, sign, send, wait, decode.

Any number of threads and processes may send from one account. A sender whose nonce was taken meanwhile sends again with
the next one, once it is sure that its own transaction is not the one that took it. No two transactions are the same, so
nobody takes another's for its own. A revert is found in the simulation, before gas is spent, and raised with the
contract's own error and arguments.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import dataclass
from functools import cache
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
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import TxParams, TxReceipt

from trine.chain.deployment import CONTRACTS, abi
from trine.chain.endpoint import origin_of, without_secrets
from trine.errors import ChainError, ChainUnreachable, NotReady, TransactionReverted

GAS_HEADROOM = 1.25
GAS_RESERVE = 100_000
"""Added to every estimate: between estimate and execution a few slots may become zero that were not, or are paid for
anew. The chain charges what is used."""
GAS_RETRIES = 2
"""Each with twice the gas of the one before, for what needed more than that all the same."""
RECEIPT_TIMEOUT_SECONDS = 180.0
REPLACE_SECONDS = 24.0
"""Two slots of Ethereum: a transaction that pays enough is mined by then."""
MAX_REPLACEMENTS = 5
REPLACEMENT_PERCENT = 130
"""Nodes take a replacement that pays at least a tenth more. After all of them: 3.7 times the first price."""
RECEIPT_POLL_SECONDS = (0.02, 0.5)
"""The first wait, which doubles up to the second: development chains mine at once, public ones in seconds."""
NONCE_RETRIES = 50
"""Each means that another transaction of the account was faster, so one of them has got on."""
NONCE_PAUSE_SECONDS = 0.2
GAS_MARKS = 10_000
"""Each transaction may use a random number of these more: two processes that do the same at the same moment would sign
the same transaction otherwise, which is executed once."""
TAKEN_LOOKS = 8
"""So often in a row a transaction must be missing while its nonce is used: one endpoint may be many servers, of which
some are behind."""
NONCE_TAKEN = ("nonce", "replacement transaction", "underpriced")
SAME_TRANSACTION = ("already known", "already imported")
"""As go-ethereum, Reth, Erigon, Nethermind, Anvil and Hardhat say it."""


@dataclass(slots=True)
class _Sent:
    """A transaction, with the hashes of all that were sent for it: of the first, and of what was to replace it."""

    transaction: TxParams
    hashes: list[HexBytes]


class Sender:
    """Sends contract calls from one account."""

    def __init__(self, web3: Web3, account: LocalAccount, rpc_url: str) -> None:
        self._web3 = web3
        self._rpc_url = rpc_url
        self._account = account
        self._lock = _lock_of(str(account.address))

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign(self, digest: bytes) -> bytes:
        """65-byte signature (r, s, v) over a 32-byte digest."""
        return bytes(self._account.unsafe_sign_hash(cast(Any, digest)).signature)

    def send(self, call: ContractFunction) -> TxReceipt:
        """Sends the call and waits for its receipt. Raises TransactionReverted, ChainUnreachable, NotReady."""
        try:
            for attempt in range(GAS_RETRIES + 1):
                receipt, gas = self._executed(call, 1 << attempt)
                if receipt["status"] == 1:
                    return receipt
                if not self._lacked_gas(call, receipt, gas):
                    break
            raise self._why(call, receipt)
        except ContractLogicError as error:
            raise reverted(call.fn_name, error) from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise unreachable(error, self._rpc_url) from None
        except Web3RPCError as error:
            # A node that mines at once refuses a revert when it is sent: another account was faster since the estimate.
            details = (error.rpc_response or {}).get("error")
            reason = decode_error(details.get("data")) if isinstance(details, dict) else None
            if reason is None:
                raise ChainError(f"{call.fn_name}: {without_secrets(str(error), self._rpc_url)}") from None
            raise TransactionReverted(f"{call.fn_name}: {reason}", reason=reason) from None
        except Web3Exception as error:
            raise ChainError(f"{call.fn_name}: {without_secrets(str(error), self._rpc_url)}") from None

    def _executed(self, call: ContractFunction, gas_factor: int) -> tuple[TxReceipt, int]:
        """The receipt of the call, failed or not, and the gas that it was given."""
        for _ in range(NONCE_RETRIES):
            with self._lock:
                sent = self._submit(call, gas_factor)
            receipt = self._receipt(call, sent)
            if receipt:
                return receipt, int(sent.transaction["gas"])
            _pause()
        raise NotReady(f"{call.fn_name}: other transactions of {self.address} keep taking its place; try again")

    def _submit(self, call: ContractFunction, gas_factor: int) -> _Sent:
        estimated = call.estimate_gas({"from": self._account.address})
        gas = (int(estimated * GAS_HEADROOM) + GAS_RESERVE) * gas_factor + random.randrange(GAS_MARKS)  # noqa: S311
        for attempt in range(NONCE_RETRIES):
            nonce = self._web3.eth.get_transaction_count(self._account.address, "pending")
            transaction = call.build_transaction({"from": self._account.address, "nonce": nonce, "gas": gas})
            signed = self._account.sign_transaction(cast(Any, transaction))
            sent = _Sent(transaction, [signed.hash])
            try:
                self._web3.eth.send_raw_transaction(signed.raw_transaction)
                return sent
            except Web3RPCError as error:
                said = str(error).lower()
                # Sent before, by a try whose answer was lost.
                if any(words in said for words in SAME_TRANSACTION) or self._is_known(signed.hash):
                    return sent
                # Another process of the same account was faster.
                if not any(words in said for words in NONCE_TAKEN) or attempt + 1 == NONCE_RETRIES:
                    raise
                _pause()
        raise AssertionError("unreachable")

    def _receipt(self, call: ContractFunction, sent: _Sent) -> TxReceipt | None:
        """Waits for it, and pays more when it takes long; None when another transaction has taken the nonce.

        Of what is sent for one call no more than one can be executed: all have its nonce. Raises NotReady.
        """
        started = time.monotonic()
        pause, missing = RECEIPT_POLL_SECONDS[0], 0
        while True:
            for each in sent.hashes:
                with contextlib.suppress(TransactionNotFound):
                    return self._web3.eth.get_transaction_receipt(each)
            missing += self._web3.eth.get_transaction_count(self._account.address) > sent.transaction["nonce"]
            if missing >= TAKEN_LOOKS:
                return None
            waited = time.monotonic() - started
            if waited > RECEIPT_TIMEOUT_SECONDS:
                raise NotReady(
                    f"{call.fn_name}: not mined within {waited:.0f} s, and still may be: 0x{sent.hashes[-1].hex()}"
                )
            if waited > REPLACE_SECONDS * len(sent.hashes) and len(sent.hashes) <= MAX_REPLACEMENTS:
                self._replace(sent)
            time.sleep(pause)
            pause = min(2 * pause, RECEIPT_POLL_SECONDS[1])

    def _replace(self, sent: _Sent) -> None:
        """The same call under the same nonce, for more: what was offered was too little, or got lost."""
        priced = cast(dict[str, Any], sent.transaction)
        for price in ("maxFeePerGas", "maxPriorityFeePerGas", "gasPrice"):
            if price in priced:
                priced[price] = int(priced[price]) * REPLACEMENT_PERCENT // 100 + 1
        signed = self._account.sign_transaction(cast(Any, sent.transaction))
        sent.hashes.append(signed.hash)
        # Refused where the first was mined meanwhile, or the endpoint knows it: the receipt tells.
        with contextlib.suppress(Web3RPCError):
            self._web3.eth.send_raw_transaction(signed.raw_transaction)

    def _is_known(self, transaction_hash: HexBytes) -> bool:
        try:
            self._web3.eth.get_transaction(transaction_hash)
        except TransactionNotFound:
            return False
        return True

    def _lacked_gas(self, call: ContractFunction, receipt: TxReceipt, gas: int) -> bool:
        """Whether a failed call has used (nearly) all of its gas: the last call keeps a 64th of it, by EIP-150."""
        return receipt["gasUsed"] >= gas * 15 // 16

    def _why(self, call: ContractFunction, receipt: TxReceipt) -> TransactionReverted:
        transaction: TxParams = {"from": self._account.address}
        try:
            call.call(transaction, block_identifier=receipt["blockNumber"])
        except ContractLogicError as error:
            return reverted(call.fn_name, error)
        reason = f"mined as failed in block {receipt['blockNumber']}"
        return TransactionReverted(f"{call.fn_name}: {reason}", reason=reason)


@cache
def _lock_of(address: str) -> threading.Lock:
    """One for all senders of an account in this process."""
    return threading.Lock()


def _pause() -> None:
    """Of random length, so that those who have met do not meet again."""
    time.sleep(NONCE_PAUSE_SECONDS * random.random())  # noqa: S311  (no secret)


def reverted(function: str, error: ContractLogicError) -> TransactionReverted:
    """The revert with the contract's custom error decoded."""
    reason = decode_error(error.data) or str(error.message or error)
    return TransactionReverted(f"{function}: {reason}", reason=reason)


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


def _error_table() -> dict[str, tuple[str, list[str]]]:
    if not _ERRORS:
        for contract in CONTRACTS:
            for item in abi(contract):
                if item["type"] == "error":
                    selector = keccak(text=abi_to_signature(item))[:4].hex()  # type: ignore[arg-type]
                    _ERRORS[selector] = (item["name"], [i["type"] for i in item["inputs"]])
    return _ERRORS


_ERRORS: dict[str, tuple[str, list[str]]] = {}
