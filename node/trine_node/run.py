"""A node's process: wiring, start and orderly end. No decisions."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import structlog

from trine.chain import Role
from trine.errors import TrineError
from trine_node.answering import Answering
from trine_node.batcher import Batcher
from trine_node.calibrate import calibrate
from trine_node.engines.base import Engine
from trine_node.loops import keep_doing
from trine_node.operator import BackgroundServer, Worker, open_operator
from trine_node.payments import collect_earned
from trine_node.service import create_app
from trine_node.settings import NodeSettings

log = structlog.get_logger()

WrapEngine = Callable[[Engine], Engine]


def run_node(settings: NodeSettings, wrap_engine: WrapEngine | None = None) -> None:
    """Serves until SIGTERM or SIGINT. `wrap_engine` replaces the engine once calibration has passed."""
    stop = stop_on_signals()
    operator = open_operator(settings, Role.NODE)
    chain, store = operator.chain, operator.store
    answering = Answering(operator.engine, chain, store, operator.model, allow_unsigned=settings.allow_unsigned)
    batcher = Batcher(
        store,
        chain,
        operator.model.model_id,
        max_leaves=settings.batch_max_leaves,
        max_wait_seconds=settings.batch_max_wait_seconds,
        credit_target_wei=settings.credit_target_wei,
    )
    reason: list[str | None] = ["starting"]

    def tell(state: str) -> None:
        reason[0] = f"calibrating: {state}"

    app = create_app(answering, settings.limits, lambda: reason[0])
    server = BackgroundServer(app, settings.host, settings.port)
    server.start()
    blocks = chain.follow(settings.poll_seconds)
    # At least every second, for answers that wait to be sealed.
    worker = Worker("batcher", lambda: keep_doing("batcher", batcher.step, blocks, stop, at_least_every=1.0))
    worker.start()
    try:
        if settings.calibrate:
            calibrate(answering, Role.NODE, blocks, stopped=stop.is_set, tell=tell)
        if wrap_engine:
            answering.engine = wrap_engine(operator.engine)
        if not chain.is_calibrated(chain.address, Role.NODE, operator.model.model_id):
            reason[0] = "not calibrated: answers would not be accepted on-chain; start with calibrate = true"
        else:
            reason[0] = None
        log.info("node_serving", endpoint=settings.endpoint, ready=reason[0] is None)
        stop.wait()
    finally:
        log.info("node_stopping")
        app.state.openai.closing = True
        stop.set()
        blocks.stop()
        server.stop()
        worker.join()
        try:
            collect_earned(store, chain)
        except TrineError as error:
            log.warning("last_collection_failed", error=str(error))
        store.close()


def stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
