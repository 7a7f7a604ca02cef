"""Who signs a deployment's transactions: a keystore's key in this process, or an external signer. Checks both alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from trine.chain.endpoint import origin_of
from trine.chain.transport import EndpointFailed, Transport
from trine.errors import BadSignature, InvalidInput, NotReady

SIGNER_SECONDS = 300.0
"""A person may have to confirm on a device."""
SHOWN = 160

Transaction = dict[str, Any]
"""Of EIP-1559: chainId, nonce, to, value, data, gas, maxFeePerGas, maxPriorityFeePerGas; numbers are integers."""


class Signer(Protocol):
    """Signs for one address."""

    @property
    def address(self) -> str: ...

    def sign(self, transaction: Transaction) -> bytes:
        """The signed transaction, as it is sent."""
        ...


@dataclass(frozen=True)
class KeystoreSigner:
    """The key is in this process, from an encrypted keystore."""

    account: LocalAccount

    @property
    def address(self) -> str:
        return str(self.account.address)

    def sign(self, transaction: Transaction) -> bytes:
        return bytes(self.account.sign_transaction(transaction).raw_transaction)


class ExternalSigner:
    """Another program holds the key and offers `eth_accounts` and `eth_signTransaction`, as Web3Signer does."""

    def __init__(self, url: str, address: str | None = None) -> None:
        """`address`: which of its accounts; the only one if None. Raises InvalidInput or NotReady."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"the signer {origin_of(url)} has no address that begins with http:// or https://")
        self._transport = Transport(url)
        accounts = self._ask("eth_accounts")
        try:
            offered = [str(to_checksum_address(each)) for each in accounts]
        except (TypeError, ValueError):
            raise InvalidInput(f"{self._transport.origin} names no accounts") from None
        if address is None and len(offered) != 1:
            raise InvalidInput(f"the signer has {len(offered)} accounts: say which one with --deployer")
        self._address = address or offered[0]
        if self._address not in offered:
            raise InvalidInput(f"the signer at {self._transport.origin} has no account {self._address}")

    @property
    def address(self) -> str:
        return self._address

    def sign(self, transaction: Transaction) -> bytes:
        shown = {name: hex(value) if isinstance(value, int) else value for name, value in transaction.items()}
        signed = self._ask("eth_signTransaction", {**shown, "from": self.address})
        raw: Any = signed.get("raw") if isinstance(signed, dict) else signed
        try:
            return bytes(HexBytes(raw))
        except (TypeError, ValueError):
            raise BadSignature(f"the signer at {self._transport.origin} answers with no transaction") from None

    def _ask(self, method: str, *parameters: Any) -> Any:
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        try:
            answer = self._transport.post(asked, SIGNER_SECONDS)
        except EndpointFailed as error:
            raise NotReady(f"the signer gives no answer: {error}") from None
        if not isinstance(answer, dict) or "result" not in answer:
            said = answer.get("error", answer) if isinstance(answer, dict) else answer
            raise NotReady(f"the signer refuses {method}: {str(said)[:SHOWN]}")
        return answer["result"]


def checked(raw: bytes, transaction: Mapping[str, Any], address: str) -> bytes:
    """The signed transaction, if it is the one that was to be signed, by this address. Raises BadSignature."""
    try:
        signed = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        signer = str(Account.recover_transaction(HexBytes(raw)))
    except Exception as error:  # noqa: BLE001  (bytes from another program; decoders raise whatever they like)
        raise BadSignature(f"the signer answers with no transaction ({type(error).__name__})") from None
    if signer != address:
        raise BadSignature(f"the signer signed as {signer}, not as {address}")
    for name, wanted in transaction.items():
        if _comparable(signed.get(name)) != _comparable(wanted):
            raise BadSignature(f"the signer changed the transaction's {name}")
    if signed.get("accessList"):
        raise BadSignature("the signer changed the transaction's accessList")
    return raw


def _comparable(value: Any) -> Any:
    return value if isinstance(value, int) else bytes(HexBytes(value)) if value is not None else None
