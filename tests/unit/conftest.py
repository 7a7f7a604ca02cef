"""The shipped model, prepared once and loaded once for all tests that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from postgres_server import NoServer, PostgresServer

from trine.models import ModelRecord, load_record
from trine.protocol.decoding import Decoding
from trine.protocol.messages import FinishReason
from trine.protocol.policy import Policy
from trine.protocol.verdict import Claim, Outcome, Reason, Verdict, decide
from trine_node.engines.base import Engine, OffGrammar, Step
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.models import prepare

SLOW = {
    "abroad", "adversaries", "agents", "call_counts", "chain_faults", "client_parallel", "compilation", "connections",
    "constrained_answers", "deploy_fitness", "deploy_manifests", "failover", "fetching", "golden", "hedging",
    "hostile_endpoint", "hostile_evidence", "paid_from_verdicts", "passing", "protection", "publishing", "relay",
    "devnet_chain", "distributions", "endpoints", "engine", "engine_determinism", "engine_selftest", "event_log",
    "examining", "gateway", "gpu_day", "gpu_kernels", "images", "inference_support", "llamacpp", "meeting",
    "migrations", "node_openai", "node_payment", "node_pruning", "node_store", "openai_engine",
    "outbox", "posted_requests", "rpc_proxy",
    "sampled_answers", "sending_under_faults", "solidity_package", "startup", "stop_strings", "store_faults",
    "study_billion", "study_calibrate", "study_fit", "study_majority", "text_consensus", "x402",
}  # fmt: skip
"""Modules that load a model, start processes or a chain: `make check` leaves them to `make test`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker(pytest.mark.slow)


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
            model_folder, model_name=record.name, model_id=record.model_id, dtype=dtype, threads=1
        )
        for dtype in ("fp32", "bf16", "fp16")
    }


@pytest.fixture(scope="session")
def engine(engines: dict[str, TransformersEngine]) -> TransformersEngine:
    return engines["fp32"]


@pytest.fixture(scope="session")
def judge(policy: Policy) -> Callable[..., Verdict]:
    """(prompt, answer, max tokens, prover, verifier, how it was drawn) -> the verdict under the shipped policy."""

    def verdict(
        prompt: Sequence[int],
        steps: Sequence[Step],
        max_tokens: int,
        prover: Engine,
        verifier: Engine,
        decoding: Decoding | None = None,
    ) -> Verdict:
        output = tuple(step.token_id for step in steps)
        reason = FinishReason.STOP if output[-1] in prover.eos_ids else FinishReason.LENGTH
        claim = Claim(output, tuple(step.word for step in steps), reason, max_tokens, prover.engine_class)
        try:
            own = verifier.check(prompt, output, decoding)
        except OffGrammar as error:
            return Verdict(Outcome.REJECT, Reason.STRUCTURE, len(output), detail=str(error))
        return decide(
            claim,
            own,
            eos_ids=verifier.eos_ids,
            verifier_class=verifier.engine_class,
            policy=policy,
        )

    return verdict


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server, started when the first test asks for it."""
    try:
        server = PostgresServer()
    except NoServer as error:
        pytest.skip(f"no PostgreSQL server: {error}")
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database, one a test, on what operators use."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.sqlite"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)
