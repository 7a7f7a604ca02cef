"""Many clients at once against one node for minutes: what breaks, what grows, what is lost. Used by `load.py`.

Every client streams one signed order after the other. Clients share a few accounts, as an application's users do, and
come again when a busy node says so; when the time is over they leave, wherever their orders are. Printed are the
statuses on the wire, latencies, throughput, the node's memory and files, and whether every receipt was anchored. Lines
come while it runs, and every wait has an end: `longest_seconds` says when all is over at the latest.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx2
import psutil
from transformers import AutoConfig

from trine import AsyncClient, TrineError
from trine.chain import BatchState
from trine_devnet.network import TOKEN, Devnet
from trine_node.engines.transformers_engine import CACHE_TOKENS
from trine_node.models import prepare

ACCOUNTS = 16
DEPOSIT = 1_000
SETUP_SECONDS = 240.0
"""For one deposit and one answer of each account, one after the other."""
SAMPLE_SECONDS = 10.0
PROGRESS_SECONDS = 30.0
LEAVE_SECONDS = 30.0
"""How long orders that are cancelled may take to end."""
ANCHOR_SECONDS = 600.0
ASK_SECONDS = 10.0
"""For one receipt's place; the node may be busy, and is asked again."""
ASKED_AT_ONCE = 16
PATIENCE_SECONDS = 600.0
"""How long an order comes again to a busy node."""
ERROR_PAUSE_SECONDS = 1.0
MIB = 1 << 20

Say = Callable[[str], None]


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

    def in_short(self) -> str:
        memory = f"{self.memory[-1][1]:.0f} MiB" if self.memory else "not measured"
        return (
            f"{len(self.digests)} answers, statuses {dict(sorted(self.statuses.items()))}, "
            f"{self.errors.total()} errors, node's memory {memory}"
        )


def longest_seconds(minutes: float) -> float:
    """After the network is up."""
    return SETUP_SECONDS + minutes * 60 + LEAVE_SECONDS + ANCHOR_SECONDS


async def sustain(net: Devnet, clients: int, minutes: float, tokens: int) -> bool:
    """Runs and prints; False where something that must not happen did."""
    say = net.report.say
    say(f"{clients} clients for {minutes:g} minutes: over in {longest_seconds(minutes):.0f} s at the latest")
    tally = Tally()
    accounts = [account_of(net, number, tally) for number in range(min(ACCOUNTS, clients))]
    async with asyncio.timeout(SETUP_SECONDS):
        for account in accounts:  # deposits are made before anything is timed
            await account.chat("Hello?", max_tokens=1)
    say(f"{len(accounts)} accounts have deposited")
    tally.statuses.clear()
    process = psutil.Process(net.operators["node"].child.pid)
    started = time.monotonic()
    end = started + minutes * 60
    watching = asyncio.create_task(watch(process, tally, started, say))
    asking = [
        asyncio.create_task(ask_on(accounts[n % len(accounts)], n, tokens, end, tally), name=f"client-{n}")
        for n in range(clients)
    ]
    _, left = await asyncio.wait(asking, timeout=minutes * 60)
    took = time.monotonic() - started
    for task in left:  # in the middle of an order, as clients do
        task.cancel()
    ended, stuck = await asyncio.wait(asking, timeout=LEAVE_SECONDS)
    for task in ended:
        if not task.cancelled() and (crashed := task.exception()):
            tally.errors[f"the benchmark itself: {crashed!r}"[:100]] += 1
    watching.cancel()
    print(f"clients that left with an order on its way: {len(left)}; that did not end: {len(stuck)}", flush=True)
    report(tally, clients, took, cache_mib(net.record.source))
    lost = await unanchored(net, tally.digests, say)
    print(f"receipts not anchored: {lost} of {len(tally.digests)}", flush=True)
    for account in accounts:
        await account.close()
    failed = any(status >= 500 for status in tally.statuses)
    return not (failed or stuck or tally.without_retry_after or tally.errors or lost or not tally.digests)


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
            await asyncio.sleep(ERROR_PAUSE_SECONDS)
            continue
        tally.latencies.append(time.monotonic() - begun)
        tally.first_tokens.append(first)
        tally.digests.append(answer.digest)
        tally.tokens += answer.receipt.output_tokens


async def watch(process: psutil.Process, tally: Tally, started: float, say: Say) -> None:
    said = started
    while True:
        now = time.monotonic()
        tally.memory.append((now - started, process.memory_info().rss / MIB))
        tally.files.append(process.num_fds())
        if now - said >= PROGRESS_SECONDS:
            said = now
            say(tally.in_short())
        await asyncio.sleep(SAMPLE_SECONDS)


async def unanchored(net: Devnet, digests: Sequence[bytes], say: Say) -> int:
    """How many of the answers are in no batch that the chain knows, after waiting for them."""
    chain = net.chain()

    def is_known(batch_id: str) -> bool:
        return chain.batch(bytes.fromhex(batch_id.removeprefix("0x"))).state is not BatchState.NONE

    async with httpx2.AsyncClient(base_url=net.operators["node"].endpoint, timeout=ASK_SECONDS) as http:
        return await await_anchored(http, is_known, digests, ANCHOR_SECONDS, say)


async def await_anchored(
    http: httpx2.AsyncClient, is_known: Callable[[str], bool], digests: Sequence[bytes], seconds: float, say: Say
) -> int:
    """Asks the node where answers are until all are in batches that the chain knows, for so long at most. Returns how
    many are not."""
    left = set(digests)
    anchored: set[str] = set()
    gate = asyncio.Semaphore(ASKED_AT_ONCE)

    async def look(digest: bytes) -> None:
        async with gate:
            try:
                place = (await http.get(f"/v1/receipts/0x{digest.hex()}")).json().get("batch")
                batch = place and place["batchId"]
                if batch and batch not in anchored and await asyncio.to_thread(is_known, batch):
                    anchored.add(batch)
            except (httpx2.HTTPError, TrineError, ValueError, KeyError, TypeError, AttributeError):
                return  # asked again
            if batch in anchored:
                left.discard(digest)

    said = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            while left:
                await asyncio.gather(*map(look, list(left)))
                if left and time.monotonic() - said >= PROGRESS_SECONDS:
                    said = time.monotonic()
                    say(f"{len(left)} of {len(digests)} receipts are not anchored yet")
                await asyncio.sleep(1.0 if left else 0.0)
    except TimeoutError:
        say(f"{len(left)} receipts were not anchored within {seconds:.0f} s")
    return len(left)


def cache_mib(source: str) -> float:
    """What a node's keys and values take once every block of its cache was used, in fp32 and by default settings.

    Blocks are touched as they are first used, and what they hold is kept for prompts that begin alike: so memory grows
    by the blocks of every new answer until all have been used, and no further.
    """
    config = AutoConfig.from_pretrained(prepare(source), local_files_only=True)
    width = config.hidden_size // config.num_attention_heads
    token_bytes = config.num_hidden_layers * config.num_key_value_heads * width * 2 * 4
    return max(CACHE_TOKENS, int(config.max_position_embeddings)) * token_bytes / MIB


def report(tally: Tally, clients: int, took: float, cache: float) -> None:
    say = partial(print, flush=True)
    say(f"\n{clients} clients, {took:.0f} s: {len(tally.digests)} answers, {tally.tokens} tokens")
    say(f"statuses: {dict(sorted(tally.statuses.items()))}; 429 without retry-after: {tally.without_retry_after}")
    say(f"errors that reached a client: {dict(tally.errors) or 'none'}")
    say(f"throughput: {len(tally.digests) / took:.2f} answers, {tally.tokens / took:.1f} tokens a second")
    for name, seconds in (("latency", tally.latencies), ("first token", tally.first_tokens)):
        known = [value for value in seconds if not math.isnan(value)]
        if len(known) > 1:
            cuts = statistics.quantiles(known, n=100, method="inclusive")
            say(f"{name}: p50 {cuts[49]:.1f} s, p95 {cuts[94]:.1f} s, p99 {cuts[98]:.1f} s")
    if len(tally.memory) > 1:
        times, sizes = zip(*tally.memory, strict=True)
        slope = statistics.linear_regression(times, sizes).slope * 60
        half = len(times) // 2
        late = statistics.linear_regression(times[half:], sizes[half:]).slope * 60 if len(times) - half > 1 else slope
        say(f"resident memory: {', '.join(f'{size:.0f}' for size in sizes)} MiB every {SAMPLE_SECONDS:.0f} s")
        say(f"its slope: {slope:+.2f} MiB a minute, {late:+.2f} in the second half")
        say(f"of which the cache of keys and values, which fills as it is used, may take {cache:.0f} MiB in all")
    say(f"open files: {min(tally.files)} to {max(tally.files)}, at the end {tally.files[-1]}")
