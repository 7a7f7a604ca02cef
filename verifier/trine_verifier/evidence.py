"""Fetches a batch's evidence from one who has it, the node or another verifier. Trusts nothing: bytes and seconds are
bounded in all. Whether it is good is for `gathering` to see.

It is asked for sealed (`trine.sealed`): nobody between two operators reads the prompts that one shows the other.
Evidence comes as lines of JSON, one an answer, so that no more than one is unpacked at a time: a line of brackets takes
twenty times its length in memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trine import bounded
from trine.chain import Batch, Chain
from trine.errors import InvalidInput, NodeError
from trine.protocol.access import access_header, evidence_digest
from trine.protocol.evidence import Evidence
from trine.protocol.merkle import DEPTH, MAX_LEAVES
from trine.sealed import SealedAsking

MAX_LINE_BYTES = 8 << 20
"""One answer: 130,000 tokens with their fingerprint."""
MAX_BYTES = 64 << 20
"""A full batch of default answers takes some 30 MB."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who is asked: an operator, and where."""

    operator: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What was shown: leaf hashes, and per leaf its evidence or why it cannot be read."""

    leaves: list[bytes]
    answers: Iterable[Evidence | InvalidInput]  # may be gone through again
    is_good: bool = False  # whether all of it was seen to be what the root fixed


@dataclass(frozen=True, slots=True)
class ShownLeaf:
    """One answer with the way from its leaf to the root."""

    proof: tuple[bytes, ...]
    answer: Evidence


class NotServed(NodeError):
    """Whoever was asked has nothing for us, and says so at once."""


NOTHING = b"null"
"""In place of an answer that whoever passes a batch on does not have."""


class NotShown(InvalidInput):
    """There is nothing of this leaf: no fault of who was asked."""


class Lines:
    """Evidence that is unpacked when it is looked at. What is not a line is why there is none."""

    def __init__(self, lines: Sequence[bytes | InvalidInput]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Evidence | InvalidInput]:
        for line in self._lines:
            if line == NOTHING:
                yield NotShown("not shown")
                continue
            try:
                yield Evidence.from_json(parsed(line)) if isinstance(line, bytes) else line
            except InvalidInput as error:
                yield error


def fetch(
    chain: Chain, batch: Batch, seconds: float, source: Source | None = None, asking: SealedAsking | None = None
) -> Shown:
    """All answers, whatever is sent how slowly: within `seconds`. From the node unless `source` is another; openly
    where `asking` is None.

    Raises NodeUnreachable, NodeError or InvalidInput; each may pass on a later try.
    """
    head, *lines = _ask(chain, batch, seconds, source, asking).splitlines() or [b""]
    document = parsed(head)
    try:
        leaves = [bytes.fromhex(leaf.removeprefix("0x")) for leaf in document["leaves"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"evidence is malformed: {error!r:.200}") from None
    if len(lines) != len(leaves) or len(leaves) > MAX_LEAVES:
        raise InvalidInput(f"evidence is malformed: {len(leaves)} leaves and {len(lines)} answers")
    return Shown(leaves, Lines(lines))


def fetch_leaf(
    chain: Chain,
    batch: Batch,
    leaf: int,
    seconds: float,
    source: Source | None = None,
    asking: SealedAsking | None = None,
) -> ShownLeaf:
    """One answer, for the committee of its appeal or in place of one that is not good. Raises as `fetch`."""
    document = parsed(_ask(chain, batch, seconds, source, asking, f"/{leaf}"))
    try:
        proof = tuple(bytes.fromhex(sibling.removeprefix("0x")) for sibling in document["proof"])
        answer = document["answer"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"evidence is malformed: {error!r:.200}") from None
    if len(proof) > DEPTH:
        raise InvalidInput(f"evidence is malformed: a proof of {len(proof)} hashes")
    return ShownLeaf(proof, Evidence.from_json(answer))


def parsed(line: bytes) -> Any:
    """A line's JSON. Raises InvalidInput for anything else."""
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInput(f"evidence is malformed: {len(line)} bytes in one line, at most {MAX_LINE_BYTES} are read")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"evidence is malformed: no JSON ({error!r:.200})") from None


def _ask(
    chain: Chain,
    batch: Batch,
    seconds: float,
    source: Source | None,
    asking: SealedAsking | None,
    path: str = "",
) -> bytes:
    """The body of a good answer, all of it within `seconds`. Raises NodeError: NotServed for another status."""
    if source is None:
        node = batch.known_header.node
        source = Source(node, chain.endpoint_of(node))
    at, where = chain.now(), f"/v1/batches/0x{batch.batch_id.hex()}/evidence{path}"
    signature = chain.sign(evidence_digest(chain.domain, batch.batch_id, at))
    headers = {"authorization": access_header(at, signature)}
    if asking is None:
        open_ = bounded.ask(source.endpoint.rstrip("/") + where, MAX_BYTES, seconds, headers=headers)
        answer = asyncio.run(open_)
    else:
        answer = asyncio.run(asking.ask(source.operator, source.endpoint, where, MAX_BYTES, seconds, headers=headers))
    try:
        return answer.good()
    except NodeError as error:
        raise NotServed(str(error)) from None
