"""Payments in the node's store: reserved before an answer is begun, tied to it in the answer's own transaction.

What a payer has signed is taken once, whatever is sent how often and however the process ends. Decides nothing but
what is too much at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from trine.protocol.evidence import Evidence
from trine_node.x402.authorization import Authorization
from trine_operator.refusal import Refusal
from trine_operator.store import Store
from trine_operator.tables import AnswerRow, BatchRow, PaymentRow


class State(Enum):
    """Of a payment; the last four are its end."""

    RESERVED = "reserved"
    ANSWERED = "answered"
    SETTLED = "settled"
    DROPPED = "dropped"
    EXPIRED = "expired"
    UNPAID = "unpaid"


OUTSTANDING = (State.RESERVED.value, State.ANSWERED.value)
OVER = tuple(state.value for state in State if state.value not in OUTSTANDING)


@dataclass(frozen=True, slots=True)
class Payment:
    """As it is kept."""

    authorization: Authorization
    ordered: bytes
    state: State
    block: int
    answer: bytes | None
    executed: bytes | None

    @property
    def name(self) -> bytes:
        return self.authorization.name


@dataclass(frozen=True, slots=True)
class Judged:
    """A payment whose answer was given, and what became of that: nothing yet, or a result that stays."""

    payment: Payment
    result: str | None  # None: the batch is not over


@dataclass(frozen=True, slots=True)
class Caps:
    """What is given on credit: answers whose verdict is not final, of everybody and of one payer."""

    answers: int
    of_a_payer: int


class Ledger:
    """Methods are transactions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def payment(self, name: bytes) -> Payment | None:
        with self._store.reading() as session:
            row = session.get(PaymentRow, name.hex())
            return _payment(row) if row else None

    def of(self, state: State) -> list[Payment]:
        """Payments in one state, by the ends of their signatures."""
        query = select(PaymentRow).where(PaymentRow.state == state.value).order_by(PaymentRow.valid_before)
        with self._store.reading() as session:
            return [_payment(row) for row in session.scalars(query)]

    def outstanding(self, payer: str, asset: str) -> int:
        """Units that the payer has signed for and that were not taken yet."""
        with self._store.reading() as session:
            return _outstanding(session, payer, asset)

    def reserve(self, authorization: Authorization, ordered: bytes, block: int, balance: int, caps: Caps) -> None:
        """Takes the payment for an answer that is about to be made.

        Raises Refusal when it is taken already, when `balance` does not cover all that the payer has signed for, and
        when too much is given on credit.
        """
        payer, name = authorization.payer, authorization.name.hex()
        with self._store.writing() as session:
            if (known := session.get(PaymentRow, name)) is not None:
                raise in_progress() if known.ordered == ordered.hex() else reused()
            owing = _outstanding(session, payer, authorization.asset)
            if owing + authorization.value > balance:
                raise Refusal(
                    f"{payer} has {balance} units of {authorization.asset}, and has signed for {owing} that are not "
                    f"charged yet: {authorization.value} more are not covered",
                    status=402,
                    code="balance_too_low",
                )
            if _count(session, PaymentRow.payer == payer, PaymentRow.state == State.UNPAID.value):
                raise Refusal(f"{payer} has not paid for an answer that it had", status=402, code="payer_defaulted")
            open_ = PaymentRow.state.in_(OUTSTANDING)
            if _count(session, open_, PaymentRow.payer == payer) >= caps.of_a_payer:
                raise Refusal(
                    f"{caps.of_a_payer} answers to {payer} wait for their verdicts: try again when one is settled",
                    status=429,
                    code="payer_credit_used_up",
                )
            if _count(session, open_) >= caps.answers:
                raise Refusal(
                    "too many answers paid by x402 wait for their verdicts: try again later, or use the Trine client",
                    status=429,
                    code="credit_used_up",
                )
            session.add(_row(authorization, ordered, block))

    def release(self, name: bytes) -> None:
        """Forgets the payment for an answer that was not given: nothing is charged, and it can be sent again."""
        with self._store.writing() as session:
            reserved = PaymentRow.state == State.RESERVED.value
            session.execute(delete(PaymentRow).where(PaymentRow.name == name.hex(), reserved))

    def forget_reserved(self) -> int:
        """At start: those whose answers a crash has ended. Returns how many there were."""
        with self._store.writing() as session:
            names = list(session.scalars(select(PaymentRow.name).where(PaymentRow.state == State.RESERVED.value)))
            session.execute(delete(PaymentRow).where(PaymentRow.name.in_(names)))
            return len(names)

    def keep(self, name: bytes, digest: bytes, evidence: Evidence) -> None:
        """Stores the answer and what pays for it, in one transaction: neither is ever there without the other."""
        with self._store.writing() as session:
            # The same unsigned question within one second makes the same receipt: one promise, paid by each who asked.
            if session.scalars(select(AnswerRow.sequence).where(AnswerRow.digest == digest.hex())).first() is None:
                self._store.put_answer(session, digest, evidence)
            row = session.get_one(PaymentRow, name.hex())
            row.state, row.answer = State.ANSWERED.value, digest.hex()

    def answered(self, limit: int) -> list[Judged]:
        """Payments for answers that were given and are not charged yet; those first that end first."""
        query = (
            select(PaymentRow, AnswerRow.result, BatchRow.state)
            .join(AnswerRow, AnswerRow.digest == PaymentRow.answer)
            .outerjoin(BatchRow, BatchRow.batch_id == AnswerRow.batch_id)
            .where(PaymentRow.state == State.ANSWERED.value)
            .order_by(PaymentRow.valid_before)
            .limit(limit)
        )
        with self._store.reading() as session:
            return [
                Judged(_payment(row), (result or "void") if state in ("final", "void") else None)
                for row, result, state in session.execute(query)
            ]

    def end(self, name: bytes, state: State, executed: bytes | None = None) -> None:
        with self._store.writing() as session:
            row = session.get_one(PaymentRow, name.hex())
            row.state, row.executed = state.value, executed.hex() if executed else None

    def forget(self, valid_before: int) -> int:
        """Payments that are over and could not be executed since that time: nobody can send them again."""
        with self._store.writing() as session:
            old = (PaymentRow.state.in_(OVER), PaymentRow.valid_before < valid_before)
            names = list(session.scalars(select(PaymentRow.name).where(*old).limit(256)))
            session.execute(delete(PaymentRow).where(PaymentRow.name.in_(names)))
            return len(names)


def reused() -> Refusal:
    return Refusal("this payment was for another order: sign another", status=402, code="payment_reused")


def in_progress() -> Refusal:
    return Refusal("this order is being answered right now", status=429, code="in_progress")


def _outstanding(session: Session, payer: str, asset: str) -> int:
    mine = (PaymentRow.payer == payer, PaymentRow.asset == asset, PaymentRow.state.in_(OUTSTANDING))
    return sum(map(int, session.scalars(select(PaymentRow.value).where(*mine))))


def _count(session: Session, *conditions: object) -> int:
    return session.scalar(select(func.count()).select_from(PaymentRow).where(*conditions)) or 0  # type: ignore[arg-type]


def _row(authorization: Authorization, ordered: bytes, block: int) -> PaymentRow:
    return PaymentRow(
        name=authorization.name.hex(),
        ordered=ordered.hex(),
        asset=authorization.asset,
        payer=authorization.payer,
        pay_to=authorization.pay_to,
        value=str(authorization.value),
        valid_after=authorization.valid_after,
        valid_before=authorization.valid_before,
        nonce=authorization.nonce.hex(),
        signature=authorization.signature.hex(),
        block=block,
        state=State.RESERVED.value,
    )


def _payment(row: PaymentRow) -> Payment:
    return Payment(
        authorization=Authorization(
            asset=row.asset,
            payer=row.payer,
            pay_to=row.pay_to,
            value=int(row.value),
            valid_after=row.valid_after,
            valid_before=row.valid_before,
            nonce=bytes.fromhex(row.nonce),
            signature=bytes.fromhex(row.signature),
        ),
        ordered=bytes.fromhex(row.ordered),
        state=State(row.state),
        block=row.block,
        answer=bytes.fromhex(row.answer) if row.answer else None,
        executed=bytes.fromhex(row.executed) if row.executed else None,
    )
