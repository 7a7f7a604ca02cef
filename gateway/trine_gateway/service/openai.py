"""OpenAI's endpoints over `Asking`: keys, bodies, shapes, streams, waiting for a verdict.

Decides nothing about answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from trine import AsyncClient
from trine.chain import ModelEntry
from trine.errors import ChainError
from trine.protocol.calls import Read
from trine.protocol.fields import Wish, read_wish
from trine.protocol.grammar import SPELLED, field_of
from trine.protocol.sampling import DRAWN_SEEDS
from trine_gateway.asking import PENDING, Asked, Asking, Running, Served
from trine_gateway.chain_watch import ChainWatch
from trine_gateway.records import Repeat
from trine_gateway.service.access import Access
from trine_gateway.service.refusing import body_of, refusal_of
from trine_gateway.service.response_shape import ResponseShape
from trine_gateway.service.responses import in_its_words, read_response_wish
from trine_gateway.settings import Limits
from trine_gateway.verdicts import Verdicts
from trine_operator.refusal import Refusal
from trine_operator.service.bodies import BodyBudget, disconnected, parse_json, read_body
from trine_operator.service.completions import (
    DONE,
    KEEP_ALIVE,
    KEEP_ALIVE_SECONDS,
    EventStream,
    Shape,
    event,
    kept_alive,
    promise_of,
    usage_of,
)

log = structlog.get_logger()

MODELS_SECONDS = 60.0
WAITS = {"verdict": (False, False), "final": (True, False), "hard": (False, True)}
"""What `x-trine-wait` may ask for: (until no appeal can change it, with the committee's signatures)."""
MAX_REPEAT_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Wait:
    """How long an answer is kept back for its verdict."""

    final: bool
    hard: bool
    seconds: float


class AnswerShape(Protocol):
    """How one kind of endpoint tells an answer."""

    def whole(self, served: Served, extras: Mapping[str, Any]) -> dict[str, Any]: ...

    def opening(self) -> list[str]:
        """Events before the first text."""
        ...

    def text(self, text: str) -> str: ...

    def closing(self, served: Served, extras: Mapping[str, Any]) -> list[str]: ...

    def failed(self, refusal: Refusal) -> list[str]: ...


class CompletionShape:
    """Chat and plain completions."""

    def __init__(self, model: str, chat: bool, include_usage: bool) -> None:
        self._shape = Shape(model, chat, include_usage)

    def whole(self, served: Served, extras: Mapping[str, Any]) -> dict[str, Any]:
        answer = served.answer
        read = Read(answer.content, answer.tool_calls)
        return self._shape.completion(read, answer.finish_reason, usage_of(answer.receipt), extras)

    def opening(self) -> list[str]:
        return [event(self._shape.chunk("", first=True))]

    def text(self, text: str) -> str:
        return event(self._shape.chunk(text))

    def closing(self, served: Served, extras: Mapping[str, Any]) -> list[str]:
        """With the calls, which come once they are checked."""
        answer, shape = served.answer, self._shape
        chunks = [chunk for number, call in enumerate(answer.tool_calls) for chunk in shape.call_chunks(number, call)]
        chunks.append(shape.last_chunk(answer.finish_reason, extras, answer.tool_calls))
        if shape.include_usage:
            chunks.append(shape.usage_chunk(usage_of(answer.receipt)))
        return [*map(event, chunks), DONE]

    def failed(self, refusal: Refusal) -> list[str]:
        return [event(body_of(refusal))]


class OpenAiEndpoints:
    """What a stock client asks for."""

    def __init__(
        self,
        client: AsyncClient,
        asking: Asking,
        access: Access,
        verdicts: Verdicts,
        watch: ChainWatch,
        limits: Limits,
    ) -> None:
        self._client = client
        self._asking = asking
        self._access = access
        self._verdicts = verdicts
        self._watch = watch
        self._limits = limits
        self._bodies = BodyBudget(limits.max_body_bytes)
        self._models: tuple[float, list[ModelEntry]] = (float("-inf"), [])
        self._created: dict[bytes, int] = {}
        self.closing = False
        self.router = APIRouter(prefix="/v1")
        self.router.add_api_route("/models", self.models, methods=["GET"])
        self.router.add_api_route("/models/{name:path}", self.model, methods=["GET"])
        self.router.add_api_route("/chat/completions", self.chat, methods=["POST"])
        self.router.add_api_route("/completions", self.completions, methods=["POST"])
        self.router.add_api_route("/responses", self.responses, methods=["POST"])

    async def models(self, request: Request) -> dict[str, Any]:
        try:
            await self._access.key(request)
            return {"object": "list", "data": [await self._entry(model) for model in await self._known_models()]}
        except Exception as error:  # noqa: BLE001  (each has its words)
            raise refusal_of(error) from None

    async def model(self, request: Request, name: str) -> dict[str, Any]:
        try:
            await self._access.key(request)
            return await self._entry(await self._model(name))
        except Exception as error:  # noqa: BLE001  (each has its words)
            raise refusal_of(error) from None

    async def chat(self, request: Request) -> Response:
        return await self._serve(request, self._completion(chat=True))

    async def completions(self, request: Request) -> Response:
        return await self._serve(request, self._completion(chat=False))

    async def responses(self, request: Request) -> Response:
        def read(body: dict[str, Any]) -> tuple[Wish, AnswerShape]:
            wish = read_response_wish(
                body,
                default_max_tokens=self._limits.default_max_tokens,
                limit_tokens=self._limits.max_tokens,
                own_seed=secrets.choice(DRAWN_SEEDS),
            )
            return wish, ResponseShape(body, wish)

        return await self._serve(request, read, in_its_words)

    def _completion(self, *, chat: bool) -> Callable[[dict[str, Any]], tuple[Wish, AnswerShape]]:
        def read(body: dict[str, Any]) -> tuple[Wish, AnswerShape]:
            if body.get("trine") is not None:
                raise Refusal(
                    "the gateway signs orders itself, with its own account: ask a node, or leave this out",
                    code="unsupported_value",
                    param="trine",
                )
            wish = read_wish(
                body,
                chat=chat,
                default_max_tokens=self._limits.default_max_tokens,
                limit_tokens=self._limits.max_tokens,
                own_seed=secrets.choice(DRAWN_SEEDS),
            )
            return wish, CompletionShape(body["model"], chat, wish.include_usage)

        return read

    async def _serve(
        self,
        request: Request,
        read: Callable[[dict[str, Any]], tuple[Wish, AnswerShape]],
        in_words: Callable[[Refusal], Refusal] = lambda refusal: refusal,
    ) -> Response:
        try:
            return await self._answered(request, read)
        except Exception as error:  # noqa: BLE001  (each has its words)
            refusal = refusal_of(error)
            if refusal.param in SPELLED.values() and (body := getattr(request.state, "body", None)):
                refusal.param = (
                    field_of(body) or refusal.param
                )  # nodes are asked in one spelling, whatever the client's
            raise in_words(refusal) from None

    async def _answered(self, request: Request, read: Callable[[dict[str, Any]], tuple[Wish, AnswerShape]]) -> Response:
        if self.closing:
            raise Refusal("the gateway is shutting down", status=503, code="shutting_down")
        key = await self._access.key(request)
        headers = self._access.rate(key).headers
        wait = self._wait(request)
        raw = await read_body(request, self._limits.max_body_bytes, self._bodies)
        body = parse_json(raw)
        if not isinstance(body, dict):
            raise Refusal("the body must be a JSON object")
        request.state.body = body
        model = body.get("model")
        if not isinstance(model, str):
            raise Refusal("model is missing: name the model to ask", param="model")
        await self._model(model)
        wish, shape = read(body)
        repeat = _repeat(request, raw)
        running = self._asking.begin(Asked(key.key_id, model, wish.input, wish.max_tokens, wish.stream, repeat))
        if wish.stream:
            return await self._streamed(running, shape, wait, headers)
        return await self._whole(request, running, shape, wait, headers)

    async def _streamed(
        self, running: Running, shape: AnswerShape, wait: Wait | None, headers: Mapping[str, str]
    ) -> Response:
        pieces = running.read()
        first = asyncio.ensure_future(anext(pieces))

        def leave() -> None:
            first.cancel()
            running.leave()

        try:
            # What fails at once has a status of its own; who waits longer is told in the stream.
            done, _ = await asyncio.wait([first], timeout=KEEP_ALIVE_SECONDS)
            if done:
                first.result()
        except BaseException:
            leave()
            raise
        return EventStream(self._events(first, pieces, shape, running.asked.key_id, wait), leave, headers)

    async def _events(
        self,
        first: asyncio.Future[str | Served],
        pieces: AsyncIterator[str | Served],
        shape: AnswerShape,
        key_id: str,
        wait: Wait | None,
    ) -> AsyncIterator[str]:
        async def all_of_them() -> AsyncIterator[str | list[str]]:
            piece = await first
            while isinstance(piece, str):
                if piece:
                    yield shape.text(piece)
                piece = await anext(pieces)
            yield shape.closing(piece, await self._extras(piece, key_id, wait))

        try:
            for opening in shape.opening():
                yield opening
            async for told in kept_alive(all_of_them()):
                if told is None:
                    yield KEEP_ALIVE
                elif isinstance(told, str):
                    yield told
                else:
                    for each in told:
                        yield each
        except Exception as error:  # noqa: BLE001  (the status line is sent: the stream itself must say what happened)
            for each in shape.failed(refusal_of(error)):
                yield each

    async def _whole(
        self, request: Request, running: Running, shape: AnswerShape, wait: Wait | None, headers: Mapping[str, str]
    ) -> Response:
        async def finished() -> tuple[Served, dict[str, Any]]:
            served = await running.whole()
            return served, await self._extras(served, running.asked.key_id, wait)

        answer = asyncio.ensure_future(finished())
        gone = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return Response(status_code=499)
            served, extras = answer.result()
            told = {
                "x-trine-receipt": extras["receiptDigest"],
                "x-trine-node": extras["node"],
                "x-trine-model": extras["receipt"]["modelId"],
                "x-trine-verdict": extras["verdict"],
            }
            return JSONResponse(shape.whole(served, extras), headers={**headers, **told})
        finally:
            answer.cancel()
            gone.cancel()
            running.leave()

    async def _extras(self, served: Served, key_id: str, wait: Wait | None) -> dict[str, Any]:
        answer = served.answer
        signed = answer.text if answer.tool_calls else None
        extras = {
            **promise_of(answer.receipt, answer.receipt_signature, answer.digest, signed),
            "node": answer.receipt.node,
            "nodeUrl": answer.node_url,
            "feeWei": str(answer.receipt.fee_wei),
            "verdict": PENDING,
        }
        if answer.salt:
            extras["salt"] = "0x" + answer.salt.hex()
        if served.drawn_by is not None:
            extras["sampling"] = served.drawn_by  # with the seed that was signed, whoever chose it
        if answer.tried:
            extras["tried"] = [each.to_json() for each in answer.tried]
        if wait is not None:
            verdict, certificate = await self._asking.verdict(
                served, key_id, final=wait.final, hard=wait.hard, seconds=wait.seconds
            )
            extras["verdict"] = verdict
            if certificate is not None:
                extras["certificate"] = certificate
                try:
                    await self._verdicts.note(answer, verdict, is_final=wait.final)
                except Exception as error:  # noqa: BLE001  (the answer is paid for; its verdict is looked for again)
                    log.warning("verdict_not_noted", receipt=answer.digest.hex(), error=f"{error!r:.300}")
        return extras

    def _wait(self, request: Request) -> Wait | None:
        asked = request.headers.get("x-trine-wait")
        if asked is None:
            return None
        if asked not in WAITS:
            said = f"x-trine-wait must be one of {', '.join(WAITS)}"
            raise Refusal(said, code="invalid_header", param="x-trine-wait")
        given = request.headers.get("x-trine-wait-seconds", "")
        most = self._limits.max_wait_seconds
        if given and not (given.isascii() and given.isdecimal() and len(given) < 7):
            said = "x-trine-wait-seconds must be a whole number"
            raise Refusal(said, code="invalid_header", param="x-trine-wait-seconds")
        return Wait(*WAITS[asked], min(float(given), most) if given else most)

    async def _model(self, name: str) -> ModelEntry:
        for model in await self._known_models():
            if model.name == name:
                return model
        raise Refusal(
            f"The model {name[:128]!r} does not exist or is not served",
            status=404,
            code="model_not_found",
            param="model",
        )

    async def _known_models(self) -> list[ModelEntry]:
        """Raises Refusal, ChainError."""
        self._watch.require_own_chain()
        at, known = self._models
        if time.monotonic() - at > MODELS_SECONDS:
            listed = await asyncio.to_thread(self._client.chain.models)
            known = list({model.name: model for model in listed}.values())  # the newest of a name
            self._models = time.monotonic(), known
        return known

    async def _entry(self, model: ModelEntry) -> dict[str, Any]:
        """`created` is when the model was registered; 0 where the chain's endpoint does not show that block, or does
        not answer."""
        if model.model_id not in self._created:
            unknown = [each.model_id for each in self._models[1] if each.model_id not in self._created]
            with suppress(ChainError):
                found = await asyncio.to_thread(self._client.chain.registered_at, unknown)
                self._created |= {name: found.get(name, 0) for name in unknown}
        return {
            "id": model.name,
            "object": "model",
            "created": self._created.get(model.model_id, 0),
            "owned_by": "trine",
            "trine": {"modelId": "0x" + model.model_id.hex(), "pricePerTokenWei": str(model.price_per_token_wei)},
        }


def _repeat(request: Request, raw: bytes) -> Repeat | None:
    """By what the answer can be had again. Raises Refusal."""
    name = request.headers.get("idempotency-key")
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Refusal("one Idempotency-Key, not several", code="invalid_header", param="idempotency-key")
    if name is None:
        return None
    if not 1 <= len(name) <= MAX_REPEAT_CHARACTERS:
        said = f"an Idempotency-Key has 1 to {MAX_REPEAT_CHARACTERS} characters"
        raise Refusal(said, code="invalid_header", param="idempotency-key")
    path = request.url.path.encode()
    return Repeat(hashlib.sha256(name.encode()).hexdigest(), hashlib.sha256(path + b"\n" + raw).hexdigest())
