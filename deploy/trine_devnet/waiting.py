"""Waits for as long as something moves: no clock decides whether slow is broken.

Something moves when what is observed changes, and when the processes that are waited for compute. A machine that is
busy with other things makes everything slower, by any factor, and nothing wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import psutil

from trine.errors import NotReady
from trine_devnet.processes import Child
from trine_devnet.reporting import Report

STALL_SECONDS = 120.0
"""Nothing changed and nobody computed for so long: it will not come."""
HIDDEN_SECONDS = 1800.0
"""Processes computed all the while, but nothing changed for so long: they run in a circle."""
IDLE_SHARE = 0.02
"""Of a core: a process that uses less is idle."""
POLL_SECONDS = 0.4


class Movement:
    """Remembers when something moved last. `clock` is in seconds."""

    def __init__(self, children: Sequence[Child], clock: Callable[[], float] = time.monotonic) -> None:
        self._children = children
        self._clock = clock
        self._seen: object = None
        self._changed = self._moved = clock()
        self._computed = self._cpu_seconds()

    def note(self, seen: object) -> None:
        """What is observed now; anything that can be compared."""
        now = self._clock()
        if seen != self._seen:
            self._seen, self._changed = seen, now
            self._restart(now)
        elif any(
            used - before > IDLE_SHARE * STALL_SECONDS
            for used, before in zip(self._cpu_seconds(), self._computed, strict=True)
        ):
            self._restart(now)

    @property
    def stalled_seconds(self) -> float | None:
        """How long nothing has moved, once that is too long."""
        now = self._clock()
        if now - self._moved > STALL_SECONDS:
            return now - self._moved
        return now - self._changed if now - self._changed > HIDDEN_SECONDS else None

    def _restart(self, now: float) -> None:
        self._moved, self._computed = now, self._cpu_seconds()

    def _cpu_seconds(self) -> list[float]:
        """Of each child; 0 for one that has ended."""
        return [_cpu_seconds_of(child) for child in self._children]


def _cpu_seconds_of(child: Child) -> float:
    try:
        times = psutil.Process(child.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def stop_all(children: Sequence[Child], report: Report) -> None:
    """Stops children side by side, and says who is not done yet. A second Ctrl-C meanwhile kills them all."""
    rows = {child.name: "finishes what it owes" for child in children}

    def end(how: Callable[[Child], None], child: Child) -> None:
        how(child)
        rows.pop(child.name, None)

    with ThreadPoolExecutor(2 * len(children) + 1) as pool:
        try:
            _watch([pool.submit(end, Child.stop, child) for child in children], rows, report)
        except KeyboardInterrupt:
            report.say("killed: what they owe is left undone")
            _watch([pool.submit(end, Child.kill, child) for child in children], rows, report)


def _watch(ending: Sequence[Future[None]], rows: Mapping[str, str], report: Report) -> None:
    try:
        while wait(ending, POLL_SECONDS).not_done:
            report.progress("operators to stop", dict(rows))
    finally:
        report.end_progress()
    for done in ending:
        done.result()


def wait_until(
    done: Callable[[], bool],
    what: str,
    children: Sequence[Child],
    report: Report,
    observe: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Returns when `done`. `observe` says how far each part is, by name.

    Raises NotReady, with the end of its log, when a child ends, or when nothing has moved for a while.
    """
    movement = Movement(children)
    try:
        while not done():
            for child in children:
                if not child.running:
                    raise NotReady(
                        f"{child.name} ended while waiting for {what}; {child.log} ends with:\n{child.tail()}"
                    )
            rows = observe()
            report.progress(what, rows)
            movement.note(dict(rows))
            if stalled := movement.stalled_seconds:
                logs = ", ".join(str(child.log) for child in children)
                state = "; ".join(f"{name}: {state}" for name, state in rows.items())
                raise NotReady(
                    f"nothing has moved for {stalled:.0f} s while waiting for {what} ({state or 'no sign of life'}); "
                    f"see {logs}"
                )
            time.sleep(POLL_SECONDS)
    finally:
        report.end_progress()
