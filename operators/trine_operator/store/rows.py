"""From what the store is given to rows, and back."""

from __future__ import annotations

import json
from typing import Any

from trine.protocol.evidence import Evidence
from trine.protocol.messages import Receipt, Request
from trine_operator.store.records import Order, StoredAnswer, StoredBatch
from trine_operator.tables import AnswerRow, BatchRow
from trine_operator.vault import Vault

FAR = (1 << 63) - 1
SHOWN = ("receipt", "receiptSignature")
"""What of an answer stays when its evidence goes, and is never sealed: a certificate needs it."""
ORDER = (
    AnswerRow.sequence,
    AnswerRow.batch_id,
    AnswerRow.leaf,
    AnswerRow.deadline,
    AnswerRow.signed_order,
)
"""What payment needs of an answer: evidence may be hundreds of kilobytes."""


def row_of_batch(batch: StoredBatch) -> BatchRow:
    return BatchRow(
        batch_id=batch.batch_id.hex(),
        model_id=batch.model_id.hex(),
        root=batch.root.hex(),
        canary=batch.canary.hex(),
        leaves=json.dumps([leaf.hex() for leaf in batch.leaves]),
        challenge_id=batch.challenge_id.hex() if batch.challenge_id else None,
        state="sealed",
    )


def batch_in(row: BatchRow) -> StoredBatch:
    return StoredBatch(
        batch_id=bytes.fromhex(row.batch_id),
        model_id=bytes.fromhex(row.model_id),
        root=bytes.fromhex(row.root),
        canary=bytes.fromhex(row.canary),
        leaves=tuple(bytes.fromhex(leaf) for leaf in json.loads(row.leaves)),
        challenge_id=bytes.fromhex(row.challenge_id) if row.challenge_id else None,
        state=row.state,
        accepted=int(row.accepted, 16),
        rejected=int(row.rejected, 16),
    )


def owed_for(evidence: Evidence) -> int:
    """What the client owes for it by voucher. What was asked by a transaction is paid out of the contract's escrow."""
    is_posted = evidence.request is None and any(evidence.receipt.request_hash)
    return 0 if is_posted else evidence.receipt.fee_wei


def row_of_answer(digest: bytes, evidence: Evidence, vault: Vault | None = None) -> AnswerRow:
    """Evidence under a data key of its own, where the store has a vault."""
    receipt = evidence.receipt
    document = evidence.to_json()
    key = None
    if vault is not None:
        shown = {name: document.pop(name) for name in SHOWN}
        key, sealed = vault.seal(shown["receiptSignature"], json.dumps(document))
        document = {**shown, "sealed": sealed}
    return AnswerRow(
        digest=digest.hex(),
        request_hash=receipt.request_hash.hex() if any(receipt.request_hash) else None,
        model_id=receipt.model_id.hex(),
        client=receipt.client,
        fee_wei=str(owed_for(evidence)),
        # Beyond 63 bits no database has room, and no chain gets there.
        deadline=min(evidence.request.deadline, FAR) if evidence.request else None,
        signed_order=_signed_order(evidence) if evidence.request else None,
        evidence=json.dumps(document),
        data_key=key,
    )


def answer_in(row: AnswerRow, vault: Vault | None = None) -> StoredAnswer:
    """Without the vault, sealed evidence is not to be had. Raises StoreError where it is another's."""
    document = json.loads(row.evidence)
    is_readable = not row.is_pruned
    if row.data_key is not None and "sealed" in document:
        is_readable = vault is not None
        if vault is not None:
            name, sealed = document["receiptSignature"], document.pop("sealed")
            document |= json.loads(vault.open(name, row.data_key, sealed))
    shown = {"anchorBy": 0} | document["receipt"]  # those of before there was such a promise have none
    return StoredAnswer(
        sequence=row.sequence,
        digest=bytes.fromhex(row.digest),
        receipt=Receipt.from_json(shown),
        receipt_signature=bytes.fromhex(document["receiptSignature"].removeprefix("0x")),
        kept=None if not is_readable else Evidence.from_json(document | {"receipt": shown}),
        batch_id=bytes.fromhex(row.batch_id) if row.batch_id else None,
        leaf=row.leaf,
        result=row.result,
    )


def order_in(row: Any) -> Order:
    """From the columns ORDER of an answer with a deadline, which is in a batch."""
    document = json.loads(row.signed_order)
    return Order(
        row.sequence,
        bytes.fromhex(row.batch_id),
        row.leaf,
        Receipt.from_json(document["receipt"]),
        Request.from_json(document["request"]),
        bytes.fromhex(document["requestSignature"].removeprefix("0x")),
    )


def _signed_order(evidence: Evidence) -> str:
    shown = evidence.to_json()
    return json.dumps({name: shown[name] for name in ("request", "requestSignature", "receipt")})


def without_evidence(document: str) -> str:
    shown = json.loads(document)
    return json.dumps({name: shown[name] for name in SHOWN})
