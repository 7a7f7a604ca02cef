"""Evidence of others' batches that this verifier was shown: kept for whoever judges them too, until they are final.

Only what was seen to hash to the root comes here, leaf by leaf, so a batch of which some leaves are not good is kept as
well. Bounded in bytes, per batch and in all: what came first goes first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import BigInteger, String, Text, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.chain import BatchState, Chain
from trine.protocol import merkle
from trine.protocol.evidence import Evidence
from trine_operator.service.evidence import PassedOn
from trine_operator.staying import Staying
from trine_operator.store import Store, StoreError
from trine_operator.tables import Base

log = structlog.get_logger()

AT_ONCE = 16
"""Answers in memory at once, and written in one transaction; each may be some hundred kilobytes."""
LOOKED_AT_ONCE = 64
"""Batches whose state is looked at in a step of pruning."""
OVER = (BatchState.NONE, BatchState.FINAL, BatchState.VOID)
"""Nobody judges such a batch, and if it is anchored again it is shown again."""


class KeptBatchRow(Base):
    """A batch of somebody else's of which evidence is kept. `number` grows with time."""

    __tablename__ = "kept_batches"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    batch_id: Mapped[str] = mapped_column(String(64), unique=True)
    leaves: Mapped[str] = mapped_column(Text)  # hashes of all leaves as JSON; of none while only single ones were shown
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of all answers


class KeptAnswerRow(Base):
    """One leaf's evidence."""

    __tablename__ = "kept_answers"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    leaf: Mapped[int] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(String(42))
    proof: Mapped[str] = mapped_column(Text)  # from the leaf to the root, as JSON; of none where all leaves are known
    evidence: Mapped[str] = mapped_column(Text)
    data_key: Mapped[str | None] = mapped_column(String(120))  # wrapped; what it is sealed with, see `vault`


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes. Zero in all: nothing is kept, and nobody is shown anything."""

    in_all: int = 1 << 30
    per_batch: int = 64 << 20


class KeptEvidence:
    """Of one store. Knows neither who may see it nor whether it is good. Thread-safe as the store is."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._staying: Staying | None = None
        self._after = 0  # batches up to this number were looked at in this round

    # Keeping

    def keep(self, batch_id: bytes, answers: Mapping[int, Evidence], leaves: Sequence[bytes]) -> None:
        """Keeps what fits of answers that are the leaves of the batch. `leaves`: the hashes of all."""
        for start in range(0, len(answers), AT_ONCE):
            some = dict(list(answers.items())[start : start + AT_ONCE])
            self._keep(batch_id, {leaf: (each, ()) for leaf, each in some.items()}, leaves)

    def keep_leaf(self, batch_id: bytes, leaf: int, answer: Evidence, proof: Sequence[bytes]) -> None:
        """Keeps one answer with its way to the root, if it fits."""
        self._keep(batch_id, {leaf: (answer, proof)}, ())

    def _keep(
        self, batch_id: bytes, answers: Mapping[int, tuple[Evidence, Sequence[bytes]]], leaves: Sequence[bytes]
    ) -> None:
        written = {leaf: json.dumps(each.to_json(), separators=(",", ":")) for leaf, (each, _) in answers.items()}
        if self._limits.in_all == 0 or not written:
            return
        try:
            self._write(batch_id, answers, written, leaves)
        except StoreError as error:  # it can be checked all the same
            log.warning("evidence_not_kept", batch=batch_id.hex(), error=str(error))

    def _write(
        self,
        batch_id: bytes,
        answers: Mapping[int, tuple[Evidence, Sequence[bytes]]],
        written: Mapping[int, str],
        leaves: Sequence[bytes],
    ) -> None:
        with self._store.writing() as session:
            row = _row(session, batch_id)
            if leaves and row.leaves == "[]":
                row.leaves = _hashes(leaves)
            known = set(session.scalars(select(KeptAnswerRow.leaf).where(KeptAnswerRow.batch_id == batch_id.hex())))
            for leaf, (answer, proof) in answers.items():
                text = written[leaf]
                limit = min(self._limits.per_batch, self._limits.in_all)
                if leaf in known or row.size + len(text) > limit:
                    continue
                row.size += len(text)
                vault = self._store.vault
                key, kept = vault.seal(_name(batch_id.hex(), leaf), text) if vault else (None, text)
                session.add(
                    KeptAnswerRow(
                        batch_id=batch_id.hex(),
                        leaf=leaf,
                        client=answer.receipt.client,
                        proof=_hashes(proof),
                        evidence=kept,
                        data_key=key,
                    )
                )
            session.flush()
            self._make_room(session, row)

    def _make_room(self, session: Session, newest: KeptBatchRow) -> None:
        """Takes the oldest batches until all fit."""
        while (session.scalar(select(func.sum(KeptBatchRow.size))) or 0) > self._limits.in_all:
            oldest = session.scalars(
                select(KeptBatchRow).where(KeptBatchRow.number != newest.number).order_by(KeptBatchRow.number).limit(1)
            ).first()
            if oldest is None:
                return
            log.info("kept_evidence_full", dropped=oldest.batch_id, bytes=oldest.size)
            _drop(session, [oldest.batch_id])

    # Showing: what `trine_operator.service` asks, and this verifier's own checks

    def leaves_of(self, batch_id: bytes) -> tuple[bytes, ...] | None:
        """Hashes of all leaves; None when nothing is kept or only single leaves are."""
        with self._store.reading() as session:
            row = session.scalars(select(KeptBatchRow).where(KeptBatchRow.batch_id == batch_id.hex())).first()
            return _read_hashes(row.leaves) or None if row else None

    def documents_of(self, batch_id: bytes, leaf_count: int) -> Iterator[str]:
        """Each leaf's evidence as JSON, `null` where it is not kept. Reads a few at a time."""
        for start in range(0, leaf_count, AT_ONCE):
            stop = min(start + AT_ONCE, leaf_count)
            some = self._documents(batch_id, start, stop)
            yield from (some.get(leaf, "null") for leaf in range(start, stop))

    def answer_at(self, batch_id: bytes, leaf: int) -> PassedOn | None:
        with self._store.reading() as session:
            row = session.get(KeptAnswerRow, (batch_id.hex(), leaf))
        if row is None:
            return None
        proof, leaves = _read_hashes(row.proof), self.leaves_of(batch_id)
        if not proof and leaves:
            proof = tuple(merkle.proof(leaves, leaf))
        return PassedOn(row.client, proof, self._opened(batch_id, leaf, row.data_key, row.evidence))

    def _documents(self, batch_id: bytes, start: int, stop: int) -> dict[int, str]:
        query = select(KeptAnswerRow.leaf, KeptAnswerRow.data_key, KeptAnswerRow.evidence).where(
            KeptAnswerRow.batch_id == batch_id.hex(), KeptAnswerRow.leaf >= start, KeptAnswerRow.leaf < stop
        )
        with self._store.reading() as session:
            rows = list(session.execute(query))
        return {row.leaf: self._opened(batch_id, row.leaf, row.data_key, row.evidence) for row in rows}

    def _opened(self, batch_id: bytes, leaf: int, key: str | None, kept: str) -> str:
        """Raises StoreError without the account that has sealed it."""
        if key is None:
            return kept
        if self._store.vault is None:
            raise StoreError("evidence in the store is sealed: its operator's keystore is needed")
        return self._store.vault.open(_name(batch_id.hex(), leaf), key, kept)

    # Pruning

    def prune(self, chain: Chain) -> bool:
        """Takes the evidence of some batches that are over for good. Returns whether more are to be looked at."""
        self._staying = self._staying or Staying(chain)
        query = select(KeptBatchRow.number, KeptBatchRow.batch_id).where(KeptBatchRow.number > self._after)
        with self._store.reading() as session:
            page = list(session.execute(query.order_by(KeptBatchRow.number).limit(LOOKED_AT_ONCE)))
        names = [bytes.fromhex(name) for _, name in page]
        over = []
        with chain.reading_ahead([("Batches", "batchOf", (name,)) for name in names]):
            for name in names:
                state = chain.batch(name).state
                if state not in OVER:
                    self._staying.forget(name)
                elif self._staying.stays(name, state):
                    over.append(name.hex())
        if over:
            with self._store.writing() as session:
                _drop(session, over)
            self._store.forget_log()
            log.info("kept_evidence_pruned", batches=len(over))
        self._after = page[-1][0] if len(page) == LOOKED_AT_ONCE else 0
        return self._after != 0


def _name(batch_id: str, leaf: int) -> str:
    return f"{batch_id}/{leaf}"


def _row(session: Session, batch_id: bytes) -> KeptBatchRow:
    row = session.scalars(select(KeptBatchRow).where(KeptBatchRow.batch_id == batch_id.hex())).first()
    if row is None:
        row = KeptBatchRow(batch_id=batch_id.hex(), leaves="[]", size=0)
        session.add(row)
        session.flush()
    return row


def _drop(session: Session, names: Iterable[str]) -> None:
    for table in (KeptAnswerRow, KeptBatchRow):
        session.execute(delete(table).where(table.batch_id.in_(list(names))))


def _hashes(some: Sequence[bytes]) -> str:
    return json.dumps([each.hex() for each in some])


def _read_hashes(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(each) for each in json.loads(text))
