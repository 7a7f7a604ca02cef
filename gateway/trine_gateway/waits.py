"""Verdicts that clients wait for: however many wait for an answer's, it is looked for once, in threads of its own.

Nothing that goes wrong at it ends a wait before its time: an answer that was had stays what it is.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from trine import Answer, AsyncClient
from trine.errors import NotReady

log = structlog.get_logger()

THREADS = 4
"""For the reads of the chain of all waits: those of answers on their way are not kept waiting by them."""
LOOK_SECONDS = 0.5
"""Between two looks."""
FIRST_LOOK_SECONDS = 5.0
"""Whoever waits no time at all is told what one look finds, if it takes no longer than this."""

Found = tuple[str, dict[str, Any]]
"""(verdict, its certificate as JSON)"""


@dataclass(slots=True)
class _Wait:
    task: asyncio.Task[Found]
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class Waits:
    """Used on the event loop only. How many may wait is whose business it is that asks."""

    def __init__(self, client: AsyncClient) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="wait")
        self._client = client.in_threads(self._threads)
        self._waits: dict[tuple[bytes, bool, bool], _Wait] = {}

    async def verdict(self, answer: Answer, *, final: bool, hard: bool, seconds: float) -> Found | None:
        """None when it does not come in time."""
        name = answer.digest, final, hard
        wait = self._waits.get(name)
        if wait is None:
            looked = asyncio.Event()
            wait = _Wait(asyncio.create_task(self._looked(answer, final, hard, looked)), looked)
            self._waits[name] = wait
        wait.waiting += 1
        try:
            await asyncio.wait({wait.task}, timeout=seconds)
            if not wait.looked.is_set() and seconds < FIRST_LOOK_SECONDS:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FIRST_LOOK_SECONDS - seconds):
                        await wait.looked.wait()
                await asyncio.sleep(0)  # a look that has found something is over
            return wait.task.result() if wait.task.done() else None
        finally:
            wait.waiting -= 1
            if not wait.waiting:
                wait.task.cancel()
                if self._waits.get(name) is wait:
                    del self._waits[name]

    async def close(self) -> None:
        tasks = [wait.task for wait in self._waits.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _looked(self, answer: Answer, final: bool, hard: bool, looked: asyncio.Event) -> Found:
        """Looks until there is something, or nobody waits for it any more."""
        try:
            while True:
                found = await self._look(answer, final, hard)
                if found is not None:
                    return found
                looked.set()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            looked.set()

    async def _look(self, answer: Answer, final: bool, hard: bool) -> Found | None:
        try:
            if hard:
                found = await self._client.certify(answer, final=final, hard=True, timeout=0)
                return found.certificate.result, found.to_json()
            soft = await self._client.certify(answer, final=final, timeout=0)
        except NotReady:
            pass
        except Exception as error:  # noqa: BLE001  (a chain that is away comes back, and whoever waits has a time)
            log.info("verdict_not_seen", receipt=answer.digest.hex(), error=f"{error!r:.200}")
            return None
        else:
            return soft.result, soft.to_json()
        if hard and answer.certificate is not None:  # judged, but by votes, which no certificate without a chain shows
            return answer.certificate.result, answer.certificate.to_json()
        return None
