"""Many clients at once against one node for minutes: what breaks, what grows, what is lost. Used by `load.py`.

Every client streams one signed order after the other. Clients share a few accounts, as an application's users do, and
come again when a busy node says so; when the time is over they leave, wherever their orders are. Printed are the
statuses on the wire, latencies, throughput, the node's memory and files, and whether every receipt was anchored.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx2
import psutil

from trine import AsyncClient, TrineError
from trine.chain import BatchState
from trine_devnet.network import TOKEN, Devnet

ACCOUNTS = 16
DEPOSIT = 1_000
SAMPLE_SECONDS = 10.0
ANCHOR_SECONDS = 600.0
PATIENCE_SECONDS = 600.0
"""How long an order comes again to a busy node."""
MIB = 1 << 20


@dataclass
class Tally:
    """What was seen, from one process."""

    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    tokens: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    async def note(self, response: httpx2.Response) -> None:
        if response.request.method != "POST":
            return
        self.statuses[response.status_code] += 1
        if response.status_code == 429 and "retry-after" not in response.headers:
            self.without_retry_after += 1


async def sustain(net: Devnet, clients: int, minutes: float, tokens: int) -> bool:
    """Runs and prints; False where something that must not happen did."""
    tally = Tally()
    accounts = [account_of(net, number, tally) for number in range(min(ACCOUNTS, clients))]
    for account in accounts:  # deposits are made before anything is timed
        await account.chat("Hello?", max_tokens=1)
    tally.statuses.clear()
    process = psutil.Process(net.operators["node"].child.pid)
    started = time.monotonic()
    end = started + minutes * 60
    watching = asyncio.create_task(watch(process, tally, started))
    asking = [
        asyncio.create_task(ask_on(accounts[n % len(accounts)], n, tokens, end, tally), name=f"client-{n}")
        for n in range(clients)
    ]
    _, left = await asyncio.wait(asking, timeout=minutes * 60)
    took = time.monotonic() - started
    for task in left:  # in the middle of an order, as clients do
        task.cancel()
    for crashed in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(crashed, Exception):
            tally.errors[f"the benchmark itself: {crashed!r}"[:100]] += 1
    watching.cancel()
    lost = await unanchored(net, tally)
    for account in accounts:
        await account.close()
    print(f"clients that left with an order on its way: {len(left)}")
    report(tally, clients, took, lost)
    failed = any(status >= 500 for status in tally.statuses)
    return not (failed or tally.without_retry_after or tally.errors or lost or not tally.digests)


def account_of(net: Devnet, number: int, tally: Tally) -> AsyncClient:
    http = httpx2.AsyncClient(
        timeout=PATIENCE_SECONDS,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        event_hooks={"response": [tally.note]},
    )
    return AsyncClient(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=net.create_client(f"load-{number}", funds=2 * DEPOSIT * TOKEN),
        node=net.operators["node"].endpoint,
        deposit_wei=DEPOSIT * TOKEN,
        timeout=PATIENCE_SECONDS,
        http_client=http,
    )


async def ask_on(client: AsyncClient, number: int, tokens: int, end: float, tally: Tally) -> None:
    """One client: order after order until the time is over."""
    asked = 0
    while time.monotonic() < end:
        asked += 1
        begun, first = time.monotonic(), math.nan
        try:
            stream = client.stream(f"Question {asked} of client {number}?", max_tokens=tokens)
            async for _ in stream:
                first = time.monotonic() - begun if math.isnan(first) else first
            answer = stream.answer
        except TrineError as error:
            tally.errors[f"{type(error).__name__}: {error}"[:100]] += 1
            continue
        tally.latencies.append(time.monotonic() - begun)
        tally.first_tokens.append(first)
        tally.digests.append(answer.digest)
        tally.tokens += answer.receipt.output_tokens


async def watch(process: psutil.Process, tally: Tally, started: float) -> None:
    while True:
        tally.memory.append((time.monotonic() - started, process.memory_info().rss / MIB))
        tally.files.append(process.num_fds())
        await asyncio.sleep(SAMPLE_SECONDS)


async def unanchored(net: Devnet, tally: Tally) -> int:
    """How many of the answers are in no batch that the chain knows, after waiting for them."""
    chain = net.chain()
    anchored: set[str] = set()
    left, deadline = list(tally.digests), time.monotonic() + ANCHOR_SECONDS
    async with httpx2.AsyncClient(base_url=net.operators["node"].endpoint, timeout=60) as http:
        while left and time.monotonic() < deadline:
            waiting = []
            for digest in left:
                place = (await http.get(f"/v1/receipts/0x{digest.hex()}")).json().get("batch")
                batch = place and place["batchId"]
                if batch and batch not in anchored:
                    known = await asyncio.to_thread(chain.batch, bytes.fromhex(batch[2:]))
                    anchored |= {batch} if known.state is not BatchState.NONE else set()
                if batch not in anchored:
                    waiting.append(digest)
            left = waiting
            await asyncio.sleep(1.0 if left else 0.0)
    return len(left)


def report(tally: Tally, clients: int, took: float, lost: int) -> None:
    print(f"\n{clients} clients, {took:.0f} s: {len(tally.digests)} answers, {tally.tokens} tokens")
    print(f"statuses: {dict(sorted(tally.statuses.items()))}; 429 without retry-after: {tally.without_retry_after}")
    print(f"errors that reached a client: {dict(tally.errors) or 'none'}")
    print(f"throughput: {len(tally.digests) / took:.2f} answers, {tally.tokens / took:.1f} tokens a second")
    for name, seconds in (("latency", tally.latencies), ("first token", tally.first_tokens)):
        known = [value for value in seconds if not math.isnan(value)]
        if len(known) > 1:
            cuts = statistics.quantiles(known, n=100, method="inclusive")
            print(f"{name}: p50 {cuts[49]:.1f} s, p95 {cuts[94]:.1f} s, p99 {cuts[98]:.1f} s")
    if len(tally.memory) > 1:
        times, sizes = zip(*tally.memory, strict=True)
        slope = statistics.linear_regression(times, sizes).slope * 60
        half = len(times) // 2
        late = statistics.linear_regression(times[half:], sizes[half:]).slope * 60 if len(times) - half > 1 else slope
        print(f"resident memory: {', '.join(f'{size:.0f}' for size in sizes)} MiB every {SAMPLE_SECONDS:.0f} s")
        print(f"its slope: {slope:+.2f} MiB a minute, {late:+.2f} in the second half")
    print(f"open files: {min(tally.files)} to {max(tally.files)}, at the end {tally.files[-1]}")
    print(f"receipts not anchored: {lost} of {len(tally.digests)}", flush=True)
