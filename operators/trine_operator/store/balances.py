"""What clients owe, what was earned from them, their vouchers: running sums, never read from all answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from trine.protocol.messages import Voucher
from trine_operator.store.records import Due, Kept, Order
from trine_operator.store.rows import ORDER, order_in
from trine_operator.store.transactions import Transactions
from trine_operator.tables import AnswerRow, BalanceRow, BatchRow, VoucherRow

OVER = ("final", "void")
"""States of batches that nothing changes any more."""
ORDERS_AT_ONCE = 256
"""Shown to a client that is to acknowledge them; those with the last one's deadline besides, ORDERS_AT_MOST in all."""
ORDERS_AT_MOST = 4_096


class Balances(Transactions):
    """What clients owe."""

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
            return [order_in(row) for row in found], until

    def to_open(self, client: str, since: int, limit: int) -> list[Order]:
        """The oldest accepted, final answers that nobody has acknowledged or opened, to orders with deadlines from
        `since` on."""
        query = _final(client, since, *ORDER).where(AnswerRow.fee_wei != "0").order_by(AnswerRow.deadline).limit(limit)
        with self.reading() as session:
            return [order_in(row) for row in session.execute(query)]

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

    def _balance(self, client: str) -> tuple[int, int]:
        with self.reading() as session:
            row = session.get(BalanceRow, client.lower())
            return (int(row.owed_wei), int(row.earned_wei)) if row else (0, 0)

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


def judge(session: Session, batch_id: bytes, result_of: Callable[[int], str]) -> None:
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
            move(session, client, owed=owed * int(fee), earned=earned * int(fee))
    if changed:
        session.execute(update(AnswerRow), changed)


def move(session: Session, client: str, *, owed: int = 0, earned: int = 0) -> None:
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
