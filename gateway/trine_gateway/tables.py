"""Tables of a gateway's store. What they mean together is in `store`; `versions` makes them.

Amounts in wei, as text: they exceed 64 bits. Times are the machine's, in seconds: nothing of the protocol hangs on
them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Tables of a gateway."""


class KeyRow(Base):
    """Somebody who may ask, and what it has cost so far: no request adds up all answers."""

    __tablename__ = "keys"
    key_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
    is_admin: Mapped[bool]
    budget_wei: Mapped[str | None] = mapped_column(String(78))
    requests_per_minute: Mapped[int]
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    revoked_at: Mapped[int | None] = mapped_column(BigInteger)
    spent_wei: Mapped[str] = mapped_column(String(78), default="0")  # of answers that are not refused
    answers: Mapped[int] = mapped_column(BigInteger, default=0)
    accepted: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)
    unavailable: Mapped[int] = mapped_column(BigInteger, default=0)
    inconclusive: Mapped[int] = mapped_column(BigInteger, default=0)


class ReservationRow(Base):
    """The worst price of an answer on its way, which nothing else of the key's budget may be spent on meanwhile."""

    __tablename__ = "reservations"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(12))
    wei: Mapped[str] = mapped_column(String(78))
    until: Mapped[int] = mapped_column(BigInteger)  # of a gateway that was killed, nobody gives it back

    __table_args__ = (Index("reservations_of_key", "key_id"),)


class AnswerRow(Base):
    """An answer with the node's promise, without its text; and what verifiers say of it."""

    __tablename__ = "answers"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    key_id: Mapped[str] = mapped_column(String(12))
    model: Mapped[str] = mapped_column(String(128))
    node: Mapped[str] = mapped_column(String(42))
    held: Mapped[str] = mapped_column(Text)
    fee_wei: Mapped[str] = mapped_column(String(78))
    created_at: Mapped[int] = mapped_column(BigInteger)
    verdict: Mapped[str | None] = mapped_column(String(16))
    is_final: Mapped[bool]
    looks: Mapped[int]
    look_at: Mapped[int | None] = mapped_column(BigInteger, index=True)  # None: nothing more will be known

    __table_args__ = (Index("answers_of_key", "key_id", "sequence"),)


class RepeatRow(Base):
    """An answer that its key may have again by an Idempotency-Key, with its text, until it is deleted."""

    __tablename__ = "repeats"
    key_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)  # hash of the header
    body: Mapped[str] = mapped_column(String(64))  # hash
    answer: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger, index=True)


class CutOffRow(Base):
    """A node that is asked nothing, because an answer of its was rejected."""

    __tablename__ = "cut_off"
    node: Mapped[str] = mapped_column(String(42), primary_key=True)
    until: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))


class ChainRow(Base):
    """One row: the chain that the accounts are about. See `ChainMark`."""

    __tablename__ = "chain"
    name: Mapped[str] = mapped_column(String(8), primary_key=True)
    chain_id: Mapped[int] = mapped_column(BigInteger)
    contract: Mapped[str] = mapped_column(String(42))
    block: Mapped[int] = mapped_column(BigInteger)
    block_hash: Mapped[str] = mapped_column(String(64))


class ProbeRow(Base):
    """One row, which is written to see whether the store takes changes."""

    __tablename__ = "probe"
    name: Mapped[str] = mapped_column(String(8), primary_key=True)
    times: Mapped[int] = mapped_column(BigInteger)
