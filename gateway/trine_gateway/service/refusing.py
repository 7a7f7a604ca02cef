"""What a client is told of an error: in OpenAI's words, by name, and nothing of the gateway's own affairs."""

from __future__ import annotations

import structlog

from trine.errors import (
    ChainError,
    InvalidField,
    InvalidInput,
    NodeError,
    NodeRefused,
    NotReady,
    TrineError,
    VerificationFailed,
)
from trine_operator.refusal import Refusal
from trine_operator.service.errors import UNKEPT, UNKEPT_CODE, error_body
from trine_operator.store import StoreError

log = structlog.get_logger()

SOON = {"retry-after": "2"}
OF_THE_CLIENT = frozenset({400, 404, 413})
"""What a node says of a request, not of who passed it on."""
FAULT = "the gateway failed at this request; its log says why"


def refusal_of(error: Exception) -> Refusal:
    """The error as an answer. What is nobody's business is logged."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InvalidField):
        return Refusal(str(error), code=error.code, param=error.field)
    if isinstance(error, InvalidInput):
        return Refusal(str(error))
    if isinstance(error, NodeRefused):
        return _of_node(error)
    if isinstance(error, StoreError):
        log.error("request_failed", error=str(error))
        return Refusal(UNKEPT, status=503, code=UNKEPT_CODE, headers=SOON)
    if isinstance(error, ChainError):
        log.error("request_failed", error=str(error))
        return Refusal("the chain cannot be asked right now: try again", status=503, code="chain_away", headers=SOON)
    if isinstance(error, VerificationFailed):
        log.error("request_failed", error=str(error))
        said = "the node's promise does not fit its answer, which is not to be used: ask again, and another is asked"
        return Refusal(said, status=502, code="answer_not_verified")
    if isinstance(error, (NodeError, NotReady)):
        log.warning("request_failed", error=str(error))
        said = "no node answers right now: try again"
        return Refusal(said, status=503, code="no_node", headers=SOON)
    if isinstance(error, TrineError):
        log.error("request_failed", error=str(error))
        return Refusal(FAULT, status=500)
    log.error("request_failed", exc_info=error)
    return Refusal(FAULT, status=500)


def body_of(refusal: Refusal) -> dict[str, object]:
    return error_body(str(refusal), status=refusal.status, code=refusal.code, param=refusal.param)


def _of_node(error: NodeRefused) -> Refusal:
    if error.status in OF_THE_CLIENT and error.param != "trine":
        return Refusal(error.said, status=error.status, code=error.code, param=error.param)
    log.error("node_refused", status=error.status, code=error.code, error=str(error)[:500])
    if error.status == 429 or error.status >= 500:
        return Refusal("all nodes are busy: try again", status=503, code="overloaded", headers=SOON)
    # It wants money, or does not take our signature.
    said = "the gateway cannot pay a node for this right now; whoever runs it finds the reason in its log"
    return Refusal(said, status=503, code="gateway_not_funded")
