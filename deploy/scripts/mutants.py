"""Changes a contract in one place at a time and runs the Solidity tests: which changes does none of them notice?

A change that no test notices is a rule that nobody holds the contract to.

    python deploy/scripts/mutants.py --minutes 60
    python deploy/scripts/mutants.py contracts/Finality.sol --all

Without `--all`, changes are tried in a random order that `--seed` decides, `--block` of them together. Those up to the
first that is not tried yet are a sample of all, and the share that was noticed comes with an interval. A process keeps
compiler and test runner (`mutants-worker.js`).

First, all changes of a block in one contract are compiled together, each behind a switch (`schemata.py`), without
optimizer where the compiler can; the nearest test files are run with few random inputs, those first that noticed most
changes of the same contract. A test counts that passes with all switches off. Whatever is left is compiled alone, as it
is deployed, and every test file that can reach it is run as `make test` runs it, until one fails.

Nothing is written but the file of results; what it has is not tried again while the contract stays as it is, so it may
be stopped and started.

Not counted: changes that the compiler refuses, those after which it makes the same code (it proves that they make no
difference), and those that `tests/contracts/equivalent-mutants.toml` explains. Those are not tried, but by
`--explained`, which tries nothing else: an explanation is wrong if a test notices the change.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

from mutation_worker import START_SECONDS, Worker
from mutations import ROOT, Mutant, mutants_in, parsed
from schemata import schema

EXPLAINED = ROOT / "tests" / "contracts" / "equivalent-mutants.toml"
PLACE = ("path", "function", "before", "after")
"""What tells an explained change from all others."""
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
COMPILE_SECONDS = 900
LONGEST_TEST = (120, 20)  # seconds, and so many times what it took without a change
KILLED = ("killed", "too slow")
NEARBY = "survived the nearest tests"
NEAREST = 3
"""Test files that are tried with switches."""
FEW_RUNS = 8
"""Random inputs of a test, with switches."""


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
    for file in results.order(mutant.path, runnable(made["files"]), near):
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


def attempt_together(
    worker: Worker, tree: dict[str, Any], source: bytes, group: Sequence[Mutant], results: Results
) -> Iterator[tuple[Mutant, str]]:
    """Compiles changes of one contract together and runs its nearest tests; by what a change was noticed, or ""."""
    left = list(group)
    while left:
        made = schema(source, tree, left)
        if not made.keys:
            return
        path, keys = left[0].path, list(made.keys.values())
        compiled = worker.ask("schema", COMPILE_SECONDS, path=path, source=made.source.decode(), keys=keys)
        if "error" in compiled:
            # What does not compile with a switch is tried alone. Where the compiler blames none, there may be too many.
            blamed = made.within(compiled.get("at") or -1)
            if blamed is None:
                for half in (left[: len(left) // 2], left[len(left) // 2 :]) if len(left) > 1 else ():
                    yield from attempt_together(worker, tree, source, half, results)
                return
            left.remove(blamed)
            continue
        left = [mutant for mutant in left if mutant not in made.keys]
        trying = {mutant: key for mutant, key in made.keys.items() if key not in compiled["missing"]}
        for file in results.order(path, runnable(compiled["files"]))[:NEAREST]:
            content = {"file": file, "keys": keys, "runs": FEW_RUNS}
            began = time.monotonic()
            passing = worker.ask("test", START_SECONDS, **content, on="")
            if "error" in passing:
                continue
            usual = {_name(test) for test in passing["failed"]}
            seconds = max(LONGEST_TEST[0], LONGEST_TEST[1] * (time.monotonic() - began))
            for mutant, key in list(trying.items()):
                try:
                    found = worker.ask("test", seconds, **content, on=key)
                except TimeoutError:
                    # The process is another one. Whether this is too slow is seen alone.
                    others = [each for each in (*trying, *left) if each is not mutant]
                    yield from attempt_together(worker, tree, source, others, results)
                    return
                noticed = [test for test in found.get("failed", ()) if _name(test) not in usual]
                if noticed:
                    del trying[mutant]
                yield mutant, f"{file} {noticed[0]}"[:200] if noticed else ""


def _name(failed: str) -> str:
    return failed.split(" ")[0]


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
        if {*PLACE, "why"} != each.keys():
            sys.exit(f"{EXPLAINED}: {', '.join(PLACE)} and why belong to every entry, not {each}")
    return entries


def why(mutant: Mutant, entries: Sequence[dict[str, str]]) -> str | None:
    """The explanation of a change, if there is one."""
    for each in entries:
        if all(each[name] == getattr(mutant, name) for name in PLACE):
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
    entries = explanations()
    reasons = {each: reason for each in drawn if (reason := why(each, entries))}
    known = [(each, results.mutants.get(each.key(sources[each.path]), {}).get("outcome")) for each in drawn]
    rows = list(takewhile(lambda row: row[1] or row[0] in reasons, known))
    later = sum(outcome is not None for _, outcome in known) - sum(outcome is not None for _, outcome in rows)
    outcomes = Counter(outcome for _, outcome in rows)
    left = [each for each, outcome in rows if outcome in (None, "survived", NEARBY)]
    equivalent = [each for each in left if each in reasons]
    survivors = [each for each in left if each not in reasons]
    killed = sum(outcomes[name] for name in KILLED)
    counted = killed + len(survivors)
    if later:
        print(f"\n{later} more are known of a block that is not finished: no part of the sample")
    print(f"\n{len(rows)} of {total} changes tried; left out: ", end="")
    print(f"{outcomes['no build']} do not compile, {outcomes['same code']} compile to the same code, ", end="")
    print(f"{len(equivalent)} are explained in {EXPLAINED.name}")
    for each in equivalent:
        print(f"  {each.path}:{each.line}: {each.after}\n      {reasons[each]}")
    for each, outcome in rows:
        if each in reasons and outcome in KILLED:
            print(f"  explained, and yet noticed, {each.path}:{each.line}: {each.after}\n      {reasons[each]}")
    low, high = interval(killed, counted)
    share = f"{killed / counted:.1%}" if counted else "-"
    print(f"noticed: {killed} of {counted}, {share} (95 % interval {low:.1%} to {high:.1%})")
    for each in survivors:
        print(f"  not noticed, {each.path}:{each.line}\n    {each.before}\n    {each.after}")


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
    parser.add_argument("--block", type=int, default=200, help="so many are compiled and tried together")
    parser.add_argument("--sample", type=int, default=0, help="only the first so many")
    parser.add_argument("--minutes", type=float, default=60, help="no mutant is begun later")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="tries what was not noticed again, after tests were added")
    parser.add_argument("--explained", action="store_true", help="only what is explained: is it noticed?")
    parser.add_argument("--near", action="store_true", help="only the test files that are named after a contract")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "mutants.json", dest="file")
    parser.add_argument("--lock", type=Path, help="a file that is locked while a mutant is tried")
    parser.add_argument("--turn", type=float, default=0, help="seconds that the lock is held; 0: for one mutant")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    parser.add_argument("--report", action="store_true", help="only say what is known")
    options = parser.parse_args()
    paths = [each.resolve() for each in options.contracts] or sorted((ROOT / "contracts").rglob("*.sol"))
    trees = parsed(paths)
    every = mutants_in(trees)
    drawn = every if options.all else sorted(every, key=lambda each: each.rank(options.seed))
    drawn = drawn[: options.sample or None]
    if options.explained:
        entries = explanations()
        drawn = [each for each in drawn if why(each, entries)]
    if options.list:
        for mutant in drawn:
            print(f"{mutant.path}:{mutant.line}: {mutant.before}\n    {mutant.after}")
        print(f"{len(every)} mutants, {len(drawn)} are drawn")
        return
    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    results = Results(options.file)
    if not options.report:
        _try(drawn, trees, sources, options, results)
    report(drawn, sources, results, len(every))


def _try(
    drawn: Sequence[Mutant],
    trees: dict[str, dict[str, Any]],
    sources: dict[str, bytes],
    options: argparse.Namespace,
    results: Results,
) -> None:
    end = time.monotonic() + 60 * options.minutes
    todo = [each for each in drawn if _is_open(results.mutants.get(each.key(sources[each.path])), options)]
    if not options.explained:
        entries = explanations()
        todo = [each for each in todo if not why(each, entries)]
    if not todo:
        return
    (ROOT / "build").mkdir(exist_ok=True)
    for name, reason in LEFT_OUT.items():
        print(f"not run: {name}.t.sol {reason}")
    turns = Turns(options.lock, options.turn)
    with turns:
        worker = Worker()

    def note(mutant: Mutant, found: dict[str, Any], began: float) -> None:
        seconds = round(time.monotonic() - began, 1)
        results.mutants[mutant.key(sources[mutant.path])] = {**asdict(mutant), **found, "seconds": seconds}
        results.save()
        print(f"{mutant.path}:{mutant.line}: {mutant.old!r} -> {mutant.new!r}: {found['outcome']}", end="")
        print(f", {seconds:g} s {found['by'][:100]}", flush=True)

    with worker:
        for start in range(0, len(todo), options.block):
            left = dict.fromkeys(todo[start : start + options.block])
            for path in sorted({mutant.path for mutant in left}):
                if time.monotonic() > end:
                    break
                group = [mutant for mutant in left if mutant.path == path]
                with turns:
                    began = time.monotonic()
                    with suppress(TimeoutError):  # then alone
                        for mutant, by in attempt_together(worker, trees[path], sources[path], group, results):
                            if by:
                                left.pop(mutant)
                                note(mutant, {"outcome": "killed", "by": by}, began)
                                began = time.monotonic()
                            if time.monotonic() > end:
                                break
            for mutant in left:
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
                note(mutant, found, began)


def _is_open(row: dict[str, Any] | None, options: argparse.Namespace) -> bool:
    if row is None or (options.again and row["outcome"] in ("survived", NEARBY)):
        return True
    return row["outcome"] == NEARBY and not options.near


if __name__ == "__main__":
    main()
