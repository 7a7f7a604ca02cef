"""Child processes: started in sessions of their own, logged to files, stopped in order and for certain."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from trine.errors import NotReady

STOP_SECONDS = 40.0
TAIL_BYTES = 16_384
SERVED_PORTS = (20_000, 32_000)
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """One running process: ours, or one that the launcher forked (then `process` is None)."""

    name: str
    pid: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for what does not end in time."""
        self._signal(signal.SIGTERM)
        if not self._wait(STOP_SECONDS):
            self.kill()

    def kill(self) -> None:
        """As a crash would end it."""
        self._signal(signal.SIGKILL)
        self._wait(STOP_SECONDS)

    def tail(self, lines: int = 12) -> str:
        """The log's end; empty before the process has written anything."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _signal(self, number: signal.Signals) -> None:
        try:
            if self.running:
                # The whole session: Hardhat runs its server in a child of its own.
                os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def _wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def start(name: str, command: list[str], log: Path, *, cwd: Path) -> Child:
    """Starts a process that dies with this one, however this one ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603  (our own command lines)
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    return Child(name, process.pid, log, process)


def free_port(preferred: int = 0) -> int:
    """A port of the loopback address that nobody listens on now: the preferred one, else any.

    Below those that systems give to outgoing connections (32,768 and up on Linux, 49,152 elsewhere): a process listens
    only once its model is loaded, and meanwhile another's question could have taken it. Raises NotReady.
    """
    tried = random.sample(range(*SERVED_PORTS), 256)
    for port in [preferred, *tried] if preferred else tried:
        with socket.socket() as probe:
            # As servers do: lingering connections are no bar.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NotReady("no free port on the loopback address")


def die_with_parent() -> None:
    """In a child on Linux: no orphan survives its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
