"""The application around an operator's endpoints: health, request ids, errors in one form, evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from trine.chain import Chain
from trine_operator.service.errors import install
from trine_operator.service.evidence import EvidenceEndpoints
from trine_operator.store import Store

Readiness = Callable[[], str | None]
"""None when ready, else one sentence why not."""


def create_evidence_app(title: str, store: Store, chain: Chain, readiness: Readiness) -> FastAPI:
    """Evidence and health: all that a verifier serves."""
    app = create_frame(title, readiness)
    app.include_router(EvidenceEndpoints(store, chain).router)
    return app


def create_frame(title: str, readiness: Readiness) -> FastAPI:
    """Health only."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None)
    install(app)

    @app.get("/healthz")
    def healthz() -> Any:
        reason = readiness()
        if reason is None:
            return {"status": "ok"}
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    return app
