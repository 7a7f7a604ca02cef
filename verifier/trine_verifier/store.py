"""A verifier's votes, written with their salts before they are committed: without its salt no vote is revealed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, String, Text, delete, exists, select, tuple_, update
from sqlalchemy.orm import Mapped, Session, class_mapper, mapped_column

from trine.protocol.appeals import LeafVote
from trine.protocol.verdict import Verdict
from trine.protocol.votes import Vote, distance_ppm_of
from trine_operator.store import Store
from trine_operator.tables import Base
from trine_verifier.kept import KeptEvidence, Limits


class VoteRow(Base):
    """One seat of ours: batch and round name it."""

    __tablename__ = "votes"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    accepts: Mapped[str] = mapped_column(String(64))
    rejects: Mapped[str] = mapped_column(String(64))
    distance_ppm: Mapped[int]
    salt: Mapped[str] = mapped_column(String(64))
    verdicts: Mapped[str] = mapped_column(Text)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, index=True)  # the chain's seconds; None while it is a duty


class CursorRow(Base):
    """How far the chain has been read."""

    __tablename__ = "cursors"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    block: Mapped[int]


class DutyRow(Base):
    """Seats that were drawn and are not over."""

    __tablename__ = "duties"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)


class AppealVoteRow(Base):
    """One seat of ours on an appealed leaf."""

    __tablename__ = "appeal_votes"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    leaf: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    vote: Mapped[int]
    salt: Mapped[str] = mapped_column(String(64))
    verdict: Mapped[str] = mapped_column(Text)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, index=True)  # the chain's seconds; None while it is a duty


class AppealDutyRow(Base):
    """Seats on appealed leaves that were drawn and are not over."""

    __tablename__ = "appeal_duties"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    leaf: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)


class OwnAppealRow(Base):
    """Appeals that this account has opened and that are not over."""

    __tablename__ = "own_appeals"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    leaf: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True)
    bond_wei: Mapped[str] = mapped_column(String(78))


@dataclass(frozen=True, slots=True)
class OwnAppeal:
    """An appeal that this account has put up a bond for."""

    batch_id: bytes
    leaf: int
    level: int
    bond_wei: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.batch_id.hex(), self.leaf, self.level


@dataclass(frozen=True, slots=True)
class AppealSeat:
    """What names a seat on an appealed leaf."""

    batch_id: bytes
    leaf: int
    level: int
    round: int

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.batch_id.hex(), self.leaf, self.level, self.round


@dataclass(frozen=True, slots=True)
class StoredVote:
    vote: Vote
    distance_ppm: int
    salt: bytes
    verdicts: list[dict[str, Any]]


ROWS_AT_ONCE = 256
"""Votes noted as over, and votes pruned, in one transaction."""


class VerifierStore(Store):
    """The node's store (a verifier's own calibration batches), the votes, and evidence that is passed on."""

    def __init__(self, url: str, kept: Limits | None = None) -> None:
        """`kept`: how much of others' evidence is kept."""
        super().__init__(url)
        self.kept = KeptEvidence(self, kept or Limits())

    def cursor(self, default: int) -> int:
        """How far the chain was read by versions that kept no events; `default` without one."""
        with self.reading() as session:
            row = session.get(CursorRow, "draws")
            return row.block if row else default

    def note_seats(self, session: Session, duties: list[tuple[bytes, int]], appeals: list[AppealSeat]) -> None:
        """In the transaction that keeps how far the chain was read: both move together."""
        for seat in appeals:
            if session.get(AppealDutyRow, seat.key) is None:
                session.add(
                    AppealDutyRow(batch_id=seat.batch_id.hex(), leaf=seat.leaf, level=seat.level, round=seat.round)
                )
        for batch_id, round_ in duties:
            if session.get(DutyRow, (batch_id.hex(), round_)) is None:
                session.add(DutyRow(batch_id=batch_id.hex(), round=round_))

    def end_seats(self, session: Session, duties: list[tuple[bytes, int]], appeals: list[AppealSeat]) -> None:
        """In the transaction that takes back what was read."""
        rows = [session.get(AppealDutyRow, seat.key) for seat in appeals]
        for row in (*rows, *(session.get(DutyRow, (batch_id.hex(), round_)) for batch_id, round_ in duties)):
            if row is not None:
                session.delete(row)
        session.flush()

    def note_own_appeals(self, session: Session, come: list[OwnAppeal], gone: list[OwnAppeal]) -> None:
        """In the transaction that keeps how far the chain was read."""
        for each in gone:
            row = session.get(OwnAppealRow, each.key)
            if row is not None:
                session.delete(row)
        session.flush()
        for each in come:
            if session.get(OwnAppealRow, each.key) is None:
                batch_id, leaf, level = each.key
                session.add(OwnAppealRow(batch_id=batch_id, leaf=leaf, level=level, bond_wei=str(each.bond_wei)))

    def own_appeals(self) -> list[OwnAppeal]:
        with self.reading() as session:
            rows = session.scalars(select(OwnAppealRow))
            return [OwnAppeal(bytes.fromhex(row.batch_id), row.leaf, row.level, int(row.bond_wei)) for row in rows]

    def end_own_appeal(self, appeal: OwnAppeal) -> None:
        with self.writing() as session:
            self.note_own_appeals(session, [], [appeal])

    def duties(self) -> list[tuple[bytes, int]]:
        with self.reading() as session:
            return [(bytes.fromhex(row.batch_id), row.round) for row in session.scalars(select(DutyRow))]

    def end_duty(self, batch_id: bytes, round_: int) -> None:
        with self.writing() as session:
            row = session.get(DutyRow, (batch_id.hex(), round_))
            if row is not None:
                session.delete(row)

    def save_vote(self, batch_id: bytes, round_: int, vote: Vote, salt: bytes, verdicts: list[Verdict]) -> None:
        """Durable on return: only then may the commitment be sent. A second vote on the same seat is refused."""
        distance_ppm = distance_ppm_of(verdict.deviation for verdict in verdicts)
        with self.writing() as session:
            session.add(
                VoteRow(
                    batch_id=batch_id.hex(),
                    round=round_,
                    accepts=f"{vote.words[0]:x}",
                    rejects=f"{vote.words[1]:x}",
                    distance_ppm=distance_ppm,
                    salt=salt.hex(),
                    verdicts=json.dumps([asdict(verdict) for verdict in verdicts]),
                )
            )

    def vote(self, batch_id: bytes, round_: int) -> StoredVote | None:
        with self.reading() as session:
            row = session.get(VoteRow, (batch_id.hex(), round_))
            if row is None:
                return None
            vote = Vote.from_words(int(row.accepts, 16), int(row.rejects, 16))
            return StoredVote(vote, row.distance_ppm, bytes.fromhex(row.salt), json.loads(row.verdicts))

    def appeal_duties(self) -> list[AppealSeat]:
        with self.reading() as session:
            rows = session.scalars(select(AppealDutyRow))
            return [AppealSeat(bytes.fromhex(row.batch_id), row.leaf, row.level, row.round) for row in rows]

    def end_appeal_duty(self, seat: AppealSeat) -> None:
        with self.writing() as session:
            row = session.get(AppealDutyRow, seat.key)
            if row is not None:
                session.delete(row)

    def save_appeal_vote(self, seat: AppealSeat, vote: LeafVote, salt: bytes, verdict: Verdict) -> None:
        """Durable on return: only then may the commitment be sent. A second vote on the same seat is refused."""
        with self.writing() as session:
            session.add(
                AppealVoteRow(
                    batch_id=seat.batch_id.hex(),
                    leaf=seat.leaf,
                    level=seat.level,
                    round=seat.round,
                    vote=int(vote),
                    salt=salt.hex(),
                    verdict=json.dumps(asdict(verdict)),
                )
            )

    def appeal_vote(self, seat: AppealSeat) -> tuple[LeafVote, bytes] | None:
        """The vote and its salt."""
        with self.reading() as session:
            row = session.get(AppealVoteRow, seat.key)
            return (LeafVote(row.vote), bytes.fromhex(row.salt)) if row else None

    def prune_votes(self, now: int, keep_seconds: int) -> bool:
        """Deletes votes, with salts and verdicts, whose seats were over `keep_seconds` ago by the chain's time `now`.

        A vote is first noted as over when it is no duty any more. Small transactions; returns whether more may be left.
        """
        votes = self._prune_seats(VoteRow, DutyRow, now, keep_seconds)
        appeals = self._prune_seats(AppealVoteRow, AppealDutyRow, now, keep_seconds)
        return votes or appeals

    def _prune_seats(
        self,
        votes: type[VoteRow] | type[AppealVoteRow],
        duties: type[DutyRow] | type[AppealDutyRow],
        now: int,
        keep_seconds: int,
    ) -> bool:
        names = [column.name for column in class_mapper(duties).primary_key]
        seat = [getattr(votes, name) for name in names]
        is_duty = exists().where(*(getattr(votes, name) == getattr(duties, name) for name in names))
        over = select(*seat).where(votes.ended_at.is_(None), ~is_duty).limit(ROWS_AT_ONCE)
        old = select(*seat).where(votes.ended_at <= now - keep_seconds).limit(ROWS_AT_ONCE)
        with self.reading() as session:
            ended, outdated = ([tuple(row) for row in session.execute(query)] for query in (over, old))
        if ended or outdated:
            with self.writing() as session:
                session.execute(update(votes).where(tuple_(*seat).in_(ended)).values(ended_at=now))
                session.execute(delete(votes).where(tuple_(*seat).in_(outdated)))
        return ROWS_AT_ONCE in (len(ended), len(outdated))
