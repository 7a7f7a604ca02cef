"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import re
import uuid

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trine.errors import ChainError, InvalidInput, TrineError
from trine_operator.refusal import Refusal
from trine_operator.store import EvidencePruned, StoreError

log = structlog.get_logger()

RETRY_SECONDS = 2
BODY_NOT_READ = (408, 413, 415)
"""What else comes on these connections is the rest of the body."""

UNKEPT = "the operator's store is not available at the moment, so nothing is promised: try again, or ask another one"
UNKEPT_CODE = "store_unavailable"
UNKEPT_SECONDS = 5
"""When a client may ask again."""


KIND_OF_CODE = {"insufficient_quota": "insufficient_quota", "invalid_api_key": "invalid_request_error"}
KIND_OF_STATUS = {
    401: "authentication_error",
    402: "payment_required",
    403: "permission_error",
    429: "rate_limit_error",
}
"""OpenAI's `type`, where it is not the usual one of refusals and failures."""


def error_body(message: str, *, status: int, code: str | None = None, param: str | None = None) -> dict[str, object]:
    usual = KIND_OF_STATUS.get(status, "invalid_request_error" if status < 500 else "server_error")
    kind = KIND_OF_CODE.get(code or "", usual)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(
    message: str, *, status: int, code: str | None = None, param: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    headers = {"retry-after": str(retry_after)} if retry_after else None
    return JSONResponse(error_body(message, status=status, code=code, param=param), status, headers)


def for_strangers(error: TrineError) -> str:
    """What of an error of ours a client is told: nothing of where the operator asks its chain."""
    if isinstance(error, ChainError):
        return "the chain cannot be asked right now: try again"
    return str(error)


def refuse(refusal: Refusal) -> JSONResponse:
    retry = 1 if refusal.status == 429 else None
    response = error_response(
        str(refusal), status=refusal.status, code=refusal.code, param=refusal.param, retry_after=retry
    )
    response.headers.update(refusal.headers)
    if refusal.status in BODY_NOT_READ:
        response.headers["connection"] = "close"
    return response


def install(app: FastAPI) -> None:
    """Request ids on every answer; every failure in OpenAI's form; no stack trace leaves the process."""

    app.add_middleware(_Edge)

    @app.exception_handler(Refusal)
    async def refusal(_request: Request, error: Refusal) -> Response:
        return refuse(error)

    @app.exception_handler(InvalidInput)
    async def invalid(_request: Request, error: InvalidInput) -> Response:
        return error_response(str(error), status=400)

    @app.exception_handler(EvidencePruned)
    async def pruned(_request: Request, error: EvidencePruned) -> Response:
        return error_response(str(error), status=410, code="evidence_pruned")

    @app.exception_handler(StoreError)
    async def unkept(_request: Request, error: StoreError) -> Response:
        # What the database says, paths and all, is for the operator.
        log.error("request_failed", error=str(error))
        return error_response(UNKEPT, status=503, code=UNKEPT_CODE, retry_after=UNKEPT_SECONDS)

    @app.exception_handler(TrineError)
    async def failed(_request: Request, error: TrineError) -> Response:
        log.error("request_failed", error=str(error))
        return error_response(for_strangers(error), status=503, code=type(error).__name__, retry_after=RETRY_SECONDS)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        said = str(error.detail)
        if error.status_code == 404:
            said = f"nothing is served at {request.url.path:.64}"
            if hint := _hint(app, request):
                said += f": {hint}"
        return error_response(said, status=error.status_code)

    @app.exception_handler(RequestValidationError)
    async def validation(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return error_response(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", status=400)


def _hint(app: FastAPI, request: Request) -> str | None:
    """What is wrong with an address that is nearly one. No client is redirected: one that follows sends its key again,
    to an address that whoever stands before this server may serve without TLS."""
    path = request.url.path
    near = {
        "a base URL ends in /v1": "/v1" + path,
        "a base URL has one /v1": re.sub("^/v1(/v1)+/", "/v1/", path),
        "leave out the slash at the end": path.rstrip("/"),
        "there is a slash too many": re.sub("/+", "/", path),
    }
    for hint, meant in near.items():
        scope = {**request.scope, "path": meant}
        if meant != path and any(route.matches(scope)[0] is not Match.NONE for route in app.routes):
            return hint
    return None


class _Edge:
    """Plain ASGI on purpose: a middleware that wraps the body would hide disconnects from who generates it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identifier = f"req_{uuid.uuid4().hex}"
        begun = False

        async def tagged(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)["x-request-id"] = identifier
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=identifier):
            try:
                if _has_two_lengths(scope):
                    await _refuse_two_lengths()(scope, receive, tagged)
                else:
                    await self._app(scope, receive, tagged)
            except Exception as error:
                log.error("unexpected_error", exc_info=error)
                if begun:
                    raise
                failure = error_response("the node failed at this request; its log says why", status=500)
                await failure(scope, receive, tagged)


def _has_two_lengths(scope: Scope) -> bool:
    """Who stands before this server may have read another body than it would."""
    names = {name.lower() for name, _ in scope["headers"]}
    return {b"content-length", b"transfer-encoding"} <= names


def _refuse_two_lengths() -> Response:
    said = "a request has Content-Length or Transfer-Encoding, not both: send one of them"
    response = error_response(said, status=400, code="invalid_header", param="transfer-encoding")
    response.headers["connection"] = "close"  # what follows on the connection is nobody's request
    return response
