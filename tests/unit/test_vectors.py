"""The shared vectors are what this code computes; tests/contracts/Vectors.t.sol checks Solidity against them."""

import importlib.util
from pathlib import Path

GENERATOR = Path(__file__).parents[1] / "vectors" / "generate.py"


def test_the_vectors_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    assert spec
    assert spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.FILE.read_text() == generate.render(), "run `make vectors` and commit the result"
