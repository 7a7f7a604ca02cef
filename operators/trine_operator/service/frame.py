"""The application around an operator's endpoints: health, request ids, errors in one form, evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from trine.chain import Chain
from trine_operator.service.errors import install
from trine_operator.service.evidence import EvidenceEndpoints, PassesOn
from trine_operator.service.sealed import Seals, serve_sealed
from trine_operator.store import Store

Readiness = Callable[[], str | None]
"""None when ready, else one sentence why not."""
SMALL_BODY_BYTES = 1 << 16
"""Of a sealed request, where nothing larger is asked: a seat's statement is far smaller."""
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_evidence_app(
    title: str,
    store: Store,
    chain: Chain,
    readiness: Readiness,
    instance: str | None = None,
    passes_on: PassesOn | None = None,
    evidence: type[EvidenceEndpoints] = EvidenceEndpoints,
    max_body_bytes: int = SMALL_BODY_BYTES,
) -> FastAPI:
    """Evidence and health: all that a verifier serves, open and sealed. `instance` names this process.

    `passes_on`: others' evidence that is shown as well. `evidence` is how adversaries take the honest endpoints' place.
    """
    app = create_frame(title, readiness, {"operator": chain.address, "instance": instance} if instance else {})
    app.include_router(evidence(store, chain, passes_on).router)
    serve_sealed(app, Seals(chain.domain, chain.address, chain.sign, chain.now), max_body_bytes)
    return app


def create_frame(
    title: str, readiness: Readiness, identity: Mapping[str, str] | None = None, lifespan: Lifespan | None = None
) -> FastAPI:
    """Health only. `identity`: who answers, so that a copy of an operator is recognized. `lifespan`: what is there as
    long as the application."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    install(app)

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    def healthz() -> Any:
        reason = readiness()
        if reason is None:
            return {"status": "ok", **(identity or {})}
        return JSONResponse({"status": "not ready", "reason": reason, **(identity or {})}, 503)

    return app
