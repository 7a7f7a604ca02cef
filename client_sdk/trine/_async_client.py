"""`AsyncClient`: drives the flows of `_flow` on an event loop. `Client` is the same for who has none.

Any number of orders may be on their way at once.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

import httpx2

from trine import _flow as flow
from trine._answer import Answer
from trine._choosing import Preference, Speed
from trine._core import Core
from trine._http import Http
from trine._options import CERTIFICATE_TIMEOUT_SECONDS, DEFAULT_TIMEOUT_SECONDS, Options, Wait, wanted
from trine._ordering import Messages
from trine._reading import Fetch
from trine._streaming import AsyncTextStream
from trine.chain import Chain, Deployment, InclusionClaim, ModelEntry
from trine.errors import VerificationFailed
from trine.protocol.certificate import Certificate
from trine.protocol.inputs import text_input
from trine.protocol.portable import PortableCertificate

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

T = TypeVar("T")


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
        prefer: Preference = "reputation",
        spend_limit_wei: int | None = None,
        salted: bool = True,
        sealed: bool = False,
        state: str | Path | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        """See `Client`."""
        if not isinstance(deployment, Deployment):
            deployment = Deployment.load(Path(deployment))
        chain = Chain.connect(deployment, rpc_url, account)
        core = Core(chain, node, deposit_wei, prefer, spend_limit_wei, salted=salted, sealed=sealed, state=state)
        self._set(chain, core, Http(timeout, http_client), timeout)

    def _set(self, chain: Chain, core: Core, http: Http, timeout: float) -> None:
        self.chain = chain
        self._core = core
        self._http = http
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        await self._http.close()

    def in_threads(self, threads: Executor) -> Self:
        """The same client, connections and all, whose flows (`chat`, `certify`, …) read the chain in these threads: so
        that what can wait keeps nothing else from the event loop's own. Close one of them."""
        made = copy.copy(self)
        made._threads = threads
        return made

    async def nodes(self, model: str | None = None) -> list[tuple[str, str]]:
        """See `Client.nodes`."""
        return await asyncio.to_thread(lambda: self._core.nodes(self._core.model(model)))

    def speed(self, node: str) -> Speed | None:
        """See `Client.speed`."""
        return self._core.speeds.of(node)

    @property
    def spent_wei(self) -> int:
        """See `Client.spent_wei`."""
        return self._core.spending.spent_wei

    def avoid(self, node: str, seconds: float) -> None:
        """See `Client.avoid`."""
        self._core.avoid(node, seconds)

    async def worst_fee_wei(self, messages: Messages, **options: Unpack[Options]) -> int:
        """See `Client.worst_fee_wei`."""
        asked = wanted(messages, **options)
        model = await self._chosen_model(asked.model)
        await asyncio.to_thread(self._core.stake_per_leaf)
        return self._core.worst_fee_wei(asked, model)

    async def _chosen_model(self, name: str | None) -> ModelEntry:
        """A thread is for what must ask the chain."""
        known = self._core.remembered_model(name)
        return known if known is not None else await asyncio.to_thread(self._core.model, name)

    async def deposit(self, amount_wei: int, *, model: str | None = None) -> None:
        """See `Client.deposit`."""
        node, _url = await asyncio.to_thread(lambda: self._core.choose(self._core.model(model)))
        await asyncio.to_thread(self._core.deposit, node, amount_wei)

    async def order(self, messages: Messages, **options: Unpack[Options]) -> dict[str, Any]:
        """See `Client.order`."""
        node, _url, draft = await self._run(flow.draft(self._core, wanted(messages, **options)))
        # Nobody will tell what becomes of it: the node is asked before the next one.
        self._core.end(node, draft, None)
        return draft.body

    async def chat(self, messages: Messages, *, wait: Wait = False, **options: Unpack[Options]) -> Answer:
        """See `Client.chat`."""
        asked = wanted(messages, **options)
        if asked.hedge_after is None:
            answer = await self._run(flow.chat(self._core, asked, self._timeout))
        else:  # who is late, only a stream tells
            answer = await _whole(AsyncTextStream(self, asked))
        if wait:
            _require_accepted(await self.certify(answer, final=wait == "final"))
        return answer

    async def complete(self, prompt: str, *, wait: Wait = False, **options: Unpack[Options]) -> Answer:
        """See `Client.complete`."""
        return await self.chat(text_input(prompt), wait=wait, **options)

    def stream(self, messages: Messages, **options: Unpack[Options]) -> AsyncTextStream:
        """Iterate over it with `async for`; `.answer` holds the checked answer afterwards."""
        return AsyncTextStream(self, wanted(messages, **options))

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
                        case flow.Work():
                            result = await self._worked(step)
                        case Fetch():
                            result = await self._http.fetched(step)
                        case flow.Pause(seconds):
                            await asyncio.sleep(seconds)
                except Exception as raised:  # noqa: BLE001  (the flow decides)
                    error = raised
        finally:
            steps.close()  # cancelled: what the flow holds is given back

    async def _worked(self, step: flow.Work) -> Any:
        working = asyncio.get_running_loop().run_in_executor(self._threads, step.call)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            working.add_done_callback(lambda done: _lost(step, done))  # the thread cannot be ended
            raise


def _lost(step: flow.Work, done: asyncio.Future[Any]) -> None:
    if not done.cancelled() and done.exception() is None and step.undo is not None:
        step.undo(done.result())


async def _whole(stream: AsyncTextStream) -> Answer:
    async for _text in stream:
        pass
    if stream.answer is None:
        raise VerificationFailed("the stream ended without a receipt: do not use this answer")
    return stream.answer


def _require_accepted(certificate: Certificate) -> None:
    if certificate.result != "accept":
        raise VerificationFailed(f"the verifiers' result for this answer is {certificate.result}: do not use it")
