"""From an operator's settings to the engine that computes its model."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import structlog

from trine.chain import Model
from trine.protocol.manifest import Manifest
from trine_node.engines.base import Engine, render
from trine_node.models import prepare, require_golden, require_libraries, verify_once
from trine_operator.settings import OperatorSettings

log = structlog.get_logger()


def load_engine(settings: OperatorSettings, model: Model) -> Engine:
    """Prepares the model, checks every file against the registry, loads it or finds the server that has.

    Raises EngineError when that server is down or serves something else, RendererMismatch where this machine would
    turn messages into other tokens than the registered manifest says.
    """
    started = time.monotonic()
    manifest = Manifest.from_bytes(model.manifest)
    rendering = manifest.pinned_rendering(model.name)
    require_libraries(rendering, model.name)
    folder = prepare(model.source, progress=lambda message: log.info("model_preparation", step=message))
    verify_once(folder, manifest)
    engine = _engine(settings, model, folder)
    require_golden(rendering, model.name, partial(render, engine))
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
