"""The threat model names a test for what it says: each is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAID = (ROOT / "docs" / "threats.md").read_text()
TESTS = [*ROOT.glob("tests/contracts/**/*.sol"), *ROOT.glob("tests/unit/*.py"), *ROOT.glob("tests/e2e/*.py")]


def test_every_test_that_the_threat_model_names_is_there():
    source = "\n".join(path.read_text() for path in TESTS)
    there = set(re.findall(r"\b(?:function|def) (\w+)", source))
    named = set(re.findall(r"`(test\w+)`", SAID))
    assert len(named) > 50
    assert named <= there, named - there


def test_every_file_that_the_threat_model_names_is_there():
    named = set(re.findall(r"`((?:tests|benchmarks|deploy)/[\w/.]+)`", SAID))
    assert named
    assert all((ROOT / name).exists() for name in named), named


def test_every_row_says_as_much_as_its_table_promises_and_what_shows_it():
    """By a test, a file or a benchmark; or it says plainly that it is only documented."""
    rows = 0
    width = 0
    for line in SAID.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not width:
            width = len(cells)
            assert cells[-1] == "shown by", line
        elif not set(line) <= set("|- "):
            rows += 1
            assert len(cells) == width, line
            assert all(cells), line
            assert cells[-1] == "documented" or re.search(r"`[\w/.]*(test|benchmarks/)\w*[\w/.]*`", cells[-1]), line
    assert rows > 100
