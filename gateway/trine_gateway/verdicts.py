"""What verifiers say of each answer: looked for in the background, kept, and taken seriously.

A node whose answer was rejected is asked nothing for a while; one that says nothing keeps no other's answers waiting.
What is known is in the store, so a gateway that is started again goes on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog

from trine import Answer, AsyncClient
from trine.errors import ChainError, NodeError, NodeUnreachable, NotReady, TrineError, VerificationFailed
from trine_gateway.chain_watch import ChainWatch
from trine_gateway.records import Due
from trine_gateway.store import COLUMNS, FIRST_LOOK_SECONDS, LOST, GatewayStore

log = structlog.get_logger()

THREADS = 4
"""For the chain's reads of all looks: those of answers on their way are not kept waiting by them."""
LOOK_SECONDS = 1.0
LATEST_SECONDS = 300
"""Between two looks at an answer."""
SILENT_SECONDS = 60
"""A node that does not answer is asked about none of its answers for so long."""
LOST_AFTER_SECONDS = 14 * 86_400
"""Longer than any appeal: what is not judged by then never will be."""
HIDDEN = "hidden"
"""Of an answer whose node does not say where it is, though the time in which it promised to anchor it is over."""
LATE_SECONDS = 60
"""After that time: clocks differ, and so do endpoints of one chain."""
TIDY_SECONDS = 600.0

Apart = Callable[..., Awaitable[Any]]


def next_look(looks: int) -> int:
    """Seconds until the next one: soon at first, rarely later."""
    return int(min(LATEST_SECONDS, FIRST_LOOK_SECONDS * 1.4 ** min(looks, 40)))


class Verdicts:
    """Looks for verdicts, a bounded number at once."""

    def __init__(
        self,
        client: AsyncClient,
        store: GatewayStore,
        apart: Apart,
        watch: ChainWatch,
        *,
        at_once: int,
        cut_off_seconds: int,
        repeat_seconds: int,
    ) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="look")
        self._client = client.in_threads(self._threads)
        self._store = store
        self._apart = apart
        self._watch = watch
        self._at_once = at_once
        self._cut_off_seconds = cut_off_seconds
        self._repeat_seconds = repeat_seconds
        self._looking: dict[bytes, asyncio.Task[None]] = {}
        self._cut_off_for: set[str] = set()  # digests of answers
        self._tidied = time.monotonic()
        self._reason: str | None = None

    def why_not_ready(self) -> str | None:
        """Why verdicts are not looked for, in words for everybody; None when they are."""
        return self._reason

    async def run(self) -> None:
        """Until it is cancelled."""
        remembers = False
        try:
            while True:
                begun = time.monotonic()
                try:
                    if not remembers:
                        await self._remember()
                        remembers = True
                    if not self._watch.is_replaced:
                        await self._step()
                    self._reason = None
                except Exception as error:  # nobody would look for verdicts any more
                    self._reason = "verdicts are not looked for: the log says why"
                    log.error(
                        "verdicts_not_looked_for",
                        exc_info=None if isinstance(error, TrineError) else error,
                        error=str(error)[:300],
                    )
                await asyncio.sleep(max(0.0, LOOK_SECONDS - (time.monotonic() - begun)))
        finally:
            self._reason = "verdicts are not looked for: the gateway stops"
            for task in self._looking.values():
                task.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _remember(self) -> None:
        for node, seconds, digest in await self._apart(self._store.all_cut_off):
            self._cut_off_for.add(digest)
            self._client.avoid(node, seconds)

    async def _step(self) -> None:
        free = self._at_once - len(self._looking)
        if free > 0:
            for due in await self._apart(self._store.due, self._at_once + free):
                if due.digest in self._looking or len(self._looking) >= self._at_once:
                    continue
                task = asyncio.create_task(self._look(due))
                self._looking[due.digest] = task
                task.add_done_callback(partial(self._looked, due.digest))
                # One by one: all of them in the same moment would keep answers that are on their way waiting.
                await asyncio.sleep(LOOK_SECONDS / self._at_once)
        if time.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = time.monotonic()
            while await self._apart(self._store.forget_repeats, self._repeat_seconds):
                pass

    def _looked(self, digest: bytes, _task: asyncio.Task[None]) -> None:
        self._looking.pop(digest, None)

    async def _look(self, due: Due) -> None:
        try:
            await self._looked_at(due)
        except Exception as error:  # noqa: BLE001  (the store fails: the answer is still due)
            log.error("look_failed", receipt=due.digest.hex(), error=str(error)[:300])

    async def _looked_at(self, due: Due) -> None:
        try:
            await self._judge(due)
        except NodeUnreachable as error:
            await self._hold_to_it(due, error)
            log.info("node_is_silent", node=due.node, error=str(error)[:200])
            await self._apart(self._store.put_off, due.node, SILENT_SECONDS)
        except NotReady:
            await self._apart(self._store.look_later, due.digest, next_look(due.looks))
        except (NodeError, VerificationFailed) as error:
            await self._hold_to_it(due, error)
            log.warning("verdict_not_found", receipt=due.digest.hex(), node=due.node, error=str(error)[:300])
            await self._apart(self._store.look_later, due.digest, next_look(due.looks))
        except TrineError as error:
            log.warning("verdict_not_found", receipt=due.digest.hex(), node=due.node, error=str(error)[:300])
            await self._apart(self._store.look_later, due.digest, next_look(due.looks))
        except Exception as error:  # no answer may keep others from being looked at
            log.error("verdict_not_found", receipt=due.digest.hex(), exc_info=error)
            await self._apart(self._store.look_later, due.digest, LATEST_SECONDS)

    async def _judge(self, due: Due) -> None:
        if time.time() - due.created_at > LOST_AFTER_SECONDS and await self._is_own_chain():
            log.error("answer_was_never_judged", receipt=due.digest.hex(), node=due.node)
            await self._apart(lambda: self._store.judge(due.digest, LOST, is_final=True))
            return
        answer = Answer.from_held(json.loads(due.held))
        is_settled = due.verdict in COLUMNS
        try:
            certificate = await self._client.certify(answer, final=is_settled, timeout=0)
        except NotReady as error:
            if not is_settled and await self._is_late(answer) and await self._client.batch_of(answer) is None:
                raise VerificationFailed("the node has promised to anchor the answer by now, and has not") from error
            raise
        await self.note(answer, certificate.result, is_final=is_settled)

    async def _is_own_chain(self) -> bool:
        """Before what is not found anywhere is held against anybody. Raises ChainError."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._watch.is_own_chain)

    async def _is_late(self, answer: Answer) -> bool:
        """By the chain's clock. Raises ChainError."""
        now = await asyncio.get_running_loop().run_in_executor(self._threads, self._client.chain.now)
        return now > answer.receipt.anchor_by + LATE_SECONDS

    async def _hold_to_it(self, due: Due, error: TrineError) -> None:
        """A node that shows no place for its own receipt after the time in which it promised to anchor it is asked
        nothing, until it shows one that was accepted: else who is asked where a rejected answer is would hide it."""
        answer = Answer.from_held(json.loads(due.held))
        try:
            if due.verdict in COLUMNS or not await self._is_late(answer) or not await self._is_own_chain():
                return
        except ChainError:
            return  # what time it is will be known at another look
        if due.verdict is None:
            log.error("node_hides_answer", node=due.node, receipt=due.digest.hex(), error=str(error)[:300])
            await self._apart(
                lambda: self._store.judge(due.digest, HIDDEN, is_final=False, look_in_seconds=FIRST_LOOK_SECONDS)
            )
        # What was rejected counts for more: showing the hidden answer must not end a cut-off for that.
        await self._cut_off(answer, replace=False)

    async def _cut_off(self, answer: Answer, *, replace: bool = True) -> None:
        node, digest, seconds = answer.receipt.node, answer.digest, self._cut_off_seconds
        if seconds and await self._apart(lambda: self._store.cut_off(node, seconds, digest, replace=replace)):
            log.error("node_cut_off", node=node, receipt=digest.hex(), seconds=seconds)
            self._cut_off_for.add(digest.hex())
            self._client.avoid(node, seconds)

    async def note(self, answer: Answer, verdict: str, *, is_final: bool) -> None:
        """Keeps a verdict, and acts on it."""
        node, digest = answer.receipt.node, answer.digest
        log.info("answer_judged", receipt=digest.hex(), node=node, verdict=verdict, final=is_final)
        await self._apart(
            lambda: self._store.judge(digest, verdict, is_final=is_final, look_in_seconds=FIRST_LOOK_SECONDS)
        )
        if verdict == "reject":
            await self._cut_off(answer)
        elif verdict == "accept" and digest.hex() in self._cut_off_for:  # an appeal has turned it
            self._cut_off_for.discard(digest.hex())
            if await self._apart(self._store.take_back, node, digest):
                log.info("node_asked_again", node=node, receipt=digest.hex())
                self._client.avoid(node, 0)
