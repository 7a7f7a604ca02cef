"""What a gateway costs over calling the node: time to the first text and to the end, with streams side by side.

    python benchmarks/gateway.py [--streams 50] [--rounds 8] [--tokens 16] [--pace 0.1] [--json FILE]

A node that computes nothing stands behind it: it signs real receipts over real orders and sends its tokens at a fixed
pace, so what is measured is not a model. Chain (anvil), contracts, signatures, vouchers, store (SQLite) and processes
are real: node, gateway and client are one each. The same orders go three ways, in turns: plain HTTP to the node, as a
stock client asks one that serves for nothing; the SDK to the node, which signs and checks; plain HTTP to the gateway,
which does that for its client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from trine import AsyncClient, Deployment
from trine.protocol.messages import Domain, Receipt, engine_class_bytes, text_hash
from trine.protocol.messages import Request as Order
from trine.protocol.salts import read_salt
from trine_devnet.network import TOKEN, Devnet
from trine_devnet.processes import free_port
from trine_devnet.reporting import Report
from trine_operator.process import BackgroundServer, keep_what_is_loaded

TEXT = " word"
QUESTION = [{"role": "user", "content": "What is a lighthouse? Answer in a sentence."}]
ACCOUNT = {"owedWei": "0", "voucher": None, "acknowledged": None, "orders": [], "asOf": 0}
TARGET_MS = {"p50": 5.0, "p99": 20.0}


def promise_of(body: dict[str, Any], signer: LocalAccount, domain: Domain, price: int, tokens: int) -> dict[str, Any]:
    """A receipt over what was ordered, of an answer of so many times TEXT."""
    order = Order.from_json(body["trine"]["request"])
    receipt = Receipt(
        request_hash=order.digest(domain),
        client=order.client,
        node=signer.address,
        model_id=order.model_id,
        input_hash=order.input_hash,
        prompt_hash=bytes(32),
        output_hash=bytes(32),
        text_hash=text_hash(TEXT * tokens, read_salt(body["trine"]["salt"])),
        fingerprint_hash=bytes(32),
        prompt_tokens=10,
        output_tokens=tokens,
        max_tokens=order.max_tokens,
        finish_reason=0,
        engine_class=engine_class_bytes("cpu-fp32"),
        fee_wei=price * (10 + tokens),
        issued_at=order.deadline - 900,
        anchor_by=order.deadline,
    )
    signature = bytes(signer.unsafe_sign_hash(receipt.digest(domain)).signature)
    return {"receipt": receipt.to_json(), "signature": "0x" + signature.hex()}


def node_app(key: str, domain: Domain, name: str, price: int, pace: float, tokens: int) -> FastAPI:
    """The node that computes nothing."""
    app, signer = FastAPI(), Account.from_key(key)

    @app.get("/v1/accounts/{client}")
    def account(client: str) -> Any:
        return ACCOUNT

    @app.get("/v1/receipts/{digest}")
    async def receipt(digest: str) -> Any:
        return {"batch": None}  # as every node says of its last answers

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        return StreamingResponse(stream(await request.json()), media_type="text/event-stream")

    async def stream(body: dict[str, Any]) -> Any:
        def event(choice: dict[str, Any], **more: Any) -> str:
            return f"data: {json.dumps({'id': 'x', 'model': name, 'choices': [{'index': 0, **choice}], **more})}\n\n"

        begun = time.monotonic()
        for number in range(tokens):
            yield event({"delta": {"content": TEXT}, "finish_reason": None})
            await asyncio.sleep(max(0.0, begun + (number + 1) * pace - time.monotonic()))
        promise = promise_of(body, signer, domain, price, tokens) if "trine" in body else None
        yield event({"delta": {}, "finish_reason": "stop"}, trine=promise)
        yield "data: [DONE]\n\n"

    return app


def client_of(given: dict[str, Any], key: str) -> AsyncClient:
    """A client that knows of no other node: this one is in no directory, as it could not pass a calibration."""
    client = AsyncClient(
        rpc_url=given["rpc_url"], deployment=Deployment.load(Path(given["deployment"])), account=Account.from_key(key)
    )
    client._core.nodes = lambda *_: [(given["address"], given["node_url"])]  # type: ignore[method-assign]
    return client


def serve(what: str, given: dict[str, Any]) -> None:
    """A process of its own, until its input ends."""
    if what == "node":
        chain = client_of(given, given["node_key"]).chain
        (model,) = chain.models()
        of_node = model.name, model.price_per_token_wei, given["pace"], given["tokens"]
        app = node_app(given["node_key"], chain.domain, *of_node)
    else:
        from trine_gateway.run import SWITCH_SECONDS
        from trine_gateway.service import create_app
        from trine_gateway.settings import GatewaySettings
        from trine_gateway.store import GatewayStore
        from trine_operator.logs import configure_logs

        configure_logs("error")
        sys.setswitchinterval(SWITCH_SECONDS)
        settings = GatewaySettings.load(None, deployment="-", keystore="-", password_file=os.devnull)
        app = create_app(client_of(given, given["gateway_key"]), GatewayStore(given["store_url"]), settings)
    server = BackgroundServer(app, "127.0.0.1", given[f"{what}_port"])
    keep_what_is_loaded()  # as nodes and gateways do
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()


@dataclass
class Way:
    """Seconds of each stream that went it."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


async def by_http(
    http: httpx2.AsyncClient, url: str, headers: dict[str, str], name: str, tokens: int, way: Way
) -> None:
    body = {"model": name, "messages": QUESTION, "max_tokens": tokens, "stream": True}
    begun, first = time.perf_counter(), None
    async with http.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        seen = b""
        async for chunk in response.aiter_raw():
            seen += chunk
            if first is None and TEXT.encode() in seen:
                first = time.perf_counter()
    assert seen.endswith(b"[DONE]\n\n"), seen[-300:]
    assert first is not None
    way.first.append(first - begun)
    way.whole.append(time.perf_counter() - begun)


async def by_sdk(client: AsyncClient, name: str, tokens: int, way: Way) -> None:
    begun, first = time.perf_counter(), None
    stream = client.stream(QUESTION, model=name, max_tokens=tokens)
    async for _text in stream:
        first = first or time.perf_counter()
    assert stream.answer is not None
    assert first is not None
    way.first.append(first - begun)
    way.whole.append(time.perf_counter() - begun)


async def measured(given: dict[str, Any], streams: int, rounds: int, gateway: int) -> tuple[dict[str, Way], float]:
    """All ways in turns, and milliseconds of a core that the gateway's process took for an answer; the first round of
    each makes connections, and is not counted."""
    ways: dict[str, Way] = {}
    process = psutil.Process(gateway)
    taken = 0.0
    async with (
        client_of(given, given["client_key"]) as client,
        httpx2.AsyncClient(
            timeout=60, limits=httpx2.Limits(max_connections=1024, max_keepalive_connections=256)
        ) as http,
    ):
        name = (await asyncio.to_thread(client.chain.models))[0].name
        for number in range(rounds + 1):
            if number == 1:
                ways, taken = {}, 0.0
            for what in ("node", "sdk", "gateway"):
                way, before = ways.setdefault(what, Way()), sum(process.cpu_times()[:2])
                if what == "sdk":
                    each = [by_sdk(client, name, given["tokens"], way) for _ in range(streams)]
                else:
                    headers = {"authorization": f"Bearer {given['key']}"} if what == "gateway" else {}
                    url, tokens = given[f"{what}_url"], given["tokens"]
                    each = [by_http(http, url, headers, name, tokens, way) for _ in range(streams)]
                # Streams of many clients do not begin in the same millisecond.
                apart = given["pace"] * given["tokens"] / streams
                await asyncio.gather(*(later(one, n * apart) for n, one in enumerate(each)))
                taken += sum(process.cpu_times()[:2]) - before if what == "gateway" else 0.0
    return ways, 1000 * taken / (streams * rounds)


async def later(work: Any, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await work


def percentile(values: list[float], percent: float) -> float:
    """In milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(ways: dict[str, Way], streams: int, rounds: int, tokens: int, pace: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "conditions": {
            "streams": streams,
            "rounds": rounds,
            "tokens": tokens,
            "paceMs": pace * 1000,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "store": "sqlite",
        }
    }
    print(f"{streams} streams side by side, {rounds} rounds; {tokens} tokens at {pace * 1000:.0f} ms each")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, SQLite, anvil")
    print(f"{'ms':<28}{'first p50':>12}{'p99':>10}{'whole p50':>12}{'p99':>10}")
    for what, way in ways.items():
        whole = [seconds - tokens * pace for seconds in way.whole]
        told[what] = {
            "firstMs": {"p50": percentile(way.first, 50), "p99": percentile(way.first, 99)},
            "wholeMs": {"p50": percentile(whole, 50), "p99": percentile(whole, 99)},
        }
    rows = {
        "node, plain HTTP": told["node"],
        "node, by the SDK": told["sdk"],
        "gateway": told["gateway"],
        "gateway over plain HTTP": less(told["gateway"], told["node"]),
        "gateway over the SDK": less(told["gateway"], told["sdk"]),
    }
    told["overPlainHttp"], told["overSdk"] = rows["gateway over plain HTTP"], rows["gateway over the SDK"]
    for what, row in rows.items():
        first, whole = row["firstMs"], row["wholeMs"]
        print(f"{what:<28}{first['p50']:>12.1f}{first['p99']:>10.1f}{whole['p50']:>12.1f}{whole['p99']:>10.1f}")
    print(f"whole: less the pace. Target for the gateway's own: {TARGET_MS['p50']:.0f} p50, {TARGET_MS['p99']:.0f} p99")
    return told


def less(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {kind: {name: ms - other[kind][name] for name, ms in values.items()} for kind, values in one.items()}


@contextmanager
def network() -> Iterator[tuple[Devnet, Path]]:
    """A chain with the contracts, and a folder."""
    with tempfile.TemporaryDirectory() as folder, Devnet(Path(folder) / "home", Report(lambda _: None)) as net:
        net.start_chain()
        yield net, Path(folder)


def funded(net: Devnet) -> dict[str, Any]:
    """A node's account, and two that have a deposit with it."""
    accounts = {name: net.create_client(name) for name in ("client", "gateway")}
    node = Account.create()
    for account in accounts.values():
        chain = net.chain(account)
        chain.allow("Payments", 100 * TOKEN)
        chain.deposit(node.address, 100 * TOKEN)
    return {
        "rpc_url": net.rpc_url,
        "deployment": str(net.deployment_file),
        "address": node.address,
        "node_key": node.key.hex(),
        "gateway_key": accounts["gateway"].key.hex(),
        "client_key": accounts["client"].key.hex(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16, help="of an answer")
    parser.add_argument("--pace", type=float, default=0.1, help="seconds between two tokens of the node")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], json.loads(Path(options.serve[1]).read_text()))
        return
    from trine_gateway.store import GatewayStore

    with network() as (net, folder):
        ports = {"node_port": free_port(), "gateway_port": free_port()}
        store_url = f"sqlite:///{folder}/gateway.sqlite"
        store = GatewayStore(store_url)
        _, key = store.add_key("benchmark", budget_wei=None, requests_per_minute=1_000_000)
        store.close()
        given = {
            **funded(net),
            "node_url": f"http://127.0.0.1:{ports['node_port']}",
            "gateway_url": f"http://127.0.0.1:{ports['gateway_port']}",
            "store_url": store_url,
            "key": key,
            "pace": options.pace,
            "tokens": options.tokens,
            **ports,
        }
        file = folder / "given.json"
        file.write_text(json.dumps(given))
        processes = []
        try:
            for what in ("node", "gateway"):
                command = [sys.executable, __file__, "--serve", what, str(file)]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                processes.append(process)
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            keep_what_is_loaded()
            ways, processor = asyncio.run(measured(given, options.streams, options.rounds, processes[1].pid))
            told = report(ways, options.streams, options.rounds, options.tokens, options.pace)
            told["gatewayProcessorMs"] = processor
            print(f"the gateway's process: {processor:.1f} ms of a core for each answer")
        finally:
            for process in processes:
                process.terminate()
                process.wait()
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
