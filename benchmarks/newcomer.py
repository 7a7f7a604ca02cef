"""A newcomer's first minutes: `make demo` and `make test` in a fresh clone, with empty caches, alone and beside others.

    python benchmarks/newcomer.py                 # make demo twice: fresh, then again
    python benchmarks/newcomer.py --busy 2        # the same beside two busy loops
    python benchmarks/newcomer.py --test          # make test in the fresh clone, and make check after it

HOME and XDG_CACHE_HOME are new folders, so nothing that was downloaded, prepared or compiled before is found. What is
measured is what a person sees: seconds from the command to a line of its output. It needs a machine that is otherwise
idle; the load that it met is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MILESTONES = {
    "operators started": re.compile(r" s  operators: "),
    "first answer": re.compile(r"receipt checked"),
    "first certified answer": re.compile(r" settled +'"),
    "all final": re.compile(r"first certified answer after"),
}
FORGOTTEN = ("PYTHONPATH", "VIRTUAL_ENV", "TRINE_HOME", "UV_CACHE_DIR", "PIP_CACHE_DIR", "MAKEFLAGS", "MAKELEVEL")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--busy", type=int, default=0, help="busy loops beside the commands")
    arguments.add_argument("--test", action="store_true", help="make test and make check instead of make demo")
    arguments.add_argument("--keep", type=Path, help="folder for clone, caches and logs; must not exist")
    given = arguments.parse_args()

    folder = given.keep or Path(tempfile.mkdtemp(prefix="trine-newcomer-"))
    folder.mkdir(parents=True, exist_ok=given.keep is None)
    conditions()
    commit = clone(folder / "trine")
    print(f"clone of {commit}, caches, logs: {folder}\n")
    environment = fresh_environment(folder / "home")
    failed = False
    with busy_loops(given.busy):
        runs = ("test", "check") if given.test else ("demo", "demo")
        for number, target in enumerate(runs, 1):
            log = folder / f"{number}-{target}.log"
            title = f"make {target}, {'fresh' if number == 1 else 'again'}, {given.busy} busy loops beside it"
            failed |= not measure(title, target, folder / "trine", environment, log)
    sys.exit(failed)


def conditions() -> None:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}, load before: {load}")


def clone(target: Path) -> str:
    """Only what is committed; the commit's short name."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target)], check=True)
    dirty = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    if dirty:
        print("note: this checkout has changes that are not committed and so not measured")
    shown = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=target, capture_output=True, text=True, check=True
    )
    return shown.stdout.strip()


def fresh_environment(home: Path) -> dict[str, str]:
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    # Without the environment that this benchmark may run in.
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not p.startswith(str(ROOT)))
    return {**kept, "PATH": path, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}


@contextmanager
def busy_loops(count: int):
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()


def measure(title: str, target: str, folder: Path, environment: dict[str, str], log: Path) -> bool:
    """Prints when the output reached each milestone. True: exit code 0."""
    print(title)
    started = time.monotonic()
    missing = dict(MILESTONES) if target == "demo" else {}
    with log.open("w", buffering=1) as file:
        process = subprocess.Popen(
            ["make", target], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            file.write(line)
            for name in [name for name, pattern in missing.items() if pattern.search(line)]:
                del missing[name]
                print(f"  {time.monotonic() - started:7.1f} s  {name}", flush=True)
        code = process.wait()
    usage = os.times()
    print(f"  {time.monotonic() - started:7.1f} s  exit code {code}")
    print(
        f"  processor time of all its children so far: {usage.children_user + usage.children_system:.0f} s\n",
        flush=True,
    )
    return code == 0


if __name__ == "__main__":
    main()
