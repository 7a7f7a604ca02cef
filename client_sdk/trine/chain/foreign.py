"""`CertificateVerifier` on another chain than the network's own: its key sets, and what a relayer sends to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from trine.chain.calls import Calls, checksum
from trine.chain.confirmations import Confirmations, Confirming
from trine.chain.deployment import Deployment, bytecode
from trine.chain.transactions import Call, EncodedCall
from trine.errors import ChainError, InvalidInput, NotReady, VerificationFailed
from trine.protocol.key_root import KeySet
from trine.protocol.portable import Handover

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3.types import TxReceipt

    from trine.protocol.certificate import HardCertificate

VERIFIER = "CertificateVerifier"
CREATE2_DEPLOYER = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
"""Stands at this address on most chains (github.com/Arachnid/deterministic-deployment-proxy). What it creates has an
address that follows from the code, so that a second try finds what the first one made."""
SALT = bytes(32)


class ForeignChain(Calls):
    """Another chain with a `CertificateVerifier` on it, optionally with an account that sends."""

    @classmethod
    def at(
        cls,
        rpc_url: str | Sequence[str],
        verifier: str,
        signer: LocalAccount | None = None,
        *,
        chain_id: int | None = None,
        confirmations: int | str = 0,
    ) -> Self:
        """Connects to whatever chain the endpoint serves, or to `chain_id` alone. Raises InvalidInput, ChainError."""
        found = cls(Deployment(chain_id or _chain_id(rpc_url), 0, {VERIFIER: checksum(verifier)}), rpc_url, signer)
        found._endpoints.expect(found.deployment.chain_id)
        found._confirming = Confirming(Confirmations.of(confirmations), found._views.tagged_block)
        return found

    @property
    def verifier(self) -> str:
        return self.deployment.address(VERIFIER)

    def require_of(self, chain_id: int, batches: str) -> None:
        """Raises InvalidInput unless the contract is a verifier of certificates of this network."""
        if not self.has_code(self.verifier):
            raise InvalidInput(
                f"there is no contract at {self.verifier} on chain {self.deployment.chain_id}: deploy a "
                "CertificateVerifier with `trine relay deploy`, or check the address and the endpoint"
            )
        theirs = int(self._read(VERIFIER, "SOURCE_CHAIN_ID")), str(self._read(VERIFIER, "SOURCE_BATCHES"))
        if theirs != (chain_id, to_checksum_address(batches)):
            raise InvalidInput(
                f"the CertificateVerifier at {self.verifier} is of Batches {theirs[1]} on chain {theirs[0]}, not of "
                f"{batches} on chain {chain_id}"
            )

    def newest_epoch(self) -> int:
        return int(self._read(VERIFIER, "newestEpoch"))

    def key_set_of(self, epoch: int) -> KeySet | None:
        """What the contract has of an epoch; None if it has nothing."""
        root, valid_until, count, total_weight = self._read(VERIFIER, "keySetOf", epoch)
        return KeySet(epoch, bytes(root), count, total_weight, valid_until) if any(root) else None

    def check(self, certificate: HardCertificate) -> tuple[bytes, str, int]:
        """Batch id, verdict and committee's size, as contracts there see them. Raises TransactionReverted."""
        batch_id, verdict, size = self._read(VERIFIER, "check", certificate.to_call())
        return bytes(batch_id), ("inconclusive", "accept", "reject")[verdict], int(size)

    def advance_gas(self, following: KeySet, handover: Handover) -> int:
        """Estimated. Raises TransactionReverted where the contract refuses the hand-over."""
        return self.gateway().estimate(self.encoded(_advance(following, handover)))

    def advance(self, following: KeySet, handover: Handover) -> TxReceipt:
        """Installs a later key set. Raises TransactionReverted."""
        call = _advance(following, handover)
        return self._write(call.contract, call.function, *call.arguments)

    def has_pairings(self) -> bool:
        """Whether contracts can check BLS signatures here: the pairing of nothing is one (EIP-2537)."""
        pairing, infinity = "0x" + "0f".rjust(40, "0"), "0x" + "00" * 384
        try:
            said = self._ask(lambda: bytes(self._web3.eth.call({"to": checksum(pairing), "data": infinity})))  # type: ignore[typeddict-item]
        except ChainError:
            return False
        return said == (1).to_bytes(32, "big")

    def has_code(self, address: str) -> bool:
        return self._ask(lambda: len(self._web3.eth.get_code(checksum(address))) > 0)


def _advance(following: KeySet, handover: Handover) -> Call:
    return Call(VERIFIER, "advance", (following.epoch, _words(following), handover_values(handover)))


def handover_values(handover: Handover) -> tuple[Any, ...]:
    """`ICertificateVerifier.Signers`, as ABI encoders take it."""
    members = handover.members
    return (
        [(member.index, member.weight) for member in members],
        b"".join(member.key for member in members),
        [sibling for member in members for sibling in member.proof],
        handover.signature,
    )


def creation_code(chain_id: int, batches: str, max_age_epochs: int, genesis: KeySet) -> bytes:
    """Creates the contract that trusts the genesis set."""
    kinds = ["uint256", "address", "uint64", "uint64", "(bytes32,uint64,uint32,uint128)"]
    arguments = encode(kinds, [chain_id, batches, max_age_epochs, genesis.epoch, _words(genesis)])
    return bytecode(VERIFIER).creation + arguments


def verifier_address(code: bytes) -> str:
    """Where CREATE2_DEPLOYER puts it: EIP-1014."""
    deployer = bytes.fromhex(CREATE2_DEPLOYER[2:])
    return str(to_checksum_address(keccak(b"\xff" + deployer + SALT + keccak(code))[12:]))


def deploy_verifier(
    rpc_url: str | Sequence[str],
    signer: LocalAccount,
    *,
    chain_id: int,
    batches: str,
    genesis: KeySet,
    max_age_epochs: int,
) -> ForeignChain:
    """Puts a `CertificateVerifier` on the chain, unless it is there already. Raises InvalidInput, ChainError."""
    code = creation_code(chain_id, batches, max_age_epochs, genesis)
    there = ForeignChain.at(rpc_url, verifier_address(code), signer)
    if there.deployment.chain_id == chain_id:
        raise InvalidInput(f"chain {chain_id} is the network's own, which needs no certificates: name another endpoint")
    if there.has_code(there.verifier):
        return there
    if not there.has_code(CREATE2_DEPLOYER):
        raise InvalidInput(
            f"chain {there.deployment.chain_id} has no CREATE2 deployer at {CREATE2_DEPLOYER}: put it there (see "
            "github.com/Arachnid/deterministic-deployment-proxy), or create CertificateVerifier with a tool of your "
            "own and name its address"
        )
    if not there.has_pairings():
        raise InvalidInput(
            f"chain {there.deployment.chain_id} has no precompiles for BLS12-381 (EIP-2537), so no contract there can "
            "check certificates"
        )
    there._require_sender().send(EncodedCall("deploy", CREATE2_DEPLOYER, SALT + code))
    if not there.has_code(there.verifier):
        raise NotReady(f"the transaction was mined, but there is no code at {there.verifier} yet: try again")
    return there


def _words(key_set: KeySet) -> tuple[bytes, int, int, int]:
    return key_set.root, key_set.valid_until, key_set.count, key_set.total_weight


def _chain_id(rpc_url: str | Sequence[str]) -> int:
    found = Calls(Deployment(0, 0, {}), rpc_url)._views.chain_id()
    if found is None:
        raise ChainError("no answer from the other chain's RPC endpoint: is it running, and the address right?")
    return found


def require_same(there: KeySet | None, here: KeySet) -> None:
    """Raises VerificationFailed where the contract has another set of an epoch than its source."""
    if there != here:
        shown = "none" if there is None else f"root 0x{there.root.hex()}"
        raise VerificationFailed(
            f"the CertificateVerifier's key set of epoch {here.epoch} is not the network's ({shown}, expected "
            f"0x{here.root.hex()}): either it was given a wrong genesis, or more than two thirds of an earlier set "
            "have signed a lie, or your RPC endpoint shows another history. Trust nothing that it says, and compare "
            "the sets with other people's (`trine certificate root`)"
        )
