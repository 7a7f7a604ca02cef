"""Posted requests in the node's store: what waits, what is answered, what came of it. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Index, String, Text, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.protocol.messages import Receipt
from trine.protocol.requests import Order
from trine_operator.store import Store
from trine_operator.tables import AnswerRow, Base, BatchRow

WAITING, ANSWERED, BROUGHT, REFUSED, LOST = "waiting", "answered", "brought", "refused", "lost"
OVER = (BROUGHT, REFUSED, LOST)
WHY_CHARACTERS = 200
FAR = (1 << 63) - 1
FORGET_SECONDS = 7 * 86_400
"""Behind its deadline a request that is over is forgotten."""


class PostedRow(Base):
    """A request for this node, or for any."""

    __tablename__ = "posted_requests"
    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    requester: Mapped[str] = mapped_column(String(42))
    model_id: Mapped[str] = mapped_column(String(64))
    node: Mapped[str] = mapped_column(String(42))
    input: Mapped[str] = mapped_column(Text)  # hexadecimal: it need not be UTF-8
    max_tokens: Mapped[int] = mapped_column(BigInteger)
    max_fee_wei: Mapped[str] = mapped_column(String(78))
    deadline: Mapped[int] = mapped_column(BigInteger)
    callback_gas: Mapped[int] = mapped_column(BigInteger)
    wait_for_final: Mapped[bool]
    block: Mapped[int] = mapped_column(BigInteger)  # where it was posted
    seen_at: Mapped[int] = mapped_column(BigInteger)  # the chain's seconds
    state: Mapped[str] = mapped_column(String(16))
    why: Mapped[str] = mapped_column(String(WHY_CHARACTERS), default="")

    __table_args__ = (Index("posted_by_state", "state", "deadline"),)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that nobody here has answered yet."""

    order: Order
    block: int
    seen_at: int


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer on its way: where it is and what was decided, as far as the store knows."""

    order: Order
    digest: bytes
    batch_id: bytes | None
    leaf: int | None
    result: str | None
    batch_state: str | None


class PostedRequests:
    """Methods are transactions, but for those that are given one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, session: Session, orders: Iterable[tuple[Order, int]], now: int) -> None:
        """Orders with their blocks. One that is known keeps its state: after a re-org it comes again."""
        for order, block in orders:
            row = session.get(PostedRow, order.request_id.hex())
            if row is not None:
                row.block = block
                continue
            session.add(
                PostedRow(
                    request_id=order.request_id.hex(),
                    requester=order.requester,
                    model_id=order.model_id.hex(),
                    node=order.node,
                    input=order.input.hex(),
                    max_tokens=order.max_tokens,
                    max_fee_wei=str(order.max_fee_wei),
                    deadline=min(order.deadline, FAR),
                    callback_gas=order.callback_gas,
                    wait_for_final=order.wait_for_final,
                    block=block,
                    seen_at=now,
                    state=WAITING,
                )
            )
        session.flush()

    def drop(self, session: Session, request_ids: Iterable[bytes]) -> None:
        """Of blocks that are gone. What was answered stays: the transaction may be in another block soon."""
        for request_id in request_ids:
            session.execute(
                delete(PostedRow).where(PostedRow.request_id == request_id.hex(), PostedRow.state != ANSWERED)
            )

    def waiting_within(self, session: Session) -> list[Waiting]:
        rows = session.scalars(select(PostedRow).where(PostedRow.state == WAITING).order_by(PostedRow.seen_at))
        return [Waiting(_order(row), row.block, row.seen_at) for row in rows]

    def waiting(self) -> list[Waiting]:
        """Oldest first."""
        with self._store.reading() as session:
            return self.waiting_within(session)

    def refuse(self, session: Session, request_ids: Sequence[bytes], why: str) -> None:
        names = [request_id.hex() for request_id in request_ids]
        session.execute(
            update(PostedRow)
            .where(PostedRow.request_id.in_(names), PostedRow.state == WAITING)
            .values(state=REFUSED, why=why[:WHY_CHARACTERS], input="")
        )

    def note(self, request_id: bytes, state: str, why: str = "") -> None:
        """What became of it. Of what is over the input is not kept."""
        values = {"state": state, "why": why[:WHY_CHARACTERS]} | ({"input": ""} if state in OVER else {})
        with self._store.writing() as session:
            session.execute(update(PostedRow).where(PostedRow.request_id == request_id.hex()).values(**values))

    def answered(self) -> list[Answered]:
        """Reads no evidence: it is asked at every block."""
        where = (AnswerRow.digest, AnswerRow.batch_id, AnswerRow.leaf, AnswerRow.result, BatchRow.state)
        query = (
            select(PostedRow, *where)
            .join(AnswerRow, AnswerRow.request_hash == PostedRow.request_id)
            .outerjoin(BatchRow, BatchRow.batch_id == AnswerRow.batch_id)
            .where(PostedRow.state == ANSWERED)
            .order_by(PostedRow.deadline)
        )
        with self._store.reading() as session:
            return [
                Answered(
                    _order(row),
                    bytes.fromhex(digest),
                    bytes.fromhex(batch_id) if batch_id else None,
                    leaf,
                    result,
                    batch_state,
                )
                for row, digest, batch_id, leaf, result, batch_state in session.execute(query)
            ]

    def receipt(self, request_id: bytes) -> tuple[Receipt, bytes] | None:
        """The receipt of the answer that was given here, with its signature: a promise to have it judged."""
        query = (
            select(AnswerRow.evidence)
            .join(PostedRow, PostedRow.request_id == AnswerRow.request_hash)
            .where(PostedRow.request_id == request_id.hex(), PostedRow.state.in_((ANSWERED, BROUGHT)))
        )
        with self._store.reading() as session:
            document = session.scalars(query).first()
        if document is None:
            return None
        shown = json.loads(document)
        return Receipt.from_json(shown["receipt"]), bytes.fromhex(shown["receiptSignature"].removeprefix("0x"))

    def forget(self, now: int) -> None:
        """What has been over for long."""
        old = (PostedRow.state.in_(OVER)) & (PostedRow.deadline < now - FORGET_SECONDS)
        with self._store.reading() as session:
            if session.scalars(select(PostedRow.request_id).where(old).limit(1)).first() is None:
                return
        with self._store.writing() as session:
            session.execute(delete(PostedRow).where(old))


def _order(row: PostedRow) -> Order:
    return Order(
        request_id=bytes.fromhex(row.request_id),
        requester=row.requester,
        model_id=bytes.fromhex(row.model_id),
        node=row.node,
        input=bytes.fromhex(row.input),
        max_tokens=row.max_tokens,
        max_fee_wei=int(row.max_fee_wei),
        deadline=row.deadline,
        callback_gas=row.callback_gas,
        wait_for_final=row.wait_for_final,
    )
