"""Fetches a batch's evidence from the node that anchored it. Trusts nothing: sizes and times are bounded."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from trine.chain import Batch, Chain
from trine.errors import InvalidInput, NodeError, NodeUnreachable
from trine.protocol.access import access_header, evidence_digest
from trine.protocol.evidence import Evidence

MAX_BYTES = 256 << 20
TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What the node showed: leaf hashes, and per leaf its evidence or why it cannot be read."""

    leaves: list[bytes]
    answers: list[Evidence | InvalidInput]


@dataclass(frozen=True, slots=True)
class ShownLeaf:
    """One answer with the way from its leaf to the root."""

    proof: tuple[bytes, ...]
    answer: Evidence


def fetch(chain: Chain, batch: Batch) -> Shown:
    """Raises NodeUnreachable, NodeError or InvalidInput; any of them may pass on a later try."""
    return _read(_ask(chain, batch))


def fetch_leaf(chain: Chain, batch: Batch, leaf: int) -> ShownLeaf:
    """One answer, for the committee of its appeal. Raises as `fetch`."""
    document = _ask(chain, batch, f"/{leaf}")
    try:
        proof = tuple(bytes.fromhex(sibling.removeprefix("0x")) for sibling in document["proof"])
        return ShownLeaf(proof, Evidence.from_json(document["answer"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"evidence is malformed: {error}") from None


def _ask(chain: Chain, batch: Batch, path: str = "") -> Any:
    node = batch.known_header.node
    endpoint = chain.endpoint_of(node)
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise NodeUnreachable(f"{node} registered no endpoint that can be asked: {endpoint!r}")
    at = int(time.time())
    header = access_header(at, chain.sign(evidence_digest(chain.domain, batch.batch_id, at)))
    url = f"{endpoint.rstrip('/')}/v1/batches/0x{batch.batch_id.hex()}/evidence{path}"
    return _get(url, {"authorization": header})


def _get(url: str, headers: dict[str, str]) -> Any:
    try:
        with httpx2.stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=False) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise NodeError(f"{url} sends more than {MAX_BYTES} bytes")
    except httpx2.HTTPError as error:
        raise NodeUnreachable(f"{url}: {type(error).__name__}") from None
    if response.status_code != 200:
        raise NodeError(f"{url} answers {response.status_code}: {bytes(body[:300]).decode('utf-8', 'replace')}")
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{url} sends no JSON: {error}") from None


def _read(document: Any) -> Shown:
    try:
        leaves = [bytes.fromhex(leaf.removeprefix("0x")) for leaf in document["leaves"]]
        answers = document["answers"]
        if any(len(leaf) != 32 for leaf in leaves) or len(answers) != len(leaves) or len(leaves) > 256:
            raise ValueError("leaves and answers do not match")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"evidence is malformed: {error}") from None
    return Shown(leaves, [_answer(answer) for answer in answers])


def _answer(document: Any) -> Evidence | InvalidInput:
    try:
        return Evidence.from_json(document)
    except InvalidInput as error:
        return error
