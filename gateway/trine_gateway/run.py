"""A gateway's process: wiring, start and orderly end. No decisions."""

from __future__ import annotations

import sys

import structlog

from trine import AsyncClient, Deployment, load_keystore
from trine_gateway.chain_watch import require_own_chain
from trine_gateway.service import create_app
from trine_gateway.settings import GatewaySettings
from trine_gateway.store import GatewayStore
from trine_operator.process import BackgroundServer, keep_what_is_loaded, stop_on_signals

log = structlog.get_logger()

SWITCH_SECONDS = 0.0005
"""How long a thread that works with the store may keep the event loop, and all streams with it, from going on; Python's
own is ten times that."""


def open_client(settings: GatewaySettings) -> AsyncClient:
    """Raises InvalidInput, ChainError."""
    return AsyncClient(
        rpc_url=settings.rpc_url.split(","),
        deployment=Deployment.load(settings.deployment),
        account=load_keystore(settings.keystore, settings.password_file),
        node=settings.node,
        deposit_wei=settings.deposit_wei,
        prefer=settings.prefer,
        timeout=settings.limits.request_timeout_seconds,
        sealed=settings.sealed,
    )


def run_gateway(settings: GatewaySettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises InvalidInput, also for another chain than the store is about."""
    stop = stop_on_signals()
    sys.setswitchinterval(SWITCH_SECONDS)
    store = GatewayStore(settings.store_url)
    try:
        client = open_client(settings)
        require_own_chain(store, client.chain)
        app = create_app(client, store, settings)
        server = BackgroundServer(app, settings.host, settings.port)
        keep_what_is_loaded()
        server.start()
        log.info("gateway_serves", host=settings.host, port=settings.port, account=client.chain.address)
        stop.wait()
        log.info("gateway_stops")
        app.state.openai.closing = True
        server.stop()
    finally:
        store.close()
