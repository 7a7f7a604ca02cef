"""What an act is, what it is given, and what is left of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trine import Client
from trine.chain import Chain, Event, Role
from trine.errors import NotReady, TrineError
from trine_devnet.network import TOKEN, Devnet
from trine_devnet.reporting import Report
from trine_devnet.waiting import Movement

T = TypeVar("T")

LOOK_SECONDS = 0.4
DEPOSIT_WEI = 10 * TOKEN


@dataclass(slots=True)
class Stage:
    """What an act works with: the demo's network, and a way to say how far it is."""

    net: Devnet
    report: Report
    home: Path
    """For what an act writes; a folder of its own beside the network's."""
    state: str = ""
    given_up: threading.Event = field(default_factory=threading.Event)

    def client(self, name: str, *, salted: bool = True) -> Client:
        """Of an honest node that takes signed orders, with an account of its own. To be closed."""
        node = next(r for r in self.net.operators.values() if r.member.role is Role.NODE and not r.member.cheats)
        return Client(
            rpc_url=self.net.rpc_url,
            deployment=self.net.deployment_file,
            account=self.net.create_client(f"client-{name}"),
            node=node.endpoint,
            deposit_wei=DEPOSIT_WEI,
            salted=salted,
        )

    def until(self, done: Callable[[], T | None], what: str, net: Devnet | None = None) -> T:
        """What `done` returns, as soon as it is something. Raises NotReady when nothing moves any more."""
        self.state = f"waits for {what}"
        children = [running.child for running in (net or self.net).operators.values()]
        movement = Movement(children)
        while not (found := done()):
            if self.given_up.wait(LOOK_SECONDS):
                raise NotReady(f"stopped while waiting for {what}")
            for child in children:
                if not child.running:
                    raise NotReady(f"{child.name} ended while waiting for {what}: {child.log}")
            movement.note(what)
            if stalled := movement.stalled_seconds:
                raise NotReady(f"nothing has moved for {stalled:.0f} s while waiting for {what}")
        return found


@dataclass(frozen=True, slots=True)
class Shown:
    """What an act has shown: a sentence or two, and the transactions that anybody may look up."""

    said: str
    transactions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """`name`: of `--only` and in the JSON. `is_quick`: plays on the demo's network, beside the questions."""

    name: str
    title: str
    play: Callable[[Stage], Shown]
    is_quick: bool = True


@dataclass(frozen=True, slots=True)
class Played:
    """An act that is over."""

    act: Act
    holds: bool
    said: str
    transactions: tuple[str, ...]
    seconds: float


class NotShown(TrineError):
    """What an act is about did not happen."""


def play(act: Act, stage: Stage) -> Played:
    """Never raises: an act that fails says why."""
    started = time.monotonic()
    try:
        shown = act.play(stage)
        if not shown.transactions:
            raise NotShown("no transaction shows it")
        return Played(act, True, shown.said, shown.transactions, time.monotonic() - started)
    except Exception as error:  # noqa: BLE001  (it fails the demo, with the others' results shown)
        said = str(error) if isinstance(error, TrineError) else f"{type(error).__name__}: {error}"
        return Played(act, False, said, (), time.monotonic() - started)
    finally:
        stage.state = ""


def hashes(events: Sequence[Event]) -> tuple[str, ...]:
    """Their transactions, each once, in order."""
    return tuple(dict.fromkeys("0x" + bytes(event.transaction).hex() for event in events))


def events(chain: Chain, contract: str, name: str, **filters: Any) -> list[Event]:
    return list(chain.events(contract, name, **filters))
