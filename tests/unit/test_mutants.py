"""The tool that changes contracts: what it changes, in which order it tries, what it counts, and that it goes on where
it was stopped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mutants
import mutations
import pytest
import schemata
from mutations import ROOT, Mutant, parsed
from mutations import mutants as mutants_of

CONTRACT = ROOT / "contracts" / "libraries" / "Metering.sol"
PATH = "contracts/libraries/Metering.sol"
FILES = ["tests/contracts/Attacks.t.sol", "tests/contracts/Libraries.t.sol", "tests/contracts/Packaged.t.sol"]
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "node_modules/solc").exists(), reason="needs Node.js and solc"
)


class FakeWorker:
    """Compiles nothing; `failing` are the changes that a test file notices."""

    def __init__(self) -> None:
        self.files = list(FILES)
        self.tried: list[tuple[str, str]] = []
        self.failing: dict[str, str] = {}
        self.same = ""
        self.missing: list[str] = []
        self.broken = ""
        self.always: list[str] = []
        self._source = ""

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, task: str, seconds: float, **content: Any) -> dict[str, Any]:
        assert seconds > 0
        if task == "change":
            self._source = content["source"]
            return {"same": self._source == self.same, "files": self.files}
        if task == "schema":
            self._source = content["source"]
            if self.broken and self.broken in self._source:
                return {"error": "a type", "at": self._source.index(self.broken)}
            return {"missing": self.missing, "files": self.files}
        if task == "test":
            source = CONTRACT.read_text() if content.get("unchanged") else self._source
            if "keys" in content:
                source = chosen(source, content["on"])
            self.tried.append((content["file"], source))
            noticed = any(text in source and file == content["file"] for text, file in self.failing.items())
            return {"tests": 3, "failed": [*self.always, *(["testSomething()"] if noticed else [])]}
        return {}


def chosen(source: str, on: str) -> str:
    """A source with switches as it is with one of them on, or with none."""
    source = source.removesuffix(schemata.SWITCH)
    while (found := re.search(r"\(mutant\(0x(\w{64})\) \? \(|\{ if \(!mutant\(0x(\w{64})\)\) \{ ", source)) is not None:
        key, end = found[1] or found[2], found.end()
        if found[1]:
            first = _closed(source, end)
            second = _closed(source, first + len(") : ("))
            branches = source[end:first], source[first + len(") : (") : second]
            after = second + len("))")
        else:
            first = _closed(source, end)
            branches = "{}", source[end:first].removesuffix(" ")
            after = first + len("} }")
        source = source[: found.start()] + branches[key != on] + source[after:]
    return source


def _closed(source: str, at: int) -> int:
    """Where what is open at `at` is closed."""
    depth = 0
    while depth or source[at] not in ")}":
        depth += (source[at] in "({") - (source[at] in ")}")
        at += 1
    return at


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> FakeWorker:
    fake = FakeWorker()
    monkeypatch.setattr(mutants, "Worker", lambda: fake)
    return fake


def _run(monkeypatch: pytest.MonkeyPatch, file: Path, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mutants", str(CONTRACT), "--json", str(file), *options])
    mutants.main()


def test_every_change_is_of_one_place_and_is_solidity_still() -> None:
    source = CONTRACT.read_bytes()
    found = mutants_of([CONTRACT])
    assert {(each.old, each.new) for each in found} == {("*", "/"), ("+", "-")}
    for mutant in found:
        changed = mutant.applied(source)
        assert changed != source
        assert source[mutant.start : mutant.end].decode() == mutant.old
        assert mutant.before in source.decode()
        assert mutant.after in changed.decode()
    assert len({each.key(source) for each in found}) == len({each.rank(1) for each in found}) == len(found)
    assert sorted(found, key=lambda each: each.rank(1)) != sorted(found, key=lambda each: each.rank(3))


def test_lines_modifiers_and_conditions_are_dropped_but_no_step_of_a_loop() -> None:
    found = {(each.before, each.after) for each in mutants_of([ROOT / "contracts/Payments.sol"])}
    assert ("_fees = 0;", "{}") in found
    assert ("if (toPool > 0) {", "if (true) {") in found
    assert ("function sendProtocolFees() external nonReentrant {", "function sendProtocolFees() external {") in found
    assert ("require(amount > 0, PaymentsAmountZero());", "require(true, PaymentsAmountZero());") in found
    assert ("if (leaves == 0) return;", "if (false) return;") in found
    # A loop keeps its step.
    assert any(before.startswith("for (") for before, _ in found)
    assert all("++i" in after for before, after in found if before.startswith("for (") and "++i" in before)


@pytest.mark.parametrize("name", ["libraries/Metering", "libraries/Decay", "Reputation"])
def test_a_switch_chooses_between_a_contract_as_it_is_and_one_change(name: str) -> None:
    path = ROOT / f"contracts/{name}.sol"
    source, every = path.read_bytes(), mutants_of([path])
    ((_, tree),) = parsed([path]).items()
    left = sorted(every, key=lambda each: each.rank(7))
    rounds = 0
    while (made := schemata.schema(source, tree, left)).keys:
        text = made.source.decode()
        assert chosen(text, "") == source.decode()
        for mutant, key in made.keys.items():
            assert chosen(text, key) == mutant.applied(source).decode(), mutant
            start, end = made.places[mutant]
            assert key in made.source[start:end].decode()
            assert made.within(start) == made.within(end - 1) == mutant
        left, rounds = [mutant for mutant in left if mutant not in made.keys], rounds + 1
    # Overlapping ones come in turns; modifiers, and what is outside of functions, have no switch.
    assert 0 < rounds < 12
    assert all(
        mutant.old.isidentifier() or mutant.before.startswith("modifier ") or " constant " in mutant.before
        for mutant in left
    ), left


CHECK = """
import solc from "solc";
let text = "";
for await (const part of process.stdin) text += part;
const sources = JSON.parse(text);
const compile = (files, viaIR) => {
  const outputSelection = Object.fromEntries(files.map((file) => [file, { "*": ["evm.bytecode.object"] }]));
  const settings = { optimizer: { enabled: true }, viaIR, outputSelection };
  return JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
};
// The newer code generator takes its time: one file, and it is the one with most switches.
process.stdout.write(JSON.stringify([compile(Object.keys(sources), false), compile(["Types1.sol"], true)]));
"""
TYPES = """pragma solidity 0.8.37;
contract Types {
    uint64 public some;
    function numbers(uint64 a, uint256 b, int8 c) external returns (uint64, bytes32, address, int8, uint256) {
        some = 1 + a * 2;
        if (b == 0 || !(c > 1)) some = uint64(1 << b);
        unchecked { b -= 2 ** 3 - 1 + b; }
        for (uint256 i = 0; i < 4 * 2; ++i) b = ~b & 0xff;
        require(b < 7 days, "late");
        return (some + 1, bytes32(uint256(1)), address(0), c - 1, (b + (3)) % 10);
    }
}
"""


def test_no_optimizer_decides_a_switch_and_both_branches_have_one_type() -> None:
    source = TYPES.encode()
    tree = mutations._parse(json.dumps({"Types.sol": TYPES}).encode())["sources"]["Types.sol"]["ast"]
    left = [
        mutations._mutant("Types.sol", source, "", *change) for change in sorted(set(mutations._changes(tree, source)))
    ]
    assert len(left) > 30
    sources, keys = {}, []
    while (made := schemata.schema(source, tree, left)).keys:
        left = [mutant for mutant in left if mutant not in made.keys]
        keys.append(made.keys)
        sources[f"Types{len(keys)}.sol"] = {"content": made.source.decode()}
    assert left == []
    done = subprocess.run(
        ["node", "--input-type=module", "-e", CHECK],
        input=json.dumps(sources).encode(),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    older, newer = json.loads(done.stdout)
    assert [each for each in older["errors"] + newer["errors"] if each["severity"] == "error"] == []
    for output, tried in ((older, keys), (newer, keys[:1])):
        for number, switches in enumerate(tried, 1):
            code = output["contracts"][f"Types{number}.sol"]["Types"]["evm"]["bytecode"]["object"]
            assert [mutant for mutant, key in switches.items() if key not in code] == []


def test_what_was_tried_is_not_tried_again_until_the_contract_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mutants.json"
    _run(monkeypatch, file, "--minutes", "0")
    assert not worker.tried, "no time"
    count = len(mutants_of([CONTRACT]))
    assert f"0 of {count} changes tried" in capsys.readouterr().out
    worker.failing = {" / ": "tests/contracts/Attacks.t.sol"}
    _run(monkeypatch, file)
    output = capsys.readouterr().out
    noticed = sum(each.new == "/" for each in mutants_of([CONTRACT]))
    assert 0 < noticed < count
    assert f"noticed: {noticed} of {count}" in output
    assert output.count("not noticed, ") == count - noticed
    before = len(worker.tried)
    _run(monkeypatch, file)
    assert len(worker.tried) == before
    # What was not noticed is tried again when there are new tests.
    worker.failing[" - "] = "tests/contracts/Libraries.t.sol"
    _run(monkeypatch, file, "--again")
    assert f"noticed: {count} of {count}" in capsys.readouterr().out


def test_files_that_notice_most_come_first_and_some_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker
) -> None:
    results = mutants.Results(tmp_path / "mutants.json")
    assert results.order(PATH, FILES)[0] == "tests/contracts/Libraries.t.sol", "it is of a library"
    results.mutants["0"] = {"path": PATH, "by": "tests/contracts/Attacks.t.sol testAttack()"}
    assert results.order(PATH, FILES)[0] == "tests/contracts/Attacks.t.sol"
    _run(monkeypatch, tmp_path / "mutants.json")
    assert "tests/contracts/Packaged.t.sol" not in {name for name, _ in worker.tried}
    for name in mutants.LEFT_OUT:
        assert (ROOT / f"tests/contracts/{name}.t.sol").exists(), name
    for name in {each for names in mutants.BESIDES.values() for each in names}:
        assert (ROOT / f"tests/contracts/{name}.t.sol").exists(), name


def test_a_suite_that_fails_by_itself_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker
) -> None:
    worker.failing = {"library": FILES[0]}
    with pytest.raises(SystemExit, match="without any change"):
        _run(monkeypatch, tmp_path / "mutants.json")


def test_a_test_that_never_ends_has_noticed_the_change(tmp_path: Path) -> None:
    class Slow(FakeWorker):
        def ask(self, task: str, seconds: float, **content: Any) -> dict[str, Any]:
            if task == "test":
                raise TimeoutError(task)
            return super().ask(task, seconds, **content)

    results = mutants.Results(tmp_path / "mutants.json")
    results.seconds = dict.fromkeys(FILES, 1.0)
    (mutant, *_) = mutants_of([CONTRACT])
    found = mutants.attempt(Slow(), mutant, CONTRACT.read_bytes(), results)  # type: ignore[arg-type]
    assert found["outcome"] == "too slow"
    # Of many with switches, too: it is left to be tried alone, and the others are not.
    slow = Slow()
    ((_, tree),) = parsed([CONTRACT]).items()
    together = mutants.attempt_together(slow, tree, CONTRACT.read_bytes(), [mutant], results)  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        list(together)
    slow = Slow()
    slow.same = mutant.applied(CONTRACT.read_bytes()).decode()
    found = mutants.attempt(slow, mutant, CONTRACT.read_bytes(), results)  # type: ignore[arg-type]
    assert found["outcome"] == "same code"


def test_with_switches_only_a_test_that_passes_without_a_change_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    # The code is not what is deployed, so a test of its gas or size may fail anyway. Alone, every test passes.
    worker.always = ["testSomething()"]
    worker.failing = {" / ": FILES[1]}
    source, every = CONTRACT.read_bytes(), mutants_of([CONTRACT])
    ((_, tree),) = parsed([CONTRACT]).items()
    results = mutants.Results(tmp_path / "mutants.json")
    noticed = list(mutants.attempt_together(worker, tree, source, every, results))  # type: ignore[arg-type]
    assert noticed
    assert {by for _, by in noticed} == {""}
    worker.always = []
    noticed = list(mutants.attempt_together(worker, tree, source, every, results))  # type: ignore[arg-type]
    assert {mutant for mutant, by in noticed if by} == {mutant for mutant in every if mutant.new == "/"}


def test_what_does_not_compile_with_a_switch_or_is_in_no_code_is_tried_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    source, every = CONTRACT.read_bytes(), mutants_of([CONTRACT])
    ((_, tree),) = parsed([CONTRACT]).items()
    made = schemata.schema(source, tree, every)
    first, second = list(made.keys)[:2]
    worker.broken, worker.missing = made.keys[first], [made.keys[second]]
    results = mutants.Results(tmp_path / "mutants.json")
    tried = {mutant for mutant, _ in mutants.attempt_together(worker, tree, source, every, results)}  # type: ignore[arg-type]
    assert tried == set(every) - {first, second}
    worker.failing = {" / ": FILES[1], " - ": FILES[1]}
    _run(monkeypatch, tmp_path / "mutants.json")
    assert f"noticed: {len(every)} of {len(every)}" in capsys.readouterr().out


def test_of_a_block_that_is_not_finished_nothing_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is noticed at once is known first: counted alone, it would be a share of the easy ones."""
    file = tmp_path / "mutants.json"
    _run(monkeypatch, file)
    results = mutants.Results(file)
    drawn = sorted(mutants_of([CONTRACT]), key=lambda each: each.rank(1))
    del results.mutants[drawn[1].key(CONTRACT.read_bytes())]
    results.save()
    capsys.readouterr()
    _run(monkeypatch, file, "--report")
    output = capsys.readouterr().out
    assert f"{len(drawn) - 2} more are known of a block that is not finished" in output
    assert f"1 of {len(drawn)} changes tried" in output


def test_what_is_explained_is_not_tried_but_when_its_explanation_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    every = mutants_of([CONTRACT])
    first = every[0]
    assert {each.function for each in every} == {"fee"}
    entry = {"path": PATH, "function": "fee", "before": first.before, "after": first.after, "why": "it is the same"}
    explained = tmp_path / "equivalent.toml"
    lines = "".join(f"{name} = {json.dumps(text)}\n" for name, text in entry.items())
    explained.write_text(f"[[equivalent]]\n{lines}")
    monkeypatch.setattr(mutants, "EXPLAINED", explained)
    worker.failing = {" / ": FILES[1], " - ": FILES[1]}
    file = tmp_path / "mutants.json"
    _run(monkeypatch, file)
    output = capsys.readouterr().out
    assert f"noticed: {len(every) - 1} of {len(every) - 1}" in output
    assert "it is the same" in output
    changed = first.applied(CONTRACT.read_bytes()).decode()
    assert changed not in {source for _, source in worker.tried}
    _run(monkeypatch, file, "--explained")
    assert changed in {source for _, source in worker.tried}
    assert "explained, and yet noticed" in capsys.readouterr().out


def test_every_explanation_is_of_one_change_of_the_contracts_that_are_here() -> None:
    entries = mutants.explanations()
    found = _all_of({entry["path"] for entry in entries})
    for entry in entries:
        row = tuple(entry[name] for name in mutants.PLACE)
        meant = [each for each in found if tuple(getattr(each, name) for name in mutants.PLACE) == row]
        assert len(meant) == 1, f"{len(meant)} changes, not one: {row}"
        assert len(entry["why"]) > 20, row
        assert mutants.why(meant[0], entries) == entry["why"]


def _all_of(paths: set[str]) -> list[Mutant]:
    return mutants_of([ROOT / path for path in sorted(paths)]) if paths else []


@pytest.mark.parametrize(
    ("killed", "count", "low", "high"),
    [(0, 0, 0, 1), (95, 100, 0.8883, 0.9785), (10, 10, 0.7225, 1), (0, 10, 0, 0.2775)],
)
def test_the_interval_is_wilsons(killed: int, count: int, low: float, high: float) -> None:
    # Edges, and values that are easily checked by hand: z^2 = 3.8415.
    assert mutants.interval(killed, count) == pytest.approx((low, high), abs=5e-4)
