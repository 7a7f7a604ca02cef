"""Which websites may have their visitors' browsers ask this service: CORS, off unless origins are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import FastAPI
from pydantic import StringConstraints
from starlette.middleware.cors import CORSMiddleware

Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^\s/,*]+)$", max_length=256)]
"""As browsers write it: scheme, host and port, no path. `*`: any."""

SHOWN_HEADERS = (
    "payment-required",
    "payment-response",
    "retry-after",
    "x-request-id",
    "x-trine-model",
    "x-trine-node",
    "x-trine-receipt",
    "x-trine-verdict",
)
"""What of an answer's head a page may read besides what all may."""
PREFLIGHT_SECONDS = 600


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Answers preflights, and marks answers, for pages of these origins. None: no page may read an answer.

    Never with credentials: a browser has none here, a page shows its key as any other client does.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # the stock JavaScript client tells its version and system in ten of its own
            expose_headers=list(SHOWN_HEADERS),
            max_age=PREFLIGHT_SECONDS,
        )
