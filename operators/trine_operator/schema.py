"""Brings a store to the tables that this version of Trine knows, or refuses it. `migrations` holds the steps.

Node and verifier share one chain of revisions, so a store has the tables of both; a gateway has one of its own. Stores
that were written before there were revisions name their version in the table `schema`; version 3 is the first revision.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from trine_operator.database import WRITES, StoreError, explained
from trine_operator.tables import SchemaRow

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
BASELINE_VERSION = 3
"""Of stores without revisions: the one that can be taken over."""
ADVISORY_LOCK = 0x7472696E65
"""PostgreSQL's name for the lock under which one process upgrades."""

_alembic = threading.Lock()
"""Alembic keeps what it works on in a module: one thread at a time."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a store says of itself: its revision, or its version from before there were any; a new one says neither."""

    revision: str | None = None
    version: int | None = None
    is_new: bool = False


def upgrade(engine: Engine, versions: Path | None = None) -> None:
    """Makes or upgrades the tables, one process at a time; all or nothing on SQLite and PostgreSQL. `versions`: other
    revisions than those of nodes and verifiers.

    Raises StoreError, and leaves a store as it was, if it is newer or too old, or a step fails.
    """
    scripts = ScriptDirectory.from_config(config(versions))
    newest = scripts.get_current_head()
    # What is found while another process upgrades may be half of before, half of after: it is looked at again.
    with suppress(StoreError), engine.connect() as connection:
        if accepted(found(connection), scripts) == newest:
            return
    before: str | None = None
    try:
        with _alone(engine) as connection:
            state = found(connection)
            before = accepted(state, scripts)
            if before == newest:
                return  # another process was faster
            if not state.is_new:
                log.info("store_upgrading", revision=before or f"version {state.version}", to=newest)
            _run(connection, versions)
    except StoreError:
        raise
    except Exception as error:
        said = explained(error) if isinstance(error, SQLAlchemyError) else f"{type(error).__name__}: {error}"
        raise StoreError(
            f"the store could not be brought from revision {before or 'none'} to {newest} and was left as it was "
            f"({said}): put that right and start again, or go on with the version of Trine that wrote it"
        ) from error


def found(connection: Connection) -> Found:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is not None:
            return Found(revision=revision)
    if SchemaRow.__tablename__ not in tables:
        return Found(is_new=True)
    return Found(version=connection.scalar(select(SchemaRow.version).where(SchemaRow.name == "trine")))


def accepted(state: Found, scripts: ScriptDirectory) -> str | None:
    """The revision to go on from; None for the beginning. Raises StoreError for what cannot be upgraded."""
    known = {script.revision for script in scripts.walk_revisions()}
    if state.revision is not None:
        if state.revision not in known:
            raise StoreError(
                f"the store has revision {state.revision}, which a newer version of Trine wrote; this one knows "
                f"{scripts.get_current_head()} at most: use that version, or another store (store_url)"
            )
        return state.revision
    if state.is_new or state.version == BASELINE_VERSION:
        return None
    if state.version is None:
        raise StoreError("the store's table `schema` is empty: it is no store of Trine's, use another (store_url)")
    age = "newer" if state.version > BASELINE_VERSION else "too old"
    raise StoreError(
        f"the store has schema {state.version}, which is {age}: this version of Trine upgrades from "
        f"{BASELINE_VERSION}; use the version that wrote it, or another store (store_url)"
    )


def config(versions: Path | None = None, **attributes: Any) -> Config:
    """Alembic's configuration; `attributes` are for `env.py`."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.set_main_option("version_locations", str(versions or MIGRATIONS / "versions").replace("%", "%%"))
    made.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    made.set_main_option("path_separator", "os")
    made.attributes.update(attributes)
    return made


def _run(connection: Connection, versions: Path | None) -> None:
    with _alembic:
        command.upgrade(config(versions, connection=connection), "head")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other process upgrades beside."""
    with engine.execution_options(**WRITES).connect() as connection:
        if connection.dialect.name == "sqlite":
            with _without_foreign_keys(connection), connection.begin():
                yield connection
            return
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 0"))  # an upgrade may take its time
                connection.execute(select(text(f"pg_advisory_xact_lock({ADVISORY_LOCK})")))
            yield connection


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """SQLite changes a table by dropping it, which would drop what refers to it. Not inside a transaction."""
    raw: Any = connection.connection.dbapi_connection
    raw.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys=ON")
