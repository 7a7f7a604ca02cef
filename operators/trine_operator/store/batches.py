"""Batches: sealed before they are anchored, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eth_utils.crypto import keccak
from sqlalchemy import select
from sqlalchemy.orm import Session

from trine.protocol.evidence import Evidence
from trine_operator.database import StoreError
from trine_operator.store.balances import judge, move
from trine_operator.store.records import StoredBatch
from trine_operator.store.rows import batch_in, owed_for, row_of_answer, row_of_batch
from trine_operator.store.transactions import Transactions
from trine_operator.tables import AnswerRow, BatchRow

Noting = Callable[[Session, bytes], None]
"""What else is written when a batch is final, by its id."""


class Batches(Transactions):
    """Batches of one account."""

    def seal(self, batch: StoredBatch, sequences: Sequence[int]) -> None:
        """Fixes a batch and the order of its answers, before anything is sent."""
        with self.writing() as session:
            session.add(row_of_batch(batch))
            session.flush()
            for leaf, sequence in enumerate(sequences):
                row = session.get_one(AnswerRow, sequence)
                if row.batch_id is not None:
                    raise StoreError(f"answer {sequence} is in a batch already")
                row.batch_id, row.leaf = batch.batch_id.hex(), leaf

    def seal_new(self, batch: StoredBatch, answers: Sequence[tuple[bytes, Evidence]]) -> None:
        """Stores answers that nobody was promised (a calibration's) together with their batch."""
        with self.writing() as session:
            session.add(row_of_batch(batch))
            session.flush()
            for leaf, (digest, evidence) in enumerate(answers):
                row = row_of_answer(digest, evidence, self.vault)
                # A challenge may ask the same prompt twice; the batch's id keeps the names apart.
                row.digest = keccak(digest + batch.batch_id + bytes([leaf])).hex()
                row.batch_id, row.leaf = batch.batch_id.hex(), leaf
                session.add(row)
                move(session, evidence.receipt.client, owed=owed_for(evidence))

    def batch(self, batch_id: bytes) -> StoredBatch | None:
        with self.reading() as session:
            row = session.get(BatchRow, batch_id.hex())
            return batch_in(row) if row else None

    def batch_of_challenge(self, challenge_id: bytes) -> StoredBatch | None:
        """The batch that answers a calibration challenge."""
        with self.reading() as session:
            row = session.scalars(select(BatchRow).where(BatchRow.challenge_id == challenge_id.hex())).first()
            return batch_in(row) if row else None

    def open_batches(self) -> list[StoredBatch]:
        """Batches that are not settled or void yet."""
        with self.reading() as session:
            rows = session.scalars(select(BatchRow).where(BatchRow.state.in_(["sealed", "anchored"])))
            return [batch_in(row) for row in rows]

    def mark_anchored(self, batch_id: bytes) -> None:
        with self.writing() as session:
            session.get_one(BatchRow, batch_id.hex()).state = "anchored"

    def settled_batches(self) -> list[StoredBatch]:
        """Batches that are decided but not final, whole: for who looks once, see `settled_ids`."""
        with self.reading() as session:
            return [batch_in(row) for row in session.scalars(select(BatchRow).where(BatchRow.state == "settled"))]

    def settled_ids(self) -> list[bytes]:
        """The names of batches that are decided but not final: the time to appeal may have seen thousands."""
        with self.reading() as session:
            names = session.scalars(select(BatchRow.batch_id).where(BatchRow.state == "settled"))
            return [bytes.fromhex(name) for name in names]

    def mark_settled(self, batch_id: bytes, accepted: int, rejected: int, results: Sequence[str]) -> None:
        self._decide(batch_id, "settled", accepted, rejected, results)

    def mark_final(
        self, batch_id: bytes, accepted: int, rejected: int, results: Sequence[str], also: Noting | None = None
    ) -> None:
        """Appeals may have changed results since the batch was settled; nothing will any more. `also` is noted in the
        same transaction."""
        self._decide(batch_id, "final", accepted, rejected, results, also)

    def mark_unsent(self, batch_id: bytes) -> None:
        """Nobody judged the batch: it is anchored again."""
        with self.writing() as session:
            session.get_one(BatchRow, batch_id.hex()).state = "sealed"

    def mark_void(self, batch_id: bytes) -> None:
        """The batch is given up; its answers are not judged."""
        with self.writing() as session:
            session.get_one(BatchRow, batch_id.hex()).state = "void"
            judge(session, batch_id, lambda _leaf: "void")

    def _decide(
        self,
        batch_id: bytes,
        state: str,
        accepted: int,
        rejected: int,
        results: Sequence[str],
        also: Noting | None = None,
    ) -> None:
        with self.writing() as session:
            row = session.get_one(BatchRow, batch_id.hex())
            row.state, row.accepted, row.rejected = state, f"{accepted:x}", f"{rejected:x}"
            judge(session, batch_id, lambda leaf: results[leaf])
            if also:
                also(session, batch_id)
