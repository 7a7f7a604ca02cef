"""That one copy of an operator runs at a time: the store has one holder, the registered endpoint one voice.

A holder beats in its row of the store. Nobody's clock is asked: who finds a holder watches whether it still beats,
which works on any database. What was left by a process of this machine that is gone is taken at once.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import structlog
from sqlalchemy import BigInteger, String, delete, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.errors import NotReady, TrineError
from trine_operator.store import Store
from trine_operator.tables import Base

log = structlog.get_logger()

BEAT_SECONDS = 2.0
SILENT_SECONDS = 7.0
"""A holder that has not beaten for so long is gone."""
HEALTH_SECONDS = 5.0
MAX_HEALTH_BYTES = 64 << 10
NAME = "operator"
OVERRIDE = "if you are certain that none runs, start with ignore_other_copies = true"


class AnotherCopy(NotReady):
    """Another process is this operator already."""


class InstanceRow(Base):
    """Which process holds the store, and how often it has said so."""

    __tablename__ = "instance"
    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    instance: Mapped[str] = mapped_column(String(32))
    beat: Mapped[int] = mapped_column(BigInteger)
    process: Mapped[str] = mapped_column(String(200))


class Lease:
    """A process's hold of its store. `clock` and `sleep` are in seconds."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.instance = secrets.token_hex(16)
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, *, by_force: bool = False) -> None:
        """Returns as the store's holder. Raises AnotherCopy when somebody else holds it and beats."""
        found = self._found()
        if found and not by_force and not _is_gone(found[2]):
            started = self._clock()
            while self._clock() - started < SILENT_SECONDS:
                self._sleep(BEAT_SECONDS / 4)
                now = self._found()
                if now is None:
                    break
                if now != found:
                    raise AnotherCopy(
                        f"another process works with this store ({now[2]}): stop it first, or give this one a store "
                        f"and an account of its own; {OVERRIDE}"
                    )
        with self._store.writing() as session:
            row = session.get(InstanceRow, NAME, with_for_update=True)
            if row and found and (row.instance, row.beat) != found[:2] and not by_force:
                raise AnotherCopy(f"another process has just taken this store ({row.process}): stop it first")
            session.merge(InstanceRow(name=NAME, instance=self.instance, beat=0, process=_process()))

    def keep(self, lost: Callable[[str], None]) -> None:
        """Beats from now on; `lost` is told when another process has taken the store."""

        def beat() -> None:
            while not self._stop.wait(BEAT_SECONDS):
                try:
                    if not self.beat():
                        lost("another process has taken this store over: two copies of this operator run; stop one")
                        return
                except TrineError as error:
                    log.warning("heartbeat_missed", error=str(error))

        self._thread = threading.Thread(target=beat, name="lease", daemon=True)
        self._thread.start()

    def beat(self) -> bool:
        """Whether this process still holds the store."""
        mine = (InstanceRow.name == NAME) & (InstanceRow.instance == self.instance)
        with self._store.writing() as session:
            changed = session.execute(update(InstanceRow).where(mine).values(beat=InstanceRow.beat + 1))
            return bool(changed.rowcount)  # type: ignore[attr-defined]

    def fence(self, session: Session) -> None:
        """Raises AnotherCopy, within a transaction of the store, when this process does not hold it any more."""
        row = session.get(InstanceRow, NAME, with_for_update=True, populate_existing=True)
        if row is None or row.instance != self.instance:
            raise AnotherCopy("another process has taken this store over: nothing is signed here any more")

    def release(self) -> None:
        """The next start need not wait."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=BEAT_SECONDS)
        mine = (InstanceRow.name == NAME) & (InstanceRow.instance == self.instance)
        with self._store.writing() as session:
            session.execute(delete(InstanceRow).where(mine))

    def _found(self) -> tuple[str, int, str] | None:
        with self._store.reading() as session:
            row = session.get(InstanceRow, NAME, populate_existing=True)
            return (row.instance, row.beat, row.process) if row else None


def refuse_copy_at(endpoint: str, address: str, instance: str) -> None:
    """Raises AnotherCopy when the operator's registered endpoint is served by another process of the same account."""
    answer = _health(endpoint)
    other = answer.get("instance")
    if str(answer.get("operator")).lower() == address.lower() and isinstance(other, str) and other != instance:
        raise AnotherCopy(
            f"another copy of this operator answers at its registered endpoint {endpoint} (instance {other[:32]}): "
            f"two would vote against one another; stop that one first; {OVERRIDE}"
        )


def _health(endpoint: str) -> dict[str, Any]:
    """What `/healthz` says; nothing if nobody answers, or somebody else."""
    if not endpoint.startswith(("http://", "https://")):
        return {}
    read = b""
    try:
        url = f"{endpoint.rstrip('/')}/healthz"
        with httpx2.stream("GET", url, timeout=HEALTH_SECONDS, follow_redirects=False) as response:
            for part in response.iter_bytes():
                read += part
                if len(read) > MAX_HEALTH_BYTES:
                    return {}
        answer = json.loads(read)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _process() -> str:
    """This process's name for people, and for `_is_gone` on the same machine."""
    return f"{socket.gethostname()[:64]} {_machine()} {os.getpid()} {_started(os.getpid())}"


def _is_gone(process: str) -> bool:
    """Whether it certainly runs no more; only known of processes that this one could see."""
    words = process.split(" ")
    if len(words) != 4 or not words[2].isdigit() or words[1] != _machine() or words[1] == "?":
        return False
    return _started(int(words[2])) != words[3]


def _machine() -> str:
    """The boot and the namespace that a process's number is of; `?` where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return "?"


def _started(process: int) -> str:
    """When it was started, in ticks since the boot; `-` if it does not run, or only its parent has not noticed yet."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return "-"
    return "-" if after_name[0] in ("Z", "X") else after_name[19]
