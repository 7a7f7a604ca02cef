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
