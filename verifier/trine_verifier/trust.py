"""Which verifiers may be shown a vote before it is on the chain: those who opened their own when they were shown one.

A seat could commit to anything off-chain, look at the votes that it is shown for that, and commit a copy on the chain.
So whoever was shown a vote of ours owes us its own: it commits on the chain what it had said, or, where it commits
nothing there, has opened it to us. Who has not by the end is shown nothing for a day, the next time for two, then four.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from trine_operator.store import Store
from trine_operator.tables import Base

FIRST_SECONDS = 86_400
"""Of the chain's time; doubled each time."""
MOST_TIMES = 8
"""Whoever has kept its vote to itself so often is never shown one again."""
NEVER = 1 << 62


class ShownVoteRow(Base):
    """A seat that a vote of ours was shown to, until the round is over."""

    __tablename__ = "shown_votes"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    verifier: Mapped[str] = mapped_column(String(42), primary_key=True)
    commitment: Mapped[str] = mapped_column(String(64))  # what it had committed to
    opened: Mapped[bool]  # whether it has opened that


class MistrustRow(Base):
    """A verifier that has not opened its vote after it was shown ours."""

    __tablename__ = "mistrusted"
    verifier: Mapped[str] = mapped_column(String(42), primary_key=True)
    times: Mapped[int]
    until: Mapped[int] = mapped_column(BigInteger)  # the chain's seconds


@dataclass(frozen=True, slots=True)
class Debt:
    """What a seat had committed to when it was shown our vote, and whether it has opened that to us."""

    commitment: bytes
    is_opened: bool

    def is_broken(self, on_chain: bytes | None) -> bool:
        """Whether it may have copied, by its commitment on the chain; pure. Opening alone proves nothing: a seat may
        open garbage to us and commit a copy there."""
        return on_chain != self.commitment if on_chain else not self.is_opened


def mistrusted_until(times: int, now: int) -> int:
    """Until when who did it for the `times`-th time is shown nothing; pure."""
    return NEVER if times > MOST_TIMES else now + (FIRST_SECONDS << times - 1)


class Trust:
    """Of one store. Thread-safe as the store is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.reading() as session:
            rows = session.execute(select(ShownVoteRow.batch_id, ShownVoteRow.round).distinct())
            self._open = {(bytes.fromhex(batch_id), round_) for batch_id, round_ in rows}

    def mistrusts(self, verifiers: Iterable[str], now: int) -> list[str]:
        """Those of them who are shown no vote at the chain's time `now`."""
        query = select(MistrustRow.verifier).where(MistrustRow.verifier.in_(list(verifiers)), MistrustRow.until > now)
        with self._store.reading() as session:
            return list(session.scalars(query))

    def note_shown(self, batch_id: bytes, round_: int, others: Mapping[str, tuple[bytes, bool]]) -> None:
        """Durable on return: only then may the vote be shown. `others`: what they have committed to, and whether they
        have opened it."""
        with self._store.writing() as session:
            for verifier, (commitment, opened) in others.items():
                if session.get(ShownVoteRow, (batch_id.hex(), round_, verifier)) is None:
                    session.add(
                        ShownVoteRow(
                            batch_id=batch_id.hex(),
                            round=round_,
                            verifier=verifier,
                            commitment=commitment.hex(),
                            opened=opened,
                        )
                    )
        self._open.add((batch_id, round_))

    def note_opened(self, batch_id: bytes, round_: int, verifier: str) -> None:
        """It has opened what it had committed to."""
        if (batch_id, round_) in self._open:
            with self._store.writing() as session:
                row = session.get(ShownVoteRow, (batch_id.hex(), round_, verifier))
                if row is not None:
                    row.opened = True

    def shown_to(self, batch_id: bytes, round_: int) -> dict[str, Debt]:
        """Who was shown our vote, and what each owes for it."""
        if (batch_id, round_) not in self._open:
            return {}
        with self._store.reading() as session:
            rows = session.scalars(select(ShownVoteRow).where(_seat(batch_id, round_)))
            return {row.verifier: Debt(bytes.fromhex(row.commitment), row.opened) for row in rows}

    def conclude(self, batch_id: bytes, round_: int, broken_by: Iterable[str], now: int) -> None:
        """The round is over: who has broken its word is mistrusted, nobody owes anything any more."""
        if (batch_id, round_) not in self._open:
            return
        with self._store.writing() as session:
            for verifier in broken_by:
                row = session.get(MistrustRow, verifier)
                if row is None:
                    row = MistrustRow(verifier=verifier, times=0, until=0)
                    session.add(row)
                row.times += 1
                row.until = mistrusted_until(row.times, now)
            session.execute(delete(ShownVoteRow).where(_seat(batch_id, round_)))
        self._open.discard((batch_id, round_))


def _seat(batch_id: bytes, round_: int) -> ColumnElement[bool]:
    return (ShownVoteRow.batch_id == batch_id.hex()) & (ShownVoteRow.round == round_)
