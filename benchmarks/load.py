"""One client with many orders on their way, against as many clients with one each; a real node, model and chain.

    python benchmarks/load.py                        # 64 orders at once, three rounds of each, in turn
    python benchmarks/load.py --orders 256 --tokens 16
    python benchmarks/load.py --clients 500 --minutes 10      # instead: that many at once, for that long

Prints what each round took, the ratio of the medians, and everything that was refused; with `--clients` also how far it
is, twice a minute, and at the beginning when it will be over at the latest. A node on a CPU computes eight answers at a
time, and says 429 with `retry-after` when its queue is full.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from sustained import sustain

from trine import AsyncClient, NodeError
from trine.chain import Role
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.options import PARAMETERS
from trine_devnet.reporting import Report
from trine_operator.process import raise_file_limit

VERIFIERS = 4
ROUNDS = 3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=64, help="at once")
    arguments.add_argument("--tokens", type=int, default=8, help="an answer")
    arguments.add_argument("--clients", type=int, default=0, help="at once for --minutes, instead of rounds")
    arguments.add_argument("--minutes", type=float, default=10.0)
    given = arguments.parse_args()
    raise_file_limit()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="trine-load-") as folder,
        Devnet(Path(folder) / "home", Report(partial(print, flush=True))) as net,
    ):
        net.start_chain(PARAMETERS)
        verifiers = [Member(f"verifier-{number}", Role.VERIFIER) for number in range(1, VERIFIERS + 1)]
        net.add([*verifiers, Member("node", Role.NODE)])
        net.wait_ready()
        if given.clients:
            raise SystemExit(0 if asyncio.run(sustain(net, given.clients, given.minutes, given.tokens)) else 1)
        asyncio.run(compare(net, given.orders, given.tokens))


async def compare(net: Devnet, orders: int, tokens: int) -> None:
    refused: Counter[str] = Counter()
    one = client_of(net, "one", deposit=1_000)
    many = [client_of(net, f"client-{number}", deposit=50) for number in range(orders)]
    # Deposits are made before anything is timed.
    for client in (one, *many):
        await client.chat("Hello?", max_tokens=1)
    took: dict[str, list[float]] = {"one client": [], f"{orders} clients": []}
    for round_ in range(ROUNDS):
        for name, clients in ((f"{orders} clients", many), ("one client", [one] * orders)):
            started = time.monotonic()
            asked = [
                ask(client, f"Question {number} of round {round_}?", tokens, refused)
                for number, client in enumerate(clients)
            ]
            answered = sum(await asyncio.gather(*asked))
            took[name].append(time.monotonic() - started)
            print(
                f"{name:<12} round {round_ + 1}: {answered} of {orders} answered in {took[name][-1]:.1f} s", flush=True
            )
    for client in (one, *many):
        await client.close()
    alone, together = (statistics.median(seconds) for seconds in took.values())
    print(f"\none client reaches {together / alone * 100:.0f} % of what {orders} clients do (asked: 90)")
    print(f"errors that reached a client: {dict(refused) or 'none'}")


def client_of(net: Devnet, name: str, deposit: int) -> AsyncClient:
    account = net.create_client(name, funds=2 * deposit * TOKEN)
    node = net.operators["node"].endpoint
    return AsyncClient(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=account,
        node=node,
        deposit_wei=deposit * TOKEN,
    )


async def ask(client: AsyncClient, question: str, tokens: int, refused: Counter[str]) -> bool:
    try:
        await client.chat(question, max_tokens=tokens)
    except NodeError as error:
        refused[str(error)[:80]] += 1
        return False
    return True


if __name__ == "__main__":
    main()
