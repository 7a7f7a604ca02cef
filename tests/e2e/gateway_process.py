"""`trine gateway` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
from waiting import eventually

from trine_devnet.processes import free_port


class Process:
    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._variables = {**os.environ, **variables}
        self._process: subprocess.Popen[bytes] | None = None

    def trine(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("trine")), "gateway", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self._variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("trine")), "gateway", "run", "--port", str(self.port)]
        with (self.folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env=self._variables, stderr=log)
        eventually(self._is_ready, "the gateway to be ready", 60)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(60) == 0, self.log()

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()


def usage(gateway: Process, key: str) -> dict[str, Any]:
    """What the key has spent, and on what."""
    told: dict[str, Any] = httpx2.get(f"{gateway.url}/usage", headers={"authorization": f"Bearer {key}"}).json()
    return told
