"""The tool that changes contracts: what it changes, in which order it tries, what it counts, and that it goes on where
it was stopped."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import mutants
import pytest
from mutations import ROOT, Mutant
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
        self._source = ""

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, task: str, seconds: float, **content: Any) -> dict[str, Any]:
        assert seconds > 0
        if task == "change":
            self._source = content["source"]
            return {"same": self._source == self.same}
        if task == "test":
            source = CONTRACT.read_text() if content.get("unchanged") else self._source
            self.tried.append((content["file"], source))
            noticed = any(text in source and file == content["file"] for text, file in self.failing.items())
            return {"tests": 3, "failed": ["testSomething()"] if noticed else []}
        return {}


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
    slow = Slow()
    slow.same = mutant.applied(CONTRACT.read_bytes()).decode()
    found = mutants.attempt(slow, mutant, CONTRACT.read_bytes(), results)  # type: ignore[arg-type]
    assert found["outcome"] == "same code"


def test_explained_changes_are_changes_of_the_contracts_that_are_here() -> None:
    entries = mutants.explanations()
    there = {(each.path, each.before, each.after): each for each in _all_of({entry["path"] for entry in entries})}
    for entry in entries:
        row = (entry["path"], entry["before"], entry["after"])
        assert row in there, f"no longer there: {row}"
        assert len(entry["why"]) > 20, row
        assert mutants.why({"path": row[0], "before": row[1], "after": row[2]}, entries) == entry["why"]
    assert mutants.why({"path": PATH, "before": "", "after": ""}, entries) is None


def _all_of(paths: set[str]) -> list[Mutant]:
    return mutants_of([ROOT / path for path in sorted(paths)]) if paths else []


@pytest.mark.parametrize(
    ("killed", "count", "low", "high"),
    [(0, 0, 0, 1), (95, 100, 0.8883, 0.9785), (10, 10, 0.7225, 1), (0, 10, 0, 0.2775)],
)
def test_the_interval_is_wilsons(killed: int, count: int, low: float, high: float) -> None:
    # Edges, and values that are easily checked by hand: z^2 = 3.8415.
    assert mutants.interval(killed, count) == pytest.approx((low, high), abs=5e-4)
