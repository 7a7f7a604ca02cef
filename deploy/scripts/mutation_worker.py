"""The process that compiles changed contracts and runs tests, as `mutants.py` sees it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from mutations import ROOT

START_SECONDS = 3600  # compiles what is not compiled yet


class Worker:
    """The process that compiles and runs tests. A context manager; ends with its caller."""

    def __init__(self) -> None:
        self._start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        command = ["node", "deploy/scripts/mutants-worker.js"]
        log = (ROOT / "build" / "mutants.log").open("ab")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # `node` may be a wrapper with the real one below
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._answers), daemon=True).start()
        self.files: list[str] = self._answer(START_SECONDS)["files"]

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @staticmethod
    def _read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        line = self._answers.get(timeout=seconds)
        if not line:
            sys.exit(f"the process that compiles has ended: see {ROOT / 'build' / 'mutants.log'}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, task: str, seconds: float, **content: Any) -> dict[str, Any]:
        """Raises TimeoutError, after which the process is another one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, **content}) + "\n")
        self._process.stdin.flush()
        try:
            return self._answer(seconds)
        except queue.Empty:
            self._stop()
            self._start()
            raise TimeoutError(task) from None
