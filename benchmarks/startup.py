"""What starting costs, in seconds of processor time: `python benchmarks/startup.py [--certificate FILE] [--libraries]`.

Imports of the SDK, the `--help` of every command, and `trine audit certificate FILE` against the chain that
TRINE_RPC_URL and TRINE_DEPLOYMENT name. With `--libraries`, what each library costs that is imported alone. Every run
is a fresh process, user and system time together, the median of some. Other work on the machine raises them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MOST = {"import trine": 0.5, "--help": 0.5, "trine audit certificate": 1.0}
"""Seconds that each may take at most."""

IMPORTS = (
    "import trine",
    "from trine import Client",
    "from trine import load_keystore",
    "import trine.audit",
    "import trine_node.run",
    "import trine_verifier.run",
)
LIBRARIES = (
    "typer",
    "typer.rich_utils",
    "rich.console",
    "pydantic",
    "pydantic_settings",
    "structlog",
    "urllib3",
    "requests",
    "httpx2",
    "aiohttp",
    "py_ecc",
    "py_ecc.bls",
    "py_arkworks_bls12381",
    "eth_utils",
    "eth_abi",
    "eth_keys",
    "eth_keyfile",
    "eth_account",
    "web3",
    "fastapi",
    "sqlalchemy",
    "openai",
    "numpy",
    "numba",
    "torch",
    "transformers",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--certificate", type=Path, help="as `trine ask --save FILE` writes it")
    parser.add_argument("--libraries", action="store_true")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in conditions(given.runs).items()))
    figures: dict[str, float] = {}
    for name, command in started(given.certificate, given.libraries):
        figures[name] = statistics.median(processor_seconds(command) for _ in range(given.runs))
        most = limit(name)
        print(
            f"{figures[name]:7.3f} s  {name}{'' if most is None or figures[name] <= most else f'   MORE THAN {most} s'}"
        )
    if given.json:
        document = {"conditions": conditions(given.runs), "seconds": figures}
        given.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def started(certificate: Path | None, libraries: bool) -> Iterator[tuple[str, list[str]]]:
    """What is measured: name and command line."""
    yield "python", [sys.executable, "-c", "pass"]
    for statement in IMPORTS:
        yield statement, [sys.executable, "-c", statement]
    for module, path in help_pages():
        yield " ".join((program(module), *path, "--help")), [sys.executable, "-m", module, *path, "--help"]
    if certificate:
        command = ["audit", "certificate", str(certificate)]
        yield "trine audit certificate", [sys.executable, "-m", "trine", *command]
    if libraries:
        for name in LIBRARIES:
            if importlib.util.find_spec(name.partition(".")[0]):
                yield f"library {name}", [sys.executable, "-c", f"import {name}"]


def help_pages() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every group and every command: the module that `python -m` runs, and the words after it."""
    from typer.main import get_command

    from trine.cli import build
    from trine_research.study.cli import app

    for path in pages(build()):
        yield "trine", path
    for path in pages(get_command(app)):
        yield "trine_research.study.cli", path


def pages(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from pages(command.get_command(None, name), (*path, name))


def program(module: str) -> str:
    return "trine" if module == "trine" else "trine-study"


def limit(name: str) -> float | None:
    return next((most for what, most in MOST.items() if name == what or name.endswith(what)), None)


def processor_seconds(command: Sequence[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def conditions(runs: int) -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "loop of 5 million in seconds": round(loop_seconds(), 2),
        "bytecode": "not written" if sys.dont_write_bytecode else "kept",
        "runs": runs,
    }


def processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def loop_seconds() -> float:
    """How fast this machine is just now; about 0.3 on an idle one."""
    started_at, total = time.process_time(), 0
    for number in range(5_000_000):
        total += number
    return time.process_time() - started_at


if __name__ == "__main__":
    main()
