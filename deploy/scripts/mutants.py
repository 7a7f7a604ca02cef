"""Changes a contract in one place at a time and runs the Solidity tests: which changes does none of them notice?

A change that no test notices is a rule that nobody holds the contract to.

    python deploy/scripts/mutants.py --minutes 60
    python deploy/scripts/mutants.py contracts/Finality.sol --all

Without `--all`, changes are tried in a random order that `--seed` decides, so that those which were tried when the time
is over are a sample of all, and the share that was noticed comes with an interval. A process keeps compiler and test
runner (`mutants-worker.js`), compiles only contracts that contain the change, and runs test files one by one until one
fails: those first that noticed most changes of the same contract. Nothing is written but the file of results; what it
has is not tried again while the contract stays as it is, so it may be stopped and started.

Not counted: changes that the compiler refuses, those after which it makes the same code (it proves that they make no
difference), and those that `tests/contracts/equivalent-mutants.toml` explains.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mutations import ROOT, Mutant, mutants

EXPLAINED = ROOT / "tests" / "contracts" / "equivalent-mutants.toml"
LEFT_OUT = {
    "Packaged": "compares code byte for byte, so it notices every change and says nothing about any",
    "Gas": "says what acts cost, not what they do",
    "SortitionGas": "says what draws cost, not what they do",
}
"""Test files that are not run, and why."""
BESIDES = {
    "Batches": ("Merit", "Unavailable", "Attacks"),
    "BatchRecords": ("Batches", "BatchesSigned", "Merit"),
    "Finality": ("Merit", "Canaries", "Unavailable"),
    "Appeals": ("Merit", "Attacks"),
    "Staking": ("Incentives", "Attacks"),
    "Committees": ("Incentives", "Differential"),
    "RandaoSeeds": ("Seeds",),
    "DrandSeeds": ("Seeds",),
    "Guarded": ("Batches", "Requests", "Events"),
    "LeafLib": ("Metering", "Libraries", "Vectors"),
    "Metering": ("Metering", "Libraries"),
    "Majority": ("Libraries", "Differential", "Batches"),
    "SeatsLib": ("Batches", "Appeals"),
    "Shares": ("Staking",),
    "Signatures": ("Incentives", "PaymentsOpened"),
    "RequestLib": ("Vectors", "PaymentsOpened"),
    "ExampleConsumer": ("CertificateVerifier",),
    "IdentityRegistry": ("Registries",),
    "ReputationRegistry": ("Registries",),
    "ValidationRegistry": ("Registries",),
}
"""Test files that are tried first besides those named after the contract, before results say better."""
START_SECONDS = 3600  # compiles what is not compiled yet
COMPILE_SECONDS = 900
LONGEST_TEST = (120, 20)  # seconds, and so many times what it took without a change
KILLED = ("killed", "too slow")
NEARBY = "survived the nearest tests"


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


class Results:
    """What is known of each mutant, and how long test files take; a JSON file, never half-written."""

    def __init__(self, file: Path) -> None:
        self.file = file
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.mutants: dict[str, dict[str, Any]] = found.get("mutants", {})
        self.seconds: dict[str, float] = found.get("seconds", {})

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        content = {"seconds": self.seconds, "mutants": self.mutants}
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        new.replace(self.file)

    def order(self, path: str, files: Sequence[str], near: bool = False) -> list[str]:
        """Those first that noticed most changes of the contract, then by name, then the quick ones.

        With `near` only those that are named after it, or known to concern it.
        """
        noticed = Counter(each["by"].split(" ")[0] for each in self.mutants.values() if each["path"] == path)
        stem = Path(path).stem
        named = (stem, *BESIDES.get(stem, ("Libraries",) if "/libraries/" in path else ()))

        def rank(file: str) -> tuple[float, ...]:
            name = Path(file).name.removesuffix(".t.sol")
            known = named.index(name) if name in named else len(named) - name.startswith(stem)
            return (-noticed[file], known, self.seconds.get(file, 0))

        return sorted((file for file in files if not near or rank(file)[1] < len(named)), key=rank)


def attempt(worker: Worker, mutant: Mutant, source: bytes, results: Results, near: bool = False) -> dict[str, Any]:
    """Compiles and tests a mutant: its outcome, and by what it was noticed."""
    made = worker.ask("change", COMPILE_SECONDS, path=mutant.path, source=mutant.applied(source).decode())
    if "error" in made:
        return {"outcome": "no build", "by": ""}
    if made["same"]:
        return {"outcome": "same code", "by": ""}
    for file in results.order(mutant.path, runnable(worker.files), near):
        if file not in results.seconds:
            results.seconds[file] = unchanged(worker, file)
        least, times = LONGEST_TEST
        try:
            found = worker.ask("test", max(least, times * results.seconds[file]), file=file)
        except TimeoutError:
            return {"outcome": "too slow", "by": file}
        # A library of which a test makes use may no longer compile with it.
        if "error" in found or found["failed"]:
            return {"outcome": "killed", "by": f"{file} {found.get('error') or found['failed'][0]}"[:200]}
    return {"outcome": NEARBY if near else "survived", "by": ""}


def runnable(files: Sequence[str]) -> list[str]:
    return [file for file in files if Path(file).name.removesuffix(".t.sol") not in LEFT_OUT]


def unchanged(worker: Worker, file: str) -> float:
    """Seconds that a test file takes with the contracts as they are. Exits where it fails."""
    began = time.monotonic()
    found = worker.ask("test", START_SECONDS, file=file, unchanged=True)
    if "error" in found or found["failed"]:
        sys.exit(f"without any change, {file} fails: {found.get('error') or found['failed']}")
    return round(time.monotonic() - began, 1)


def explanations() -> list[dict[str, str]]:
    """Changes that make no difference, and why."""
    found = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    entries: list[dict[str, str]] = found.get("equivalent", [])
    for each in entries:
        if not {"path", "before", "after", "why"} <= each.keys():
            sys.exit(f"{EXPLAINED}: path, before, after and why belong to every entry, not {each}")
    return entries


def why(row: dict[str, Any], entries: Sequence[dict[str, str]]) -> str | None:
    """The explanation of a change, if there is one."""
    for each in entries:
        if all(each[name] == row[name] for name in ("path", "before", "after")):
            return each["why"]
    return None


def interval(killed: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (J. Am. Stat. Assoc. 22, 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.959964, killed / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def report(drawn: Sequence[Mutant], sources: dict[str, bytes], results: Results, total: int) -> None:
    """Prints what came of those that were drawn and tried."""
    rows = [results.mutants[key] for each in drawn if (key := each.key(sources[each.path])) in results.mutants]
    entries = explanations()
    outcomes = Counter(row["outcome"] for row in rows)
    survivors = [row for row in rows if row["outcome"] in ("survived", NEARBY)]
    equivalent = [row for row in survivors if why(row, entries)]
    killed = sum(outcomes[name] for name in KILLED)
    counted = killed + len(survivors) - len(equivalent)
    print(f"\n{len(rows)} of {total} changes tried; left out: ", end="")
    print(f"{outcomes['no build']} do not compile, {outcomes['same code']} compile to the same code, ", end="")
    print(f"{len(equivalent)} are explained in {EXPLAINED.relative_to(ROOT)}")
    for row in equivalent:
        print(f"  {row['path']}:{row['line']}: {row['after']}\n      {why(row, entries)}")
    low, high = interval(killed, counted)
    share = f"{killed / counted:.1%}" if counted else "-"
    print(f"noticed: {killed} of {counted}, {share} (95 % interval {low:.1%} to {high:.1%})")
    for row in survivors:
        if row not in equivalent:
            print(f"  not noticed, {row['path']}:{row['line']}\n    {row['before']}\n    {row['after']}")


class Turns:
    """Holds a file's lock for some seconds and the mutant that is tried then, where machines are shared."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self._path, self._seconds, self._since = path, seconds, 0.0
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        if self._path is None or self._file is not None:
            return
        self._file = self._path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._file is not None and time.monotonic() - self._since >= self._seconds:
            self._file.close()
            self._file = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contracts", nargs="*", type=Path, help="files; without any, all of contracts/")
    parser.add_argument("--all", action="store_true", help="all in order, instead of a random order")
    parser.add_argument("--sample", type=int, default=0, help="only the first so many")
    parser.add_argument("--minutes", type=float, default=60, help="no mutant is begun later")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="tries what was not noticed again, after tests were added")
    parser.add_argument("--near", action="store_true", help="only the test files that are named after a contract")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "mutants.json", dest="file")
    parser.add_argument("--lock", type=Path, help="a file that is locked while a mutant is tried")
    parser.add_argument("--turn", type=float, default=0, help="seconds that the lock is held; 0: for one mutant")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    parser.add_argument("--report", action="store_true", help="only say what is known")
    options = parser.parse_args()
    paths = [each.resolve() for each in options.contracts] or sorted((ROOT / "contracts").rglob("*.sol"))
    every = mutants(paths)
    drawn = every if options.all else sorted(every, key=lambda each: each.rank(options.seed))
    drawn = drawn[: options.sample or None]
    if options.list:
        for mutant in drawn:
            print(f"{mutant.path}:{mutant.line}: {mutant.before}\n    {mutant.after}")
        print(f"{len(every)} mutants, {len(drawn)} are drawn")
        return
    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    results = Results(options.file)
    if not options.report:
        _try(drawn, sources, options, results)
    report(drawn, sources, results, len(every))


def _try(drawn: Sequence[Mutant], sources: dict[str, bytes], options: argparse.Namespace, results: Results) -> None:
    end = time.monotonic() + 60 * options.minutes
    todo = [each for each in drawn if _is_open(results.mutants.get(each.key(sources[each.path])), options)]
    if not todo:
        return
    (ROOT / "build").mkdir(exist_ok=True)
    for name, reason in LEFT_OUT.items():
        print(f"not run: {name}.t.sol {reason}")
    turns = Turns(options.lock, options.turn)
    with turns:
        worker = Worker()
    with worker:
        for mutant in todo:
            if time.monotonic() > end:
                print("The time is over; start again to go on.")
                return
            with turns:
                began = time.monotonic()
                try:
                    found = attempt(worker, mutant, sources[mutant.path], results, options.near)
                except TimeoutError:
                    print(f"{mutant.path}:{mutant.line}: not compiled in {COMPILE_SECONDS} s, to be tried again")
                    continue
                seconds = round(time.monotonic() - began, 1)
            results.mutants[mutant.key(sources[mutant.path])] = {**asdict(mutant), **found, "seconds": seconds}
            results.save()
            print(f"{mutant.path}:{mutant.line}: {mutant.old!r} -> {mutant.new!r}: {found['outcome']}", end="")
            print(f", {seconds:g} s {found['by'][:100]}", flush=True)


def _is_open(row: dict[str, Any] | None, options: argparse.Namespace) -> bool:
    if row is None or (options.again and row["outcome"] in ("survived", NEARBY)):
        return True
    return row["outcome"] == NEARBY and not options.near


if __name__ == "__main__":
    main()
