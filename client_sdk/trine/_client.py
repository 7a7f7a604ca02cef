"""`Client` and `AsyncClient`: ask a node, check what it signs, wait for the chain's certificate."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
from eth_account.signers.local import LocalAccount

from trine._answer import (
    Answer,
    Draft,
    Messages,
    as_input,
    checked_answer,
    draft_request,
    order_body,
    owed_by_proof,
    placed_certificate,
    refusal,
)
from trine.chain import BatchState, Chain, Deployment, Model, Role
from trine.errors import InvalidInput, NodeUnreachable, NotReady, VerificationFailed
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Voucher

DEFAULT_TIMEOUT_SECONDS = 600.0
CERTIFICATE_TIMEOUT_SECONDS = 900.0
POLL_SECONDS = 0.5
RETRIES = 2
T = TypeVar("T")


class _Core:
    """What both clients do the same way: everything but waiting for HTTP."""

    def __init__(self, chain: Chain, node: str | None) -> None:
        self.chain = chain
        self._node = node
        self._nodes: dict[str, str] = {}
        # One order at a time: each one's voucher builds on what the one before cost.
        self._models: dict[str, Model] = {}

    def model(self, name: str | None) -> Model:
        """The newest model of that name, or the only one. Raises InvalidInput listing what exists."""
        if name in self._models:
            return self._models[name]
        models = {model.name: model for model in map(self.chain.model, self.chain.model_ids())}
        if name is None and len(models) == 1:
            name = next(iter(models))
        if name not in models:
            raise InvalidInput(f"no model {name!r}; registered: {', '.join(sorted(models)) or 'none'}")
        self._models |= models
        return models[name]

    def nodes(self, model: Model) -> list[tuple[str, str]]:
        """(address, endpoint) of calibrated nodes with an endpoint, best reputation first."""
        operators = {
            event.args["operator"]
            for event in self.chain.events("Calibration", "Calibrated", modelId=model.model_id)
            if event.args["role"] == Role.NODE
        }
        ranked = sorted(
            (
                (-self.chain.reputation(operator, Role.NODE, model.model_id).score_bps, operator, endpoint)
                for operator in operators
                if self.chain.is_calibrated(operator, Role.NODE, model.model_id)
                and (endpoint := self.chain.endpoint_of(operator))
            ),
        )
        return [(operator, endpoint) for _, operator, endpoint in ranked]

    def choose(self, model: Model) -> tuple[str, str]:
        """(address, endpoint) of the node to ask. Raises NotReady."""
        found = self.nodes(model)
        for address, endpoint in found:
            if self._node is None or self._node.rstrip("/") == endpoint.rstrip("/"):
                return address, endpoint
        where = f" at {self._node}" if self._node else ""
        raise NotReady(f"no calibrated node{where} serves {model.name!r}")

    def prepare(self, messages: Messages, model: Model, max_tokens: int, node: str, account: Any) -> Draft:
        """Signs request and voucher."""
        chain = self.chain
        asked = as_input(messages)
        request = draft_request(asked, model, chain.address, max_tokens, chain.domain)
        digest = request.digest(chain.domain)
        owed = owed_by_proof(account, chain.address, node, chain.payments_domain)
        voucher = Voucher(chain.address, node, owed + request.max_fee_wei)
        body = order_body(
            asked, model, request, chain.sign(digest), voucher, chain.sign(voucher.digest(chain.payments_domain))
        )
        return Draft(asked, request, digest, body)

    def finish(self, document: Any, draft: Draft, node: str, node_url: str) -> Answer:
        """Checks a whole completion."""
        try:
            choice = document["choices"][0]
            text, reason = choice["message"]["content"], choice["finish_reason"]
            extras = document["trine"]
        except (KeyError, IndexError, TypeError) as error:
            raise VerificationFailed(f"the node's answer is malformed: {error!r}") from None
        return checked_answer(extras, text, reason, draft, node, node_url, self.chain.domain)

    def settled(self, place: Certificate, answer: Answer) -> Certificate | None:
        """The certificate with its result, checked against the chain; None while the batch is open."""
        batch = self.chain.batch(place.batch_id)
        if batch.state != BatchState.SETTLED:
            return None
        certificate = replace(place, accepted=batch.accepted, rejected=batch.rejected)
        certificate.verify(batch.root, batch.node, batch.accepted, batch.rejected)
        if not place.index < batch.leaf_count or answer.receipt.node != batch.node:
            raise VerificationFailed("the certificate is not of this answer")
        return certificate


class _Stream:
    """Puts a stream's events together and checks the end."""

    def __init__(self, core: _Core, draft: Draft, node: str, node_url: str) -> None:
        self._finish: Callable[[Any, str, str], Answer] = lambda extras, text, reason: checked_answer(
            extras, text, reason, draft, node, node_url, core.chain.domain
        )
        self._parts: list[str] = []
        self.answer: Answer | None = None

    def feed(self, line: str) -> str:
        """The text that a line of the event stream adds."""
        if not line.startswith("data:") or line.strip() == "data: [DONE]":
            return ""
        try:
            document = json.loads(line.removeprefix("data:"))
        except ValueError:
            raise VerificationFailed("the node's stream holds an event that is not JSON") from None
        if "error" in document:
            raise refusal(500, document)
        for choice in document.get("choices", []):
            text = str(choice.get("delta", {}).get("content") or "")
            self._parts.append(text)
            if choice.get("finish_reason"):
                self.answer = self._finish(document.get("trine"), "".join(self._parts), choice["finish_reason"])
            return text
        return ""

    def end(self, seconds: float) -> Answer:
        if self.answer is None:
            raise VerificationFailed("the stream ended without a receipt: do not use this answer")
        self.answer.seconds = seconds
        return self.answer


class Client:
    """Asks nodes and keeps them honest.

    `Client(rpc_url="http://127.0.0.1:8545", deployment="devnet.json", account=account).chat("Hello")`

    `node` pins one endpoint; otherwise the calibrated node of the best reputation is asked. Thread-safe.
    """

    def __init__(
        self,
        *,
        rpc_url: str,
        deployment: str | Path | Deployment,
        account: LocalAccount | None = None,
        node: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        http_client: httpx2.Client | None = None,
    ) -> None:
        self.chain = Chain.connect(_deployment(deployment), rpc_url, account)
        self._core = _Core(self.chain, node)
        self._http = http_client or httpx2.Client(timeout=timeout)
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

    def order(self, messages: Messages, *, model: str | None = None, max_tokens: int = 256) -> dict[str, Any]:
        """A signed and paid order as the JSON body of `/v1/chat/completions`, for other HTTP clients.

        With the stock `openai` client pass its `trine` entry as `extra_body={"trine": …}`.
        """
        chosen = self._core.model(model)
        node, url = self._core.choose(chosen)
        return self._core.prepare(messages, chosen, max_tokens, node, self._account(url)).body

    def chat(
        self, messages: Messages, *, model: str | None = None, max_tokens: int = 256, wait: bool = False
    ) -> Answer:
        """The answer to a text or to OpenAI-style messages, with a receipt that was checked.

        With `wait`, also with the certificate, once three verifiers have voted. Raises InvalidInput, NodeError,
        VerificationFailed (also when `wait` ends in anything but acceptance), NotReady.
        """
        with self._lock:
            chosen = self._core.model(model)
            node, url = self._core.choose(chosen)
            draft = self._core.prepare(messages, chosen, max_tokens, node, self._account(url))
            started = time.monotonic()
            document = self._post(f"{url}/v1/chat/completions", draft.body)
            answer = self._core.finish(document, draft, node, url)
            answer.seconds = time.monotonic() - started
        if wait:
            _require_accepted(self.certify(answer))
        return answer

    def stream(self, messages: Messages, *, model: str | None = None, max_tokens: int = 256) -> TextStream:
        """Iterate over it for the text as it comes; `.answer` holds the checked answer afterwards."""
        return TextStream(self, messages, model, max_tokens)

    def certify(self, answer: Answer, *, timeout: float = CERTIFICATE_TIMEOUT_SECONDS) -> Certificate:
        """Waits until the answer's batch is settled; returns (and keeps) its certificate. Raises NotReady."""
        deadline = time.monotonic() + timeout
        while True:
            document = self._get(f"{answer.node_url}/v1/receipts/0x{answer.digest.hex()}")
            place = placed_certificate(document, answer, self.chain.domain)
            certificate = self._core.settled(place, answer) if place else None
            if certificate:
                answer.certificate = certificate
                return certificate
            if time.monotonic() > deadline:
                raise NotReady(f"the answer was not settled within {timeout:.0f} s")
            time.sleep(POLL_SECONDS)

    def _account(self, url: str) -> Any:
        return self._get(f"{url}/v1/accounts/{self.chain.address}")

    def _get(self, url: str) -> Any:
        return _decoded(_retrying(lambda: self._http.get(url)))

    def _post(self, url: str, body: dict[str, Any]) -> Any:
        # Safe to repeat: a node answers the same signed request with the same answer.
        return _decoded(_retrying(lambda: self._http.post(url, json=body)))


class TextStream:
    """An answer as it is generated."""

    def __init__(self, client: Client, messages: Messages, model: str | None, max_tokens: int) -> None:
        self._client = client
        self._arguments = (messages, model, max_tokens)
        self.answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        messages, model, max_tokens = self._arguments
        client, core = self._client, self._client._core
        with client._lock:
            chosen = core.model(model)
            node, url = core.choose(chosen)
            draft = core.prepare(messages, chosen, max_tokens, node, client._account(url))
            body = {**draft.body, "stream": True}
            stream = _Stream(core, draft, node, url)
            started = time.monotonic()
            try:
                with client._http.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                    if response.status_code != 200:
                        response.read()
                        _decoded(response)
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
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.chain = Chain.connect(_deployment(deployment), rpc_url, account)
        self._core = _Core(self.chain, node)
        self._http = http_client or httpx2.AsyncClient(timeout=timeout)
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def chat(
        self, messages: Messages, *, model: str | None = None, max_tokens: int = 256, wait: bool = False
    ) -> Answer:
        """See `Client.chat`."""
        async with self._lock:
            node, url, draft = await self._draft(messages, model, max_tokens)
            started = time.monotonic()
            try:
                response = await self._http.post(f"{url}/v1/chat/completions", json=draft.body)
            except httpx2.HTTPError as error:
                raise NodeUnreachable(f"{url}: {type(error).__name__}") from None
            answer = self._core.finish(_decoded(response), draft, node, url)
            answer.seconds = time.monotonic() - started
        if wait:
            _require_accepted(await self.certify(answer))
        return answer

    async def stream(
        self, messages: Messages, *, model: str | None = None, max_tokens: int = 256
    ) -> AsyncIterator[str | Answer]:
        """Text as it comes, and last the checked `Answer`."""
        async with self._lock:
            node, url, draft = await self._draft(messages, model, max_tokens)
            stream = _Stream(self._core, draft, node, url)
            started = time.monotonic()
            body = {**draft.body, "stream": True}
            try:
                async with self._http.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                    if response.status_code != 200:
                        await response.aread()
                        _decoded(response)
                    async for line in response.aiter_lines():
                        if text := stream.feed(line):
                            yield text
            except httpx2.HTTPError as error:
                raise NodeUnreachable(f"{url}: {type(error).__name__} while streaming") from None
            yield stream.end(time.monotonic() - started)

    async def certify(self, answer: Answer, *, timeout: float = CERTIFICATE_TIMEOUT_SECONDS) -> Certificate:  # noqa: ASYNC109  (same name as in Client)
        """See `Client.certify`."""
        deadline = time.monotonic() + timeout
        while True:
            document = await self._get(f"{answer.node_url}/v1/receipts/0x{answer.digest.hex()}")
            place = placed_certificate(document, answer, self.chain.domain)
            certificate = await asyncio.to_thread(self._core.settled, place, answer) if place else None
            if certificate:
                answer.certificate = certificate
                return certificate
            if time.monotonic() > deadline:
                raise NotReady(f"the answer was not settled within {timeout:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def _draft(self, messages: Messages, model: str | None, max_tokens: int) -> tuple[str, str, Draft]:
        chosen = await asyncio.to_thread(self._core.model, model)
        node, url = await asyncio.to_thread(self._core.choose, chosen)
        account = await self._get(f"{url}/v1/accounts/{self.chain.address}")
        draft = await asyncio.to_thread(self._core.prepare, messages, chosen, max_tokens, node, account)
        return node, url, draft

    async def _get(self, url: str) -> Any:
        try:
            return _decoded(await self._http.get(url))
        except httpx2.HTTPError as error:
            raise NodeUnreachable(f"{url}: {type(error).__name__}") from None


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


def _decoded(response: httpx2.Response) -> Any:
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code != 200:
        raise refusal(response.status_code, document)
    if document is None:
        raise VerificationFailed("the node's answer is not JSON")
    return document
