"""Answers: kept before their receipts leave."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from trine.protocol.evidence import Evidence
from trine_operator.store.balances import move
from trine_operator.store.records import StoredAnswer
from trine_operator.store.rows import answer_in, owed_for, row_of_answer
from trine_operator.store.transactions import Transactions
from trine_operator.tables import AnswerRow

WAITING = (AnswerRow.batch_id, AnswerRow.sequence)
"""The order of answers in no batch, spelt as their index is: by `sequence` alone PostgreSQL goes through all others."""


class Answers(Transactions):
    """Answers, in batches and not yet."""

    def add_answer(self, digest: bytes, evidence: Evidence) -> None:
        """Durable on return: only then may the receipt leave the process."""
        with self.writing() as session:
            self.put_answer(session, digest, evidence)

    def put_answer(self, session: Session, digest: bytes, evidence: Evidence) -> None:
        """The same, within a transaction of the caller's."""
        session.add(row_of_answer(digest, evidence, self.vault))
        move(session, evidence.receipt.client, owed=owed_for(evidence))

    def answer(self, digest: bytes) -> StoredAnswer | None:
        return self._one_answer(AnswerRow.digest == digest.hex())

    def answer_to(self, request_hash: bytes) -> StoredAnswer | None:
        """The answer to a signed request, if it was given before: a retry gets the same one."""
        return self._one_answer(AnswerRow.request_hash == request_hash.hex())

    def waiting(self, limit: int) -> tuple[bytes, int] | None:
        """The model of the oldest answer that is in no batch, and how many of it wait, at most `limit`.

        Reads no answer: it is asked at every step.
        """
        with self.reading() as session:
            oldest = select(AnswerRow.model_id).where(AnswerRow.batch_id.is_(None))
            model_id = session.scalars(oldest.order_by(*WAITING).limit(1)).first()
            if model_id is None:
                return None
            some = select(AnswerRow.sequence).where(AnswerRow.batch_id.is_(None), AnswerRow.model_id == model_id)
            some = some.order_by(*WAITING).limit(limit)
            count = session.scalar(select(func.count()).select_from(some.subquery()))
            return bytes.fromhex(model_id), count or 0

    def unbatched(self, limit: int, model_id: bytes | None = None) -> list[StoredAnswer]:
        """The oldest answers, of a model or of all, that are in no batch."""
        query = select(AnswerRow).where(AnswerRow.batch_id.is_(None))
        if model_id is not None:
            query = query.where(AnswerRow.model_id == model_id.hex())
        return self._answers(query.order_by(*WAITING).limit(limit))

    def answer_at(self, batch_id: bytes, leaf: int) -> StoredAnswer | None:
        """One leaf of a batch."""
        return self._one_answer((AnswerRow.batch_id == batch_id.hex()) & (AnswerRow.leaf == leaf))

    def answers_of(self, batch_id: bytes) -> list[StoredAnswer]:
        """A batch's answers by leaf."""
        return self._answers(select(AnswerRow).where(AnswerRow.batch_id == batch_id.hex()).order_by(AnswerRow.leaf))

    def _one_answer(self, condition: Any) -> StoredAnswer | None:
        found = self._answers(select(AnswerRow).where(condition))
        return found[0] if found else None

    def _answers(self, query: Any) -> list[StoredAnswer]:
        with self.reading() as session:
            return [answer_in(row, self.vault) for row in session.scalars(query)]
