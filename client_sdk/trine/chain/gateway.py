"""One account at one RPC endpoint: what sending asks, what it signs, what it hands over. Decides nothing.

All of it raises ChainUnreachable when there is no answer, ChainError when there is one without sense, and
TransactionReverted, with the contract's own error, when the chain says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import requests.exceptions
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import TxReceipt

from trine.chain.endpoint import without_secrets
from trine.chain.reverts import decode_error, refused, reverted, unreachable
from trine.chain.transactions import EncodedCall, Fees, Market, Refusal, refusal_of
from trine.errors import ChainError, NoGasMoney, TransactionReverted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction."""

    hash: bytes
    raw: bytes
    nonce: int
    gas: int
    fees: Fees


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody's transaction in a block."""

    hash: bytes
    nonce: int
    to: str
    data: bytes
    block: int


SEED_AHEAD = "SeedsAhead("
"""How the error begins that says that a block's seed can be shown from the next block on."""


class Gateway:
    """Thread-safe."""

    def __init__(self, web3: Web3, account: LocalAccount, rpc_url: str, chain_id: int) -> None:
        """`chain_id` is the deployment's: what an endpoint says of itself is signed for no other chain."""
        self._web3 = web3
        self._account = account
        self._rpc_url = rpc_url
        self._chain_id = chain_id

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign(self, digest: bytes) -> bytes:
        """65-byte signature (r, s, v) over a 32-byte digest."""
        return bytes(self._account.unsafe_sign_hash(cast(Any, digest)).signature)

    def nonce(self, block: int | str = "latest") -> int:
        """How many transactions of the account are in the chain up to a block; of `pending`, in the pool, too."""
        return self._ask(
            "nonce", lambda: int(self._web3.eth.get_transaction_count(cast(Any, self.address), cast(Any, block)))
        )

    def market(self) -> Market:
        def ask() -> Market:
            base = self._web3.eth.get_block("latest").get("baseFeePerGas")
            if base is None:
                return Market(None, int(self._web3.eth.gas_price))
            return Market(int(base), int(self._web3.eth.max_priority_fee))

        return self._ask("fees", ask)

    def estimate(self, call: EncodedCall, most: int | None = None) -> int:
        """Gas that the call needs now. `most`: what it may take; that of more is a ChainError.

        What shows the newest block's seed can be mined in the next block, and only there: it is tried in that one.
        """
        fields = self._fields(call)
        if most is not None:
            fields["gas"] = most
        try:
            return self._ask(call.function, lambda: self._web3.eth.estimate_gas(fields))
        except TransactionReverted as error:
            if not error.reason.startswith(SEED_AHEAD):
                raise
        return self._ask(call.function, lambda: self._web3.eth.estimate_gas(fields, "pending"))

    def signed(self, call: EncodedCall, nonce: int, gas: int, fees: Fees) -> Signed:
        fields = {**self._fields(call), "nonce": nonce, "gas": gas, "value": 0, "chainId": self._chain_id}
        signed = self._account.sign_transaction(cast(Any, {**fields, **fees.fields()}))
        return Signed(bytes(signed.hash), bytes(signed.raw_transaction), nonce, gas, fees)

    def broadcast(self, signed: Signed, function: str) -> tuple[Refusal, str] | None:
        """Hands the transaction over; None when it is taken, else why not, and what was said."""

        def ask() -> tuple[Refusal, str] | None:
            try:
                self._web3.eth.send_raw_transaction(HexBytes(signed.raw))
            except Web3RPCError as error:
                if _revert_data(error) is not None:
                    raise
                return refusal_of(str(error)), without_secrets(str(error), self._rpc_url)
            return None

        return self._ask(function, ask)

    def receipt(self, transaction_hash: bytes) -> TxReceipt | None:
        """None while it is in no block."""

        def ask() -> TxReceipt | None:
            try:
                return self._web3.eth.get_transaction_receipt(HexBytes(transaction_hash))
            except TransactionNotFound:
                return None

        return self._ask("receipt", ask)

    def is_known(self, transaction_hash: bytes) -> bool:
        """Whether the endpoint has the transaction, mined or not."""

        def ask() -> bool:
            try:
                self._web3.eth.get_transaction(HexBytes(transaction_hash))
            except TransactionNotFound:
                return False
            return True

        return self._ask("transaction", ask)

    def why(self, call: EncodedCall, receipt: TxReceipt) -> TransactionReverted:
        """Of a transaction that was mined as failed."""
        try:
            self._ask(
                call.function,
                lambda: self._web3.eth.call(self._fields(call), block_identifier=receipt["blockNumber"]),
            )
        except TransactionReverted as error:
            return error
        reason = f"mined as failed in block {receipt['blockNumber']}"
        return TransactionReverted(f"{call.function}: {reason}", reason=reason)

    def transactions_in(self, block: int) -> list[Seen]:
        """The account's transactions in a block."""

        def ask() -> list[Seen]:
            transactions = cast(list[Any], self._web3.eth.get_block(block, full_transactions=True)["transactions"])
            return [
                Seen(bytes(each["hash"]), int(each["nonce"]), str(each.get("to") or ""), bytes(each["input"]), block)
                for each in transactions
                if each["from"] == self.address
            ]

        return self._ask("block", ask)

    def _fields(self, call: EncodedCall) -> Any:
        return {"from": self.address, "to": call.to, "data": HexBytes(call.data)}

    def _ask(self, what: str, question: Callable[[], T]) -> T:
        try:
            return question()
        except ContractLogicError as error:
            raise reverted(what, error) from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise unreachable(error, self._rpc_url) from None
        except Web3RPCError as error:
            # A node that mines at once refuses a revert when it is sent: another account was faster since the estimate.
            reason = decode_error(_revert_data(error))
            if reason is not None:
                raise refused(what, reason) from None
            said = without_secrets(str(error), self._rpc_url)
            if refusal_of(said) is Refusal.NO_FUNDS:
                raise NoGasMoney(what, self.address) from None
            raise ChainError(f"{what}: {said}") from None
        except Web3Exception as error:
            raise ChainError(f"{what}: {without_secrets(str(error), self._rpc_url)}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise ChainError(f"{what}: the RPC endpoint's answer makes no sense ({type(error).__name__})") from None


def _revert_data(error: Web3RPCError) -> Any:
    """The contract's error, where the node gives one of ours."""
    details = (error.rpc_response or {}).get("error")
    data = details.get("data") if isinstance(details, dict) else None
    return data if decode_error(data) is not None else None
