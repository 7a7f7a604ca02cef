"""`Client` and `AsyncClient`: ask a node, check what it signs, wait for the chain's certificate.

Both drive the same flows (`_flow`); here is only how steps are done, in threads or in asyncio. Any number of orders may
be on their way at once.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

import httpx2

from trine import _flow as flow
from trine._answer import Answer, Draft, Drawing, Messages, as_input, worst_fee_wei
from trine._core import Core, Stream, decoded
from trine._cutting import OWN_CONNECTION, Cutting
from trine._failover import CONNECT_SECONDS, Patience, Trying
from trine._reading import PLAIN, Body, Reply, require_plain
from trine.chain import Chain, Deployment, InclusionClaim, ModelEntry
from trine.errors import NodeError, NodeUnreachable, VerificationFailed
from trine.protocol.certificate import Certificate
from trine.protocol.inputs import Input
from trine.protocol.portable import PortableCertificate

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

DEFAULT_TIMEOUT_SECONDS = 600.0
CERTIFICATE_TIMEOUT_SECONDS = 900.0
CONNECTIONS = httpx2.Limits(max_connections=1024, max_keepalive_connections=64)
T = TypeVar("T")


class Client:
    """Asks nodes and keeps them honest.

    `Client(rpc_url="http://127.0.0.1:8545", deployment="devnet.json", account=account).chat("Hello")`

    `rpc_url`: one address, or several that stand in for one another. `node` pins one endpoint; otherwise the calibrated
    node of the best reputation is asked, and when it does not answer the next best, three at most. One that may have
    begun an order can be paid for it, up to its worst price: `Answer.tried` says so, and no later voucher forgets it.
    Deposits are with one node each: `deposit_wei`, if not zero, is deposited whenever what the account has with the
    node does not cover the next order. `timeout`, in seconds, bounds an order, busy nodes and others included.
    Thread-safe: no order waits for another.
    """

    def __init__(
        self,
        *,
        rpc_url: str | Sequence[str],
        deployment: str | Path | Deployment,
        account: LocalAccount | None = None,
        node: str | None = None,
        deposit_wei: int = 0,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        http_client: httpx2.Client | None = None,
    ) -> None:
        self.chain = Chain.connect(_deployment(deployment), rpc_url, account)
        self._core = Core(self.chain, node, deposit_wei)
        self._timeout = timeout
        self._http = http_client or httpx2.Client(timeout=timeout, limits=CONNECTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def nodes(self, model: str | None = None) -> list[tuple[str, str]]:
        """(address, endpoint) of the calibrated nodes, best reputation first."""
        return self._core.nodes(self._core.model(model))

    def avoid(self, node: str, seconds: float) -> None:
        """Asks this node, an address, nothing more for so long; 0 takes that back."""
        self._core.avoid(node, seconds)

    def worst_fee_wei(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        **drawing: Unpack[Drawing],
    ) -> int:
        """What the answer may cost at most, whichever node gives it. Raises InvalidInput."""
        return worst_fee_wei(as_input(messages, stop, **drawing), self._core.model(model), max_tokens)

    def deposit(self, amount_wei: int, *, model: str | None = None) -> None:
        """Deposits with the node that would be asked."""
        node, _url = self._core.choose(self._core.model(model))
        self._core.deposit(node, amount_wei)

    def order(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        **drawing: Unpack[Drawing],
    ) -> dict[str, Any]:
        """A signed and paid order as the JSON body of `/v1/chat/completions`, for other HTTP clients.

        With the stock `openai` client pass its `trine` entry as `extra_body={"trine": …}`.
        """
        node, _url, draft = self._run(flow.draft(self._core, as_input(messages, stop, **drawing), model, max_tokens))
        return _handed_out(self._core, node, draft)

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        wait: bool = False,
        **drawing: Unpack[Drawing],
    ) -> Answer:
        """The answer to a text or to OpenAI-style messages, with a receipt that was checked.

        The text ends before the first of the `stop` strings. Greedy, unless there is a `temperature`, of up to 2:
        then tokens are drawn, bounded by `top_p`, `top_k` and `min_p`, by a `seed` that is signed, too: the given one,
        or one that is drawn here, which `Answer.sampling` tells. With `wait`, also with the certificate, once three
        verifiers have voted. Raises InvalidInput, NodeError, VerificationFailed (also when `wait` ends in anything but
        acceptance), NotReady.
        """
        asked = as_input(messages, stop, **drawing)
        answer = self._run(flow.chat(self._core, asked, model, max_tokens, self._timeout))
        if wait:
            _require_accepted(self.certify(answer))
        return answer

    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        **drawing: Unpack[Drawing],
    ) -> TextStream:
        """Iterate over it for the text as it comes; `.answer` holds the checked answer afterwards."""
        return TextStream(self, as_input(messages, stop, **drawing), model, max_tokens)

    @overload
    def certify(
        self, answer: Answer, *, final: bool = False, hard: Literal[False] = False, timeout: float = ...
    ) -> Certificate: ...

    @overload
    def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: Literal[True],
        root_epoch: int | None = None,
        timeout: float = ...,
    ) -> PortableCertificate: ...

    def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: bool = False,
        root_epoch: int | None = None,
        timeout: float = CERTIFICATE_TIMEOUT_SECONDS,
    ) -> Certificate | PortableCertificate:
        """Waits until the answer's batch is settled; returns (and keeps) its certificate. Raises NotReady.

        With `final`, until no appeal can change the answer's verdict any more. With `hard`, returns the certificate
        that is checked without a chain, which `root_epoch` lets begin with the key set of an earlier epoch that its
        reader trusts; raises NotReady for a batch that was settled by votes.
        """
        if hard:
            return self._run(flow.certify_hard(self._core, answer, final, root_epoch, timeout))
        return self._run(flow.certify(self._core, answer, final, timeout))

    def acknowledge(self, *, model: str | None = None) -> int:
        """Acknowledges what the node that would be asked has earned so far, in wei, so that it is paid. Every order
        does, for those before, and `certify` with `final`; a client that is done may."""
        node, url = self._core.choose(self._core.model(model))
        return self._run(flow.acknowledge(self._core, node, url))

    def claim_inclusion(self, answer: Answer) -> InclusionClaim:
        """Claims on-chain that the node has anchored the answer nowhere, though its receipt promised to by
        `answer.receipt.anchor_by`: puts up a bond, and starts the time in which the node must show the answer in a
        batch. Call it again after `InclusionClaim.answer_by`: a node that has not is slashed, half of it for the
        client, who has the bond back.

        Raises NotReady when it is not time yet, InvalidInput when the answer is in a batch: the claim would lose its
        bond.
        """
        return self._run(flow.claim_inclusion(self._core, answer))

    def feedback(self, answer: Answer, value: int | float | str, tag: str = "quality") -> bytes:
        """Says on-chain, in ERC-8004's reputation registry, what the answer was worth; once an answer that was judged.

        `value`: any number, `tag`: what it measures; the verdict is put beside it. Returns the transaction. Raises
        InvalidInput before `certify`, NotReady where the node has no agent.
        """
        return self._run(flow.feedback(self._core, answer, value, tag))

    def batch_of(self, answer: Answer) -> bytes | None:
        """Id of the batch that the node has sealed the answer in; None while it has not. Raises NodeError."""
        place = self._run(flow.place_of(self._core, answer))
        return place.batch_id if place else None

    def _run(self, steps: flow.Flow[T]) -> T:
        """Drives a flow in this thread."""
        result: Any = None
        error: Exception | None = None
        while True:
            try:
                step = steps.throw(error) if error else steps.send(result)
            except StopIteration as end:
                ended: T = end.value
                return ended
            result = error = None
            try:
                match step:
                    case flow.Work(call):
                        result = call()
                    case flow.Fetch():
                        result = self._fetched(step)
                    case flow.Pause(seconds):
                        time.sleep(seconds)
            except Exception as raised:  # noqa: BLE001  (the flow decides)
                error = raised

    def _fetched(self, step: flow.Fetch) -> Reply:
        deadline = time.monotonic() + step.seconds
        with (
            Cutting(step.url) as cutting,
            cutting.within(step.seconds),
            self._http.stream(
                step.method,
                step.url,
                headers={**PLAIN, **OWN_CONNECTION, **step.headers},
                json=step.json,
                timeout=_timeout(step.seconds),
                extensions=cutting.extensions,
            ) as response,
        ):
            return self._read(response, step.url, deadline)

    def _read(self, response: httpx2.Response, url: str, deadline: float) -> Reply:
        body = Body(url, response.headers, deadline)
        for chunk in response.iter_raw():
            body.add(chunk)
        return Reply(response.status_code, response.headers, body.whole())


class TextStream:
    """An answer as it is generated."""

    def __init__(self, client: Client, asked: Input, model: str | None, max_tokens: int) -> None:
        self._client = client
        self._model = model
        self._asked = asked, max_tokens
        self.answer: Answer | None = None
        self.place: tuple[str, str] | None = None
        """Address and endpoint of the node that was asked last."""

    def __iter__(self) -> Iterator[str]:
        client, core = self._client, self._client._core
        trying, model = Trying(core, client._timeout), core.model(self._model)
        while True:
            place = self.place = trying.choose(model)
            order, stream, cost = None, None, None
            try:
                order = client._run(flow.order_at(core, place, model, *self._asked))
                stream, started = Stream(core, order, *place), time.monotonic()
                yield from self._texts(order, stream, place, trying.patience(model, place))
                self.answer = stream.end(time.monotonic() - started)
                self.answer.tried, cost = trying.tried, self.answer.receipt.fee_wei
                return
            except (NodeError, httpx2.HTTPError) as raised:
                error = raised if isinstance(raised, NodeError) else _cut_off(raised, place[1])
                pause = trying.after(error, model, place, order, begun=stream is not None and stream.has_begun)
            finally:
                if order:
                    core.ledger(place[0]).give_back(order.number, cost)
            time.sleep(pause)

    def _texts(self, order: Draft, stream: Stream, place: tuple[str, str], patience: Patience) -> Iterator[str]:
        http, url = self._client._http, place[1] + order.path
        with Cutting(url) as cutting, ExitStack() as opened:
            with cutting.within(patience.seconds):
                response = opened.enter_context(
                    http.stream(
                        "POST",
                        url,
                        headers={**PLAIN, **OWN_CONNECTION},
                        json=_streamed(order),
                        timeout=_timeout(patience.seconds),
                        extensions=cutting.extensions,
                    )
                )
                if response.status_code != 200:
                    decoded(self._client._read(response, url, time.monotonic() + flow.SMALL_SECONDS))
            require_plain(response.headers)
            chunks = response.iter_raw()
            while True:
                asked = time.monotonic()
                with cutting.within(patience.seconds):
                    chunk = next(chunks, None)
                patience.spend(time.monotonic() - asked, begun=stream.has_begun)
                if chunk is None:
                    return
                yield from stream.feed(chunk)


class AsyncClient:
    """`Client` for asyncio: the same names, awaited. Reads of the chain and signatures run in threads."""

    _threads: Executor | None = None  # None: those of the event loop

    def __init__(
        self,
        *,
        rpc_url: str | Sequence[str],
        deployment: str | Path | Deployment,
        account: LocalAccount | None = None,
        node: str | None = None,
        deposit_wei: int = 0,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.chain = Chain.connect(_deployment(deployment), rpc_url, account)
        self._core = Core(self.chain, node, deposit_wei)
        self._timeout = timeout
        self._http = http_client or httpx2.AsyncClient(timeout=timeout, limits=CONNECTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    def in_threads(self, threads: Executor) -> Self:
        """The same client, connections and all, whose flows (`chat`, `certify`, …) read the chain in these threads: so
        that what can wait keeps nothing else from the event loop's own. Close one of them."""
        made = copy.copy(self)
        made._threads = threads
        return made

    async def nodes(self, model: str | None = None) -> list[tuple[str, str]]:
        """See `Client.nodes`."""
        return await asyncio.to_thread(lambda: self._core.nodes(self._core.model(model)))

    def avoid(self, node: str, seconds: float) -> None:
        """See `Client.avoid`."""
        self._core.avoid(node, seconds)

    async def worst_fee_wei(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        **drawing: Unpack[Drawing],
    ) -> int:
        """See `Client.worst_fee_wei`."""
        chosen = await self._chosen_model(model)
        return worst_fee_wei(as_input(messages, stop, **drawing), chosen, max_tokens)

    async def _chosen_model(self, name: str | None) -> ModelEntry:
        """A thread is for what must ask the chain."""
        known = self._core.remembered_model(name)
        return known if known is not None else await asyncio.to_thread(self._core.model, name)

    async def deposit(self, amount_wei: int, *, model: str | None = None) -> None:
        """See `Client.deposit`."""
        node, _url = await asyncio.to_thread(lambda: self._core.choose(self._core.model(model)))
        await asyncio.to_thread(self._core.deposit, node, amount_wei)

    async def order(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        **drawing: Unpack[Drawing],
    ) -> dict[str, Any]:
        """See `Client.order`."""
        node, _url, draft = await self._run(
            flow.draft(self._core, as_input(messages, stop, **drawing), model, max_tokens)
        )
        return _handed_out(self._core, node, draft)

    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        wait: bool = False,
        **drawing: Unpack[Drawing],
    ) -> Answer:
        """See `Client.chat`."""
        asked = as_input(messages, stop, **drawing)
        answer = await self._run(flow.chat(self._core, asked, model, max_tokens, self._timeout))
        if wait:
            _require_accepted(await self.certify(answer))
        return answer

    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        without: Collection[str] = (),
        **drawing: Unpack[Drawing],
    ) -> AsyncTextStream:
        """Iterate over it with `async for`; `.answer` holds the checked answer afterwards. `without`: addresses of
        nodes that are not asked."""
        return AsyncTextStream(self, as_input(messages, stop, **drawing), model, max_tokens, without)

    @overload
    async def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: Literal[False] = False,
        timeout: float = ...,  # noqa: ASYNC109
    ) -> Certificate: ...

    @overload
    async def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: Literal[True],
        root_epoch: int | None = None,
        timeout: float = ...,  # noqa: ASYNC109
    ) -> PortableCertificate: ...

    async def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: bool = False,
        root_epoch: int | None = None,
        timeout: float = CERTIFICATE_TIMEOUT_SECONDS,  # noqa: ASYNC109  (same name as in Client)
    ) -> Certificate | PortableCertificate:
        """See `Client.certify`."""
        if hard:
            return await self._run(flow.certify_hard(self._core, answer, final, root_epoch, timeout))
        return await self._run(flow.certify(self._core, answer, final, timeout))

    async def acknowledge(self, *, model: str | None = None) -> int:
        """See `Client.acknowledge`."""
        node, url = await asyncio.to_thread(lambda: self._core.choose(self._core.model(model)))
        return await self._run(flow.acknowledge(self._core, node, url))

    async def claim_inclusion(self, answer: Answer) -> InclusionClaim:
        """See `Client.claim_inclusion`."""
        return await self._run(flow.claim_inclusion(self._core, answer))

    async def feedback(self, answer: Answer, value: int | float | str, tag: str = "quality") -> bytes:
        """See `Client.feedback`."""
        return await self._run(flow.feedback(self._core, answer, value, tag))

    async def batch_of(self, answer: Answer) -> bytes | None:
        """See `Client.batch_of`."""
        place = await self._run(flow.place_of(self._core, answer))
        return place.batch_id if place else None

    async def _run(self, steps: flow.Flow[T]) -> T:
        """Drives a flow on the running event loop."""
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                try:
                    step = steps.throw(error) if error else steps.send(result)
                except StopIteration as end:
                    ended: T = end.value
                    return ended
                result = error = None
                try:
                    match step:
                        case flow.Work(call) if self._threads is not None:
                            result = await asyncio.get_running_loop().run_in_executor(self._threads, call)
                        case flow.Work(call):
                            result = await asyncio.to_thread(call)
                        case flow.Fetch():
                            result = await self._fetched(step)
                        case flow.Pause(seconds):
                            await asyncio.sleep(seconds)
                except Exception as raised:  # noqa: BLE001  (the flow decides)
                    error = raised
        finally:
            steps.close()  # cancelled: what the flow holds is given back

    async def _fetched(self, step: flow.Fetch) -> Reply:
        deadline, headers = time.monotonic() + step.seconds, {**PLAIN, **step.headers}
        async with (
            _within(step.seconds, step.url),
            self._http.stream(
                step.method, step.url, headers=headers, json=step.json, timeout=_timeout(step.seconds)
            ) as response,
        ):
            return await self._read(response, step.url, deadline)

    async def _read(self, response: httpx2.Response, url: str, deadline: float) -> Reply:
        body = Body(url, response.headers, deadline)
        async for chunk in response.aiter_raw():
            body.add(chunk)
        return Reply(response.status_code, response.headers, body.whole())


class AsyncTextStream:
    """An answer as it is generated."""

    def __init__(
        self,
        client: AsyncClient,
        asked: Input,
        model: str | None,
        max_tokens: int,
        without: Collection[str] = (),
    ) -> None:
        self._client = client
        self._without = without
        self._model = model
        self._asked = asked, max_tokens
        self.answer: Answer | None = None
        self.place: tuple[str, str] | None = None
        """Address and endpoint of the node that was asked last."""

    async def __aiter__(self) -> AsyncIterator[str]:
        client, core = self._client, self._client._core
        trying, model = Trying(core, client._timeout, self._without), await client._chosen_model(self._model)
        while True:
            known = trying.remembered_choice(model)
            place = self.place = known if known is not None else await asyncio.to_thread(trying.choose, model)
            order, stream, cost = None, None, None
            try:
                order = await client._run(flow.order_at(core, place, model, *self._asked))
                stream, started = Stream(core, order, *place), time.monotonic()
                async with aclosing(self._texts(order, stream, place, trying.patience(model, place))) as texts:
                    async for text in texts:
                        yield text
                self.answer = stream.end(time.monotonic() - started)
                self.answer.tried, cost = trying.tried, self.answer.receipt.fee_wei
                return
            except (NodeError, httpx2.HTTPError) as raised:
                error = raised if isinstance(raised, NodeError) else _cut_off(raised, place[1])
                pause = trying.after(error, model, place, order, begun=stream is not None and stream.has_begun)
            finally:
                if order:
                    core.ledger(place[0]).give_back(order.number, cost)
            await asyncio.sleep(pause)

    async def _texts(
        self, order: Draft, stream: Stream, place: tuple[str, str], patience: Patience
    ) -> AsyncGenerator[str, None]:
        http, url = self._client._http, place[1] + order.path
        async with AsyncExitStack() as opened:
            async with _within(patience.seconds, url):
                response = await opened.enter_async_context(
                    http.stream("POST", url, headers=PLAIN, json=_streamed(order), timeout=_timeout(patience.seconds))
                )
                if response.status_code != 200:
                    decoded(await self._client._read(response, url, time.monotonic() + flow.SMALL_SECONDS))
            require_plain(response.headers)
            chunks = response.aiter_raw()
            while True:
                asked = time.monotonic()
                async with _within(patience.seconds, url):
                    chunk = await anext(chunks, None)
                patience.spend(time.monotonic() - asked, begun=stream.has_begun)
                if chunk is None:
                    return
                for text in stream.feed(chunk):
                    yield text


def _streamed(draft: Draft) -> dict[str, Any]:
    return {**draft.body, "stream": True}


def _timeout(seconds: float) -> httpx2.Timeout:
    """Of a connection, and of every wait for more bytes."""
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


@asynccontextmanager
async def _within(seconds: float, url: str) -> AsyncIterator[None]:
    """What is read in it, heads included, comes within so many seconds, or NodeUnreachable is raised."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NodeUnreachable(f"{url:.200}: the answer did not end in time") from None


def _cut_off(error: httpx2.HTTPError, url: str) -> NodeUnreachable:
    return NodeUnreachable(
        f"{url:.200}: the answer was cut off ({type(error).__name__}): ask again, or name another node",
        unsent=isinstance(error, flow.NOT_CONNECTED),
    )


def _handed_out(core: Core, node: str, draft: Draft) -> dict[str, Any]:
    """The body of an order of which nobody will tell what becomes of it: the node is asked before the next one."""
    core.ledger(node).give_back(draft.number, None)
    return draft.body


def _deployment(given: str | Path | Deployment) -> Deployment:
    return given if isinstance(given, Deployment) else Deployment.load(Path(given))


def _require_accepted(certificate: Certificate) -> None:
    if certificate.result != "accept":
        raise VerificationFailed(f"the verifiers' result for this answer is {certificate.result}: do not use it")
