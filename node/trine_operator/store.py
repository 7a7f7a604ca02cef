"""What must survive a crash: answers before their receipts leave, batches before they are anchored, vouchers.

SQLite (WAL) by default, any SQLAlchemy URL otherwise. The chain stays the truth; this is a cache of it plus what the
chain does not hold. Decides nothing.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from eth_utils.crypto import keccak
from sqlalchemy import func, or_, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from trine.errors import TrineError
from trine.protocol import merkle
from trine.protocol.evidence import Evidence
from trine.protocol.header import Header, batch_id
from trine.protocol.messages import Domain, Receipt, Request, Voucher
from trine_operator import schema
from trine_operator.database import (
    BUSY_TIMEOUT_SECONDS,
    WRITES,
    StoreError,
    check_file,
    explained,
    is_fault,
    open_engine,
)
from trine_operator.tables import AnswerRow, BalanceRow, BatchRow, OwnerRow, SchemaRow, VoucherRow

__all__ = [
    "Due",
    "EvidencePruned",
    "Kept",
    "Order",
    "Store",
    "StoreError",
    "StoredAnswer",
    "StoredBatch",
    "leaves_of",
    "sealed_batch",
]

log = structlog.get_logger()

OVER = ("final", "void")
"""States of batches that nothing changes any more."""
FAR = (1 << 63) - 1
INCREMENTAL = 2
"""SQLite's auto_vacuum of files that give pages back when told to."""
WAITING = (AnswerRow.batch_id, AnswerRow.sequence)
"""The order of answers in no batch, spelt as their index is: by `sequence` alone PostgreSQL goes through all others."""
ORDER = (
    AnswerRow.sequence,
    AnswerRow.batch_id,
    AnswerRow.leaf,
    AnswerRow.deadline,
    AnswerRow.signed_order,
)
"""What payment needs of an answer: evidence may be hundreds of kilobytes."""
PROBE_SECONDS = 1.0
"""After a change that failed, a small one is tried so often, when somebody asks."""
ORDERS_AT_ONCE = 256
"""Shown to a client that is to acknowledge them; those with the last one's deadline besides, ORDERS_AT_MOST in all."""
ORDERS_AT_MOST = 4_096
ANSWERS_AT_ONCE = 32
"""Pruned in one transaction; each may be some hundred kilobytes."""


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
    """An answer; `kept` is None once its evidence was pruned."""

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
                "the evidence of this answer is not kept any more: its batch has been over for long; receipt and "
                f"proof remain (receipt 0x{self.digest.hex()})"
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


class Store:
    """One connection pool; methods are transactions."""

    def __init__(self, url: str) -> None:
        """Makes or upgrades the tables. Raises StoreError, saying what to do, for what cannot be used."""
        self._write_lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._fault: str | None = None
        self.acknowledgements = 0
        """Vouchers of this process that acknowledged more than those before: there is something to collect."""
        self._probed_at = 0.0
        self._engine = _opened(url)
        self._reads = sessionmaker(self._engine, expire_on_commit=False)
        self._writes = sessionmaker(self._engine.execution_options(**WRITES), expire_on_commit=False)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One view of the store. Raises StoreError."""
        try:
            with self._reads() as session:
                yield session
        except SQLAlchemyError as error:
            raise StoreError(f"the store cannot be read: {explained(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is durable when the block ends. Raises StoreError when nothing was written."""
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            raise StoreError(f"the store has been busy with other changes for {BUSY_TIMEOUT_SECONDS} s: try again")
        try:
            with self._writes.begin() as session:
                yield session
            self._note_fault(None)
        except SQLAlchemyError as error:
            said = f"the store did not take a change: {explained(error)}"
            if is_fault(error):
                self._note_fault(said)
            raise StoreError(said) from error
        finally:
            self._write_lock.release()

    @property
    def fault(self) -> str | None:
        """Why the last change failed, when the store was at fault; None as soon as one succeeds."""
        return self._fault

    def why_not_ready(self) -> str | None:
        """For everybody: hosts, paths and users are for the log. Looks whether the store is well again."""
        try:
            self.require_writable()
        except StoreError:
            return "the store takes no changes: the log says why"
        return None

    def require_writable(self) -> None:
        """Raises StoreError while the store takes no changes: whoever cannot keep an answer must not begin one.

        After a change that failed a small one is tried, once in PROBE_SECONDS and by one thread.
        """
        fault = self._fault
        if fault is None:
            return
        if time.monotonic() - self._probed_at < PROBE_SECONDS or not self._probe_lock.acquire(blocking=False):
            raise StoreError(fault)
        try:
            with self.writing() as session:
                session.execute(update(SchemaRow).values(version=SchemaRow.version))
        finally:
            self._probe_lock.release()

    def _note_fault(self, fault: str | None) -> None:
        if fault and not self._fault:
            log.error("store_takes_no_changes", error=fault)
        elif self._fault and not fault:
            log.info("store_takes_changes_again")
        self._fault, self._probed_at = fault, time.monotonic()

    def claim(self, owner: str) -> None:
        """Binds the store to its owner. Raises StoreError if it is another's.

        Answers that one account signed, anchored by another, would cost the other its stake.
        """
        with self.writing() as session:
            known = session.scalars(select(OwnerRow.owner)).first()
            if known is None:
                session.add(OwnerRow(owner=owner))
            elif known != owner:
                raise StoreError(f"the store belongs to {known}, this is {owner}: use a store of its own (store_url)")

    # Answers

    def add_answer(self, digest: bytes, evidence: Evidence) -> None:
        """Durable on return: only then may the receipt leave the process."""
        with self.writing() as session:
            self.put_answer(session, digest, evidence)

    def put_answer(self, session: Session, digest: bytes, evidence: Evidence) -> None:
        """The same, within a transaction of the caller's."""
        session.add(_answer_row(digest, evidence))
        _move(session, evidence.receipt.client, owed=evidence.receipt.fee_wei)

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

    # What clients owe

    def owed(self, client: str) -> int:
        """Wei of the client's answers that were accepted or are not judged yet."""
        return self._balance(client)[0]

    def earned(self, client: str) -> int:
        """Wei of the client's answers that a committee accepted."""
        return self._balance(client)[1]

    def owed_before(self, client: str, as_of: int) -> int:
        """Of what is owed, the part for orders whose deadline is before that: what a voucher must acknowledge."""
        with self.reading() as session:
            row = session.get(BalanceRow, client.lower())
            later = select(AnswerRow.fee_wei).where(
                AnswerRow.client == client,
                AnswerRow.deadline >= as_of,
                or_(AnswerRow.result.is_(None), AnswerRow.result == "accept"),
            )
            return (int(row.owed_wei) if row else 0) - sum(map(int, session.scalars(later)))

    def unacknowledged(self, client: str, since: int, until: int) -> int:
        """Wei of the client's accepted, final answers to orders with deadlines from `since` and before `until`, but of
        those that were opened."""
        query = _final(client, since, AnswerRow.fee_wei).where(AnswerRow.deadline < until)
        with self.reading() as session:
            return sum(map(int, session.scalars(query)))

    def resolved_until(self, client: str, since: int, *, accepted_too: bool = False) -> int:
        """The deadline before which all of the client's orders are final, in seconds; `since` where there are none.

        `accepted_too`: or accepted as far as is known here, where an end is believed late. Whoever is to acknowledge
        looks at the chain.
        """
        mine = (AnswerRow.client == client) & (AnswerRow.deadline >= since)
        open_ = (
            select(func.min(AnswerRow.deadline))
            .outerjoin(BatchRow, BatchRow.batch_id == AnswerRow.batch_id)
            .where(mine, or_(BatchRow.state.is_(None), BatchRow.state.not_in(OVER)))
        )
        if accepted_too:
            open_ = open_.where(or_(AnswerRow.result.is_(None), AnswerRow.result != "accept"))
        with self.reading() as session:
            first = session.scalar(open_)
            if first is not None:
                return first
            last = session.scalar(select(func.max(AnswerRow.deadline)).where(mine))
            return since if last is None else last + 1

    def to_acknowledge(self, client: str, since: int, until: int) -> tuple[list[Order], int]:
        """The oldest accepted answers to orders with deadlines from `since` and before `until`, and the deadline
        before which these are all."""
        with self.reading() as session:
            mine = select(*ORDER).where(
                AnswerRow.client == client,
                AnswerRow.deadline >= since,
                AnswerRow.deadline < until,
                AnswerRow.result == "accept",
            )
            mine = mine.order_by(AnswerRow.deadline)
            found = session.execute(mine.limit(ORDERS_AT_ONCE)).all()
            if len(found) == ORDERS_AT_ONCE:
                until = (found[-1].deadline or 0) + 1
                found = session.execute(mine.where(AnswerRow.deadline < until).limit(ORDERS_AT_MOST)).all()
            return [_order(row) for row in found], until

    def to_open(self, client: str, since: int, limit: int) -> list[Order]:
        """The oldest accepted, final answers that nobody has acknowledged or opened, to orders with deadlines from
        `since` on."""
        query = _final(client, since, *ORDER).where(AnswerRow.fee_wei != "0").order_by(AnswerRow.deadline).limit(limit)
        with self.reading() as session:
            return [_order(row) for row in session.execute(query)]

    def note_opened(self, sequences: Sequence[int]) -> None:
        """The chain has paid for these."""
        with self.writing() as session:
            session.execute(update(AnswerRow).where(AnswerRow.sequence.in_(sequences)).values(is_opened=True))

    def to_collect(self) -> list[Due]:
        """Those of whom more was earned than is noted as collected, and who left a voucher."""
        query = (
            select(
                VoucherRow.payer,
                BalanceRow.earned_wei,
                BalanceRow.collected_wei,
                VoucherRow.acknowledged_earned_wei,
                VoucherRow.seen_at,
            )
            .join(BalanceRow, BalanceRow.client == VoucherRow.client)
            .where(BalanceRow.is_due)
        )
        with self.reading() as session:
            return [
                Due(payer, int(earned), int(collected), int(acknowledged), seen_at)
                for payer, earned, collected, acknowledged, seen_at in session.execute(query)
            ]

    def note_collected(self, client: str, collected_wei: int) -> None:
        """What the chain says has been collected from the client."""
        with self.writing() as session:
            row = _balance_row(session, client)
            row.collected_wei = str(collected_wei)
            row.is_due = row.earned_wei != row.collected_wei

    # Batches

    def seal(self, batch: StoredBatch, sequences: Sequence[int]) -> None:
        """Fixes a batch and the order of its answers, before anything is sent."""
        with self.writing() as session:
            session.add(_batch_row(batch))
            session.flush()
            for leaf, sequence in enumerate(sequences):
                row = session.get_one(AnswerRow, sequence)
                if row.batch_id is not None:
                    raise StoreError(f"answer {sequence} is in a batch already")
                row.batch_id, row.leaf = batch.batch_id.hex(), leaf

    def seal_new(self, batch: StoredBatch, answers: Sequence[tuple[bytes, Evidence]]) -> None:
        """Stores answers that nobody was promised (a calibration's) together with their batch."""
        with self.writing() as session:
            session.add(_batch_row(batch))
            session.flush()
            for leaf, (digest, evidence) in enumerate(answers):
                row = _answer_row(digest, evidence)
                # A challenge may ask the same prompt twice; the batch's id keeps the names apart.
                row.digest = keccak(digest + batch.batch_id + bytes([leaf])).hex()
                row.batch_id, row.leaf = batch.batch_id.hex(), leaf
                session.add(row)
                _move(session, evidence.receipt.client, owed=evidence.receipt.fee_wei)

    def batch(self, batch_id: bytes) -> StoredBatch | None:
        with self.reading() as session:
            row = session.get(BatchRow, batch_id.hex())
            return _batch(row) if row else None

    def batch_of_challenge(self, challenge_id: bytes) -> StoredBatch | None:
        """The batch that answers a calibration challenge."""
        with self.reading() as session:
            row = session.scalars(select(BatchRow).where(BatchRow.challenge_id == challenge_id.hex())).first()
            return _batch(row) if row else None

    def open_batches(self) -> list[StoredBatch]:
        """Batches that are not settled or void yet."""
        with self.reading() as session:
            rows = session.scalars(select(BatchRow).where(BatchRow.state.in_(["sealed", "anchored"])))
            return [_batch(row) for row in rows]

    def mark_anchored(self, batch_id: bytes) -> None:
        with self.writing() as session:
            session.get_one(BatchRow, batch_id.hex()).state = "anchored"

    def settled_batches(self) -> list[StoredBatch]:
        """Batches that are decided but not final, whole: for who looks once, see `settled_ids`."""
        with self.reading() as session:
            return [_batch(row) for row in session.scalars(select(BatchRow).where(BatchRow.state == "settled"))]

    def settled_ids(self) -> list[bytes]:
        """The names of batches that are decided but not final: the time to appeal may have seen thousands."""
        with self.reading() as session:
            names = session.scalars(select(BatchRow.batch_id).where(BatchRow.state == "settled"))
            return [bytes.fromhex(name) for name in names]

    def mark_settled(self, batch_id: bytes, accepted: int, rejected: int, results: Sequence[str]) -> None:
        self._decide(batch_id, "settled", accepted, rejected, results)

    def mark_final(self, batch_id: bytes, accepted: int, rejected: int, results: Sequence[str]) -> None:
        """Appeals may have changed results since the batch was settled; nothing will any more."""
        self._decide(batch_id, "final", accepted, rejected, results)

    def mark_unsent(self, batch_id: bytes) -> None:
        """Nobody judged the batch: it is anchored again."""
        with self.writing() as session:
            session.get_one(BatchRow, batch_id.hex()).state = "sealed"

    def mark_void(self, batch_id: bytes) -> None:
        """The batch is given up; its answers are not judged."""
        with self.writing() as session:
            session.get_one(BatchRow, batch_id.hex()).state = "void"
            _judge(session, batch_id, lambda _leaf: "void")

    # Vouchers

    def save_voucher(self, voucher: Voucher, signature: bytes, seen_at: int = 0) -> None:
        """Keeps the voucher if it is the payer's highest, or acknowledges most. `seen_at`: the chain's seconds."""
        acknowledges_more = False
        with self.writing() as session:
            row = session.get(VoucherRow, voucher.payer)
            if row is None:
                row = VoucherRow(
                    payer=voucher.payer,
                    client=voucher.payer.lower(),
                    cumulative_wei="0",
                    signature="",
                    acknowledged_earned_wei="0",
                    seen_at=0,
                )
                session.add(row)
            if not row.signature or int(row.cumulative_wei) < voucher.cumulative_wei:
                row.cumulative_wei, row.signature = str(voucher.cumulative_wei), signature.hex()
                row.earned_wei, row.as_of = str(voucher.earned_wei), voucher.as_of
            if int(row.acknowledged_earned_wei) < voucher.earned_wei:
                row.acknowledged_cumulative_wei = str(voucher.cumulative_wei)
                row.acknowledged_earned_wei = str(voucher.earned_wei)
                row.acknowledged_as_of, row.acknowledged_signature = voucher.as_of, signature.hex()
                acknowledges_more = True
            row.seen_at = max(row.seen_at, seen_at)
        self.acknowledgements += acknowledges_more

    def voucher(self, payer: str) -> Kept | None:
        """The payer's voucher with the highest limit."""
        with self.reading() as session:
            row = session.get(VoucherRow, payer)
            if row is None:
                return None
            return Kept(int(row.cumulative_wei), bytes.fromhex(row.signature), int(row.earned_wei), row.as_of)

    def acknowledgement(self, payer: str) -> Kept | None:
        """The payer's voucher that acknowledges most; None while none does anything."""
        with self.reading() as session:
            row = session.get(VoucherRow, payer)
            if row is None or not row.acknowledged_signature:
                return None
            return Kept(
                int(row.acknowledged_cumulative_wei),
                bytes.fromhex(row.acknowledged_signature),
                int(row.acknowledged_earned_wei),
                row.acknowledged_as_of,
            )

    # Pruning

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
                    {"sequence": sequence, "evidence": _without_evidence(document), "is_pruned": True}
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

    # How

    def _decide(self, batch_id: bytes, state: str, accepted: int, rejected: int, results: Sequence[str]) -> None:
        with self.writing() as session:
            row = session.get_one(BatchRow, batch_id.hex())
            row.state, row.accepted, row.rejected = state, f"{accepted:x}", f"{rejected:x}"
            _judge(session, batch_id, lambda leaf: results[leaf])

    def _balance(self, client: str) -> tuple[int, int]:
        with self.reading() as session:
            row = session.get(BalanceRow, client.lower())
            return (int(row.owed_wei), int(row.earned_wei)) if row else (0, 0)

    def _one_answer(self, condition: Any) -> StoredAnswer | None:
        found = self._answers(select(AnswerRow).where(condition))
        return found[0] if found else None

    def _answers(self, query: Any) -> list[StoredAnswer]:
        with self.reading() as session:
            return [_answer(row) for row in session.scalars(query)]


def _opened(url: str) -> Engine:
    """A database with the tables that this version knows. Raises StoreError."""
    engine: Engine | None = None
    try:
        engine = open_engine(url)
        check_file(engine)
        schema.upgrade(engine)
    except BaseException as error:
        if engine is not None:
            engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise StoreError(f"cannot open the store: {explained(error)}") from None
        raise
    return engine


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


def _batch_row(batch: StoredBatch) -> BatchRow:
    return BatchRow(
        batch_id=batch.batch_id.hex(),
        model_id=batch.model_id.hex(),
        root=batch.root.hex(),
        canary=batch.canary.hex(),
        leaves=json.dumps([leaf.hex() for leaf in batch.leaves]),
        challenge_id=batch.challenge_id.hex() if batch.challenge_id else None,
        state="sealed",
    )


def _judge(session: Session, batch_id: bytes, result_of: Callable[[int], str]) -> None:
    """Gives a batch's answers their results, and clients' sums what that changes. Reads no evidence."""
    columns = (AnswerRow.sequence, AnswerRow.leaf, AnswerRow.client, AnswerRow.fee_wei, AnswerRow.result)
    changed = []
    for sequence, leaf, client, fee, before in session.execute(
        select(*columns).where(AnswerRow.batch_id == batch_id.hex())
    ):
        after = result_of(leaf or 0)
        if after != before:
            changed.append({"sequence": sequence, "result": after})
            owed = int(after == "accept") - int(before in (None, "accept"))
            earned = int(after == "accept") - int(before == "accept")
            _move(session, client, owed=owed * int(fee), earned=earned * int(fee))
    if changed:
        session.execute(update(AnswerRow), changed)


def _move(session: Session, client: str, *, owed: int = 0, earned: int = 0) -> None:
    """Changes a client's sums."""
    if owed or earned:
        row = _balance_row(session, client)
        row.owed_wei = str(int(row.owed_wei) + owed)
        row.earned_wei = str(int(row.earned_wei) + earned)
        row.is_due = row.earned_wei != row.collected_wei


def _balance_row(session: Session, client: str) -> BalanceRow:
    row = session.get(BalanceRow, client.lower(), with_for_update=True)
    if row is None:
        row = BalanceRow(client=client.lower(), owed_wei="0", earned_wei="0", collected_wei="0")
        session.add(row)
    return row


def _answer_row(digest: bytes, evidence: Evidence) -> AnswerRow:
    receipt = evidence.receipt
    return AnswerRow(
        digest=digest.hex(),
        request_hash=receipt.request_hash.hex() if any(receipt.request_hash) else None,
        model_id=receipt.model_id.hex(),
        client=receipt.client,
        fee_wei=str(receipt.fee_wei),
        # Beyond 63 bits no database has room, and no chain gets there.
        deadline=min(evidence.request.deadline, FAR) if evidence.request else None,
        signed_order=_signed_order(evidence) if evidence.request else None,
        evidence=json.dumps(evidence.to_json()),
    )


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


def _final(client: str, since: int, *what: Any) -> Any:
    """Accepted answers that nothing changes any more, not paid by opening, to orders with deadlines from `since`."""
    return (
        select(*what)
        .join(BatchRow, BatchRow.batch_id == AnswerRow.batch_id)
        .where(
            AnswerRow.client == client,
            AnswerRow.deadline >= since,
            AnswerRow.result == "accept",
            AnswerRow.is_opened.is_(False),
            BatchRow.state == "final",
        )
    )


def _order(row: Any) -> Order:
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


def _without_evidence(document: str) -> str:
    shown = json.loads(document)
    return json.dumps({name: shown[name] for name in ("receipt", "receiptSignature")})


def _batch(row: BatchRow) -> StoredBatch:
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


def _answer(row: AnswerRow) -> StoredAnswer:
    document = json.loads(row.evidence)
    shown = {"anchorBy": 0} | document["receipt"]  # those of before there was such a promise have none
    return StoredAnswer(
        sequence=row.sequence,
        digest=bytes.fromhex(row.digest),
        receipt=Receipt.from_json(shown),
        receipt_signature=bytes.fromhex(document["receiptSignature"].removeprefix("0x")),
        kept=None if row.is_pruned else Evidence.from_json(document | {"receipt": shown}),
        batch_id=bytes.fromhex(row.batch_id) if row.batch_id else None,
        leaf=row.leaf,
        result=row.result,
    )
