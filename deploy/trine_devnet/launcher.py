"""Starts operators by forking from one process that has imported the heavy libraries already.

Loading torch and transformers costs seconds of a core; seven operators on two cores would spend half a minute on
importing the same code. Each operator is a process of its own all the same: own session, own log, own engine.
Nothing here computes before it forks, so no thread pool is lost by it.

Protocol: one JSON line in, `{"module", "arguments", "log", "cwd"}`, one line out, the child's pid.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from trine.errors import InvalidInput, NotReady
from trine_devnet.processes import STOP_SECONDS, Child, die_with_parent

QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
"""Nothing is fetched, and no other tool's bars are drawn into logs."""


_occupied: dict[Path, Any] = {}
"""Locks of this process's folders; the system frees them when it ends, however it ends."""


def empty(home: Path) -> None:
    """A devnet's folder, new and ours alone. Raises InvalidInput while another process has a devnet there, and for a
    folder with things in it that no devnet has left."""
    from filelock import FileLock, Timeout  # not for `--help`

    if home not in _occupied:
        home.parent.mkdir(parents=True, exist_ok=True)
        lock_file = home.with_name(f"{home.name}.lock")
        if not lock_file.exists() and home.exists() and (home.is_file() or any(home.iterdir())):
            raise InvalidInput(
                f"{home} holds what no devnet has made, and a devnet empties its folder: name a new one with --home"
            )
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InvalidInput(
                f"another devnet runs in {home}: stop it, or give this one a folder of its own with --home"
            ) from None
        _occupied[home] = lock
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)


def prepare(home: Path) -> Launcher:
    """A launcher in an emptied folder. It imports for seconds: to be started before anything else is imported."""
    home = home.absolute()
    empty(home)
    return Launcher(home)


class Launcher:
    """The parent's end."""

    def __init__(self, home: Path) -> None:
        self._log = log = home / "logs" / "launcher.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trine_devnet.launcher"],
                env={**os.environ, **QUIET},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                preexec_fn=die_with_parent,
                text=True,
            )

    def start(self, name: str, module: str, arguments: list[str], log: Path) -> Child:
        """Forks `python -m module arguments`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        log.parent.mkdir(parents=True, exist_ok=True)
        order = {"module": module, "arguments": arguments, "log": str(log), "cwd": str(Path.cwd())}
        try:
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            return Child(name, int(stdout.readline()), log)
        except (BrokenPipeError, ValueError):
            raise NotReady(f"what starts operators has ended; {self._log} says why") from None

    def stop(self) -> None:
        """The launcher ends when its input does; children that still run die with it."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def main() -> None:
    """The child's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
    _import_heavy_libraries()
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


HEAVY = (
    "sqlalchemy.dialects.sqlite",
    "trine.chain.logs",
    "trine.chain.sender",
    "trine.cli",
    "trine_devnet.cheating_node",
    "trine_devnet.cheating_verifier",
    "trine_node.cli",
    "trine_node.engines.compilation",
    "trine_node.engines.decoder",
    "trine_node.engines.kernels.attention",
    "trine_node.run",
    "trine_research.adversaries",
    "trine_verifier.cli",
    "trine_verifier.run",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)
"""What operators import when they run, and all that it imports."""


def _import_heavy_libraries() -> None:
    """Computes nothing: kernels that were loaded would have started threads, which no fork survives."""
    for name in HEAVY:
        importlib.import_module(name)
    transformers = importlib.import_module("transformers")
    # Lazy modules: naming them imports them.
    for name in (
        "AutoModelForCausalLM",
        "AutoTokenizer",
        "DynamicCache",
        "LlamaForCausalLM",
        "PreTrainedTokenizerFast",
    ):
        getattr(transformers, name)
    gc.collect()
    gc.freeze()  # what is there now stays shared with the children


def _become(order: dict[str, Any]) -> None:
    """Turns the forked child into the ordered process. Does not return."""
    os.setsid()
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(order["cwd"])
    sys.argv = [order["module"], *order["arguments"]]
    code = 1
    try:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
