"""What a gateway keeps: keys and their budgets, answers and their verdicts. SQLite, or PostgreSQL by its URL.

A budget is held in two steps, so that any number of answers at once cannot overspend it: the worst price of an answer
is reserved before it is asked for, its fee is spent when it is there. What verifiers do not accept is given back.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from sqlalchemy import delete, func, make_url, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from trine.errors import InvalidInput
from trine.wording import amount
from trine_gateway.keys import new_key
from trine_gateway.records import ChainMark, Due, Judged, Kept, Key, Repeat, Usage
from trine_gateway.statements import (
    DUE,
    KEEP_ANSWER,
    LOCKED_KEY,
    LOOK_LATER,
    RELEASE,
    RELEASE_ENDED,
    RESERVE,
    RESERVED,
    SPENT,
)
from trine_gateway.tables import AnswerRow, ChainRow, CutOffRow, KeyRow, ProbeRow, RepeatRow
from trine_operator.refusal import Refusal
from trine_operator.store.transactions import Transactions

COLUMNS = {"accept": "accepted", "reject": "rejected", "unavailable": "unavailable", "inconclusive": "inconclusive"}
"""Results of a certificate, and where they are counted; an answer whose verdict is not known yet is pending."""
LOST = "lost"
"""Of an answer that nobody has judged in all the time that there is."""
FIRST_LOOK_SECONDS = 15
RECENT = 50
"""Answers that are shown of a key."""
MAX_WEI = 2**128


class GatewayStore(Transactions):
    """One connection pool; methods are transactions."""

    VERSIONS: ClassVar[Path | None] = Path(__file__).parent / "versions"
    OUTLASTS_POWER: ClassVar[bool] = False
    """Answers wait for each of its changes, and what a power cut takes is what keys have spent in the last moment: the
    account's money is counted by nodes and the chain."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        _make_private(url)
        super().__init__(url)
        self._clock = clock

    def _probe(self, session: Session) -> None:
        session.execute(update(ProbeRow).values(times=ProbeRow.times + 1))

    # The chain that all of it is about

    def chain_mark(self) -> ChainMark | None:
        """None before a gateway of this store has ever seen its chain."""
        with self.reading() as session:
            row = session.scalars(select(ChainRow)).one_or_none()
            return ChainMark(row.chain_id, row.contract, row.block, bytes.fromhex(row.block_hash)) if row else None

    def keep_chain_mark(self, mark: ChainMark) -> None:
        """Once: the accounts of one chain mean nothing on another."""
        with self.writing() as session:
            if session.scalars(select(ChainRow)).one_or_none() is None:
                row = ChainRow(name="chain", chain_id=mark.chain_id, contract=mark.contract, block=mark.block)
                row.block_hash = mark.block_hash.hex()
                session.add(row)

    # Keys

    def add_key(
        self,
        name: str,
        *,
        budget_wei: int | None,
        requests_per_minute: int,
        expires_at: int | None = None,
        is_admin: bool = False,
    ) -> tuple[str, str]:
        """(id, the key itself): nobody can be shown it again. Raises InvalidInput."""
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise InvalidInput("a key's name has 1 to 64 printable characters")
        if budget_wei is not None and not 0 <= budget_wei < MAX_WEI:
            raise InvalidInput(f"a budget is 0 to {MAX_WEI - 1} wei")
        if not 1 <= requests_per_minute <= 1_000_000:
            raise InvalidInput("a key may ask 1 to 1,000,000 times a minute")
        made = new_key()
        with self.writing() as session:
            session.add(
                KeyRow(
                    key_id=made.key_id,
                    name=name,
                    hash=made.hash,
                    is_admin=is_admin,
                    budget_wei=None if budget_wei is None else str(budget_wei),
                    requests_per_minute=requests_per_minute,
                    created_at=int(self._clock()),
                    expires_at=expires_at,
                    revoked_at=None,
                    spent_wei="0",
                    answers=0,
                    accepted=0,
                    rejected=0,
                    unavailable=0,
                    inconclusive=0,
                )
            )
        return made.key_id, made.text

    def key(self, key_id: str) -> Key | None:
        with self.reading() as session:
            row = session.get(KeyRow, key_id)
            return _key(row) if row else None

    def revoke(self, key_id: str) -> None:
        """Raises InvalidInput for a key that is not there."""
        with self.writing() as session:
            row = session.get(KeyRow, key_id)
            if row is None:
                raise InvalidInput(f"there is no key {key_id!r:.64}: `trine gateway keys list` shows their ids")
            row.revoked_at = row.revoked_at or int(self._clock())

    def usage(self, key_id: str | None = None, *, recent: int = RECENT) -> list[Usage]:
        """Of one key with its last answers, or of all without."""
        with self.reading() as session:
            asked = select(KeyRow).order_by(KeyRow.created_at, KeyRow.key_id)
            rows = session.scalars(asked if key_id is None else asked.where(KeyRow.key_id == key_id)).all()
            return [
                Usage(
                    _key(row),
                    row.created_at,
                    int(row.spent_wei),
                    self._reserved(session, row.key_id),
                    row.answers,
                    {result: int(getattr(row, column)) for result, column in COLUMNS.items()},
                    self._recent(session, row.key_id, recent) if key_id is not None else (),
                )
                for row in rows
            ]

    def _recent(self, session: Session, key_id: str, most: int) -> tuple[Judged, ...]:
        rows = session.scalars(
            select(AnswerRow).where(AnswerRow.key_id == key_id).order_by(AnswerRow.sequence.desc()).limit(most)
        )
        return tuple(
            Judged("0x" + r.digest, r.model, r.node, int(r.fee_wei), r.created_at, r.verdict, r.is_final) for r in rows
        )

    # Budgets

    def reserve(self, key_id: str, wei: int, seconds: float) -> str:
        """Keeps so much of the key's budget for one answer, for `seconds` at most; returns the reservation's name.

        Raises Refusal for a key that may not spend it.
        """
        now = int(self._clock())
        name = secrets.token_hex(16)
        with self.writing() as session:
            found = session.execute(LOCKED_KEY, {"key_id": key_id}).one_or_none()
            if found is None or found.revoked_at is not None or (found.expires_at or now + 1) <= now:
                raise Refusal("this API key was revoked or has expired", status=401, code="invalid_api_key")
            reserved = session.execute(RESERVED, {"key_id": key_id}).all()
            if any(row.until <= now for row in reserved):
                session.execute(RELEASE_ENDED, {"key_id": key_id, "until": now})
            if found.budget_wei is not None:
                kept = sum(int(row.wei) for row in reserved if row.until > now)
                left = int(found.budget_wei) - int(found.spent_wei) - kept
                if wei > left:
                    budget, free = amount(int(found.budget_wei)), amount(max(left, 0))
                    raise Refusal(
                        f"this answer may cost {amount(wei)} (before it is there, each byte of the prompt counts as a "
                        f"token), and of the key's budget of {budget} only {free} are neither spent nor kept for "
                        "answers on their way: shorten the prompt, lower max_tokens, or ask for a larger budget",
                        status=429,
                        code="insufficient_quota",
                        headers={"x-should-retry": "false"},
                    )
            until = now + int(seconds) + 1
            session.execute(RESERVE, {"name": name, "key_id": key_id, "wei": str(wei), "until": until})
        return name

    def _reserved(self, session: Session, key_id: str) -> int:
        now = int(self._clock())
        return sum(int(row.wei) for row in session.execute(RESERVED, {"key_id": key_id}) if row.until > now)

    def release(self, name: str) -> None:
        """Nothing was spent of what was reserved. Twice is once."""
        with self.writing() as session:
            session.execute(RELEASE, {"name": name})

    def settle(self, name: str, key_id: str, kept: Kept, repeat: Repeat | None = None, answer: str = "") -> None:
        """The answer is there, and its fee is spent instead of what was reserved. `answer`: what a repeat gives."""
        now = int(self._clock())
        with self.writing() as session:
            session.execute(RELEASE, {"name": name})
            key = session.execute(LOCKED_KEY, {"key_id": key_id}).one()
            spent = {"spent_wei": str(int(key.spent_wei) + kept.fee_wei), "answers": key.answers + 1}
            session.execute(SPENT, {"of_key_id": key_id, **spent})
            session.execute(
                KEEP_ANSWER,
                {
                    "digest": kept.digest.hex(),
                    "key_id": key_id,
                    "model": kept.model,
                    "node": kept.node,
                    "held": kept.held,
                    "fee_wei": str(kept.fee_wei),
                    "created_at": now,
                    "is_final": False,
                    "looks": 0,
                    "look_at": now + FIRST_LOOK_SECONDS,
                },
            )
            if repeat is not None:
                session.merge(
                    RepeatRow(key_id=key_id, name=repeat.name, body=repeat.body, answer=answer, created_at=now)
                )

    # Answers that are asked for again

    def claim_repeat(self, key_id: str, repeat: Repeat, seconds: int) -> tuple[str, str] | None:
        """Makes the Idempotency-Key ours, for `seconds` and as long as it is held by `hold_repeat`, or until `settle`.

        None if it is; else (hash of the body, the answer) that it is for, without an answer where another gateway of
        this store asks for it right now.
        """
        now = int(self._clock())
        with self.writing() as session:
            # Whoever claims at the same moment waits here.
            session.execute(select(KeyRow.key_id).where(KeyRow.key_id == key_id).with_for_update()).one_or_none()
            row = session.get(RepeatRow, (key_id, repeat.name), populate_existing=True)
            if row is not None and (row.answer or row.created_at + seconds > now):
                return row.body, row.answer
            session.merge(RepeatRow(key_id=key_id, name=repeat.name, body=repeat.body, answer="", created_at=now))
        return None

    def hold_repeat(self, key_id: str, name: str) -> None:
        """It is still being asked for."""
        with self.writing() as session:
            session.execute(
                update(RepeatRow)
                .where(RepeatRow.key_id == key_id, RepeatRow.name == name, RepeatRow.answer == "")
                .values(created_at=int(self._clock()))
            )

    def leave_repeat(self, key_id: str, name: str) -> None:
        """There is no answer: whoever asks next may claim it."""
        with self.writing() as session:
            session.execute(
                delete(RepeatRow).where(RepeatRow.key_id == key_id, RepeatRow.name == name, RepeatRow.answer == "")
            )

    def forget_repeats(self, older_than_seconds: int) -> int:
        """Deletes the texts of answers that nobody can have again."""
        before = int(self._clock()) - older_than_seconds
        with self.writing() as session:
            old = select(RepeatRow.key_id, RepeatRow.name).where(RepeatRow.created_at < before).limit(1_000)
            found = session.execute(old).all()
            for key_id, name in found:
                session.execute(delete(RepeatRow).where(RepeatRow.key_id == key_id, RepeatRow.name == name))
        return len(found)

    # Verdicts

    def due(self, most: int) -> list[Due]:
        """Answers to look at now, those that have waited longest first."""
        now = int(self._clock())
        with self.reading() as session:
            return [
                Due(bytes.fromhex(r.digest), r.key_id, r.node, r.held, r.verdict, r.looks, r.created_at)
                for r in session.execute(DUE, {"look_at": now, "most": most})
            ]

    def look_later(self, digest: bytes, seconds: int) -> None:
        with self.writing() as session:
            session.execute(LOOK_LATER, {"of_digest": digest.hex(), "look_at": int(self._clock()) + seconds})

    def put_off(self, node: str, seconds: int) -> None:
        """The node does not say anything: none of its answers is looked at for so long."""
        now = int(self._clock())
        with self.writing() as session:
            session.execute(
                update(AnswerRow)
                .where(AnswerRow.node == node, AnswerRow.look_at <= now)
                .values(looks=AnswerRow.looks + 1, look_at=now + seconds)
            )

    def judge(self, digest: bytes, verdict: str, *, is_final: bool, look_in_seconds: int = 0) -> None:
        """Notes a verdict, once: what is final does not change any more. The fee of what is not accepted for good is
        given back to the key's budget, as it is to the gateway's account."""
        with self.writing() as session:
            row = session.scalars(
                select(AnswerRow).where(AnswerRow.digest == digest.hex()).with_for_update()
            ).one_or_none()
            if row is None or row.is_final:
                return
            key = session.scalars(select(KeyRow).where(KeyRow.key_id == row.key_id).with_for_update()).one()
            if row.verdict in COLUMNS:
                _count(key, row.verdict, -1)
            if verdict in COLUMNS:
                _count(key, verdict, 1)
            if is_final and verdict != "accept":
                key.spent_wei = str(max(0, int(key.spent_wei) - int(row.fee_wei)))
            row.verdict, row.is_final = verdict, is_final
            row.look_at = None if is_final else int(self._clock()) + look_in_seconds

    def verdict(self, digest: bytes) -> tuple[str | None, bool]:
        """(verdict, whether it is final) of an answer of ours."""
        with self.reading() as session:
            row = session.scalars(select(AnswerRow).where(AnswerRow.digest == digest.hex())).one_or_none()
            return (row.verdict, row.is_final) if row else (None, False)

    # Nodes

    def cut_off(self, node: str, seconds: int, digest: bytes, *, replace: bool = True) -> bool:
        """Whether the node is cut off for this answer now: without `replace`, not where it is for another."""
        now = int(self._clock())
        with self.writing() as session:
            known = session.get(CutOffRow, node.lower())
            if known is not None and known.until > now and not replace:
                return False
            session.merge(CutOffRow(node=node.lower(), until=now + seconds, digest=digest.hex()))
            return True

    def take_back(self, node: str, digest: bytes) -> bool:
        """Whether the node was cut off for this answer, which it is no more."""
        with self.writing() as session:
            done = session.execute(
                delete(CutOffRow).where(CutOffRow.node == node.lower(), CutOffRow.digest == digest.hex())
            )
            return bool(done.rowcount)  # type: ignore[attr-defined]

    def all_cut_off(self) -> list[tuple[str, int, str]]:
        """(node, seconds that are left, digest of the answer) of each."""
        now = int(self._clock())
        with self.reading() as session:
            rows: Sequence[CutOffRow] = session.scalars(select(CutOffRow).where(CutOffRow.until > now)).all()
            return [(row.node, row.until - now, row.digest) for row in rows]

    def pending(self) -> int:
        """Answers of which more will be known."""
        with self.reading() as session:
            return session.scalar(select(func.count()).where(AnswerRow.look_at.is_not(None))) or 0


def _make_private(url: str) -> None:
    """A file that holds answers' texts is its owner's. What there is already keeps its mode; -wal and -shm get it, too.
    What is wrong with the path is said by whoever opens it."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
            os.close(os.open(parsed.database, os.O_CREAT | os.O_RDWR, 0o600))
    except (OSError, SQLAlchemyError):
        pass


def _count(key: KeyRow, verdict: str, by: int) -> None:
    column = COLUMNS[verdict]
    setattr(key, column, getattr(key, column) + by)


def _key(row: KeyRow) -> Key:
    return Key(
        row.key_id,
        row.name,
        row.hash,
        row.is_admin,
        None if row.budget_wei is None else int(row.budget_wei),
        row.requests_per_minute,
        row.expires_at,
        row.revoked_at,
    )
