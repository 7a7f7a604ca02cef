"""The FastAPI applications: a node's, and the small one that a verifier serves its calibration evidence from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from trine.chain import Chain
from trine_node.answering import Answering
from trine_node.service.errors import install
from trine_node.service.evidence import EvidenceEndpoints
from trine_node.service.openai import OpenAiEndpoints
from trine_node.settings import Limits
from trine_node.store import Store

Readiness = Callable[[], str | None]
"""None when ready, else one sentence why not."""


def create_app(answering: Answering, limits: Limits, readiness: Readiness) -> FastAPI:
    """A node: OpenAI's endpoints, evidence, health. `app.state.openai.closing = True` refuses new work."""
    app = _base("Trine node", readiness)
    endpoints = OpenAiEndpoints(answering, limits)
    app.state.openai = endpoints
    app.include_router(endpoints.router)
    app.include_router(EvidenceEndpoints(answering.store, answering.chain).router)
    return app


def create_evidence_app(store: Store, chain: Chain, readiness: Readiness) -> FastAPI:
    """Evidence and health only."""
    app = _base("Trine verifier", readiness)
    app.include_router(EvidenceEndpoints(store, chain).router)
    return app


def _base(title: str, readiness: Readiness) -> FastAPI:
    app = FastAPI(title=title, docs_url=None, redoc_url=None)
    install(app)

    @app.get("/healthz")
    def healthz() -> Any:
        reason = readiness()
        if reason is None:
            return {"status": "ok"}
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    return app
