"""The outbox in the operator's store: acts, and what was signed for them. No keys.

A signed transaction is written before it is handed over, so after a crash at any point the same bytes are sent again,
and under one nonce at most one transaction is executed. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.chain.gateway import Signed
from trine.chain.transactions import EncodedCall, Fees
from trine_operator.outbox.acts import Act, Due
from trine_operator.outbox.protection import promise
from trine_operator.store import Store
from trine_operator.tables import Base, BatchRow

KEPT_ACTS = 2_000
"""Of those that are over: to find one again whose block was taken back."""
NAME_CHARACTERS = 200
FILL = "fill"
"""The function of an empty transaction: see `courier`."""


class State(Enum):
    """Of an act."""

    QUEUED = "queued"
    SENT = "sent"
    DONE = "done"
    REFUSED = "refused"


class ActRow(Base):
    """A call that is to be executed once."""

    __tablename__ = "outbox_acts"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), index=True)
    names: Mapped[str] = mapped_column(Text)  # all of them, a line each
    function: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(42))
    data: Mapped[str] = mapped_column(Text)
    due_at: Mapped[int | None] = mapped_column(BigInteger)
    due_block: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(8), index=True)
    nonce: Mapped[int | None] = mapped_column(BigInteger, index=True)
    gas_factor: Mapped[int] = mapped_column(default=1)
    max_gas: Mapped[int | None] = mapped_column(BigInteger)
    executed: Mapped[str | None] = mapped_column(String(64))  # hash of the transaction that was
    reason: Mapped[str | None] = mapped_column(Text)  # of a refusal
    is_reported: Mapped[bool] = mapped_column(default=False)


class NameRow(Base):
    """What the open acts do; each thing is done by one of them."""

    __tablename__ = "outbox_names"
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    act: Mapped[int] = mapped_column(ForeignKey("outbox_acts.number"), index=True)


class SignedRow(Base):
    """A signed transaction. Those of an act that count have its number; fees in wei per gas, as text."""

    __tablename__ = "outbox_transactions"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    act: Mapped[int] = mapped_column(ForeignKey("outbox_acts.number"), index=True)
    counts: Mapped[bool] = mapped_column(default=True)  # False: it failed for want of gas, another does it
    nonce: Mapped[int] = mapped_column(BigInteger, index=True)
    gas: Mapped[int] = mapped_column(BigInteger)
    max_fee_wei: Mapped[str] = mapped_column(String(78))
    priority_fee_wei: Mapped[str | None] = mapped_column(String(78))
    raw: Mapped[str] = mapped_column(Text)


class AccountRow(Base):
    """Up to which nonce of the account all transactions are accounted for, and at which block that was."""

    __tablename__ = "outbox_account"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    nonce: Mapped[int] = mapped_column(BigInteger)
    block: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True, slots=True)
class Kept:
    """An act as it stands in the store, with what was signed for it, oldest first."""

    number: int
    name: str
    call: EncodedCall
    due: Due
    state: State
    nonce: int | None
    gas_factor: int
    signed: tuple[Signed, ...]
    max_gas: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of an act that is over: the transaction that was executed, or why none is."""

    executed: bytes | None
    reason: str | None


class Queue:
    """Methods are transactions."""

    def __init__(self, store: Store, fence: Callable[[Session], None] = lambda session: None) -> None:
        """`fence` raises when another process has taken the store over: then nothing is signed."""
        self._store = store
        self._fence = fence

    def add(self, act: Act, call: EncodedCall) -> int | None:
        """The new act's number; None while one of its names is open. Raises Contradiction."""
        with self._store.writing() as session:
            if session.scalars(select(NameRow.name).where(NameRow.name.in_(act.names))).first() is not None:
                return None
            promise(session, act.guards)
            row = ActRow(
                name=act.names[0],
                names="\n".join(act.names),
                function=call.function,
                target=call.to,
                data=call.data.hex(),
                due_at=act.due.at,
                due_block=act.due.block,
                state=State.QUEUED.value,
                gas_factor=1,
                max_gas=act.max_gas,
            )
            session.add(row)
            session.flush()
            session.add_all(NameRow(name=name, act=row.number) for name in act.names)
            return row.number

    def take_refusal(self, name: str) -> str | None:
        """Why the last act of that name was refused, once."""
        with self._store.writing() as session:
            row = session.scalars(select(ActRow).where(ActRow.name == name).order_by(ActRow.number.desc())).first()
            if row is None or row.state != State.REFUSED.value or row.is_reported:
                return None
            row.is_reported = True
            return row.reason

    def open_names(self) -> frozenset[str]:
        with self._store.reading() as session:
            return frozenset(session.scalars(select(NameRow.name)))

    def last_of(self, name: str) -> int:
        """The number of the newest act of that name."""
        query = select(ActRow.number).where(ActRow.name == name).order_by(ActRow.number.desc())
        with self._store.reading() as session:
            return session.scalars(query).first() or 0

    def executed(self, name: str) -> bytes | None:
        """The transaction of the newest act of that name that is done."""
        done = select(ActRow.executed).where(ActRow.name == name, ActRow.state == State.DONE.value)
        with self._store.reading() as session:
            found = session.scalars(done.order_by(ActRow.number.desc())).first()
            return bytes.fromhex(found) if found else None

    def open_acts(self) -> list[Kept]:
        return self._acts(ActRow.state.in_([State.QUEUED.value, State.SENT.value]))

    def over_from(self, nonce: int) -> list[Kept]:
        """Acts that are over though their nonce is not below this one."""
        over = ActRow.state.in_([State.DONE.value, State.REFUSED.value])
        return self._acts(over & (ActRow.nonce >= nonce) & ActRow.executed.is_not(None))

    def outcome(self, number: int) -> Outcome | None:
        """None while the act is open."""
        with self._store.writing() as session:
            row = session.get(ActRow, number)
            if row is None or row.state in (State.QUEUED.value, State.SENT.value):
                return None
            row.is_reported = True
            return Outcome(bytes.fromhex(row.executed) if row.executed else None, row.reason)

    def sign(self, number: int, signed: Signed) -> None:
        """Keeps what is about to be handed over, the first for its act or one that replaces it."""
        tip = signed.fees.priority_fee_wei
        with self._store.writing() as session:
            self._fence(session)
            row = session.get_one(ActRow, number)
            row.state, row.nonce = State.SENT.value, signed.nonce
            session.add(
                SignedRow(
                    hash=signed.hash.hex(),
                    act=number,
                    counts=True,
                    nonce=signed.nonce,
                    gas=signed.gas,
                    max_fee_wei=str(signed.fees.max_fee_wei),
                    priority_fee_wei=None if tip is None else str(tip),
                    raw=signed.raw.hex(),
                )
            )

    def send_anew(self, number: int, *, gas_factor: int | None = None) -> None:
        """The act waits again: another has taken its nonce, or it had too little gas and gets more."""
        with self._store.writing() as session:
            row = session.get_one(ActRow, number)
            row.state, row.nonce = State.QUEUED.value, None
            if gas_factor is not None:
                row.gas_factor = gas_factor
                session.execute(update(SignedRow).where(SignedRow.act == number).values(counts=False))

    def finish(self, number: int, executed: bytes | None, reason: str | None = None) -> None:
        """The act is over: executed, or refused for a reason."""
        with self._store.writing() as session:
            row = session.get_one(ActRow, number)
            row.state = (State.DONE if reason is None else State.REFUSED).value
            row.executed, row.reason = executed.hex() if executed else None, reason
            if executed is None:
                row.nonce = None
            session.execute(delete(NameRow).where(NameRow.act == number))
            _forget(session)

    def reopen(self, number: int) -> bool:
        """The block of an act that was over was taken back: it is in flight again, unless another took its place."""
        with self._store.writing() as session:
            row = session.get_one(ActRow, number)
            row.executed, row.reason = None, None
            names = row.names.split("\n")
            if session.scalars(select(NameRow.name).where(NameRow.name.in_(names))).first() is not None:
                return False
            row.state = State.SENT.value
            session.add_all(NameRow(name=name, act=number) for name in names)
            return True

    def has(self, nonce: int) -> bool:
        """Whether an act has this nonce, and not another's transaction."""
        with self._store.reading() as session:
            return session.scalars(select(ActRow.number).where(ActRow.nonce == nonce)).first() is not None

    def knows(self, transaction_hash: bytes) -> bool:
        with self._store.reading() as session:
            known = select(SignedRow.hash).where(SignedRow.hash == transaction_hash.hex())
            return session.scalars(known).first() is not None

    def accounted(self) -> tuple[int, int] | None:
        """Nonce and block; None in a new store."""
        with self._store.reading() as session:
            row = session.get(AccountRow, "account")
            return (row.nonce, row.block) if row else None

    def is_new(self) -> bool:
        """Whether the store has seen neither a transaction of the account nor a batch."""
        with self._store.reading() as session:
            batch = session.scalars(select(BatchRow.batch_id).limit(1)).first()
            return batch is None and session.get(AccountRow, "account") is None

    def account_for(self, nonce: int, block: int) -> None:
        with self._store.writing() as session:
            session.merge(AccountRow(name="account", nonce=nonce, block=block))

    def _acts(self, which: Any) -> list[Kept]:
        with self._store.reading() as session:
            rows = list(session.scalars(select(ActRow).where(which).order_by(ActRow.number)))
            numbers = [row.number for row in rows]
            signed: dict[int, list[Signed]] = {number: [] for number in numbers}
            query = select(SignedRow).where(SignedRow.act.in_(numbers), SignedRow.counts).order_by(SignedRow.number)
            for each in session.scalars(query):
                signed[each.act].append(_signed(each))
            return [_kept(row, tuple(signed[row.number])) for row in rows]


def _forget(session: Session) -> None:
    """Acts that are over for long."""
    newest = session.scalar(select(func.max(ActRow.number))) or 0
    old = select(ActRow.number).where(
        ActRow.number <= newest - KEPT_ACTS, ActRow.state.in_([State.DONE.value, State.REFUSED.value])
    )
    numbers = list(session.scalars(old.limit(KEPT_ACTS)))
    if numbers:
        session.execute(delete(SignedRow).where(SignedRow.act.in_(numbers)))
        session.execute(delete(ActRow).where(ActRow.number.in_(numbers)))


def _signed(row: SignedRow) -> Signed:
    tip = None if row.priority_fee_wei is None else int(row.priority_fee_wei)
    fees = Fees(int(row.max_fee_wei), tip)
    return Signed(bytes.fromhex(row.hash), bytes.fromhex(row.raw), row.nonce, row.gas, fees)


def _kept(row: ActRow, signed: tuple[Signed, ...]) -> Kept:
    call = EncodedCall(row.function, row.target, bytes.fromhex(row.data))
    due = Due(row.due_at, row.due_block)
    return Kept(row.number, row.name, call, due, State(row.state), row.nonce, row.gas_factor, signed, row.max_gas)
