"""The operator's registration file of ERC-8004, where a domain shows which agent is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI

from trine.errors import InvalidInput
from trine.identity import read_file
from trine.registration import WELL_KNOWN
from trine_operator.refusal import Refusal


def serve_registration(app: FastAPI, file: Path | None) -> None:
    """Serves the file as it is at each request: `trine identity` replaces it, and no restart is needed."""
    if file is None:
        return

    def registration() -> dict[str, Any]:
        try:
            return read_file(file).to_json()
        except InvalidInput:
            raise Refusal("this operator has no registration file yet", status=404, code="no_registration") from None

    app.add_api_route(WELL_KNOWN, registration, methods=["GET"])
