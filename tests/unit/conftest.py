"""The shipped model, prepared once and loaded once for all tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trine.models import ModelRecord, load_record
from trine.protocol.policy import Policy
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.models import prepare


@pytest.fixture(scope="session")
def record() -> ModelRecord:
    return load_record("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def policy(record: ModelRecord) -> Policy:
    return Policy.from_bytes(record.policy)


@pytest.fixture(scope="session")
def model_folder(record: ModelRecord) -> Path:
    return prepare(record.source)


@pytest.fixture(scope="session")
def engines(record: ModelRecord, model_folder: Path) -> dict[str, TransformersEngine]:
    """By precision."""
    return {
        dtype: TransformersEngine.load(
            model_folder, model_name=record.name, model_id=record.model_id, dtype=dtype, threads=2
        )
        for dtype in ("fp32", "bf16", "fp16")
    }


@pytest.fixture(scope="session")
def engine(engines: dict[str, TransformersEngine]) -> TransformersEngine:
    return engines["fp32"]
