"""What the store gives and takes: answers, batches, vouchers, dues. Knows no database."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trine.errors import TrineError
from trine.protocol import merkle
from trine.protocol.evidence import Evidence
from trine.protocol.header import Header, batch_id
from trine.protocol.messages import Domain, Receipt, Request, Voucher

Commit = Callable[[bytes, Sequence[Receipt]], bytes]
"""The canary word of a batch, by its root and its receipts."""


class EvidencePruned(TrineError):
    """The answer's evidence is gone: its batch has been final for as long as the operator keeps it."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    batch_id: bytes
    model_id: bytes
    root: bytes
    canary: bytes
    leaves: tuple[bytes, ...]
    challenge_id: bytes | None
    state: str
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer; `kept` is None once its evidence was pruned, and where it is sealed and nobody has the key."""

    sequence: int
    digest: bytes
    receipt: Receipt
    receipt_signature: bytes
    kept: Evidence | None
    batch_id: bytes | None
    leaf: int | None
    result: str | None

    @property
    def evidence(self) -> Evidence:
        """Raises EvidencePruned."""
        if self.kept is None:
            raise EvidencePruned(
                "the evidence of this answer is not kept any more, its batch has been over for long; or it is sealed, "
                f"and its operator's keystore opens it. Receipt and proof remain (receipt 0x{self.digest.hex()})"
            )
        return self.kept


@dataclass(frozen=True, slots=True)
class Kept:
    """A payer's voucher as it is kept."""

    cumulative_wei: int
    signature: bytes
    earned_wei: int = 0
    as_of: int = 0

    def voucher(self, payer: str, payee: str) -> Voucher:
        return Voucher(payer, payee, self.cumulative_wei, self.earned_wei, self.as_of)


@dataclass(frozen=True, slots=True)
class Due:
    """A payer that owes something, in wei."""

    payer: str
    earned_wei: int
    collected_wei: int  # as far as it was noted
    acknowledged_wei: int
    seen_at: int  # the chain's seconds of the last voucher


@dataclass(frozen=True, slots=True)
class Order:
    """A client's signed order with the receipt of its answer, and where that is."""

    sequence: int
    batch_id: bytes
    leaf: int
    receipt: Receipt
    request: Request
    request_signature: bytes


def sealed_batch(
    domain: Domain,
    node: str,
    model_id: bytes,
    evidence: Sequence[Evidence],
    challenge_id: bytes | None = None,
    commit: Commit | None = None,
) -> StoredBatch:
    """The batch of these answers in this order. `domain` is that of `Batches`.

    Without `commit` none of its leaves is a canary, and its canary word is random, as for all who look at it the
    others' are.
    """
    leaves = leaves_of(evidence)
    root = merkle.root(leaves)
    canary = commit(root, [item.receipt for item in evidence]) if commit else secrets.token_bytes(32)
    header = Header(node, model_id, root, canary)
    name = batch_id(domain.chain_id, domain.verifying_contract, header)
    return StoredBatch(name, model_id, header.root, header.canary, tuple(leaves), challenge_id, "sealed", 0, 0)


def leaves_of(evidence: Sequence[Evidence]) -> list[bytes]:
    return [merkle.leaf_hash(index, item.receipt) for index, item in enumerate(evidence)]
