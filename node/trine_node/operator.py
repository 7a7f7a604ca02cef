"""What every operator's process does before it works: key, chain, stake, model files, engine.

Refuses to start, saying what to do, rather than to run into a slash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from trine.chain import Chain, Deployment, Model, Role, load_keystore
from trine.errors import InvalidInput, NotReady
from trine.protocol.manifest import Manifest
from trine_node.credit import Credit
from trine_node.engines.base import Engine
from trine_node.models import prepare, verify_once
from trine_node.settings import OperatorSettings
from trine_node.store import Store

log = structlog.get_logger()

DRIFT_SECONDS = 60
"""Blocks may be that far apart."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An opened account with its model and store."""

    chain: Chain
    model: Model
    engine: Engine
    store: Store


def open_chain(settings: OperatorSettings) -> Chain:
    account = load_keystore(settings.keystore, settings.password_file)
    return Chain.connect(Deployment.load(settings.deployment), settings.rpc_url, account)


def clock_drift(chain: Chain) -> int:
    """Seconds that this machine's clock is ahead of the chain's; a block may be a few seconds old. Decides nothing."""
    return round(time.time()) - chain.timestamp()


def find_model(chain: Chain, name: str) -> Model:
    """The newest registered model of that name. Raises InvalidInput listing the names that exist."""
    entries = chain.models()
    for entry in reversed(entries):
        if entry.name == name:
            return chain.model(entry.model_id)
    known = ", ".join(sorted({entry.name for entry in entries})) or "none"
    raise InvalidInput(f"no model {name!r} is registered on this chain; registered: {known}")


def open_operator(settings: OperatorSettings, role: Role) -> Operator:
    """Raises InvalidInput, ModelMismatch (naming the file), NotReady (naming the next command)."""
    chain = open_chain(settings)
    if chain.gas_balance(chain.address) == 0:
        raise NotReady(f"{chain.address} has no gas money: send it some of the chain's currency")
    drift = clock_drift(chain)
    if abs(drift) > DRIFT_SECONDS:
        log.warning("clock_off", seconds=drift, hint="nothing on the chain goes by it, but logs and certificates do")
    model = find_model(chain, settings.model)
    if chain.stake_of(chain.address).active == 0:
        raise NotReady(f"{chain.address} has no stake: run `trine stake add <amount>` with this keystore")
    engine = load_engine(settings, model)
    store = Store(settings.store_url)
    prompts = chain.parameters().prompts_per_challenge
    Credit(chain, settings.credit_target_wei).ensure(leaves=prompts if settings.calibrate else 1)
    if chain.endpoint_of(chain.address) != settings.endpoint:
        chain.set_endpoint(settings.endpoint)
    log.info("operator_ready", address=chain.address, role=role.name.lower(), engine=engine.engine_class)
    return Operator(chain, model, engine, store)


def load_engine(settings: OperatorSettings, model: Model) -> Engine:
    """Prepares the model, checks every file against the registry, loads it or finds the server that has.

    Raises EngineError when that server is down or serves something else.
    """
    started = time.monotonic()
    folder = prepare(model.source, progress=lambda message: log.info("model_preparation", step=message))
    verify_once(folder, Manifest.from_bytes(model.manifest))
    engine = _engine(settings, model, folder)
    log.info("model_loaded", model=model.name, seconds=round(time.monotonic() - started, 2))
    return engine


def _engine(settings: OperatorSettings, model: Model, folder: Path) -> Engine:
    if settings.engine_url is not None:
        from trine_node.engines.openai_engine import OpenAiEngine

        return OpenAiEngine.load(
            folder,
            model_name=model.name,
            model_id=model.model_id,
            server=settings.engine,
            url=settings.engine_url,
            dtype=settings.dtype,
            served_model=settings.engine_model,
            api_key=settings.engine_api_key,
            timeout_seconds=settings.engine_timeout_seconds,
            start_seconds=settings.engine_start_seconds,
        )
    from trine_node.engines.compilation import compile_kernels
    from trine_node.engines.transformers_engine import TransformersEngine

    if settings.device == "cpu":
        compile_kernels(lambda message: log.info("kernels", step=message))
    return TransformersEngine.load(
        folder,
        model_name=model.name,
        model_id=model.model_id,
        dtype=settings.dtype,
        device=settings.device,
        threads=settings.threads,
        arithmetic=settings.engine_arithmetic,
        rows=settings.engine_rows,
        prompt_tokens=settings.engine_prompt_tokens,
        cache_tokens=settings.engine_cache_tokens,
    )


class BackgroundServer:
    """Uvicorn in a thread: starts, says when it listens, stops gracefully."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        config = uvicorn.Config(
            app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=30
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._where = f"{host}:{port}"

    def start(self) -> None:
        """Raises NotReady when the port cannot be had."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise NotReady(f"cannot listen on {self._where}: is the port in use?")
            time.sleep(0.05)

    def stop(self) -> None:
        """Finishes requests in flight, within uvicorn's grace period."""
        self._server.should_exit = True
        self._thread.join(timeout=35)


class Worker:
    """A named background loop that ends when the shared stop event is set."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=35)
