"""Carries out a plan of faults over a running devnet, and starts again whatever ends, as a supervisor would.

One thread; every act is short, so that what is due comes in time. How long an operator took to be ready again is
watched beside.
"""

from __future__ import annotations

import heapq
import itertools
import random
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trine.errors import TrineError
from trine_devnet.faults.chain import Reorganized, keep_state, reorganize
from trine_devnet.faults.disk import SmallDisk
from trine_devnet.faults.plan import (
    CHAIN,
    DatabaseRestart,
    Endpoint,
    FullDisk,
    Injection,
    Kill,
    KillChain,
    Reorg,
    Twin,
    WrongClock,
    name_of,
)
from trine_devnet.faults.proxy import RpcProxy
from trine_devnet.network import Devnet
from trine_devnet.processes import Child, free_port
from trine_devnet.reporting import Report

TICK_SECONDS = 0.1
WATCH_SECONDS = 0.5
SUPERVISOR_SECONDS = (1.0, 15.0)
"""A process that has ended by itself is started again after so long: at first, and at most."""
LASTING_SECONDS = 30.0
"""A process that has lasted so long is started again at once when it ends."""
COMMAND_SECONDS = 60.0


@dataclass(slots=True)
class Injected:
    """What came of one injection. Seconds are counted from the beginning of the run."""

    injection: Injection
    began: float | None = None
    ended: float | None = None
    ready: float | None = None
    """When the operator, or all of them after what befell the chain, said to be ready again."""
    said: str = ""

    @property
    def recovery_seconds(self) -> float | None:
        return None if self.ready is None or self.ended is None else max(self.ready - self.ended, 0.0)


@dataclass(frozen=True, slots=True)
class Crash:
    """A process that has ended by itself."""

    name: str
    at: float
    last_words: str


@dataclass(slots=True)
class _Supervised:
    """An operator's process, as its supervisor sees it."""

    clock_seconds: int = 0
    is_down: bool = False  # killed by us: started again when the plan says so
    since: float = 0.0
    pause: float = SUPERVISOR_SECONDS[0]
    again_at: float | None = None


@dataclass(frozen=True, slots=True)
class Gear:
    """What faults need beside the network itself, by operators' names."""

    proxies: Mapping[str, RpcProxy]
    disks: Mapping[str, SmallDisk] = field(default_factory=dict)
    database_restart: Sequence[str] = ()


class Injector:
    """One run of a plan."""

    def __init__(self, net: Devnet, gear: Gear, report: Report, seed: int) -> None:
        self.crashes: list[Crash] = []
        self.injected: list[Injected] = []
        self._net, self._gear, self._report = net, gear, report
        self._rng = random.Random(seed)  # noqa: S311  (no secret)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._supervised = {name: _Supervised() for name in net.operators}
        self._twins: dict[str, Child] = {}
        self._chain_is_down = False
        self._began = time.monotonic()
        self._watching = threading.Event()
        self._lock = threading.Lock()

    def run(self, injections: Sequence[Injection], seconds: float) -> list[Injected]:
        """Lasts so long. Whatever happens, everything is lifted and started again at the end."""
        self._began = time.monotonic()
        self.injected = [Injected(injection) for injection in injections]
        for each in self.injected:
            self._at(each.injection.at, lambda each=each: self._begin(each))  # type: ignore[misc]
        watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        watcher.start()
        try:
            while self._now() < seconds or self._due:
                self._act()
                self.supervise()
                time.sleep(TICK_SECONDS)
        finally:
            self._lift_all()
            self._watching.set()
            watcher.join(10)
        return self.injected

    def supervise(self) -> None:
        """Starts again what has ended by itself."""
        for name, state in self._supervised.items():
            child = self._net.operators[name].child
            if state.is_down or child.running:
                continue
            if state.again_at is None:
                if self._now() - state.since > LASTING_SECONDS:
                    state.pause = SUPERVISOR_SECONDS[0]
                crash = Crash(name, self._now(), last_words(child))
                self.crashes.append(crash)
                self._report.say(f"{name} ended by itself: {crash.last_words}")
                state.again_at = self._now() + state.pause
                state.pause = min(2 * state.pause, SUPERVISOR_SECONDS[1])
            elif self._now() >= state.again_at:
                self._start(name)

    def note_ready(self) -> None:
        """Looks which operators are ready, once."""
        states = {name: self._net.state_of(name) is None for name in self._net.operators}
        self._net.states()
        with self._lock:
            for each in self.injected:
                if each.ended is None or each.ready is not None:
                    continue
                target = each.injection.target
                if all(states.values()) if target == CHAIN else states[target]:
                    each.ready = self._now()

    # How

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), act))

    def _act(self) -> None:
        while self._due and self._due[0][0] <= self._now():
            _, _, act = heapq.heappop(self._due)
            act()

    def _watch(self) -> None:
        while not self._watching.wait(WATCH_SECONDS):
            self.note_ready()

    def _begin(self, each: Injected) -> None:
        injection = each.injection
        each.began = self._now()
        try:
            each.said = self._inject(injection) or ""
        except (TrineError, OSError, subprocess.SubprocessError) as error:
            each.said = f"not injected: {type(error).__name__}: {error}"
        said = f": {each.said}" if each.said else ""
        self._report.say(f"{injection.target}: {name_of(injection.fault)}{said}")
        self._at(max(injection.end, self._now()), lambda: self._end(each))

    def _end(self, each: Injected) -> None:
        try:
            each.said = self._lift(each.injection) or each.said
        except (TrineError, OSError) as error:
            each.said = f"{each.said} not lifted: {type(error).__name__}: {error}".strip()
            self._report.say(f"{each.injection.target}: {name_of(each.injection.fault)}: {each.said}")
        with self._lock:
            each.ended = self._now()

    def _inject(self, injection: Injection) -> str | None:
        """Something to say about it, if there is."""
        name = injection.target
        match injection.fault:
            case Kill():
                self._kill(name)
            case WrongClock(seconds):
                self._kill(name)
                self._supervised[name].clock_seconds = seconds
                self._start(name)
            case Endpoint(fault):
                self._gear.proxies[name].inject(fault)
            case FullDisk():
                return f"{self._gear.disks[name].fill()} bytes were free"
            case DatabaseRestart():
                subprocess.run(self._gear.database_restart, check=True, timeout=COMMAND_SECONDS, capture_output=True)  # noqa: S603
            case Twin(same_store):
                changes = self._twin_settings(name, same_store=same_store)
                self._twins[name] = self._net.start_beside(name, changes)
            case Reorg(depth, share):
                return _said(reorganize(self._net.rpc, depth, share, self._rng))
            case KillChain(lost_seconds):
                keep_state(self._net.rpc, self._chain_state)
                self._chain_is_down = True
                self._at(self._now() + lost_seconds, self._kill_chain)
        return None

    def _lift(self, injection: Injection) -> str | None:
        """Something to say about it, if there is."""
        name = injection.target
        match injection.fault:
            case Kill():
                self._start(name)
            case WrongClock():
                self._kill(name)
                self._supervised[name].clock_seconds = 0
                self._start(name)
            case Endpoint():
                self._gear.proxies[name].lift()
                return f"{self._gear.proxies[name].met} requests met it"
            case FullDisk():
                self._gear.disks[name].free()
            case Twin():
                return self._stop_twin(name)
            case KillChain():
                self._restart_chain()
        return None

    def _kill(self, name: str) -> None:
        self._supervised[name].is_down = True
        self._net.operators[name].child.kill()

    def _start(self, name: str) -> None:
        state = self._supervised[name]
        self._net.restart(name, state.clock_seconds)
        state.is_down, state.again_at, state.since = False, None, self._now()

    def _kill_chain(self) -> None:
        """Unless it was started again before its time to die came: keeping its state may take longer than planned."""
        if self._chain_is_down:
            self._net.kill_chain()

    def _restart_chain(self) -> None:
        self._kill_chain()  # if that is not done yet
        self._net.restart_chain(self._chain_state)
        self._chain_is_down = False

    def _twin_settings(self, name: str, *, same_store: bool) -> dict[str, object]:
        """Like the original in everything that others see."""
        store = {} if same_store else {"store_url": f"sqlite:///{self._net.home}/{name}.beside.sqlite"}
        return {"port": free_port(), "public_url": self._net.operators[name].endpoint, **store}

    def _stop_twin(self, name: str) -> str:
        """How the second process has fared."""
        twin = self._twins.pop(name)
        said = "ran beside the first" if twin.running else f"ended by itself: {last_words(twin)}"
        twin.kill()
        self._report.say(f"{name}: the second process {said}")
        return said

    def _lift_all(self) -> None:
        for name in list(self._twins):
            self._stop_twin(name)
        for proxy in self._gear.proxies.values():
            proxy.lift()
        for disk in self._gear.disks.values():
            disk.free()
        if self._chain_is_down:
            self._restart_chain()
        for name, state in self._supervised.items():
            if state.clock_seconds:
                self._kill(name)
                state.clock_seconds = 0
            if state.is_down:
                self._start(name)

    @property
    def _chain_state(self) -> Path:
        return self._net.home / "chain-state.json"


def last_words(child: Child) -> str:
    lines = child.tail(1).splitlines()
    return lines[-1][:300] if lines else "nothing"


def _said(reorganized: Reorganized) -> str:
    return f"{reorganized.dropped} transactions dropped, {reorganized.returned} sent again"
