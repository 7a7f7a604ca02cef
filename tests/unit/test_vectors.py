"""The shared vectors are what this code computes; tests/contracts/ checks Solidity against them."""

import importlib.util
from pathlib import Path

import pytest

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.mark.parametrize("generator", sorted(VECTORS.glob("generate*.py")), ids=lambda path: path.stem)
def test_the_vectors_are_up_to_date(generator: Path):
    spec = importlib.util.spec_from_file_location(generator.stem, generator)
    assert spec
    assert spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.FILE.read_text() == generate.render(), "run `make vectors` and commit the result"
