"""What both clients do, step by step: each step is handed to whoever drives the flow, in threads or in asyncio.

A flow is a generator of steps. It gets a step's result, or the error that the step raised, and ends with its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import httpx2

from trine._answer import Answer, Draft, placed_certificate
from trine._core import Core, decoded
from trine._failover import Trying
from trine.certificates import portable_certificate
from trine.chain import InclusionClaim, ModelEntry
from trine.errors import (
    ChainError,
    InvalidInput,
    NodeError,
    NodeRefused,
    NodeUnreachable,
    NotReady,
    ProtocolError,
    VerificationFailed,
)
from trine.protocol.certificate import Certificate
from trine.protocol.inputs import Input
from trine.protocol.portable import PortableCertificate

T = TypeVar("T")
POLL_SECONDS = 0.5
RETRIES = 2
NOT_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""Nothing was sent."""
SMALL_SECONDS = 30.0
"""For what a node knows without computing."""


@dataclass(frozen=True, slots=True)
class Work:
    """Reads or writes the chain, or signs: may take a while, so not on an event loop."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Fetch:
    """One HTTP request."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    seconds: float = SMALL_SECONDS  # for all of it


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = Work | Fetch | Pause
Flow = Generator[Step, Any, T]


def draft(core: Core, asked: Input, model: str | None, max_tokens: int) -> Flow[tuple[str, str, Draft]]:
    """Address and endpoint of the node to ask, and a signed and paid order. Whoever gets it gives it back."""
    chosen = yield Work(partial(core.model, model))
    node, url = yield Work(partial(core.choose, chosen))
    made = yield from order_at(core, (node, url), chosen, asked, max_tokens)
    return node, url, made


def order_at(core: Core, place: tuple[str, str], model: ModelEntry, asked: Input, max_tokens: int) -> Flow[Draft]:
    """A signed and paid order for this node. Whoever gets it gives it back."""
    node, url = place
    if not core.ledger(node).is_known:
        account = yield from account_at(core, node, url)
        yield Work(partial(core.learn, account, node))
    made: Draft = yield Work(partial(core.prepare, asked, model, max_tokens, node))
    return made


def account_at(core: Core, node: str, url: str) -> Flow[Any]:
    """What the node says of the client's account."""
    for attempt in itertools.count():
        headers = yield Work(partial(core.account_access, node))
        try:
            account = yield from fetched(Fetch("GET", f"{url}/v1/accounts/{core.chain.address}", headers))
        except NodeRefused as error:
            if not core.is_late(error, attempt):
                raise
            continue
        return account
    raise AssertionError("unreachable")


def chat(core: Core, asked: Input, model: str | None, max_tokens: int, timeout: float) -> Flow[Answer]:
    """A whole answer, within `timeout` seconds. A node that is busy is asked again when it says; one that does not
    answer is left for the next best: see `_failover`."""
    trying = Trying(core, timeout)
    chosen: ModelEntry = yield Work(partial(core.model, model))
    while True:
        place = yield Work(partial(trying.choose, chosen))
        node, url = place
        order: Draft | None = None
        cost: int | None = None
        try:
            order = yield from order_at(core, place, chosen, asked, max_tokens)
            started, seconds = time.monotonic(), trying.whole_seconds(chosen, node)
            # Safe to repeat: a node answers the same signed request with the same answer.
            step = Fetch("POST", url + order.path, json=order.body, seconds=seconds)
            answer = core.finish((yield from fetched(step)), order, node, url)
            answer.seconds, cost = time.monotonic() - started, answer.receipt.fee_wei
            answer.tried = trying.tried
            return answer
        except NodeError as error:
            pause = trying.after(error, chosen, place, order)
        finally:
            if order:
                core.ledger(node).give_back(order.number, cost)
        yield Pause(pause)


def certify(core: Core, answer: Answer, final: bool, timeout: float) -> Flow[Certificate]:
    """Waits until the answer's batch is settled, or final. Raises NotReady, or NodeUnreachable when the node is still
    away in the end: who starts it again goes on where it was."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            place = yield from place_of(core, answer)
        except NodeUnreachable as error:
            if time.monotonic() > deadline:
                raise NodeUnreachable(f"{error}; the answer stands, ask for its certificate later") from None
            yield Pause(POLL_SECONDS)
            continue
        certificate: Certificate | None = (yield Work(partial(core.settled, place, final))) if place else None
        if certificate:
            answer.certificate = certificate
            if final and core.is_ours(answer):
                # It is paid for now, and not when there is another order. What is wrong with the node's account says
                # nothing of this answer, and whoever orders again is told.
                with suppress(NodeError, ProtocolError, ChainError):
                    yield from acknowledge(core, answer.receipt.node, answer.node_url)
            return certificate
        if time.monotonic() > deadline:
            raise NotReady(f"the answer was not {'final' if final else 'settled'} within {timeout:.0f} s")
        yield Pause(POLL_SECONDS)


def certify_hard(
    core: Core, answer: Answer, final: bool, root_epoch: int | None, timeout: float
) -> Flow[PortableCertificate]:
    """The certificate with its committee's signatures, once the batch is settled by them. Raises NotReady, also for one
    that was settled by votes."""
    certificate = yield from certify(core, answer, final, timeout)
    found: PortableCertificate = yield Work(partial(portable_certificate, core.chain, certificate, root_epoch))
    return found


def acknowledge(core: Core, node: str, url: str) -> Flow[int]:
    """Sends the node a voucher for what its accepted answers have earned, all in all; returns that, in wei."""
    account = yield from account_at(core, node, url)
    made = yield Work(partial(core.acknowledgement, account, node))
    if made is None:
        return core.ledger(node).earned_wei
    voucher, signature = made
    body = {"voucher": voucher.to_json(), "signature": "0x" + signature.hex()}
    yield from fetched(Fetch("POST", f"{url}/v1/vouchers", json=body))
    return int(voucher.earned_wei)


def place_of(core: Core, answer: Answer) -> Flow[Certificate | None]:
    """Where the node has sealed the answer; None while it has not. Raises NodeError."""
    document = yield from fetched(Fetch("GET", f"{answer.node_url}/v1/receipts/0x{answer.digest.hex()}"))
    return placed_certificate(document, answer, core.chain.domain)


def claim_inclusion(core: Core, answer: Answer) -> Flow[InclusionClaim]:
    """Claims on-chain that the answer is in no batch, or, when that was not answered in time, has the node slashed.

    Raises NotReady while the node has time, InvalidInput when the answer is in a batch: such a claim loses its bond.
    """
    try:
        place = yield from place_of(core, answer)
    except (NodeUnreachable, NodeRefused, VerificationFailed):
        place = None  # what it does not show us it has to show the chain
    claim: InclusionClaim = yield Work(partial(core.claim_inclusion, answer, place))
    return claim


def feedback(core: Core, answer: Answer, value: int | float | str, tag: str) -> Flow[bytes]:
    """Gives feedback on a judged answer; returns the transaction. Raises InvalidInput without a certificate."""
    from trine.identity import give_feedback

    if answer.certificate is None:
        raise InvalidInput("feedback is given on judged answers: ask for the answer's certificate first (`certify`)")
    transaction: bytes = yield Work(partial(give_feedback, core.chain, answer.certificate, value, tag))
    return transaction


def fetched(step: Fetch) -> Flow[Any]:
    """The JSON of a good answer, asked for again where the connection fails. Raises NodeError."""
    deadline, unsent = time.monotonic() + step.seconds, True
    for attempt in itertools.count():
        try:
            response = yield replace(step, seconds=max(0.1, deadline - time.monotonic()))
        except httpx2.TransportError as error:
            unsent &= isinstance(error, NOT_CONNECTED)
            pause = POLL_SECONDS * (attempt + 1)
            if attempt == RETRIES or isinstance(error, httpx2.TimeoutException) or time.monotonic() + pause > deadline:
                said = f"{step.url:.200}: no answer ({type(error).__name__})"
                raise NodeUnreachable(said, unsent=unsent) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise NodeUnreachable(f"{step.url:.200}: {type(error).__name__}", unsent=unsent) from None
        else:
            return decoded(response)
        yield Pause(pause)
    raise AssertionError("unreachable")
