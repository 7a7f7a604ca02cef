"""Whether the chain answers: asked now and then, so that health says soon what orders would find out."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from trine.chain import Chain

log = structlog.get_logger()

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
AWAY = "the chain cannot be asked: the log says why"


class ChainWatch:
    """Used on the event loop only."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._reason: str | None = None

    def why_not_ready(self) -> str | None:
        """In words for everybody; None while the chain answers."""
        return self._reason

    async def run(self) -> None:
        """Until it is cancelled."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        try:
            while True:
                looking = asyncio.wrap_future(thread.submit(self._chain.timestamp))
                done, _ = await asyncio.wait([looking], timeout=ANSWER_SECONDS)
                if not done:
                    self._tell(f"no answer within {ANSWER_SECONDS:g} s")
                    await asyncio.wait([looking])  # one question at a time
                error = looking.exception()
                self._tell(None if error is None else f"{error!r:.300}")
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _tell(self, error: str | None) -> None:
        if error is not None and self._reason is None:
            log.error("chain_away", error=error)
        elif error is None and self._reason is not None:
            log.info("chain_back")
        self._reason = None if error is None else AWAY
