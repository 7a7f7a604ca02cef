"""`VerifierKeys`: which BLS key an operator signs results with, and how one is registered."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from trine.chain.calls import Calls, checksum
from trine.errors import InvalidInput, NotReady, VerificationFailed
from trine.protocol import bls
from trine.protocol.messages import ZERO_ADDRESS, Domain

if TYPE_CHECKING:
    from web3.types import TxReceipt

    from trine.chain.deployment import Deployment


class KeyState(Enum):
    """What the chain holds of an account and a key."""

    REGISTERED = "registered"
    ABSENT = "not registered"
    OTHER = "another key is registered"
    TAKEN = "the key was registered before and cannot be registered again"


class VerifierKeyCalls(Calls):
    """Reads and writes `VerifierKeys`."""

    def key_hash_of(self, operator: str) -> bytes | None:
        """Hash of the operator's BLS key; None without one."""
        found = bytes(self._read("VerifierKeys", "keyHashOf", checksum(operator)))
        return found if any(found) else None

    def key_of(self, operator: str) -> bytes | None:
        """The operator's BLS key, 256 bytes; None without one. Raises VerificationFailed when the RPC endpoint shows
        none that hashes to what the chain holds."""
        key_hash = self.key_hash_of(operator)
        if key_hash is None:
            return None
        event = self.newest_event("VerifierKeys", "KeyRegistered", operator=checksum(operator))
        key = bytes(event.args["key"]) if event else b""
        if len(key) != bls.KEY_BYTES or bls.key_hash(key) != key_hash:
            raise VerificationFailed(f"the RPC endpoint has no BLS key of {operator} that hashes to the chain's")
        return key

    def key_state(self, operator: str, key: bytes) -> KeyState:
        """What the chain holds of the operator and the key."""
        wanted, held = bls.key_hash(key), self.key_hash_of(operator)
        if held == wanted:
            return KeyState.REGISTERED
        if str(self._read("VerifierKeys", "operatorOf", wanted)) != ZERO_ADDRESS:
            return KeyState.TAKEN
        return KeyState.ABSENT if held is None else KeyState.OTHER


class RegistersKeys(Protocol):
    """What `register_key` asks of a chain with an account."""

    deployment: Deployment

    @property
    def domain(self) -> Domain: ...
    @property
    def address(self) -> str: ...
    def key_state(self, operator: str, key: bytes) -> KeyState: ...
    def set_key(self, key: bytes, proof: bytes) -> TxReceipt: ...


def register_key(chain: RegistersKeys, secret: bls.SecretKey, *, rotate: bool = False) -> bool:
    """Registers the account's BLS key with its proof of possession; returns False if the chain holds it already.

    Raises NotReady when the chain holds another one and `rotate` is not wanted, InvalidInput for a key that was
    registered before: by another operator, or by this one, which has replaced it since.
    """
    key, me = secret.public_key(), chain.address
    state = chain.key_state(me, key)
    if state is KeyState.REGISTERED:
        return False
    if state is KeyState.TAKEN:
        raise InvalidInput(
            f"BLS key 0x{bls.key_hash(key).hex()} was registered before and cannot be registered again: "
            "make a new one with `trine keys bls new`"
        )
    if state is KeyState.OTHER and not rotate:
        raise NotReady(
            f"the chain holds another BLS key of {me} than this keystore: give the one that is registered, or replace "
            "it by this one with `trine keys bls register --rotate`"
        )
    registry = chain.deployment.address("VerifierKeys")
    chain.set_key(key, secret.prove_possession(chain.domain.chain_id, registry, me))
    return True
