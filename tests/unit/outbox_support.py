"""An outbox on a real chain, driven step by step; and, run as a program, one that is killed at a given point."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from trine.chain import Chain, Deployment
from trine.chain.gateway import Gateway, Signed
from trine.chain.transactions import FeeLimits, Refusal
from trine.chain.writes import CALLS
from trine_operator.outbox import Act, Due, Outbox
from trine_operator.outbox.queue import Queue
from trine_operator.store import Store

LIMITS = FeeLimits(200 * 10**9, 20 * 10**9)
PAYEE = "0x" + "77" * 20
POINTS = ("before writing", "after writing", "after handing over", "after mining", "after noting")


class Clock:
    """Moves when it is told, and a little with every look, so that nothing waits for ever."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Operator:
    """One process's view of an account."""

    chain: Chain
    gateway: Gateway
    store: Store
    queue: Queue
    outbox: Outbox
    clock: Clock

    def step(self, times: int = 1, seconds: float = 0.0) -> None:
        for _ in range(times):
            self.outbox.step()
            self.clock.now += seconds

    def until(self, done: Callable[[], bool], seconds: float = 0.3) -> None:
        """Steps until it is so."""
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, [(act.name, act.state) for act in self.queue.open_acts()]
            self.step(seconds=seconds)
            time.sleep(0.02)

    def finish(self) -> None:
        self.until(lambda: not self.outbox.open_names())


def open_operator(
    rpc_url: str,
    deployment: Path,
    key: str,
    store_url: str,
    limits: FeeLimits = LIMITS,
    wrap: Callable[[Gateway], Gateway] = lambda gateway: gateway,
) -> Operator:
    account: LocalAccount = Account.from_key(key)
    chain = Chain.connect(Deployment.load(deployment), rpc_url, account)
    store, clock = Store(store_url), Clock()
    gateway = wrap(chain.gateway())
    queue = Queue(store)
    outbox = Outbox(chain, gateway, queue, limits, clock=clock)
    return Operator(chain, gateway, store, queue, outbox, clock)


def payment(name: str, wei: int = 1, due: int | None = None) -> Act:
    """An act that shows when it is executed twice."""
    return Act((name,), CALLS.transfer(PAYEE, wei), Due(at=due) if due else Due())


def kill_at(point: str, operator: Operator) -> None:
    """The process dies there, as by a power cut: `kill -9`."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    sign, finish, broadcast = operator.queue.sign, operator.queue.finish, operator.gateway.broadcast

    def signing(number: int, signed: Signed) -> None:
        if point == "before writing":
            die()
        sign(number, signed)
        if point == "after writing":
            die()

    def handing_over(signed: Signed, function: str) -> tuple[Refusal, str] | None:
        refused = broadcast(signed, function)
        if point == "after handing over":
            die()
        return refused

    def finishing(number: int, executed: bytes | None, reason: str | None = None) -> None:
        if point == "after mining":
            die()
        finish(number, executed, reason)
        if point == "after noting":
            die()

    operator.queue.sign = signing  # type: ignore[method-assign]
    operator.queue.finish = finishing  # type: ignore[method-assign]
    operator.gateway.broadcast = handing_over  # type: ignore[method-assign]


def main(rpc_url: str, deployment: str, key: str, store_url: str, point: str) -> None:
    operator = open_operator(rpc_url, Path(deployment), key, store_url)
    kill_at(point, operator)
    for number in range(3):
        operator.outbox.submit(payment(f"pay {number}"))
    operator.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
