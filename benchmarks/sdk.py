"""What the SDK does at once and how fast: orders in flight of one client, certificates checked offline.

    python benchmarks/sdk.py orders [--orders 64] [--rounds 5] [--json FILE]
    python benchmarks/sdk.py certificates [--count 1000] [--json FILE]

`orders`: so many at the same moment by one client, `Client` from as many threads, `AsyncClient` from as many tasks. The
node behind it computes nothing (`gateway.py` has it): it signs real receipts, and holds every answer back until all
orders of a round have reached it, so a client that had fewer in flight would never end. Chain (anvil), contracts,
vouchers and processes are real. `certificates`: as many different ones, read from JSON and checked one after another in
one process, without a chain; three signers and no hand-over, as most are, and fifteen after two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_ORDERS = 64
TARGET_SECONDS = 5.0
QUESTION = "What is a lighthouse? Answer in a sentence."
VECTORS = Path(__file__).parents[1] / "tests" / "vectors"


# Orders


def serve(given: dict[str, Any]) -> None:
    """The node that computes nothing, and answers a round of orders when all of them are there."""
    from eth_account import Account

    from gateway import ACCOUNT, TEXT, TOKENS, client_of, promise_of
    from trine_operator.process import BackgroundServer

    chain = client_of(given, given["node_key"]).chain
    (model,) = chain.models()
    app, signer = FastAPI(), Account.from_key(given["node_key"])
    waiting: list[asyncio.Event] = []

    @app.get("/v1/accounts/{client}")
    def account(client: str) -> Any:
        return ACCOUNT

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        body = await request.json()
        everybody = asyncio.Event()
        waiting.append(everybody)
        if len(waiting) == given["orders"]:
            for each in waiting:
                each.set()
            waiting.clear()
        await everybody.wait()
        promise = promise_of(body, signer, chain.domain, model.price_per_token_wei)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT * TOKENS}}
        if not body.get("stream"):
            return {"id": "x", "model": model.name, "choices": [choice], "trine": promise}
        choice["delta"] = choice.pop("message")
        event = f"data: {json.dumps({'id': 'x', 'choices': [choice], 'trine': promise})}\n\ndata: [DONE]\n\n"
        return StreamingResponse(iter([event]), media_type="text/event-stream")

    server = BackgroundServer(app, "127.0.0.1", given["port"])
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop()


def orders(count: int, rounds: int) -> dict[str, Any]:
    from gateway import TOKENS, client_of, network
    from trine import Client

    with network() as (net, folder), node_of(net, folder, count) as given:
        awaited = client_of(given, given["client_key"])
        waiting = object.__new__(Client)
        waiting._wait_for(client_of(given, given["client_key"]))

        async def by_tasks() -> list[Round]:
            async with awaited:
                found = []
                for _ in range(rounds + 1):
                    with a_round(count) as one:
                        asked = [awaited.chat(QUESTION, max_tokens=TOKENS) for _ in range(count)]
                        one.answers = await asyncio.gather(*asked)
                    found.append(one)
            return found

        def by_threads() -> list[Round]:
            found = []
            with waiting, ThreadPoolExecutor(count) as pool:
                for _ in range(rounds + 1):
                    with a_round(count) as one:
                        one.answers = list(pool.map(lambda _: waiting.chat(QUESTION, max_tokens=TOKENS), range(count)))
                    found.append(one)
            return found

        ways = {"AsyncClient, tasks": asyncio.run(by_tasks()), "Client, threads": by_threads()}
    told = {}
    for name, each in ways.items():
        assert all(len({answer.digest for answer in one.answers}) == count for one in each)
        told[name] = {
            "secondsARound": statistics.median(one.seconds for one in each[1:]),
            "processorMsAnOrder": statistics.median(one.processor_ms for one in each[1:]),
        }
        print(
            f"{name}: {count} orders in flight; {told[name]['secondsARound']:.2f} s for all of a round, "
            f"{told[name]['processorMsAnOrder']:.1f} ms of a core for an order"
        )
    print(f"target: {TARGET_ORDERS} in flight; the first round, which makes connections, is not counted")
    return {"orders": count, "rounds": rounds, **told}


class Round:
    """Orders of the same moment."""

    answers: list[Any]
    seconds: float
    processor_ms: float


@contextmanager
def a_round(count: int) -> Iterator[Round]:
    one, began, spent = Round(), time.perf_counter(), time.process_time()
    yield one
    one.seconds = time.perf_counter() - began
    one.processor_ms = (time.process_time() - spent) * 1e3 / count


@contextmanager
def node_of(net: Any, folder: Path, count: int) -> Iterator[dict[str, Any]]:
    from gateway import funded
    from trine_devnet.processes import free_port

    port = free_port()
    given = {**funded(net), "port": port, "node_url": f"http://127.0.0.1:{port}", "orders": count}
    file = folder / "given.json"
    file.write_text(json.dumps(given))
    command = [sys.executable, __file__, "serve", str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield given
    finally:
        process.terminate()
        process.wait()


# Certificates


def certificates(count: int) -> dict[str, Any]:
    sys.path.insert(0, str(VECTORS))
    import generate_certificate as made

    from trine.protocol import bls
    from trine.protocol.portable import PortableCertificate

    rng = random.Random(7)  # noqa: S311
    secrets = [bls.SecretKey.from_seed(rng.randbytes(32)) for _ in range(made.KEYS)]
    operators = [str(made.to_checksum_address(rng.randbytes(20))) for _ in secrets]
    epochs = (made.FIRST_EPOCH, made.FIRST_EPOCH + 1, made.FIRST_EPOCH + 9)
    rosters = [made._roster(epoch, secrets, operators) for epoch in epochs]
    told: dict[str, Any] = {"count": count}
    for signers, handovers in ((3, 0), (15, 2)):
        held = [
            made._portable(rng, secrets, rosters[: handovers + 1], signers, index=number % made.LEAVES, rejected=0)
            for number in range(count)
        ]
        texts, root = [json.dumps(each.to_json()) for each in held], held[0].root_id
        began, spent = time.perf_counter(), time.process_time()
        for text in texts:
            PortableCertificate.from_json(json.loads(text)).verify(root, made.START + 60)
        seconds, processor = time.perf_counter() - began, time.process_time() - spent
        what = f"{signers} signers, {handovers} hand-overs"
        told[what] = {"seconds": seconds, "processorSeconds": processor}
        print(f"{count} certificates of {what}: {seconds:.2f} s, {processor:.2f} s of a core")
    print(f"target: 1,000 in {TARGET_SECONDS:.0f} s")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("orders")
    one.add_argument("--orders", type=int, default=TARGET_ORDERS)
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--json", type=Path)
    other = commands.add_parser("certificates")
    other.add_argument("--count", type=int, default=1000)
    other.add_argument("--json", type=Path)
    commands.add_parser("serve").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.command == "serve":
        serve(json.loads(given.file.read_text()))
        return
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}", flush=True)
    told = orders(given.orders, given.rounds) if given.command == "orders" else certificates(given.count)
    told["conditions"] = {"cores": os.cpu_count(), "load": load, "python": platform.python_version()}
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
