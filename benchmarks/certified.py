"""From the last token to a verdict that holds, and what it costs: real nodes, verifiers and chain, no Solidity test.

    python benchmarks/certified.py checking
    python benchmarks/certified.py latency --answers 200 --block-seconds 1,2,12
    python benchmarks/certified.py latency --answers 20 --block-seconds 1        # minutes
    python benchmarks/certified.py latency --answers 200 --rate 0.25             # what a machine keeps up with
    python benchmarks/certified.py gas --leaves 1,16,256
    python benchmarks/certified.py gas --leaves 1,16 --eth-dollars 2500 --base-gwei 0.004

`checking`: what a certificate costs whoever checks it, in Python, in JavaScript and in gas on another chain; processor
time of one core, the median of `--times` checks. `latency`: under load, from the moment a client has the whole answer
until its batch's verdict is in a block (soft), and until `Client.certify(hard=True)` has handed out the certificate
that is checked without the chain (hard). The chain mines at the given times only. `gas`: of all transactions of a
batch, by answer, settled by signatures and by votes, and what a million verified tokens cost at the prices that are
given; the defaults are assumptions, and printed as such.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from certified_checking import TARGET_MS, checking, show_checking
from certified_gas import CHAINS, Prices, costs, measure_gas, show_costs
from certified_latency import measure_latency, show_latency

from trine.chain import Role
from trine_devnet.network import Devnet, Member
from trine_devnet.options import PARAMETERS
from trine_devnet.reporting import Report

VERIFIERS = 4


def main() -> None:
    given = _arguments().parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}", flush=True)
    shown: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    if given.command == "checking":
        shown |= {"checking": checking(given.times), "target_ms": TARGET_MS}
        show_checking(shown["checking"])
    else:
        _measure(given, shown)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(shown, indent=2) + "\n")


def _measure(given: argparse.Namespace, shown: dict[str, Any]) -> None:
    with network() as net:
        if given.command == "latency":
            shown["latency"] = []
            for seconds in given.block_seconds:
                measured = measure_latency(
                    net, seconds, given.answers, given.clients, given.tokens, given.hard_every, given.rate
                )
                shown["latency"].append(measured)
                show_latency(shown["latency"])
        else:
            prices = Prices(given.eth_dollars, given.token_dollars, {c: getattr(given, f"{c}_gwei") for c in CHAINS})
            shown["gas"] = measure_gas(net, given.leaves)
            shown["costs"] = costs(net, shown["gas"], prices, given.answer_tokens)
            show_costs(shown["gas"], shown["costs"], prices, given.answer_tokens)


@contextmanager
def network() -> Iterator[Devnet]:
    """Four honest verifiers, ready; whoever measures adds the nodes."""
    with (
        tempfile.TemporaryDirectory(prefix="trine-certified-") as folder,
        Devnet(Path(folder) / "home", Report(partial(print, flush=True))) as net,
    ):
        net.start_chain(PARAMETERS)
        net.add([Member(f"verifier-{number}", Role.VERIFIER) for number in range(1, VERIFIERS + 1)])
        net.wait_ready()
        yield net


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checks = commands.add_parser("checking")
    checks.add_argument("--times", type=int, default=50, help="each certificate is checked")
    latency = commands.add_parser("latency")
    latency.add_argument("--answers", type=int, default=200, help="at each block time")
    latency.add_argument("--block-seconds", type=_numbers, default=[1, 2, 12])
    latency.add_argument("--clients", type=int, default=8, help="asking at once")
    latency.add_argument("--rate", type=float, default=0.0, help="questions a second at most; 0: as fast as they go")
    latency.add_argument("--tokens", type=int, default=8, help="an answer")
    latency.add_argument("--hard-every", type=int, default=5, help="certificates are made of every so manieth answer")
    gas = commands.add_parser("gas")
    gas.add_argument("--leaves", type=_numbers, default=[1, 16, 256], help="answers a batch")
    gas.add_argument("--answer-tokens", type=int, default=256, help="of prompt and answer, for the price of a token")
    gas.add_argument("--eth-dollars", type=float, default=3_000.0, help="assumption")
    gas.add_argument("--token-dollars", type=float, default=0.05, help="of the stake token; assumption")
    for chain, gwei in CHAINS.items():
        gas.add_argument(f"--{chain}-gwei", type=float, default=gwei, help="all of a unit of gas costs; assumption")
    for command in (checks, latency, gas):
        command.add_argument("--json", type=Path)
    return parser


def _numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if not all(0 < number <= 256 for number in found):
        raise argparse.ArgumentTypeError("numbers from 1 to 256, with commas between")
    return found


if __name__ == "__main__":
    main()
