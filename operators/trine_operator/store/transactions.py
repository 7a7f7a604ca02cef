"""One view or one change of the store at a time: what is durable, what failed, whose store it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import structlog
from sqlalchemy import select, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from trine_operator import schema
from trine_operator.database import (
    BUSY_TIMEOUT_SECONDS,
    WRITES,
    StoreError,
    check_file,
    explained,
    is_fault,
    open_engine,
)
from trine_operator.tables import OwnerRow, SchemaRow
from trine_operator.vault import Vault

log = structlog.get_logger()

PROBE_SECONDS = 1.0
"""After a change that failed, a small one is tried so often, when somebody asks."""


class Transactions:
    """One connection pool; methods of what builds on this are transactions."""

    VERSIONS: ClassVar[Path | None] = None
    """The revisions that make its tables; None: those of nodes and verifiers."""
    OUTLASTS_POWER: ClassVar[bool] = True
    """Whether what is promised here costs stake when a crash of the machine takes it."""

    def __init__(self, url: str) -> None:
        """Makes or upgrades the tables. Raises StoreError, saying what to do, for what cannot be used."""
        self.vault: Vault | None = None
        """What evidence is sealed with from now on; without one it is kept, and read, in the clear."""
        self._write_lock = threading.Lock()
        self._probe_lock = threading.Lock()
        self._fault: str | None = None
        self.acknowledgements = 0
        """Vouchers of this process that acknowledged more than those before: there is something to collect."""
        self._probed_at = 0.0
        self._engine = _opened(url, self.VERSIONS, self.OUTLASTS_POWER)
        self._reads = sessionmaker(self._engine, expire_on_commit=False)
        self._writes = sessionmaker(self._engine.execution_options(**WRITES), expire_on_commit=False)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One view of the store. Raises StoreError."""
        try:
            with self._reads() as session:
                yield session
        except SQLAlchemyError as error:
            raise StoreError(f"the store cannot be read: {explained(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is durable when the block ends. Raises StoreError when nothing was written."""
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            raise StoreError(f"the store has been busy with other changes for {BUSY_TIMEOUT_SECONDS} s: try again")
        try:
            with self._writes.begin() as session:
                yield session
            self._note_fault(None)
        except SQLAlchemyError as error:
            said = f"the store did not take a change: {explained(error)}"
            if is_fault(error):
                self._note_fault(said)
            raise StoreError(said) from error
        finally:
            self._write_lock.release()

    @property
    def fault(self) -> str | None:
        """Why the last change failed, when the store was at fault; None as soon as one succeeds."""
        return self._fault

    def why_not_ready(self) -> str | None:
        """For everybody: hosts, paths and users are for the log. Looks whether the store is well again."""
        try:
            self.require_writable()
        except StoreError:
            return "the store takes no changes: the log says why"
        return None

    def require_writable(self) -> None:
        """Raises StoreError while the store takes no changes: whoever cannot keep an answer must not begin one.

        After a change that failed a small one is tried, once in PROBE_SECONDS and by one thread.
        """
        fault = self._fault
        if fault is None:
            return
        if time.monotonic() - self._probed_at < PROBE_SECONDS or not self._probe_lock.acquire(blocking=False):
            raise StoreError(fault)
        try:
            with self.writing() as session:
                self._probe(session)
        finally:
            self._probe_lock.release()

    def _probe(self, session: Session) -> None:
        """The smallest change that there is."""
        session.execute(update(SchemaRow).values(version=SchemaRow.version))

    def _note_fault(self, fault: str | None) -> None:
        if fault and not self._fault:
            log.error("store_takes_no_changes", error=fault)
        elif self._fault and not fault:
            log.info("store_takes_changes_again")
        self._fault, self._probed_at = fault, time.monotonic()

    def claim(self, owner: str) -> None:
        """Binds the store to its owner. Raises StoreError if it is another's.

        Answers that one account signed, anchored by another, would cost the other its stake.
        """
        with self.writing() as session:
            known = session.scalars(select(OwnerRow.owner)).first()
            if known is None:
                session.add(OwnerRow(owner=owner))
            elif known != owner:
                raise StoreError(f"the store belongs to {known}, this is {owner}: use a store of its own (store_url)")


def _opened(url: str, versions: Path | None, outlasts_power: bool) -> Engine:
    """A database with the tables that this version knows. Raises StoreError."""
    engine: Engine | None = None
    try:
        engine = open_engine(url, outlasts_power=outlasts_power)
        check_file(engine)
        schema.upgrade(engine, versions)
    except BaseException as error:
        if engine is not None:
            engine.dispose()
        if isinstance(error, SQLAlchemyError):
            raise StoreError(f"cannot open the store: {explained(error)}") from None
        raise
    return engine
