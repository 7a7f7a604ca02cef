"""Connections to the store's database: how they are made, and what its failures mean to an operator. Knows no table."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from trine.errors import TrineError

log = structlog.get_logger()

BUSY_TIMEOUT_SECONDS = 30
"""How long a change waits for another process, or another thread, to finish its own."""
CONNECT_SECONDS = 10
CHECK_SECONDS = 10.0
"""How much of a SQLite file is read at start to see whether it is damaged; a gigabyte takes a few seconds."""
JOURNAL_BYTES = 64 << 20
"""What the write-ahead log is cut back to."""

WRITES = {"trine_writes": True}
"""Options of a connection that takes the write lock when a transaction begins, not in the middle of it."""

RESTORE = (
    "keep a copy of it (with -wal and -shm beside it), then restore the newest backup or save what can be read with "
    "`sqlite3 FILE .recover | sqlite3 NEW`; docs/operators.md says what a backup may lack"
)
HINTS = {
    "SQLITE_FULL": "the disk is full: make room on it",
    "SQLITE_READONLY": "the file or its folder cannot be written: check owner, mode and mount",
    "SQLITE_BUSY": f"another process has kept it locked for {BUSY_TIMEOUT_SECONDS} s: end that one",
    "SQLITE_IOERR": "the disk failed or is full: look at the system's log, make room",
    "SQLITE_CORRUPT": f"the file is damaged: {RESTORE}",
    "SQLITE_NOTADB": f"the file is no SQLite database, or its head is damaged: {RESTORE}",
    "SQLITE_CANTOPEN": "the file cannot be opened: does its folder exist, may this user write in it?",
}
SERVER_HINTS = {
    "08": "the server cannot be reached: is it running?",
    "25006": "the server takes no changes (a replica, or read-only)",
    "28": "the server refuses user or password",
    "3D000": "there is no such database: create it",
    "53100": "the server's disk is full: make room on it",
    "53": "the server is out of memory or connections",
    "55P03": f"another process has kept a lock for {BUSY_TIMEOUT_SECONDS} s: end that one",
    "57P": "the server is being stopped or started",
    "XX": "the server says that its data is damaged: restore a backup",
}


class StoreError(TrineError):
    """The store cannot be opened, read or written."""


def open_engine(url: str, *, outlasts_power: bool = True) -> Engine:
    """`outlasts_power`: what is committed is on the disk before anybody is told; else what a crash of the machine, not
    of a process, may take is the last moment's.

    Raises StoreError when the database's kind is unknown, SQLAlchemyError, or what its driver raises.

    Nothing is connected yet.
    """
    try:
        is_file = url.startswith("sqlite")
        # A server's connection may have died meanwhile, a file's cannot. Parameters hold prompts: they are not shown.
        engine = create_engine(
            url, pool_pre_ping=not is_file, hide_parameters=True, connect_args=_connect_arguments(url)
        )
    except ModuleNotFoundError as error:
        raise StoreError(
            f"cannot open the store: {error.name} is not installed, which this kind of database needs; "
            "for PostgreSQL: in a checkout of Trine, pip install './operators[postgres]', and postgresql+psycopg://…"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_configure_sqlite, "FULL" if outlasts_power else "NORMAL"))
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "connect", partial(_configure_postgres, "on" if outlasts_power else "off"))
    return engine


def check_file(engine: Engine) -> None:
    """Raises StoreError when a SQLite file is damaged, as far as it can be read in CHECK_SECONDS."""
    file = file_of(engine)
    if file is None or not os.path.exists(file) or not os.path.getsize(file):
        return
    with engine.connect() as connection, _interrupted_after(connection, CHECK_SECONDS):
        try:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        except OperationalError as error:
            if name_of(error) != "SQLITE_INTERRUPT":
                raise
            log.info("store_checked_in_part", file=file, seconds=CHECK_SECONDS)
            return
    if found != "ok":
        raise StoreError(f"the store {file} is damaged ({' '.join(str(found).split()):.200}): {RESTORE}")


def file_of(engine: Engine) -> str | None:
    """The path of a SQLite file; None for servers and what is in memory."""
    name = engine.url.database
    return name if engine.dialect.name == "sqlite" and name and name != ":memory:" else None


def explained(error: SQLAlchemyError) -> str:
    """What the database says, and what to do where that is known. Shows no parameters."""
    said = " ".join(str(error.__cause__ or error).split())[:300]
    hint = hint_of(error)
    return f"{said}: {hint}" if hint else said


def hint_of(error: SQLAlchemyError) -> str | None:
    name = name_of(error)
    for prefix, hint in (*HINTS.items(), *SERVER_HINTS.items()):
        if name.startswith(prefix):
            return hint
    return SERVER_HINTS["08"] if isinstance(error, DBAPIError) and error.connection_invalidated else None


def name_of(error: SQLAlchemyError) -> str:
    """SQLite's name of the failure or the server's SQLSTATE; empty if it has none."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return str(getattr(cause, "sqlite_errorname", ""))
    return str(getattr(cause, "sqlstate", None) or "")


def is_fault(error: SQLAlchemyError) -> bool:
    """Whether the database is at fault (full, locked, away, damaged), not the change that it was to take."""
    faults = (OperationalError, InterfaceError, InternalError, PoolTimeout)
    return isinstance(error, faults) or (isinstance(error, DBAPIError) and hint_of(error) is not None)


def _connect_arguments(url: str) -> dict[str, Any]:
    return {"connect_timeout": CONNECT_SECONDS} if "psycopg" in url.partition("://")[0] else {}


def _configure_sqlite(synchronous: str, connection: Any, _record: Any) -> None:
    # The driver begins no transactions of its own: it would only before some statements, and never take the lock first.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}")
    # Only a file without tables takes this, others are written for nothing: pruning gives its pages back to the system.
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
    connection.execute("PRAGMA foreign_keys=ON")
    # What is deleted is overwritten with zeros: a data key that is gone is not to be found in the file.
    connection.execute("PRAGMA secure_delete=ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("trine_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _configure_postgres(synchronous: str, connection: Any, _record: Any) -> None:
    milliseconds = BUSY_TIMEOUT_SECONDS * 1000
    with connection.cursor() as cursor:
        # What is acknowledged here is promised to others, whatever the server's own default is.
        cursor.execute(f"SET synchronous_commit = {synchronous}")
        cursor.execute(f"SET lock_timeout = {milliseconds}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {4 * milliseconds}")
    connection.commit()


@contextmanager
def _interrupted_after(connection: Connection, seconds: float) -> Iterator[None]:
    raw: Any = connection.connection.dbapi_connection
    timer = threading.Timer(seconds, raw.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
