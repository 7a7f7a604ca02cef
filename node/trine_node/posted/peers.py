"""Whether another node has answered a request already: it shows its signed receipt, or nothing follows.

A receipt binds: a node that signs one and has it in no batch by the time it names loses stake (`Inclusion`). So nobody
holds others off with words, and no transaction is needed to say who is at it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import structlog

from trine.bounded import fetch_small
from trine.errors import BadSignature, InvalidInput
from trine.protocol.messages import Domain, Receipt, require_signer

log = structlog.get_logger()

PEERS = 8
"""Asked at most: those that come first."""
ASK_SECONDS = 3.0

Ask = Callable[[Sequence[str], float], list[bytes | None]]
"""What each address has to say within so many seconds."""


def promised(
    request_id: bytes, nodes: Sequence[tuple[str, str]], domain: Domain, ask: Ask = fetch_small
) -> Receipt | None:
    """The receipt of one of the nodes, (address, endpoint) each, that has answered the request."""
    some = nodes[:PEERS]
    urls = [f"{endpoint.rstrip('/')}/v1/posted/0x{request_id.hex()}" for _, endpoint in some]
    for (node, _), told in zip(some, ask(urls, ASK_SECONDS) if urls else (), strict=True):
        try:
            receipt = receipt_of(told, request_id, node, domain) if told else None
        except (InvalidInput, BadSignature) as error:
            log.info("peer_shows_nothing", node=node, error=str(error)[:200])
            continue
        if receipt is not None:
            return receipt
    return None


def receipt_of(told: bytes, request_id: bytes, node: str, domain: Domain) -> Receipt | None:
    """The receipt that a node shows for the request; None when it has none. Raises InvalidInput or BadSignature."""
    try:
        document = json.loads(told)
        shown = document["receipt"]
        if shown is None:
            return None
        signature = bytes.fromhex(str(document["signature"]).removeprefix("0x"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"malformed: {type(error).__name__}") from None
    receipt = Receipt.from_json(shown)
    if receipt.request_hash != request_id or receipt.node.lower() != node.lower():
        raise InvalidInput("the receipt is not this request's, or not this node's")
    require_signer(receipt.digest(domain), signature, node, "receipt")
    return receipt
