"""A JSON-RPC endpoint that stands before another one and is faulty on command. HTTP and WebSocket at one address.

In a thread of its own. Remembers every transaction that it was asked to send: who wants to know whether an operator
has ever said two things at once finds it here, whatever became of them on the chain.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import WSMsgType, web

from trine.errors import NotReady
from trine_devnet.faults.endpoint_faults import (
    SEND,
    Call,
    Cutting,
    Dripping,
    Fault,
    Lagging,
    NarrowLogs,
    Refusing,
    Saying,
    Sending,
    Silent,
    answered,
    as_of,
    error_of,
    logs_as_of,
    raw_transaction,
    refused_range,
    result_of,
    retold,
    seen_as_of,
)

MAX_BODY_BYTES = 1 << 22
MAX_SENT = 100_000
"""Transactions remembered."""
START_SECONDS = 10.0
UPSTREAM_SECONDS = 60.0


class Unanswered(Exception):
    """There will be no answer: the connection is cut."""


class RpcProxy:
    """Use as a context manager. `inject` and `lift` may be called from any thread."""

    def __init__(self, upstream: str, *, websocket: bool = True) -> None:
        self.upstream = upstream
        self.url = ""
        self.sent: list[bytes] = []
        self.met = 0
        """Requests that met the fault that was injected last."""
        self._websocket = websocket
        self._fault: Fault | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rpc-proxy", daemon=True)
        self._sockets: set[web.WebSocketResponse] = set()
        self._lifted: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or not self.url:
            raise NotReady("the RPC proxy did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)

    @property
    def fault(self) -> Fault | None:
        return self._fault

    def inject(self, fault: Fault) -> None:
        """From now on, instead of any other."""
        self._change(fault)

    def lift(self) -> None:
        """From now on nothing is wrong. Who has waited for an answer until now gets none."""
        self._change(None)

    def _change(self, fault: Fault | None) -> None:
        async def change() -> None:
            self._fault = fault
            self.met = 0 if fault else self.met
            self._lifted.set()
            self._lifted = asyncio.Event()
            if isinstance(fault, (Cutting, Refusing, Saying)):
                for socket in list(self._sockets):
                    await socket.close()

        asyncio.run_coroutine_threadsafe(change(), self._loop).result(START_SECONDS)

    # The server

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._lifted = asyncio.Event(), asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=UPSTREAM_SECONDS)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as self._session:
                await runner.setup()
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                self._ready.set()
                await self._over.wait()
                self._lifted.set()
                for socket in list(self._sockets):
                    await socket.close()
        finally:
            await runner.cleanup()
            self._ready.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.headers.get("upgrade", "").lower() == "websocket":
                return await self._pass_socket(request)
            return await self._answer(request)
        except (Unanswered, aiohttp.ClientError, TimeoutError):
            self._cut(request)
            return web.Response()  # nobody gets it

    def _cut(self, request: web.Request) -> None:
        if request.transport:
            request.transport.abort()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body, fault = await request.read(), self._fault
        if fault:
            self.met += 1
        match fault:
            case Silent():
                await self._stay_silent()
            case Refusing(status, retry_after):
                headers = {} if retry_after is None else {"retry-after": str(retry_after)}
                return web.json_response({"error": "too many requests"}, status=status, headers=headers)
            case Saying():
                return await self._say(request, _parts_of(fault))
            case Cutting(0):
                raise Unanswered
        try:
            asked = json.loads(body)
        except ValueError:
            return web.json_response(error_of({}, -32700, "parse error"))
        calls = asked if isinstance(asked, list) else [asked]
        answers = [await self._answer_to(call, fault) for call in calls]
        text = json.dumps(answers if isinstance(asked, list) else answers[0]).encode()
        match fault:
            case Cutting(after_bytes):
                await self._say(request, _once(text[:after_bytes]), length=len(text))
                raise Unanswered
            case Dripping(bytes_per_second):
                return await self._say(request, _slowly(text, bytes_per_second), length=len(text))
        return web.Response(body=text, content_type="application/json")

    async def _stay_silent(self) -> None:
        await self._lifted.wait()
        raise Unanswered

    async def _say(
        self, request: web.Request, parts: AsyncIterator[bytes], length: int | None = None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = length
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async for part in parts:
                await response.write(part)
            if length is None:
                await response.write_eof()
        return response

    # Calls

    async def _answer_to(self, call: Call, fault: Fault | None) -> dict[str, Any]:
        if not isinstance(call, dict):
            return error_of({}, -32600, "invalid request")
        if call.get("method") == SEND and len(self.sent) < MAX_SENT:
            self.sent.append(raw_transaction(call))
        match fault:
            case Lagging(blocks, logs_only):
                return await self._late(call, await self._head() - blocks, logs_only=logs_only)
            case NarrowLogs(blocks):
                refusal = refused_range(call, blocks, await self._head())
                return refusal or await self._ask(call)
        told = answered(fault, call)
        if told is not None:
            return told
        answer = await self._ask(call)
        if isinstance(fault, Sending) and not fault.answers and call.get("method") == SEND:
            await self._stay_silent()
        return retold(fault, call, answer)

    async def _late(self, call: Call, head: int, *, logs_only: bool) -> dict[str, Any]:
        head = max(head, 0)
        if logs_only:
            asked = logs_as_of(call, head) if call.get("method") == "eth_getLogs" else call
            return await self._ask(asked) if asked else result_of(call, [])
        instead = as_of(call, head)
        if "method" not in instead:
            return dict(instead)
        return seen_as_of(call, await self._ask(instead), head)

    async def _head(self) -> int:
        answer = await self._ask({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})
        return int(str(answer["result"]), 16)

    async def _ask(self, call: Call) -> dict[str, Any]:
        async with self._session.post(self.upstream, json=call) as response:
            found: dict[str, Any] = await response.json(content_type=None)
            return found

    # WebSocket

    async def _pass_socket(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault
        if not self._websocket or isinstance(fault, (Refusing, Saying)):
            status = fault.status if isinstance(fault, Refusing) else 404
            return web.Response(status=status)
        if isinstance(fault, Cutting):
            raise Unanswered
        if isinstance(fault, Silent):
            await self._stay_silent()
        socket = web.WebSocketResponse(max_msg_size=MAX_BODY_BYTES)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async with self._session.ws_connect(self.upstream, max_msg_size=MAX_BODY_BYTES) as upstream:
                there = asyncio.create_task(self._pass_on(socket, upstream))
                back = asyncio.create_task(self._pass_back(upstream, socket))
                _, pending = await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            pass
        finally:
            self._sockets.discard(socket)
            with contextlib.suppress(ConnectionError):
                await socket.close()
        return socket

    async def _pass_on(self, source: web.WebSocketResponse, target: aiohttp.ClientWebSocketResponse) -> None:
        async for message in source:
            if message.type == WSMsgType.TEXT and not isinstance(self._fault, Silent):
                await target.send_str(message.data)

    async def _pass_back(self, source: aiohttp.ClientWebSocketResponse, target: web.WebSocketResponse) -> None:
        """Announcements of blocks come late while the endpoint lags, and none while it is silent."""
        held: deque[str] = deque()
        async for message in source:
            if message.type != WSMsgType.TEXT:
                continue
            fault = self._fault
            if isinstance(fault, Silent):
                continue
            if "eth_subscription" not in message.data:
                await target.send_str(message.data)
                continue
            held.append(message.data)
            late = fault.blocks if isinstance(fault, Lagging) and not fault.logs_only else 0
            while len(held) > late:
                await target.send_str(held.popleft())


async def _once(part: bytes) -> AsyncIterator[bytes]:
    yield part


async def _parts_of(fault: Saying) -> AsyncIterator[bytes]:
    yield fault.head
    at_once = max(1, (1 << 16) // max(len(fault.part), 1))
    for start in range(0, fault.times, at_once):
        yield fault.part * min(at_once, fault.times - start)
    yield fault.tail


async def _slowly(text: bytes, bytes_per_second: int) -> AsyncIterator[bytes]:
    for at in range(len(text)):
        yield text[at : at + 1]
        await asyncio.sleep(1 / bytes_per_second)
