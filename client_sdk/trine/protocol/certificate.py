"""One settled answer in a form that a client can keep and anyone can check against the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from trine.errors import InvalidInput, VerificationFailed
from trine.protocol import merkle
from trine.protocol.messages import Domain, Receipt, require_signer
from trine.protocol.votes import Vote


@dataclass(frozen=True, slots=True)
class Certificate:
    """Receipt, position in the batch, Merkle proof and the batch's result."""

    chain_id: int
    batches: str
    batch_id: bytes
    index: int
    receipt: Receipt
    receipt_signature: bytes
    proof: tuple[bytes, ...]
    accepted: int  # the batch's words, as settled
    rejected: int

    @property
    def result(self) -> str:
        """'accept', 'reject' or 'inconclusive'."""
        return Vote(self.accepted, self.rejected).on(self.index)

    def verify(self, root: bytes, node: str, accepted: int, rejected: int) -> None:
        """Checks the certificate against what the chain holds for its batch. Raises VerificationFailed."""
        if not merkle.verify(root, merkle.leaf_hash(self.index, self.receipt), self.proof):
            raise VerificationFailed("the Merkle proof does not lead to the anchored root")
        if self.receipt.node.lower() != node.lower():
            raise VerificationFailed(f"receipt is in the name of {self.receipt.node}, the batch is {node}'s")
        if (self.accepted, self.rejected) != (accepted, rejected):
            raise VerificationFailed("the result in the certificate is not the settled one")
        domain = Domain(self.chain_id, self.batches)
        require_signer(self.receipt.digest(domain), self.receipt_signature, node, "receipt")

    def to_json(self) -> dict[str, Any]:
        return {
            "chainId": self.chain_id,
            "batches": self.batches,
            "batchId": "0x" + self.batch_id.hex(),
            "index": self.index,
            "receipt": self.receipt.to_json(),
            "receiptSignature": "0x" + self.receipt_signature.hex(),
            "proof": ["0x" + sibling.hex() for sibling in self.proof],
            "accepted": hex(self.accepted),
            "rejected": hex(self.rejected),
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput."""
        try:
            return cls(
                chain_id=int(document["chainId"]),
                batches=str(document["batches"]),
                batch_id=bytes.fromhex(document["batchId"].removeprefix("0x")),
                index=int(document["index"]),
                receipt=Receipt.from_json(document["receipt"]),
                receipt_signature=bytes.fromhex(document["receiptSignature"].removeprefix("0x")),
                proof=tuple(bytes.fromhex(s.removeprefix("0x")) for s in document["proof"]),
                accepted=int(document["accepted"], 16),
                rejected=int(document["rejected"], 16),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a certificate: {error!r}") from None
