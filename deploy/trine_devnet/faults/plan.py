"""When which fault is injected into what: a pure function of a seed, so that a run can be repeated."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trine.errors import InvalidInput
from trine_devnet.faults.endpoint_faults import FAULTS, Lagging, Silent
from trine_devnet.faults.endpoint_faults import Fault as EndpointFault

CHAIN = "chain"
REORG_DEPTHS = (1, 8)
SILENT_SECONDS = 60.0
LAG_BLOCKS = 3
CLOCK_SECONDS = (-1_200, -180, 180, 1_200)
CHAIN_SHARE = 0.1
"""Of all kills."""


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL for an operator, which is started again after a pause."""


@dataclass(frozen=True, slots=True)
class KillChain:
    """SIGKILL for the chain, which comes back without what it has heard in so many seconds."""

    lost_seconds: float


@dataclass(frozen=True, slots=True)
class Reorg:
    """The last blocks are replaced; so large a share of their transactions is sent again by nobody in particular."""

    depth: int
    returned_share: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operator's RPC endpoint is faulty."""

    fault: EndpointFault
    name: str


@dataclass(frozen=True, slots=True)
class FullDisk:
    """No byte is free where an operator's store lies."""


@dataclass(frozen=True, slots=True)
class DatabaseRestart:
    """An operator's database server is started anew."""


@dataclass(frozen=True, slots=True)
class WrongClock:
    """An operator's process is started anew with a clock that is so many seconds ahead."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Twin:
    """A second process of an operator, with its key, and its store or one of its own."""

    same_store: bool


Fault = Kill | KillChain | Reorg | Endpoint | FullDisk | DatabaseRestart | WrongClock | Twin
REST_SECONDS = {
    Kill: 15.0,
    KillChain: 12.0,
    Reorg: 10.0,
    Endpoint: 8.0,
    FullDisk: 10.0,
    DatabaseRestart: 10.0,
    WrongClock: 15.0,
    Twin: 8.0,
}
"""How long the same target is left alone after a fault is over."""
KINDS = ("kill", "chain", "silence", "lag", "reorg", "endpoint", "disk", "postgres", "clock", "twin")


@dataclass(frozen=True, slots=True)
class Targets:
    """Operators by name: all, and those with something that others do not have."""

    operators: tuple[str, ...]
    with_disk: tuple[str, ...] = ()
    with_database: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that begins `at` and lasts so many seconds, from the beginning of the run."""

    at: float
    seconds: float
    target: str
    fault: Fault

    @property
    def end(self) -> float:
        return self.at + self.seconds


def name_of(fault: Fault) -> str:
    """As a table says it."""
    match fault:
        case Kill():
            return "kill -9"
        case KillChain(lost):
            return f"kill -9, {lost:.0f} s lost"
        case Reorg(depth, share):
            return f"re-org of {depth}, {share:.0%} of transactions back"
        case Endpoint(name=name):
            return f"endpoint: {name}"
        case FullDisk():
            return "disk full"
        case DatabaseRestart():
            return "database restarted"
        case WrongClock(seconds):
            return f"clock {seconds / 60:+.0f} min"
        case Twin(same_store):
            return f"started twice, {'same' if same_store else 'other'} store"


def kind_of(fault: Fault) -> str:
    """One of KINDS."""
    match fault:
        case Endpoint(Silent()):
            return "silence"
        case Endpoint(Lagging()):
            return "lag"
    kinds: dict[type[Fault], str] = {
        Kill: "kill",
        KillChain: "chain",
        Reorg: "reorg",
        Endpoint: "endpoint",
        FullDisk: "disk",
        DatabaseRestart: "postgres",
        WrongClock: "clock",
        Twin: "twin",
    }
    return kinds[type(fault)]


def counts(minutes: float, kills: int | None, only: Sequence[str], targets: Targets) -> dict[str, int]:
    """How many faults of each kind suit a run. `kills`: of operators and chain together. Raises InvalidInput."""
    if unknown := sorted(set(only) - set(KINDS)):
        raise InvalidInput(f"no faults called {', '.join(unknown)}: there are {', '.join(KINDS)}")
    suited = {
        "kill": max(2, round(2 * minutes)),
        "chain": max(1, round(minutes / 4)),
        "silence": max(1, round(minutes / 5)),
        "lag": max(1, round(minutes / 5)),
        "reorg": max(2, round(2 * minutes)),
        "endpoint": max(2, round(4 * minutes)),
        "disk": max(1, round(minutes / 8)) if targets.with_disk else 0,
        "postgres": max(1, round(minutes / 4)) if targets.with_database else 0,
        "clock": max(1, round(minutes / 8)),
        "twin": max(1, round(minutes / 8)),
    }
    wanted = {kind: count for kind, count in suited.items() if not only or kind in only}
    if kills is not None:
        of_chain = round(kills * CHAIN_SHARE) if "kill" in wanted and "chain" in wanted else 0
        if "kill" in wanted:
            wanted["kill"] = kills - of_chain
        if "chain" in wanted:
            wanted["chain"] = of_chain if "kill" in wanted else kills
    return {kind: count for kind, count in wanted.items() if count}


def plan(seed: int, minutes: float, wanted: Mapping[str, int], targets: Targets) -> tuple[Injection, ...]:
    """In order of time. No target has two faults at once. Raises InvalidInput when so many do not fit."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    by_target: dict[str, list[tuple[float, Fault]]] = defaultdict(list)
    drawn = [kind for kind in KINDS for _ in range(wanted.get(kind, 0))]
    rng.shuffle(drawn)
    length = 60 * minutes
    deck = _deck(rng)
    for kind in drawn:
        fault, seconds = _drawn(kind, rng, deck)
        fitting = [name for name in _targets_of(kind, targets) if _room(by_target[name], fault, seconds) <= length]
        if not fitting:
            raise InvalidInput(f"{len(drawn)} faults do not fit into {minutes:g} minutes: allow more, or ask for fewer")
        by_target[rng.choice(fitting)].append((seconds, fault))
    placed = [_spread(name, faults, length, rng) for name, faults in sorted(by_target.items())]
    return tuple(sorted(itertools.chain(*placed), key=lambda injection: (injection.at, injection.target)))


def _deck(rng: random.Random) -> Iterator[str]:
    """Ways in which an endpoint can be faulty: each comes once before any comes again."""
    while True:
        names = sorted(FAULTS)
        rng.shuffle(names)
        yield from names


def _drawn(kind: str, rng: random.Random, deck: Iterator[str]) -> tuple[Fault, float]:
    """A fault and how long it lasts."""
    match kind:
        case "kill":
            return Kill(), round(rng.uniform(0.2, 10.0), 2)
        case "chain":
            lost = round(rng.uniform(0.0, 8.0), 2)
            return KillChain(lost), round(lost + rng.uniform(0.5, 5.0), 2)
        case "silence":
            return Endpoint(Silent(), f"silent {SILENT_SECONDS:.0f} s"), SILENT_SECONDS
        case "lag":
            logs_only = rng.random() < 0.5
            name = f"{'events lag' if logs_only else 'lags'} {LAG_BLOCKS} blocks"
            return Endpoint(Lagging(LAG_BLOCKS, logs_only), name), 45.0
        case "reorg":
            return Reorg(rng.randint(*REORG_DEPTHS), rng.choice((0.0, 0.5, 1.0))), 0.0
        case "endpoint":
            name = next(deck)
            return Endpoint(FAULTS[name], name), 20.0
        case "disk":
            return FullDisk(), 30.0
        case "postgres":
            return DatabaseRestart(), 0.0
        case "clock":
            return WrongClock(rng.choice(CLOCK_SECONDS)), 60.0
    return Twin(same_store=rng.random() < 0.5), 30.0


def _targets_of(kind: str, targets: Targets) -> tuple[str, ...]:
    match kind:
        case "chain" | "reorg":
            return (CHAIN,)
        case "disk":
            return targets.with_disk
        case "postgres":
            return targets.with_database
    return targets.operators


def _room(taken: Sequence[tuple[float, Fault]], fault: Fault, seconds: float) -> float:
    """Seconds that a target's faults take with another one, rests included."""
    return sum(lasting + REST_SECONDS[type(each)] for lasting, each in (*taken, (seconds, fault)))


def _spread(target: str, faults: Sequence[tuple[float, Fault]], length: float, rng: random.Random) -> list[Injection]:
    """One after the other, with pauses that are as likely one way as any other."""
    slack = length - sum(seconds + REST_SECONDS[type(fault)] for seconds, fault in faults)
    marks = sorted(rng.uniform(0, slack) for _ in faults)
    placed, busy = [], 0.0
    for mark, (seconds, fault) in zip(marks, faults, strict=True):
        placed.append(Injection(round(mark + busy, 2), seconds, target, fault))
        busy += seconds + REST_SECONDS[type(fault)]
    return placed
