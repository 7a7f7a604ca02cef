"""The error catalogue has every error that a program can meet."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from trine import errors
from trine.cli.output import EXIT_CODES

REPOSITORY = Path(__file__).parents[2]
CATALOGUE = (REPOSITORY / "docs" / "errors.md").read_text("utf-8")


def kinds() -> list[type[errors.TrineError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.TrineError)]
    assert len(found) > 10
    return found


def codes() -> set[str]:
    """Every `code=` that is written out, or named by a constant of its module, where operators refuse."""
    found: set[str] = set()
    for folder in ("node/trine_node", "node/trine_operator", "verifier/trine_verifier"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            constants = {
                target.id: each.value.value
                for each in ast.walk(tree)
                if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
                for target in each.targets
                if isinstance(target, ast.Name)
            }
            for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
                for given in (keyword.value for keyword in call.keywords if keyword.arg == "code"):
                    value = given.value if isinstance(given, ast.Constant) else constants.get(getattr(given, "id", ""))
                    found |= {value} if isinstance(value, str) else set()
    assert len(found) > 30
    return found


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_is_in_the_catalogue(kind):
    assert f"`{kind.__name__}`" in CATALOGUE


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_code_of_an_operator_is_in_the_catalogue(code):
    assert f"`{code}`" in CATALOGUE


def test_the_exit_codes_are_those_of_the_command():
    for kind, code in EXIT_CODES:
        assert any(said in CATALOGUE for said in (f"{code} for `{kind.__name__}`", f"{code}\nfor `{kind.__name__}`"))
