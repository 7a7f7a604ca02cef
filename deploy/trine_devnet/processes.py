"""Child processes: started in sessions of their own, logged to files, stopped in order and for certain."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trine.errors import NotReady

STOP_SECONDS = 40.0
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """One running process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for what does not end in time."""
        if self.running:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """As a crash would end it."""
        self.process.kill()
        self.process.wait()

    def tail(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


def start(name: str, command: list[str], log: Path, *, cwd: Path, env: dict[str, str] | None = None) -> Child:
    """Starts a process that dies with this one, however this one ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603  (our own command lines)
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    return Child(name, process, log)


def wait_until(done: Callable[[], bool], children: list[Child], timeout: float, what: str) -> None:
    """Raises NotReady, with the log's end, when a child ends or the time is over."""
    deadline = time.monotonic() + timeout
    while not done():
        for child in children:
            if not child.running:
                raise NotReady(f"{child.name} ended while waiting for {what}; {child.log} ends with:\n{child.tail()}")
        if time.monotonic() > deadline:
            logs = ", ".join(str(child.log) for child in children)
            raise NotReady(f"{what}: not within {timeout:.0f} s; see {logs}")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
