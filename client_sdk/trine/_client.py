"""`Client` and `AsyncClient`: ask a node, check what it signs, wait for the chain's certificate."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx2

from trine._answer import Answer, Draft, Messages, placed_certificate
from trine._core import Core, Stream, decoded
from trine.chain import Chain, Deployment
from trine.errors import NodeUnreachable, NotReady, VerificationFailed
from trine.protocol.certificate import Certificate

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

DEFAULT_TIMEOUT_SECONDS = 600.0
CERTIFICATE_TIMEOUT_SECONDS = 900.0
POLL_SECONDS = 0.5
RETRIES = 2


class Client:
    """Asks nodes and keeps them honest.

    `Client(rpc_url="http://127.0.0.1:8545", deployment="devnet.json", account=account).chat("Hello")`

    `node` pins one endpoint; otherwise the calibrated node of the best reputation is asked. Deposits are with one node
    each: `deposit_wei`, if not zero, is deposited whenever what the account has with the node does not cover the next
    order. Thread-safe.
    """

    def __init__(
        self,
        *,
        rpc_url: str,
        deployment: str | Path | Deployment,
        account: LocalAccount | None = None,
        node: str | None = None,
        deposit_wei: int = 0,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        http_client: httpx2.Client | None = None,
    ) -> None:
        self.chain = Chain.connect(_deployment(deployment), rpc_url, account)
        self._core = Core(self.chain, node, deposit_wei)
        self._http = http_client or httpx2.Client(timeout=timeout)
        # One order at a time: each one's voucher builds on what the one before cost.
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def nodes(self, model: str | None = None) -> list[tuple[str, str]]:
        """(address, endpoint) of the calibrated nodes, best reputation first."""
        return self._core.nodes(self._core.model(model))

    def deposit(self, amount_wei: int, *, model: str | None = None) -> None:
        """Deposits with the node that would be asked."""
        node, _url = self._core.choose(self._core.model(model))
        self._core.deposit(node, amount_wei)

    def order(
        self, messages: Messages, *, model: str | None = None, max_tokens: int = 256, stop: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A signed and paid order as the JSON body of `/v1/chat/completions`, for other HTTP clients.

        With the stock `openai` client pass its `trine` entry as `extra_body={"trine": …}`.
        """
        chosen = self._core.model(model)
        node, url = self._core.choose(chosen)
        return self._core.prepare(messages, chosen, max_tokens, stop, node, self._account(node, url)).body

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        wait: bool = False,
    ) -> Answer:
        """The answer to a text or to OpenAI-style messages, with a receipt that was checked.

        The text ends before the first of the `stop` strings. With `wait`, also with the certificate, once three
        verifiers have voted. Raises InvalidInput, NodeError, VerificationFailed (also when `wait` ends in anything but
        acceptance), NotReady.
        """
        with self._lock:
            chosen = self._core.model(model)
            node, url = self._core.choose(chosen)
            draft = self._core.prepare(messages, chosen, max_tokens, stop, node, self._account(node, url))
            started = time.monotonic()
            document = self._post(f"{url}/v1/chat/completions", draft.body)
            answer = self._core.finish(document, draft, node, url)
            answer.seconds = time.monotonic() - started
        if wait:
            _require_accepted(self.certify(answer))
        return answer

    def stream(
        self, messages: Messages, *, model: str | None = None, max_tokens: int = 256, stop: Sequence[str] = ()
    ) -> TextStream:
        """Iterate over it for the text as it comes; `.answer` holds the checked answer afterwards."""
        return TextStream(self, messages, model, max_tokens, stop)

    def certify(
        self, answer: Answer, *, final: bool = False, timeout: float = CERTIFICATE_TIMEOUT_SECONDS
    ) -> Certificate:
        """Waits until the answer's batch is settled; returns (and keeps) its certificate. Raises NotReady.

        With `final`, until no appeal can change the answer's verdict any more.
        """
        deadline = time.monotonic() + timeout
        while True:
            document = self._get(_receipt_url(answer))
            place = placed_certificate(document, answer, self.chain.domain)
            certificate = self._core.settled(place, final) if place else None
            if certificate:
                answer.certificate = certificate
                return certificate
            if time.monotonic() > deadline:
                raise NotReady(f"the answer was not {'final' if final else 'settled'} within {timeout:.0f} s")
            time.sleep(POLL_SECONDS)

    def batch_of(self, answer: Answer) -> bytes | None:
        """Id of the batch that the node has sealed the answer in; None while it has not. Raises NodeError."""
        place = placed_certificate(self._get(_receipt_url(answer)), answer, self.chain.domain)
        return place.batch_id if place else None

    def _account(self, node: str, url: str) -> Any:
        return self._get(f"{url}/v1/accounts/{self.chain.address}", self._core.account_access(node))

    def _get(self, url: str, headers: dict[str, str] | None = None) -> Any:
        return decoded(_retrying(lambda: self._http.get(url, headers=headers)))

    def _post(self, url: str, body: dict[str, Any]) -> Any:
        # Safe to repeat: a node answers the same signed request with the same answer.
        return decoded(_retrying(lambda: self._http.post(url, json=body)))


class TextStream:
    """An answer as it is generated."""

    def __init__(
        self, client: Client, messages: Messages, model: str | None, max_tokens: int, stop: Sequence[str]
    ) -> None:
        self._client = client
        self._arguments = (messages, model, max_tokens, stop)
        self.answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        messages, model, max_tokens, stop = self._arguments
        client, core = self._client, self._client._core
        with client._lock:
            chosen = core.model(model)
            node, url = core.choose(chosen)
            draft = core.prepare(messages, chosen, max_tokens, stop, node, client._account(node, url))
            body = {**draft.body, "stream": True}
            stream = Stream(core, draft, node, url)
            started = time.monotonic()
            try:
                with client._http.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                    if response.status_code != 200:
                        response.read()
                        decoded(response)
                    for line in response.iter_lines():
                        if text := stream.feed(line):
                            yield text
            except httpx2.HTTPError as error:
                raise NodeUnreachable(f"{url}: {type(error).__name__} while streaming") from None
            self.answer = stream.end(time.monotonic() - started)


class AsyncClient:
    """`Client` for asyncio: the same names, awaited. Reads of the chain run in threads."""

    def __init__(
        self,
        *,
        rpc_url: str,
        deployment: str | Path | Deployment,
        account: LocalAccount | None = None,
        node: str | None = None,
        deposit_wei: int = 0,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.chain = Chain.connect(_deployment(deployment), rpc_url, account)
        self._core = Core(self.chain, node, deposit_wei)
        self._http = http_client or httpx2.AsyncClient(timeout=timeout)
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        wait: bool = False,
    ) -> Answer:
        """See `Client.chat`."""
        async with self._lock:
            node, url, draft = await self._draft(messages, model, max_tokens, stop)
            started = time.monotonic()
            try:
                response = await self._http.post(f"{url}/v1/chat/completions", json=draft.body)
            except httpx2.HTTPError as error:
                raise NodeUnreachable(f"{url}: {type(error).__name__}") from None
            answer = self._core.finish(decoded(response), draft, node, url)
            answer.seconds = time.monotonic() - started
        if wait:
            _require_accepted(await self.certify(answer))
        return answer

    async def stream(
        self, messages: Messages, *, model: str | None = None, max_tokens: int = 256, stop: Sequence[str] = ()
    ) -> AsyncIterator[str | Answer]:
        """Text as it comes, and last the checked `Answer`."""
        async with self._lock:
            node, url, draft = await self._draft(messages, model, max_tokens, stop)
            stream = Stream(self._core, draft, node, url)
            started = time.monotonic()
            body = {**draft.body, "stream": True}
            try:
                async with self._http.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                    if response.status_code != 200:
                        await response.aread()
                        decoded(response)
                    async for line in response.aiter_lines():
                        if text := stream.feed(line):
                            yield text
            except httpx2.HTTPError as error:
                raise NodeUnreachable(f"{url}: {type(error).__name__} while streaming") from None
            yield stream.end(time.monotonic() - started)

    async def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        timeout: float = CERTIFICATE_TIMEOUT_SECONDS,  # noqa: ASYNC109  (same name as in Client)
    ) -> Certificate:
        """See `Client.certify`."""
        deadline = time.monotonic() + timeout
        while True:
            document = await self._get(_receipt_url(answer))
            place = placed_certificate(document, answer, self.chain.domain)
            certificate = await asyncio.to_thread(self._core.settled, place, final) if place else None
            if certificate:
                answer.certificate = certificate
                return certificate
            if time.monotonic() > deadline:
                raise NotReady(f"the answer was not {'final' if final else 'settled'} within {timeout:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def batch_of(self, answer: Answer) -> bytes | None:
        """See `Client.batch_of`."""
        place = placed_certificate(await self._get(_receipt_url(answer)), answer, self.chain.domain)
        return place.batch_id if place else None

    async def _draft(
        self, messages: Messages, model: str | None, max_tokens: int, stop: Sequence[str]
    ) -> tuple[str, str, Draft]:
        chosen = await asyncio.to_thread(self._core.model, model)
        node, url = await asyncio.to_thread(self._core.choose, chosen)
        account = await self._get(f"{url}/v1/accounts/{self.chain.address}", self._core.account_access(node))
        draft = await asyncio.to_thread(self._core.prepare, messages, chosen, max_tokens, stop, node, account)
        return node, url, draft

    async def _get(self, url: str, headers: dict[str, str] | None = None) -> Any:
        try:
            return decoded(await self._http.get(url, headers=headers))
        except httpx2.HTTPError as error:
            raise NodeUnreachable(f"{url}: {type(error).__name__}") from None


def _receipt_url(answer: Answer) -> str:
    return f"{answer.node_url}/v1/receipts/0x{answer.digest.hex()}"


def _deployment(given: str | Path | Deployment) -> Deployment:
    return given if isinstance(given, Deployment) else Deployment.load(Path(given))


def _require_accepted(certificate: Certificate) -> None:
    if certificate.result != "accept":
        raise VerificationFailed(f"the verifiers' result for this answer is {certificate.result}: do not use it")


def _retrying(call: Callable[[], httpx2.Response]) -> httpx2.Response:
    for attempt in range(RETRIES + 1):
        try:
            return call()
        except httpx2.TransportError as error:
            if attempt == RETRIES:
                raise NodeUnreachable(f"no answer from the node: {type(error).__name__}") from None
            time.sleep(POLL_SECONDS * (attempt + 1))
    raise AssertionError("unreachable")
