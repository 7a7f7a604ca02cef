"""What a client is told of an error: in OpenAI's words, by name, and nothing of the gateway's own affairs."""

from __future__ import annotations

import re

import structlog

from trine.errors import (
    ChainError,
    InvalidField,
    InvalidInput,
    NodeError,
    NodeRefused,
    NoGasMoney,
    NotReady,
    TrineError,
    VerificationFailed,
)
from trine.protocol import grammar
from trine_operator.refusal import Refusal
from trine_operator.service.errors import UNKEPT, UNKEPT_CODE, error_body
from trine_operator.store import StoreError

log = structlog.get_logger()

SOON = {"retry-after": "2"}
OF_THE_CLIENT = {
    "context_length_exceeded": "the prompt and max_tokens are longer together than the model's context: shorten them",
    "fee_over_stake": "prompt and max_tokens may cost more together than the stake that secures an answer: shorten the "
    "prompt or lower max_tokens",
    "template_refused": "the model's chat template does not take these messages: some want roles that alternate, no "
    "system message, or one tool call at a time",
    "tools_not_supported": "the model's chat template has no place for tools and their calls: ask another model",
}
"""What only a node can know of a request, and what is said of it: never in the node's own words, which may be
anybody's."""
MOST_TOKENS = re.compile(r"from 1 to (\d{1,7})$")
"""How a node names its limit. Of its words only the number is passed on."""
PARAMS = ("messages", "tools")
UNENFORCED = (
    "no node that was asked holds an answer to this: it says what cannot be enforced, contradicts itself, or is "
    "too much work; docs/structured-output.md says what is served"
)
"""Of a grammar, which only its engine can read."""
OF_THE_GATEWAY = frozenset({401, 402, 403})
UNFUNDED = "the gateway cannot pay a node for this right now; whoever runs it finds the reason in its log"
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
    if isinstance(error, NoGasMoney):
        log.error("request_failed", error=str(error))
        return Refusal(UNFUNDED, status=503, code="gateway_not_funded")
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
    known = OF_THE_CLIENT.get(error.code or "")
    if error.status == 400 and known is not None:
        return Refusal(known, code=error.code, param=error.param if error.param in PARAMS else None)
    if error.status == 400 and error.param in ("max_tokens", "max_completion_tokens"):
        most = MOST_TOKENS.search(error.said)
        said = f"up to {most.group(1)} tokens are served" if most else "so many tokens are not served"
        return Refusal(f"max_tokens is too large: {said}", code="invalid_value", param="max_tokens")
    if error.status == 400 and error.param in grammar.FIELDS:
        return Refusal(UNENFORCED, code="unsupported_value", param=error.param)
    log.error("node_refused", status=error.status, code=error.code, error=str(error)[:500])
    if error.status == 429 or error.status >= 500:
        return Refusal("all nodes are busy: try again", status=503, code="overloaded", headers=SOON)
    if error.status not in OF_THE_GATEWAY and error.param != "trine":
        return Refusal("the nodes that were asked do not take this request", status=503, code="no_node", headers=SOON)
    # It wants money, or does not take our signature.
    return Refusal(UNFUNDED, status=503, code="gateway_not_funded")
