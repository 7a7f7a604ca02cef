"""A node's FastAPI application."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from trine_node.answering import Answering
from trine_node.service.openai import OpenAiEndpoints
from trine_node.service.posted import PostedEndpoints, Price
from trine_node.settings import Limits
from trine_operator.service import EvidenceEndpoints, Readiness, allow_origins, create_evidence_app


def create_app(
    answering: Answering,
    limits: Limits,
    readiness: Readiness,
    instance: str | None = None,
    evidence: type[EvidenceEndpoints] = EvidenceEndpoints,
    price: Price | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """OpenAI's endpoints, evidence, health; `price` says what posted requests cost, if they are answered.

    `app.state.openai.close()` refuses new work.
    """
    app = create_evidence_app(
        "Trine node",
        answering.store,
        answering.chain,
        readiness,
        instance,
        evidence=evidence,
        max_body_bytes=limits.max_body_bytes,
    )
    endpoints = OpenAiEndpoints(answering, limits)
    app.state.openai = endpoints
    app.include_router(endpoints.router)
    app.include_router(PostedEndpoints(answering.store, price).router)
    allow_origins(app, cors_origins)
    return app
