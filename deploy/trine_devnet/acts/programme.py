"""Which acts there are, in the order in which they are shown, and how several are played."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from trine_devnet.acts import (
    appeal_overturned,
    canary_caught,
    certificate_abroad,
    erc8004_published,
    request_answered,
    settled_signed,
    x402_paid,
)
from trine_devnet.acts.act import Act, Played, Shown, Stage, play
from trine_devnet.network import Devnet
from trine_devnet.options import ACT_NAMES, QUICK_ACTS
from trine_devnet.reporting import Report

_PLAYS: dict[str, tuple[str, Callable[[Stage], Shown]]] = {
    "request_answered": ("a contract's request", request_answered.play),
    "settled_signed": ("a signed settlement", settled_signed.play),
    "certificate_abroad": ("a certificate abroad", certificate_abroad.play),
    "erc8004_published": ("an agent of ERC-8004", erc8004_published.play),
    "x402_paid": ("a payment over HTTP 402", x402_paid.play),
    "canary_caught": ("a planted canary", canary_caught.play),
    "appeal_overturned": ("an appeal", appeal_overturned.play),
}
ACTS = tuple(Act(name, *_PLAYS[name], is_quick=name in QUICK_ACTS) for name in ACT_NAMES)


def chosen(only: Sequence[str], every: bool) -> tuple[Act, ...]:
    """The acts to play: those named, or all, or those that are quick."""
    if only:
        return tuple(act for act in ACTS if act.name in only)
    return ACTS if every else tuple(act for act in ACTS if act.is_quick)


class Programme:
    """Acts that are played beside one another on the demo's network. Use as a context manager: leaving it gives up."""

    def __init__(self, acts: Sequence[Act], net: Devnet, report: Report, home: Path, side_by_side: int = 1) -> None:
        self._report = report
        self._stages = {act: Stage(net, report, home) for act in acts}
        self._pool = ThreadPoolExecutor(max(1, side_by_side), thread_name_prefix="act")
        self._futures: dict[Act, Future[Played]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Programme:
        self._futures = {act: self._pool.submit(self._play, act, stage) for act, stage in self._stages.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for stage in self._stages.values():
            stage.given_up.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _play(self, act: Act, stage: Stage) -> Played:
        played = play(act, stage)
        if not stage.given_up.is_set():
            word = "shown" if played.holds else "FAILED"
            self._report.say(f"{act.name:<20} {word}: {played.said}")
        return played

    @property
    def is_over(self) -> bool:
        return all(future.done() for future in self._futures.values())

    @property
    def states(self) -> dict[str, str]:
        """How far each is that is being played."""
        return {act.name: stage.state for act, stage in self._stages.items() if stage.state}

    @property
    def played(self) -> list[Played]:
        """In the programme's order, those that are over."""
        return [future.result() for future in self._futures.values() if future.done() and not future.cancelled()]
