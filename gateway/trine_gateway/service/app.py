"""A gateway's FastAPI application, and what lives as long as it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from trine import AsyncClient
from trine_gateway.asking import Asking
from trine_gateway.chain_watch import ChainWatch
from trine_gateway.service.access import Access
from trine_gateway.service.openai import OpenAiEndpoints
from trine_gateway.service.usage import UsageEndpoints
from trine_gateway.settings import GatewaySettings
from trine_gateway.store import GatewayStore
from trine_gateway.verdicts import Verdicts
from trine_operator.service import allow_origins, create_frame


def create_app(client: AsyncClient, store: GatewayStore, settings: GatewaySettings) -> FastAPI:
    """Serves with the client, which it closes, and the store. `app.state.openai.closing = True` refuses new work."""
    limits = settings.limits
    asking = Asking(client, store, limits)
    watch = ChainWatch(client.chain, store.chain_mark())
    verdicts = Verdicts(
        client,
        store,
        asking.apart,
        watch,
        at_once=settings.checks_at_once,
        cut_off_seconds=settings.cut_off_seconds,
        repeat_seconds=settings.repeat_seconds,
    )

    @asynccontextmanager
    async def alive(_app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(verdicts.run()), asyncio.create_task(watch.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await asking.close()
            await client.close()

    def why_not_ready() -> str | None:
        return store.why_not_ready() or watch.why_not_ready() or verdicts.why_not_ready()

    app = create_frame("Trine gateway", why_not_ready, lifespan=alive)
    access = Access(store, asking)
    endpoints = OpenAiEndpoints(client, asking, access, verdicts, watch, limits)
    app.state.openai = endpoints
    app.state.asking = asking
    app.include_router(endpoints.router)
    app.include_router(UsageEndpoints(store, asking, access).router)
    allow_origins(app, settings.cors_origins)
    return app
