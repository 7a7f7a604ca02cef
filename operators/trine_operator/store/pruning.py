"""What is not needed any more goes: evidence of batches that are over, free pages of the file."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from trine_operator.database import BUSY_TIMEOUT_SECONDS, StoreError
from trine_operator.store.balances import OVER
from trine_operator.store.rows import without_evidence
from trine_operator.store.transactions import Transactions
from trine_operator.tables import AnswerRow, BalanceRow, BatchRow

INCREMENTAL = 2
"""SQLite's auto_vacuum of files that give pages back when told to."""
ANSWERS_AT_ONCE = 32
"""Pruned in one transaction; each may be some hundred kilobytes."""


class Prunable(Transactions):
    """Batches that are over, and what can go of them."""

    def note_ended(self, now: int, limit: int) -> int:
        """Gives batches that are over and have no such time yet `now`, the chain's seconds. Returns how many."""
        query = (
            select(BatchRow.batch_id)
            .where(BatchRow.is_pruned.is_(False), BatchRow.state.in_(OVER), BatchRow.ended_at.is_(None))
            .limit(limit)
        )
        with self.reading() as session:
            names = list(session.scalars(query))
        if names:
            with self.writing() as session:
                session.execute(update(BatchRow).where(BatchRow.batch_id.in_(names)).values(ended_at=now))
        return len(names)

    def prunable(self, ended_by: int, after: tuple[int, bytes] | None, limit: int) -> list[tuple[int, bytes]]:
        """(when it ended, id) of batches that ended by then and have evidence, in this order, those behind `after`."""
        query = select(BatchRow.ended_at, BatchRow.batch_id).where(
            BatchRow.is_pruned.is_(False), BatchRow.ended_at <= ended_by
        )
        if after is not None:
            at, name = after
            later = (BatchRow.ended_at == at) & (BatchRow.batch_id > name.hex())
            query = query.where(BatchRow.ended_at >= at, or_(BatchRow.ended_at > at, later))
        with self.reading() as session:
            rows = session.execute(query.order_by(BatchRow.ended_at, BatchRow.batch_id).limit(limit))
            return [(at or 0, bytes.fromhex(name)) for at, name in rows]

    def prune(self, batch_id: bytes) -> int:
        """Takes the evidence of a batch that is over, but of accepted answers whose clients have not paid all yet.

        What is left of an answer is what a certificate needs: receipt, signature, leaf, proof. Small transactions; a
        batch that is not over is left alone. Returns how many answers were pruned.
        """
        pruned = 0
        while True:
            with self.writing() as session:
                batch = session.get(BatchRow, batch_id.hex())
                if batch is None or batch.state not in OVER:
                    return pruned
                changed = [
                    {"sequence": sequence, "evidence": without_evidence(document), "is_pruned": True, "data_key": None}
                    for sequence, document in session.execute(_prunable_answers(batch_id).limit(ANSWERS_AT_ONCE))
                ]
                if changed:
                    session.execute(update(AnswerRow), changed)
                    pruned += len(changed)
                if len(changed) < ANSWERS_AT_ONCE:
                    left = select(AnswerRow.sequence).where(
                        AnswerRow.batch_id == batch_id.hex(), AnswerRow.is_pruned.is_(False)
                    )
                    batch.is_pruned = session.scalars(left.limit(1)).first() is None
                    return pruned

    def forget_log(self) -> None:
        """Cuts a SQLite file's log off, in which data keys are that were deleted from the file; nothing while somebody
        reads it: the next time it is longer, and goes the same way. Raises StoreError."""
        if self._engine.dialect.name != "sqlite":
            return
        try:
            connection = self._engine.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("PRAGMA busy_timeout=0")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}")
            finally:
                connection.close()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StoreError(f"the store's log was not cut off: {error!r:.200}") from None

    def give_back(self, limit: int) -> int:
        """Returns free pages of a SQLite file to the system, and says how many; servers do that by themselves.

        A file that was made before there was pruning keeps its pages, and fills them again.
        """
        if self._engine.dialect.name != "sqlite":
            return 0
        with self.reading() as session:
            mode, free = (
                session.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("auto_vacuum", "freelist_count")
            )
        pages = min(free, limit) if mode == INCREMENTAL else 0
        if pages:
            with self.writing() as session:
                for _ in range(pages):  # the driver takes one step of a statement without columns, which is one page
                    session.connection().exec_driver_sql("PRAGMA incremental_vacuum(1)")
        return pages


def _prunable_answers(batch_id: bytes) -> Any:
    """Sequence and evidence of a batch's answers whose evidence nobody can still need."""
    paying = (
        select(BalanceRow.client)
        .where(BalanceRow.client == func.lower(AnswerRow.client), BalanceRow.is_due)
        .correlate(AnswerRow)
        .exists()
    )
    return (
        select(AnswerRow.sequence, AnswerRow.evidence)
        .where(AnswerRow.batch_id == batch_id.hex(), AnswerRow.is_pruned.is_(False))
        .where(or_(func.coalesce(AnswerRow.result, "") != "accept", AnswerRow.fee_wei == "0", ~paying))
        .order_by(AnswerRow.leaf)
    )
