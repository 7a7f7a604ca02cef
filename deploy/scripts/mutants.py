"""Changes one operator, number or condition of a contract at a time and runs the tests that concern it.

A change that no test notices is a rule that nobody holds the contract to.

    python deploy/scripts/mutants.py contracts/Finality.sol --sample 20 --minutes 60 --json build/mutants.json

Works on a copy of the tree. What the file of results has is not tried again while the contract stays as it is, so it
may be stopped and started. Survivors are for people to read: some changes make no difference.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("contracts", "tests/contracts", "tests/vectors", "client_sdk/trine/chain/bytecode")
FILES = ("hardhat.config.js", "package.json")
SWAPS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=",
    "!=": "==", "&&": "||", "||": "&&", "&": "|", "|": "&", "<<": ">>", ">>": "<<",
}  # fmt: skip
BESIDES = {
    "Batches": ("BatchesSigned", "Merit", "Attacks"),
    "BatchRecords": ("Batches", "Merit"),
    "Finality": ("Merit", "Canaries"),
    "Appeals": ("Merit", "Attacks"),
    "Staking": ("Incentives", "Attacks"),
    "Payments": ("Attacks",),
    "Committees": ("Incentives",),
    "Reputation": ("Decay",),
}
"""Tests of a contract besides its own."""
BUILD_SECONDS = 1800
TEST_SECONDS = 1800
# Only parses: a whole compilation is not needed to know where operators are.
PARSE = """
import solc from "solc";
let text = "";
for await (const part of process.stdin) text += part;
const input = {
  language: "Solidity",
  sources: { source: { content: text } },
  settings: { stopAfter: "parsing", outputSelection: { "*": { "": ["ast"] } } },
};
process.stdout.write(solc.compile(JSON.stringify(input)));
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """Bytes `start` to `end` of a file are `new` instead of `old`."""

    path: str
    line: int
    start: int
    end: int
    old: str
    new: str

    def key(self, source: bytes) -> str:
        """Also of the file's other bytes: with another contract it is another mutant."""
        text = json.dumps(asdict(self)).encode() + source
        return hashlib.sha256(text).hexdigest()[:16]


def mutants(path: Path) -> list[Mutant]:
    """All of a contract, in order. Exits where the compiler cannot read it."""
    source = path.read_bytes()
    command = ["node", "--input-type=module", "-e", PARSE]
    result = subprocess.run(command, input=source, cwd=ROOT, capture_output=True, timeout=120, check=False)
    if result.returncode != 0:
        sys.exit(f"{path} cannot be parsed, is node_modules there? {result.stderr.decode(errors='replace')}")
    found = json.loads(result.stdout)
    if "ast" not in found.get("sources", {}).get("source", {}):
        sys.exit(f"{path} cannot be parsed: {found.get('errors')}")
    name = path.relative_to(ROOT).as_posix()
    changes = sorted(set(_changes(found["sources"]["source"]["ast"], source)))
    return [
        Mutant(name, source[:start].count(b"\n") + 1, start, end, source[start:end].decode(), new)
        for start, end, new in changes
    ]


def _changes(node: Any, source: bytes) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) in a part of the tree."""
    if isinstance(node, list):
        for each in node:
            yield from _changes(each, source)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("nodeType")
    if kind in ("InlineAssembly", "ImportDirective", "PragmaDirective", "EventDefinition", "ErrorDefinition"):
        return
    if kind == "BinaryOperation" and node["operator"] in SWAPS:
        operator = node["operator"]
        left, right = _end(node["leftExpression"]), _start(node["rightExpression"])
        # Brackets and blanks may stand around it, and a comment would make it doubtful which one is meant.
        between = source[left:right].decode()
        if between.strip(" \n\t()") == operator:
            at = left + between.index(operator)
            yield at, at + len(operator), SWAPS[operator]
    if kind == "UnaryOperation" and node["operator"] in ("!", "~") and node["prefix"]:
        yield _start(node), _start(node) + 1, ""
    if kind == "Literal" and node.get("kind") == "number" and node["value"].isdecimal():
        yield _start(node), _end(node), f"({source[_start(node) : _end(node)].decode()} + 1)"
    if kind == "FunctionCall" and node["expression"].get("name") == "require":
        yield _start(node["arguments"][0]), _end(node["arguments"][0]), "true"
    if kind == "IfStatement":
        for value in ("true", "false"):
            yield _start(node["condition"]), _end(node["condition"]), value
    for child in node.values():
        yield from _changes(child, source)


def _start(node: dict[str, Any]) -> int:
    return int(node["src"].split(":")[0])


def _end(node: dict[str, Any]) -> int:
    start, length, _ = node["src"].split(":")
    return int(start) + int(length)


def tests_of(path: Path) -> list[str]:
    """Test files that concern a contract. Exits if there are none."""
    names = (path.stem, *BESIDES.get(path.stem, ("Libraries",) if path.parent.name == "libraries" else ()))
    found = [f"tests/contracts/{name}.t.sol" for name in names if (ROOT / f"tests/contracts/{name}.t.sol").exists()]
    if not found:
        sys.exit(f"no test file is named after {path.stem}: say with --tests which concern it")
    return found


def prepare(work: Path) -> None:
    """A copy of what builds and tests take; what was built there before is used again."""
    for name in COPIED:
        shutil.rmtree(work / name, ignore_errors=True)
        shutil.copytree(ROOT / name, work / name)
    for name in FILES:
        shutil.copy2(ROOT / name, work / name)
    if not (work / "node_modules").exists():
        (work / "node_modules").symlink_to((ROOT / "node_modules").resolve())
    (work / ".gas-snapshot").touch()


def outcome(work: Path, tests: Sequence[str]) -> str:
    """'killed', 'survived', 'no build' or 'too slow', which is killed, too."""
    hardhat = work / "node_modules" / ".bin" / "hardhat"
    steps = (
        ([str(hardhat), "build", "--quiet"], BUILD_SECONDS),
        ([str(hardhat), "test", "solidity", *tests], TEST_SECONDS),
    )
    for number, (command, seconds) in enumerate(steps):
        try:
            result = subprocess.run(command, cwd=work, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return "too slow"
        if result.returncode != 0:
            (work / "last.log").write_bytes(result.stdout + result.stderr)
            return "killed" if number else "no build"
    return "survived"


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Holds a file's lock, where machines are shared."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contracts", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, default=20, help="mutants of each contract, drawn by --seed; 0: all")
    parser.add_argument("--minutes", type=float, default=60, help="no mutant is begun later")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tests", nargs="*", help="files that are run instead of those that are known to concern it")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "mutants.json", dest="file")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mutants", help="where the copy is")
    parser.add_argument("--lock", type=Path, help="a file that is locked while a mutant is tried")
    parser.add_argument("--list", action="store_true", help="only say which mutants there are")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    results: dict[str, Any] = json.loads(options.file.read_text()) if options.file.exists() else {}
    for path in (each.resolve() for each in options.contracts):
        every = mutants(path)
        drawn = every
        if 0 < options.sample < len(every):
            rng = random.Random(options.seed)  # noqa: S311, which mutants are tried is no secret
            drawn = sorted(rng.sample(every, options.sample), key=lambda each: each.start)
        print(f"{path.name}: {len(every)} mutants, {len(drawn)} are tried")
        if options.list:
            for mutant in drawn:
                print(f"  line {mutant.line}: {mutant.old!r} -> {mutant.new!r}")
            continue
        if not _try(path, drawn, options, results, end):
            print("The time is over; start again to go on.")
            break
    if not options.list:
        survivors = [each for each in results.values() if each["outcome"] == "survived"]
        print(f"{len(results)} tried in all, {len(survivors)} survived")


def _try(path: Path, drawn: Sequence[Mutant], options: argparse.Namespace, results: dict[str, Any], end: float) -> bool:
    """Whether all were tried in time."""
    source, tests = path.read_bytes(), options.tests or tests_of(path)
    todo = [mutant for mutant in drawn if mutant.key(source) not in results]
    if not todo:
        return True
    options.work.mkdir(parents=True, exist_ok=True)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    with locked(options.lock):
        prepare(options.work)
        if (found := outcome(options.work, tests)) != "survived":
            sys.exit(f"without any change, {' '.join(tests)}: {found}; see {options.work / 'last.log'}")
    target = options.work / path.relative_to(ROOT)
    for mutant in todo:
        if time.monotonic() > end:
            return False
        began = time.monotonic()
        with locked(options.lock):
            target.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
            try:
                found = outcome(options.work, tests)
            finally:
                target.write_bytes(source)
        seconds = round(time.monotonic() - began, 1)
        results[mutant.key(source)] = {**asdict(mutant), "outcome": found, "tests": tests, "seconds": seconds}
        # After each, and never half of it: it may be stopped at any time.
        new = options.file.with_suffix(".new")
        new.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        new.replace(options.file)
        print(f"  line {mutant.line}: {mutant.old!r} -> {mutant.new!r}: {found}, {seconds:g} s", flush=True)
    return True


if __name__ == "__main__":
    main()
