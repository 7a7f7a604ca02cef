"""The tool that changes contracts: what it changes, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import mutants
import pytest

CONTRACT = mutants.ROOT / "contracts" / "libraries" / "Metering.sol"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (mutants.ROOT / "node_modules/solc").exists(), reason="needs Node.js and solc"
)


def test_every_change_is_of_one_place_and_is_solidity_still(tmp_path: Path) -> None:
    source = CONTRACT.read_bytes()
    found = mutants.mutants(CONTRACT)
    assert found
    for mutant in found:
        assert source[mutant.start : mutant.end].decode() == mutant.old != mutant.new
        assert source.decode().splitlines()[mutant.line - 1].count(mutant.old)
    assert {(mutant.old, mutant.new) for mutant in found} >= {("*", "/"), ("+", "-")}
    assert len({mutant.key(source) for mutant in found}) == len(found)


def test_what_was_tried_is_not_tried_again_until_the_contract_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[bytes] = []

    def outcome(work: Path, tests: list[str]) -> str:
        assert tests == ["tests/contracts/Metering.t.sol", "tests/contracts/Libraries.t.sol"]
        tried.append((work / "contracts/libraries/Metering.sol").read_bytes())
        return "killed" if len(tried) > 2 else "survived"

    monkeypatch.setattr(mutants, "outcome", outcome)
    file = tmp_path / "mutants.json"
    command = ["mutants", str(CONTRACT), "--sample", "0", "--json", str(file), "--work", str(tmp_path / "copy")]
    monkeypatch.setattr(sys, "argv", [*command, "--minutes", "0"])
    mutants.main()
    assert len(tried) == 1, "the contract as it is, and no time for more"
    monkeypatch.setattr(sys, "argv", command)
    mutants.main()
    count = len(mutants.mutants(CONTRACT))
    assert len(set(tried)) == 1 + count
    results = json.loads(file.read_text())
    assert len(results) == count
    assert (tmp_path / "copy/contracts/libraries/Metering.sol").read_bytes() == CONTRACT.read_bytes()
    before = len(tried)
    mutants.main()
    assert len(tried) == before
    assert f"{count} tried in all" in capsys.readouterr().out


def test_a_suite_that_fails_by_itself_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "outcome", lambda work, tests: "killed")
    monkeypatch.setattr(sys, "argv", ["mutants", str(CONTRACT), "--json", str(tmp_path / "m"), "--work", str(tmp_path)])
    with pytest.raises(SystemExit, match="without any change"):
        mutants.main()
