"""What both clients do, step by step: each step is handed to whoever drives the flow, in threads or in asyncio.

A flow is a generator of steps. It gets a step's result, or the error that the step raised, and ends with its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from trine._accounts import placed_certificate
from trine._answer import Answer
from trine._core import Core
from trine._failover import Trying
from trine._options import Wanted
from trine._ordering import Draft
from trine._reading import Fetch, Reply, decoded
from trine._repeats import Sent
from trine.certificates import NotSeenYet, portable_certificate
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
from trine.protocol.portable import PortableCertificate

if TYPE_CHECKING:
    from trine._sealed import Opening
    from trine.protocol.sealing import SealingKey

T = TypeVar("T")
POLL_SECONDS = 0.5
RETRIES = 2
NOT_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Work:
    """Reads or writes the chain, or signs: may take a while, so not on an event loop."""

    call: Callable[[], Any]
    undo: Callable[[Any], None] | None = None
    """Of what came of it, where nobody waits for that any more."""


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = Work | Fetch | Pause
Flow = Generator[Step, Any, T]


def draft(core: Core, asked: Wanted) -> Flow[tuple[str, str, Draft]]:
    """Address and endpoint of the node to ask, and a signed and paid order. Whoever gets it ends it."""
    chosen = yield Work(partial(core.model, asked.model))
    node, url = yield Work(partial(core.choose, chosen, asked.without))
    made = yield from order_at(core, (node, url), chosen, asked, asked.max_cost_wei)
    return node, url, made


def order_at(
    core: Core, place: tuple[str, str], model: ModelEntry, asked: Wanted, most_wei: int | None = None
) -> Flow[Draft]:
    """A signed and paid order for this node, which costs `most_wei` at most. Whoever gets it ends it."""
    node, url = place
    if not core.ledger(node).is_known:
        account = yield from account_at(core, node, url)
        yield Work(partial(core.learn, account, node))
    prepare = partial(core.prepare, asked, model, node, most_wei)
    made: Draft = yield Work(prepare, undo=lambda unsent: core.end(node, unsent, 0))
    return made


def account_at(core: Core, node: str, url: str) -> Flow[Any]:
    """What the node says of the client's account."""
    for attempt in itertools.count():
        headers = yield Work(partial(core.account_access, node))
        try:
            step = Fetch("GET", f"{url}/v1/accounts/{core.chain.address}", headers)
            account = yield from fetched(core, (node, url), step)
        except NodeRefused as error:
            if not core.is_late(error, attempt):
                raise
            continue
        return account
    raise AssertionError("unreachable")


def chat(core: Core, asked: Wanted, timeout: float) -> Flow[Answer]:
    """A whole answer, within `timeout` seconds. A node that is busy is asked again when it says; one that does not
    answer is left for the next best: see `_failover`."""
    trying = Trying(core, timeout, asked)
    chosen: ModelEntry = yield Work(partial(core.model, asked.model))
    earlier = yield from earlier_at(core, asked, chosen)
    if isinstance(earlier, Answer):
        return earlier
    trying.noted = earlier
    while True:
        place = earlier.place if earlier else (yield Work(partial(trying.choose, chosen)))
        node, url = place
        order, cost, is_own = earlier.order if earlier else None, None, earlier is None
        try:
            if order is None:
                order = yield from order_at(core, place, chosen, asked, trying.left_wei)
                other = yield from noted(core, trying, asked, chosen, place, order)
                if isinstance(other, Answer):
                    return other
                if other is not None:
                    earlier, order = other, None
                    continue
            started, seconds = time.monotonic(), trying.whole_seconds(chosen, node)
            # Safe to repeat: a node answers the same signed request with the same answer.
            step = Fetch("POST", url + order.path, json=order.body, seconds=seconds)
            answer = core.finish((yield from fetched(core, place, step)), order, node, url)
            answer.seconds, cost = time.monotonic() - started, answer.receipt.fee_wei
            answer.tried = trying.tried
            core.speeds.note(node, None, answer.receipt.output_tokens, answer.seconds)
            if asked.idempotency_key is not None:
                yield Work(partial(core.repeats.note, asked, answer))
            return answer
        except NodeError as error:
            earlier, pause = trying.again(error, earlier, chosen, place, order)
        finally:
            if order and (is_own or cost is not None or order.number is None):
                core.end(node, order, cost)  # else whoever began it does
        yield Pause(pause)


def earlier_at(core: Core, asked: Wanted, model: ModelEntry) -> Flow[Sent | Answer | None]:
    """What came of the same order before. Raises InvalidInput."""
    if asked.idempotency_key is None:
        return None
    return (yield from _placed(core, model, (yield Work(partial(core.repeats.earlier, asked)))))


def noted(
    core: Core, trying: Trying, asked: Wanted, model: ModelEntry, place: tuple[str, str], order: Draft
) -> Flow[Sent | Answer | None]:
    """Remembers a named order before it is sent; where another client, or thread, has sent one under this name
    meanwhile, that one is to be sent again instead. Raises InvalidInput where it cannot be kept. Either way it costs
    nothing then."""
    if asked.idempotency_key is None:
        return None
    sent = Sent(place, order)
    try:
        other = yield Work(partial(core.repeats.note, asked, sent, trying.noted))
    except InvalidInput:
        core.end(place[0], order, 0)
        raise
    if other is None:
        trying.noted = sent
        return None
    core.end(place[0], order, 0)
    trying.noted = other if isinstance(other, Sent) else None
    return (yield from _placed(core, model, other))


def _placed(core: Core, model: ModelEntry, found: Sent | Answer | None) -> Flow[Sent | Answer | None]:
    """With the endpoint that its node has by now."""
    if isinstance(found, Sent):
        place = yield Work(partial(core.place_now, model, found.place))
        return replace(found, place=place)
    return found


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
    deadline = time.monotonic() + timeout
    certificate = yield from certify(core, answer, final, timeout)
    while True:
        try:
            found: PortableCertificate = yield Work(partial(portable_certificate, core.chain, certificate, root_epoch))
        except NotSeenYet:  # the chain was asked a block later for the result than for its events
            if time.monotonic() > deadline:
                raise
            yield Pause(POLL_SECONDS)
        else:
            return found


def acknowledge(core: Core, node: str, url: str) -> Flow[int]:
    """Sends the node a voucher for what its accepted answers have earned, all in all; returns that, in wei."""
    account = yield from account_at(core, node, url)
    made = yield Work(partial(core.acknowledgement, account, node))
    if made is None:
        return core.ledger(node).earned_wei
    voucher, signature = made
    body = {"voucher": voucher.to_json(), "signature": "0x" + signature.hex()}
    yield from fetched(core, (node, url), Fetch("POST", f"{url}/v1/vouchers", json=body))
    return int(voucher.earned_wei)


def place_of(core: Core, answer: Answer) -> Flow[Certificate | None]:
    """Where the node has sealed the answer; None while it has not. Raises NodeError."""
    step = Fetch("GET", f"{answer.node_url}/v1/receipts/0x{answer.digest.hex()}")
    document = yield from fetched(core, (answer.receipt.node, answer.node_url), step)
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


def fetched(core: Core, place: tuple[str, str], step: Fetch) -> Flow[Any]:
    """The JSON of a good answer of a node, sealed where the client seals. Raises NodeError."""
    if core.seals is None:
        return decoded((yield from replied(step)))
    for is_last in (False, True):
        key = yield from sealing_key(core, place)
        opening: list[Opening] = []

        def sealed(step: Fetch, key: SealingKey = key, opening: list[Opening] = opening) -> Fetch:
            made, opened = core.sealed(key, step, place)
            opening[:] = [opened]
            return made

        try:
            reply = yield from replied(step, sealed)
            return decoded(opening[0].whole(reply))
        except NodeRefused as error:
            if is_last or error.code != "unknown_key":
                raise
    raise AssertionError("unreachable")


def streamed(core: Core, place: tuple[str, str], order: Draft) -> Flow[tuple[Fetch, Opening | None]]:
    """The request for an answer that comes as it is made, and what opens it; None where nothing is sealed."""
    step = Fetch("POST", place[1] + order.path, json={**order.body, "stream": True})
    if core.seals is None:
        return step, None
    return core.sealed((yield from sealing_key(core, place)), step, place)


def sealing_key(core: Core, place: tuple[str, str]) -> Flow[SealingKey]:
    """What to seal to. Raises NodeError where the node shows none of its own."""
    from trine._sealed import no_key
    from trine.protocol.sealing import KEY_PATH

    node, url = place
    if core.seals is None:
        raise AssertionError("this client seals nothing")
    known = core.seals.key(node)
    if known is not None:
        return known
    try:
        document = decoded((yield from replied(Fetch("GET", url + KEY_PATH))))
    except NodeRefused as error:
        raise no_key(error, url) from None
    learned: SealingKey = yield Work(partial(core.seals.learn, document, node, url))
    return learned


def replied(step: Fetch, made: Callable[[Fetch], Fetch] = lambda step: step) -> Flow[Reply]:
    """What is answered, asked for again where the connection fails; `made` anew each time. Raises NodeUnreachable."""
    deadline, unsent = time.monotonic() + step.seconds, True
    for attempt in itertools.count():
        try:
            response: Reply = yield replace(made(step), seconds=max(0.1, deadline - time.monotonic()))
        except httpx2.TransportError as error:
            unsent &= isinstance(error, NOT_CONNECTED)
            pause = POLL_SECONDS * (attempt + 1)
            if attempt == RETRIES or isinstance(error, httpx2.TimeoutException) or time.monotonic() + pause > deadline:
                said = f"{step.url:.200}: no answer ({type(error).__name__})"
                raise NodeUnreachable(said, unsent=unsent) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise NodeUnreachable(f"{step.url:.200}: {type(error).__name__}", unsent=unsent) from None
        else:
            return response
        yield Pause(pause)
    raise AssertionError("unreachable")
