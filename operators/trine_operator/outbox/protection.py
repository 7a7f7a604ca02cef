"""What this operator has said for good, so that it never says otherwise: after EIP-3076, for votes and anchors.

A row is written in the transaction that queues the act, before anything is signed. A restored backup, or a second
machine, is given the record by `export` and `merge`; merging only ever adds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.chain import Chain
from trine.errors import InvalidInput, TrineError
from trine_operator.outbox.acts import Guard
from trine_operator.store import Store
from trine_operator.tables import Base

FORMAT = "trine-protection"
VERSION = 1
KINDS = {
    "vote": r"[0-9a-f]{64}/\d{1,3}",
    "appeal-vote": r"[0-9a-f]{64}/\d{1,3}/\d/\d{1,3}",
    "appeal": r"[0-9a-f]{64}/\d{1,3}",
    "answers": r"[0-9a-f]{64}",
    "challenge": r"[0-9a-f]{64}",
}
"""Kinds of subjects, and how each is written. Values are 32 bytes: a commitment, a batch's id, or what an
appeal claims."""
VALUE = r"[0-9a-f]{64}"
MAX_FILE_BYTES = 256 << 20


class Contradiction(TrineError):
    """What was to be signed contradicts what this operator has signed before."""


class ProtectionRow(Base):
    """Of this subject nothing else is ever signed."""

    __tablename__ = "protection"
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    subject: Mapped[str] = mapped_column(String(80), primary_key=True)
    value: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose record it is."""

    chain_id: int
    batches: str
    account: str

    @classmethod
    def of(cls, chain: Chain) -> Owner:
        return cls(chain.domain.chain_id, chain.domain.verifying_contract, chain.address)


def vote_guard(batch_id: bytes, round_: int, commitment: bytes) -> Guard:
    return Guard("vote", f"{batch_id.hex()}/{round_}", commitment.hex())


def appeal_guard(batch_id: bytes, leaf: int, level: int, round_: int, commitment: bytes) -> Guard:
    return Guard("appeal-vote", f"{batch_id.hex()}/{leaf}/{level}/{round_}", commitment.hex())


def claim_guard(batch_id: bytes, leaf: int, claim: int) -> Guard:
    """A leaf is never appealed with another claim."""
    return Guard("appeal", f"{batch_id.hex()}/{leaf}", claim.to_bytes(32, "big").hex())


def anchor_guards(batch_id: bytes, root: bytes, challenge_id: bytes | None) -> tuple[Guard, ...]:
    """The same answers are never anchored as two batches, a challenge is never answered twice."""
    answers = Guard("answers", root.hex(), batch_id.hex())
    return (answers,) if challenge_id is None else (answers, Guard("challenge", challenge_id.hex(), batch_id.hex()))


def promise(session: Session, guards: Iterable[Guard]) -> None:
    """Writes the guards. Raises Contradiction, having written nothing, where another value is on record."""
    for guard in guards:
        row = session.get(ProtectionRow, (guard.kind, guard.subject))
        if row is None:
            session.add(ProtectionRow(kind=guard.kind, subject=guard.subject, value=guard.value))
        elif row.value != guard.value:
            raise Contradiction(
                f"{guard.kind} of {guard.subject}: this operator has signed 0x{row.value} and signs nothing else, "
                f"least of all 0x{guard.value}; the store is older than the record, or another copy wrote it"
            )


def recorded(store: Store, kind: str, subject: str) -> str | None:
    """The value that was signed, if any."""
    with store.reading() as session:
        row = session.get(ProtectionRow, (kind, subject))
        return row.value if row else None


def export(store: Store, owner: Owner) -> dict[str, Any]:
    """The whole record as JSON; docs/operators.md has the schema."""
    with store.reading() as session:
        rows = session.scalars(select(ProtectionRow).order_by(ProtectionRow.kind, ProtectionRow.subject))
        signed = [{"kind": row.kind, "subject": row.subject, "value": row.value} for row in rows]
    return {
        "format": FORMAT,
        "version": VERSION,
        "chainId": owner.chain_id,
        "batches": owner.batches,
        "account": owner.account,
        "signed": signed,
    }


def merge(store: Store, owner: Owner, document: Any) -> int:
    """Adds what is new of another record of the same operator, and returns how much that was.

    Raises InvalidInput, having changed nothing, for another chain, account or format, and for a contradiction.
    """
    guards = _guards_of(document, owner)
    with store.writing() as session:
        before = {(row.kind, row.subject): row.value for row in session.scalars(select(ProtectionRow))}
        for guard in guards:
            known = before.get((guard.kind, guard.subject))
            if known is None:
                before[guard.kind, guard.subject] = guard.value
                session.add(ProtectionRow(kind=guard.kind, subject=guard.subject, value=guard.value))
            elif known != guard.value:
                raise InvalidInput(
                    f"protection record: {guard.kind} of {guard.subject} is 0x{known} here and 0x{guard.value} in the "
                    "file: two copies of this operator have signed different things, and both records are kept as "
                    "they are; nothing was imported"
                )
        return len(session.new)


def read_file(path: Path) -> Any:
    """Raises InvalidInput."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"protection record: {path} is larger than {MAX_FILE_BYTES >> 20} MiB")
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"protection record: cannot read {path}: {error}") from None


def _guards_of(document: Any, owner: Owner) -> list[Guard]:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidInput(f"protection record: this is none, its format is not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise InvalidInput(f"protection record: version {document.get('version')!r}, this Trine knows {VERSION}")
    expected = {"chainId": owner.chain_id, "batches": owner.batches, "account": owner.account}
    for name, value in expected.items():
        if str(document.get(name)).lower() != str(value).lower():
            raise InvalidInput(
                f"protection record: its {name} is {document.get(name)!r}, this operator's is {value!r}: "
                "it belongs to another operator"
            )
    signed = document.get("signed")
    if not isinstance(signed, list):
        raise InvalidInput("protection record: `signed` is no list")
    return [_guard_of(number, entry) for number, entry in enumerate(signed)]


def _guard_of(number: int, entry: Any) -> Guard:
    fields = [entry.get(name) for name in ("kind", "subject", "value")] if isinstance(entry, dict) else []
    texts = [field for field in fields if isinstance(field, str)]
    if len(texts) == 3:
        kind, subject, value = texts
        if kind in KINDS and re.fullmatch(KINDS[kind], subject) and re.fullmatch(VALUE, value):
            return Guard(kind, subject, value)
    raise InvalidInput(f"protection record: entry {number} of `signed` is no kind, subject and value of this format")
