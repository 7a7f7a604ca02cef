"""One settled answer in a form that a client can keep.

`Certificate` is checked against the chain. `HardCertificate` carries its committee's signatures and is checked without
any chain, against the epoch's key set; `contracts/foreign/CertificateVerifier.sol` checks the same on other chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from eth_abi.abi import encode
from eth_utils.address import is_hex_address, to_checksum_address
from eth_utils.crypto import keccak

from trine.errors import InvalidInput, VerificationFailed, what_is_wrong
from trine.protocol import bls, merkle
from trine.protocol.header import Header, batch_id
from trine.protocol.key_root import KeySet, Member, claim_of, weight_of
from trine.protocol.messages import Domain, Receipt, require_signer
from trine.protocol.numbers import whole
from trine.protocol.votes import Vote

COMMITTEE_SIZES = (3, 7, 15)
NOT_SIGNED = "the result is not signed by distinct keys of the epoch"

RESULT_TYPEHASH = keccak(
    text="TrineResult(uint256 chainId,address batches,uint256 epoch,bytes32 batchId,uint256 accepted,uint256 rejected)"
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Receipt, position in the batch, Merkle proof and the batch's result: what one settlement says of one answer.

    The batch's id commits to its header, and so to everything here but the result, which the chain is asked for. That
    may still change by an appeal as long as it is not final.
    """

    chain_id: int
    batches: str
    root: bytes
    canary: bytes
    index: int
    receipt: Receipt
    receipt_signature: bytes
    proof: tuple[bytes, ...]
    accepted: int  # the batch's words, as decided when the certificate was made
    rejected: int
    unavailable: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.chain_id < 2**256 and is_hex_address(self.batches)):
            raise InvalidInput("a certificate names its chain and the address of Batches")
        if len(self.root) != 32 or len(self.canary) != 32:
            raise InvalidInput("a certificate's root and canary have 32 bytes")
        if not 0 <= self.index < merkle.MAX_LEAVES:
            raise InvalidInput(f"leaf index {self.index} is outside [0, {merkle.MAX_LEAVES})")
        self._words()

    @property
    def header(self) -> Header:
        return Header(self.receipt.node, self.receipt.model_id, self.root, self.canary)

    @property
    def batch_id(self) -> bytes:
        return batch_id(self.chain_id, self.batches, self.header)

    @property
    def result(self) -> str:
        """'accept', 'reject', 'unavailable' or 'inconclusive'."""
        return self._words().on(self.index)

    @property
    def is_bound(self) -> bool:
        """Whether the receipt is the leaf of the batch, as the proof shows."""
        return merkle.verify(self.root, merkle.leaf_hash(self.index, self.receipt), self.proof)

    def verify(self, accepted: int, rejected: int, unavailable: int = 0) -> None:
        """Checks the certificate against the words that the chain holds for its batch. Raises VerificationFailed."""
        if not self.is_bound:
            raise VerificationFailed("the Merkle proof does not lead to the anchored root")
        decided = Vote(accepted, rejected, unavailable).on(self.index)
        if self.result != decided:
            raise VerificationFailed(f"the certificate says {self.result}, the chain says {decided}")
        domain = Domain(self.chain_id, self.batches)
        require_signer(self.receipt.digest(domain), self.receipt_signature, self.receipt.node, "receipt")

    def _words(self) -> Vote:
        return Vote(self.accepted, self.rejected, self.unavailable)

    def opening(self) -> tuple[Any, ...]:
        """`LeafLib.Opening`, as ABI encoders take it: shows contracts that the receipt is in the batch."""
        return self.root, self.canary, self.index, self.receipt.values(), list(self.proof)

    def to_json(self) -> dict[str, Any]:
        return {
            "chainId": self.chain_id,
            "batches": self.batches,
            "batchId": "0x" + self.batch_id.hex(),
            "root": "0x" + self.root.hex(),
            "canary": "0x" + self.canary.hex(),
            "index": self.index,
            "receipt": self.receipt.to_json(),
            "receiptSignature": "0x" + self.receipt_signature.hex(),
            "proof": ["0x" + sibling.hex() for sibling in self.proof],
            "accepted": hex(self.accepted),
            "rejected": hex(self.rejected),
            "unavailable": hex(self.unavailable),
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput."""
        try:
            certificate = cls(
                chain_id=whole(document["chainId"]),
                batches=str(document["batches"]),
                root=_word(document["root"]),
                canary=_word(document["canary"]),
                index=whole(document["index"]),
                receipt=Receipt.from_json(document["receipt"]),
                receipt_signature=bytes.fromhex(document["receiptSignature"].removeprefix("0x")),
                proof=tuple(_word(sibling) for sibling in document["proof"]),
                accepted=int(document["accepted"], 16),
                rejected=int(document["rejected"], 16),
                unavailable=int(document.get("unavailable", "0x0"), 16),
            )
            named = _word(document["batchId"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a certificate: {what_is_wrong(error)}") from None
        if certificate.batch_id != named:
            raise InvalidInput("not a certificate: its batch id does not follow from its header")
        return certificate


def result_digest(chain_id: int, batches: str, epoch: int, batch_id_: bytes, accepted: int, rejected: int) -> bytes:
    """What a committee signs: a batch's result. `CertificateLib.resultDigest` is its twin."""
    types = ["bytes32", "uint256", "address", "uint256", "bytes32", "uint256", "uint256"]
    values = [RESULT_TYPEHASH, chain_id, batches, epoch, batch_id_, accepted, rejected]
    return bytes(keccak(encode(types, values)))


@dataclass(frozen=True, slots=True)
class HardCertificate:
    """Receipt, Merkle proof, the batch's result, and the committee's signatures over it.

    Proves that 3, 7 or 15 eligible keys of the epoch signed the result; not that they are the ones that were drawn,
    which only the chain knows, and not that no appeal overturns it.
    """

    chain_id: int
    batches: str
    epoch: int
    root: bytes
    canary: bytes
    index: int
    receipt: Receipt
    receipt_signature: bytes
    proof: tuple[bytes, ...]
    accepted: int
    rejected: int
    members: tuple[Member, ...]  # in rising order of their index
    signature: bytes  # the sum of theirs

    def __post_init__(self) -> None:
        if not (0 < self.chain_id < 2**256 and 0 <= self.epoch < 2**64 and is_hex_address(self.batches)):
            raise InvalidInput("a certificate names its chain, its epoch and the address of Batches")
        if len(self.root) != 32 or len(self.canary) != 32:
            raise InvalidInput("a certificate's root and canary have 32 bytes")
        if not 0 <= self.index < merkle.MAX_LEAVES:
            raise InvalidInput(f"leaf index {self.index} is outside [0, {merkle.MAX_LEAVES})")
        if len(self.members) not in COMMITTEE_SIZES:
            raise InvalidInput(f"a committee has 3, 7 or 15 members, not {len(self.members)}")
        Vote(self.accepted, self.rejected)

    @property
    def batch_id(self) -> bytes:
        header = Header(self.receipt.node, self.receipt.model_id, self.root, self.canary)
        return batch_id(self.chain_id, self.batches, header)

    @property
    def result(self) -> str:
        """'accept', 'reject' or 'inconclusive'."""
        return Vote(self.accepted, self.rejected).on(self.index)

    @property
    def digest(self) -> bytes:
        """What the committee has signed."""
        return result_digest(self.chain_id, self.batches, self.epoch, self.batch_id, self.accepted, self.rejected)

    def verify(self, key_set: KeySet, curve: bls.Curve = bls.ARKWORKS) -> None:
        """Checks the certificate against its epoch's key set, in milliseconds and offline. Raises VerificationFailed.

        Whether the key set is still valid is for the caller to ask, who knows the time.
        """
        if not bls.verify_all([self.claim(key_set)], curve=curve):
            raise VerificationFailed(NOT_SIGNED)
        self.require_signed_receipt()

    def claim(self, key_set: KeySet) -> bls.Claim:
        """What the certificate says that its committee has signed, where all the rest of it fits the key set. Raises
        VerificationFailed."""
        if self.epoch != key_set.epoch:
            raise VerificationFailed(f"certificate is of epoch {self.epoch}, the key set of {key_set.epoch}")
        if not merkle.verify(self.root, merkle.leaf_hash(self.index, self.receipt), self.proof):
            raise VerificationFailed("the Merkle proof does not lead to the batch's root")
        if weight_of(key_set, self.members) is None:
            raise VerificationFailed(NOT_SIGNED)
        return claim_of(self.digest, self.members, self.signature)

    def require_signed_receipt(self) -> None:
        """Raises BadSignature unless the node has signed the receipt."""
        domain = Domain(self.chain_id, self.batches)
        require_signer(self.receipt.digest(domain), self.receipt_signature, self.receipt.node, "receipt")

    def to_call(self) -> tuple[Any, ...]:
        """`ICertificateVerifier.Certificate`, as ABI encoders take it."""
        signers = (
            [(member.index, member.weight) for member in self.members],
            b"".join(member.key for member in self.members),
            [sibling for member in self.members for sibling in member.proof],
            self.signature,
        )
        return (
            self.epoch,
            self.receipt.node,
            self.receipt.model_id,
            self.root,
            self.canary,
            self.accepted,
            self.rejected,
            self.index,
            self.receipt.struct_hash(),
            self.receipt.prompt_tokens + self.receipt.output_tokens,
            list(self.proof),
            signers,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "chainId": self.chain_id,
            "batches": self.batches,
            "epoch": self.epoch,
            "root": "0x" + self.root.hex(),
            "canary": "0x" + self.canary.hex(),
            "index": self.index,
            "receipt": self.receipt.to_json(),
            "receiptSignature": "0x" + self.receipt_signature.hex(),
            "proof": ["0x" + sibling.hex() for sibling in self.proof],
            "accepted": hex(self.accepted),
            "rejected": hex(self.rejected),
            "members": [member.to_json() for member in self.members],
            "signature": "0x" + self.signature.hex(),
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput."""
        try:
            return cls(
                chain_id=whole(document["chainId"]),
                batches=str(to_checksum_address(document["batches"])),
                epoch=whole(document["epoch"]),
                root=_word(document["root"]),
                canary=_word(document["canary"]),
                index=whole(document["index"]),
                receipt=Receipt.from_json(document["receipt"]),
                receipt_signature=bytes.fromhex(document["receiptSignature"].removeprefix("0x")),
                proof=tuple(_word(sibling) for sibling in document["proof"]),
                accepted=int(document["accepted"], 16),
                rejected=int(document["rejected"], 16),
                members=tuple(Member.from_json(member) for member in document["members"]),
                signature=bytes.fromhex(document["signature"].removeprefix("0x")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a hard certificate: {what_is_wrong(error)}") from None


def _word(text: str) -> bytes:
    word = bytes.fromhex(text.removeprefix("0x"))
    if len(word) != 32:
        raise InvalidInput(f"expected 32 bytes, not {len(word)}")
    return word
