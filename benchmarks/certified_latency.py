"""How long after its last token an answer has a verdict, and a certificate that needs no chain. For `certified.py`."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from trine import Answer, AsyncClient, NodeError, NotReady
from trine.chain import Role
from trine_devnet.network import TOKEN, Devnet, Member

DEPOSIT = 200
NODE = "node"
HEAD_SECONDS = 0.02
LOOK_SECONDS = 0.5
BUSY_SECONDS = 0.5
STEPS = {"anchored": "BatchAnchored", "drawn": "CommitteeDrawn"}
"""On the way to a verdict, and the events that tell."""
STALL_BLOCKS = 120
"""So many blocks without another verdict: none will come."""


@dataclass
class Told:
    """One answer: when it was whole, and what came of it."""

    answer: Answer
    at: float
    block: int
    hard_at: float | None = None
    refused: str = ""
    batch_id: bytes = b""


@dataclass
class Heads:
    """When each block was first seen here."""

    net: Devnet
    seen: dict[int, float] = field(default_factory=dict)
    newest: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Heads:
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(HEAD_SECONDS):
            self._look()

    def _look(self) -> None:
        number, now = int(self.net.rpc.call("eth_blockNumber"), 16), time.monotonic()
        for block in range(max(self.newest, number - 64) + 1, number + 1):
            self.seen[block] = now
        self.newest = number


def measure_latency(
    net: Devnet, block_seconds: int, answers: int, clients: int, tokens: int, hard_every: int, rate: float
) -> dict[str, Any]:
    """Asks until there are so many answers, and waits for all verdicts. The chain mines at these times only.

    `rate`: questions a second at most, all clients together; zero: each client asks as soon as it is answered, so that
    checks fall behind where they cannot keep up, and the wait grows with the number of answers.
    """
    if NODE not in net.operators:
        net.add([Member(NODE, Role.NODE)])
        net.wait_ready()
    pace = f"{rate:g} a second" if rate else "without a pause"
    net.report.say(f"{answers} answers at a block every {block_seconds} s, {clients} clients, {pace}")
    asking = [_client_of(net, f"client-{block_seconds}-{number}") for number in range(min(clients, answers))]
    try:
        with Heads(net) as heads:
            told = asyncio.run(_asked(asking, heads, answers, tokens, hard_every, block_seconds, rate))
            return _summary(net, heads, told, block_seconds)
    finally:
        net.rpc.call("evm_setIntervalMining", 1)


def _client_of(net: Devnet, name: str) -> AsyncClient:
    account = net.create_client(name, funds=2 * DEPOSIT * TOKEN)
    return AsyncClient(
        rpc_url=net.rpc_url, deployment=net.deployment_file, account=account,
        node=net.operators[NODE].endpoint, deposit_wei=DEPOSIT * TOKEN,
    )  # fmt: skip


async def _asked(
    clients: list[AsyncClient],
    heads: Heads,
    answers: int,
    tokens: int,
    hard_every: int,
    block_seconds: int,
    rate: float,
) -> list[Told]:
    """All answers, with their certificates where these were asked for."""
    # Deposits are made before anything is timed.
    await asyncio.gather(*(client.chat("Hello?", max_tokens=1) for client in clients))
    heads.net.rpc.call("evm_setIntervalMining", block_seconds)
    told: list[Told] = []
    numbers = iter(range(answers))
    waiting: list[asyncio.Task[None]] = []
    began = time.monotonic()

    async def ask(client: AsyncClient) -> None:
        for number in numbers:
            if rate:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            answer = await _answered(client, f"Say something about the number {number}.", tokens)
            one = Told(answer, time.monotonic(), heads.newest)
            told.append(one)
            waiting.append(asyncio.create_task(_placed(client, one)))
            if number % hard_every == 0:
                waiting.append(asyncio.create_task(_certified(client, one)))

    await asyncio.gather(*(ask(client) for client in clients))
    await asyncio.gather(*waiting)
    for client in clients:
        await client.close()
    return told


async def _answered(client: AsyncClient, question: str, tokens: int) -> Answer:
    while True:
        try:
            return await client.chat(question, max_tokens=tokens)
        except NodeError as busy:
            if getattr(busy, "status", None) != 429:
                raise
            await asyncio.sleep(BUSY_SECONDS)


async def _placed(client: AsyncClient, told: Told) -> None:
    """Which batch the answer is in."""
    while (batch_id := await client.batch_of(told.answer)) is None:  # noqa: ASYNC110  (another process's state)
        await asyncio.sleep(LOOK_SECONDS)
    told.batch_id = batch_id


async def _certified(client: AsyncClient, told: Told) -> None:
    try:
        await client.certify(told.answer, hard=True, timeout=600)
        told.hard_at = time.monotonic()
    except NotReady as error:
        told.refused = str(error)[:120]


def _summary(net: Devnet, heads: Heads, told: list[Told], block_seconds: int) -> dict[str, Any]:
    settled = _settled(net, heads, told)
    steps = {name: _blocks_of(net, name, min(one.block for one in told)) for name in STEPS}
    blocks, seconds = [], []
    for one in told:
        block = settled[one.batch_id][0]
        blocks.append(block - one.block)
        seconds.append(max(0.0, heads.seen[block] - one.at))
    hard = [one.hard_at - one.at for one in told if one.hard_at is not None]
    signed = [by_signatures for _, by_signatures in settled.values()]
    return {
        "block_seconds": block_seconds,
        "answers": len(told),
        "batches": len(settled),
        "signed_share": sum(signed) / len(signed),
        "soft_blocks": _quantiles(blocks),
        **{
            f"{name}_blocks": _quantiles([found[one.batch_id] - one.block for one in told])
            for name, found in steps.items()
        },
        "soft_seconds": _quantiles(seconds),
        "hard_seconds": _quantiles(hard),
        "hard_certificates": len(hard),
        "without_certificate": dict(Counter(one.refused for one in told if one.refused)),
    }


def _blocks_of(net: Devnet, name: str, start: int) -> dict[bytes, int]:
    """In which block each batch first saw this step."""
    found: dict[bytes, int] = {}
    for event in net.chain().events("Batches", STEPS[name], from_block=start):
        found.setdefault(bytes(event.args["batchId"]), event.block)
    return found


def _settled(net: Devnet, heads: Heads, told: list[Told]) -> dict[bytes, tuple[int, bool]]:
    """The block of each batch's verdict, and whether it was by signatures. Raises NotReady when none comes any more."""
    chain = net.chain()
    start, wanted = min(one.block for one in told), {one.batch_id for one in told}
    found: dict[bytes, tuple[int, bool]] = {}
    moved = heads.newest
    while True:
        before = len(found)
        for event in chain.events("Batches", "BatchSettled", from_block=start):
            found[bytes(event.args["batchId"])] = (event.block, bool(event.args["signed"]))
        if wanted <= found.keys():
            return {batch_id: found[batch_id] for batch_id in wanted}
        moved = heads.newest if len(found) > before else moved
        if heads.newest - moved > STALL_BLOCKS:
            raise NotReady(f"no other verdict in {STALL_BLOCKS} blocks; {len(wanted - found.keys())} are missing")
        time.sleep(LOOK_SECONDS)


def _quantiles(values: list[Any]) -> dict[str, float | None]:
    """By nearest rank."""
    ordered = sorted(values)

    def at(share: float) -> float | None:
        return round(float(ordered[max(0, math.ceil(share * len(ordered)) - 1)]), 2) if ordered else None

    return {"p50": at(0.5), "p95": at(0.95), "most": at(1.0)}


def show_latency(measured: list[dict[str, Any]]) -> None:
    print("\nfrom the last token to           soft verdict              soft verdict          hard certificate")
    print("block every  answers signed      blocks p50  p95        seconds p50    p95      seconds p50    p95")
    for one in measured:
        blocks, soft, hard = one["soft_blocks"], one["soft_seconds"], one["hard_seconds"]
        print(
            f"{one['block_seconds']:>9} s {one['answers']:>8} {one['signed_share']:>5.0%} {blocks['p50']:>15} "
            f"{blocks['p95']:>5} {soft['p50']:>16} {soft['p95']:>6} {_shown(hard['p50']):>16} {_shown(hard['p95']):>6}"
        )
        print(
            "".ljust(12) + "of these blocks to the anchor, to the committee: p50 "
            f"{one['anchored_blocks']['p50']}, {one['drawn_blocks']['p50']}"
        )
        for why, times in one["without_certificate"].items():
            print(f"            {times} without a certificate: {why}")


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value)
