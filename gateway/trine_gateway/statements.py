"""What the store says to its database for each answer, built once: to build such a statement takes SQLAlchemy five
times as long as it takes SQLite to carry it out."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update

from trine_gateway.tables import Base

_KEYS, _RESERVATIONS, _ANSWERS = (Base.metadata.tables[name] for name in ("keys", "reservations", "answers"))

LOCKED_KEY = (
    select(_KEYS.c.budget_wei, _KEYS.c.spent_wei, _KEYS.c.expires_at, _KEYS.c.revoked_at, _KEYS.c.answers)
    .where(_KEYS.c.key_id == bindparam("key_id"))
    .with_for_update()
)
"""Whoever changes what a key has spent or reserved, waits here for others that do."""
SPENT = (
    update(_KEYS)
    .where(_KEYS.c.key_id == bindparam("of_key_id"))
    .values(spent_wei=bindparam("spent_wei"), answers=bindparam("answers"))
)

RESERVED = select(_RESERVATIONS.c.wei, _RESERVATIONS.c.until).where(_RESERVATIONS.c.key_id == bindparam("key_id"))
RESERVE = insert(_RESERVATIONS)
RELEASE = delete(_RESERVATIONS).where(_RESERVATIONS.c.name == bindparam("name"))
RELEASE_ENDED = delete(_RESERVATIONS).where(
    _RESERVATIONS.c.key_id == bindparam("key_id"), _RESERVATIONS.c.until <= bindparam("until")
)

KEEP_ANSWER = insert(_ANSWERS)
DUE = (
    select(
        _ANSWERS.c.digest,
        _ANSWERS.c.key_id,
        _ANSWERS.c.node,
        _ANSWERS.c.held,
        _ANSWERS.c.verdict,
        _ANSWERS.c.looks,
        _ANSWERS.c.created_at,
    )
    .where(_ANSWERS.c.look_at <= bindparam("look_at"))
    .order_by(_ANSWERS.c.look_at)
    .limit(bindparam("most"))
)
LOOK_LATER = (
    update(_ANSWERS)
    .where(_ANSWERS.c.digest == bindparam("of_digest"), _ANSWERS.c.look_at.is_not(None))
    .values(looks=_ANSWERS.c.looks + 1, look_at=bindparam("look_at"))
)
