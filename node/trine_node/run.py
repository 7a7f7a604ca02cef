"""A node's process: wiring, start and orderly end. No decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from trine.chain import Role
from trine.chain.follower import Follower
from trine.errors import InvalidInput, TrineError
from trine.protocol.evidence import Evidence
from trine.protocol.inputs import Input
from trine_node.answering import Answering
from trine_node.engines.base import Engine
from trine_node.engines.loading import load_engine
from trine_node.generating import answer_prompt
from trine_node.posted.wiring import Posted
from trine_node.service import create_app
from trine_node.settings import NodeSettings
from trine_operator.batcher import Batcher
from trine_operator.calibrate import Candidate, calibrate
from trine_operator.inclusion import LOOK_SECONDS, Claims
from trine_operator.loops import keep_doing
from trine_operator.opening import Operator, open_operator
from trine_operator.payments import Collecting, collect_earned
from trine_operator.process import DRAIN_SECONDS, BackgroundServer, Worker, keep_what_is_loaded, stop_on_signals
from trine_operator.pruning import IDLE_SECONDS, Pruning
from trine_operator.publishing import Publishing
from trine_operator.service import EvidenceEndpoints, serve_registration
from trine_operator.store import Commit, Store

if TYPE_CHECKING:
    from trine_node.x402.door import Door

log = structlog.get_logger()

WrapEngine = Callable[[Engine], Engine]


@dataclass(frozen=True, slots=True)
class Extension:
    """What a node does besides serving."""

    wrap_engine: WrapEngine | None = None  # once calibration has passed
    commit: Commit | None = None  # makes the canary words of its batches
    steps: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    """By name: done at every block, once it serves."""


Extend = Callable[[Operator[Engine, Store]], Extension]


def run_node(
    settings: NodeSettings,
    wrap_engine: WrapEngine | None = None,
    evidence: type[EvidenceEndpoints] = EvidenceEndpoints,
    extend: Extend | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. `wrap_engine` replaces the engine once calibration has passed; with `evidence`
    it is how adversaries take the honest node's place. `extend` says what it does besides serving."""
    stop = stop_on_signals()
    operator = open_operator(settings, Role.NODE, partial(load_engine, settings), Store, stop)
    chain, store, engine, model = operator.chain, operator.store, operator.engine, operator.model
    try:
        door = _door(settings, operator)
    except BaseException:
        operator.close()
        raise
    answering = Answering(
        engine,
        chain,
        store,
        model,
        allow_unsigned=settings.allow_unsigned,
        anchor_within_seconds=settings.anchor_within_seconds,
        max_unacknowledged_wei=settings.max_unacknowledged_wei,
        door=door,
    )
    outbox = operator.outbox
    more = extend(operator) if extend else Extension(wrap_engine)
    terms = settings.publication_terms
    publishing = Publishing(store, chain, outbox, terms) if terms else None
    batcher = Batcher(
        store,
        chain,
        outbox,
        model.model_id,
        max_leaves=settings.batch_max_leaves,
        max_wait_seconds=settings.batch_max_wait_seconds,
        credit_target_wei=settings.credit_target_wei,
        commit=more.commit,
        note_final=publishing.note_final if publishing else None,
    )
    reason: list[str | None] = ["starting"]

    def answer(prompt: Input) -> tuple[bytes, Evidence]:
        finished = answer_prompt(engine, chain, model, prompt)
        return finished.digest, finished.evidence

    def tell(state: str) -> None:
        reason[0] = f"calibrating: {state}"

    def why_not() -> str | None:
        return outbox.halted or reason[0] or store.why_not_ready()

    posted = Posted(settings, answering, outbox, stop.is_set)
    app = create_app(
        answering, settings.limits, why_not, operator.lease.instance, evidence, posted.price, settings.cors_origins
    )
    serve_registration(app, settings.registration_file)
    server = BackgroundServer(app, settings.host, settings.port)
    keep_what_is_loaded()
    server.start()
    blocks = chain.follow(settings.poll_seconds)
    # At least every second, for answers that wait to be sealed.
    pruning = Pruning(store, chain, keep_evidence_days=settings.keep_evidence_days)
    collecting = Collecting(
        store,
        chain,
        outbox,
        after_seconds=settings.open_after_seconds,
        threshold_wei=settings.open_threshold_wei,
    )
    claims = Claims(store, chain, outbox)
    workers = [
        Worker("batcher", lambda: keep_doing("batcher", batcher.step, blocks, stop, at_least_every=1.0)),
        Worker("claims", lambda: keep_doing("claims", claims.step, blocks, stop, at_least_every=LOOK_SECONDS)),
        Worker("collecting", lambda: keep_doing("collecting", collecting.step, blocks, stop, at_least_every=1.0)),
        Worker("pruning", lambda: keep_doing("pruning", pruning.step, blocks, stop, at_least_every=IDLE_SECONDS)),
    ]
    if door is not None:
        workers.append(_settling(door, settings, operator, blocks, stop))
    if publishing:
        publish = publishing.step
        workers.append(
            Worker("publishing", lambda: keep_doing("publishing", publish, blocks, stop, at_least_every=5.0))
        )
    for worker in workers:
        worker.start()
    try:
        if settings.calibrate:
            candidate = Candidate(chain, store, model, engine.engine_class, answer)
            calibrate(candidate, Role.NODE, blocks, stopped=stop.is_set, tell=tell)
        if more.wrap_engine:
            answering.engine = more.wrap_engine(engine)
        if not chain.is_calibrated(chain.address, Role.NODE, model.model_id):
            reason[0] = "not calibrated: answers would not be accepted on-chain; start with calibrate = true"
        else:
            reason[0] = None
        log.info("node_serving", endpoint=settings.endpoint, ready=reason[0] is None)
        for name, step in {**more.steps, **posted.steps}.items():
            # One that is slow, or waits for an answer, keeps no other from its turn.
            worker = Worker(name, partial(keep_doing, name, step, blocks, stop, at_least_every=1.0))
            workers.append(worker)
            worker.start()
        stop.wait()
    finally:
        log.info("node_stopping")
        app.state.openai.close()
        stop.set()
        blocks.stop()
        server.stop()
        for worker in workers:
            worker.join()
        try:
            collect_earned(store, chain, outbox)
        except TrineError as error:
            log.warning("last_collection_failed", error=str(error))
        operator.close(DRAIN_SECONDS)


def _door(settings: NodeSettings, operator: Operator[Engine, Store]) -> Door | None:
    """Where unsigned orders are paid by x402, if they are. Raises InvalidInput, naming what is missing."""
    if settings.x402 is None:
        return None
    try:
        from trine_node.x402.opening import open_door
    except ImportError:
        raise InvalidInput(
            "settings: x402 needs the library: in a checkout of Trine, pip install './node[x402]'"
        ) from None
    return open_door(
        settings.x402,
        operator.chain,
        operator.store,
        operator.model,
        url=settings.endpoint,
        anchor_within_seconds=settings.anchor_within_seconds,
    )


def _settling(
    door: Door, settings: NodeSettings, operator: Operator[Engine, Store], blocks: Follower, stop: threading.Event
) -> Worker:
    from trine_node.x402.settling import Settling

    settling = Settling(operator.chain, door.ledger, operator.outbox, keep_days=settings.keep_evidence_days)
    return Worker("x402", lambda: keep_doing("x402", settling.step, blocks, stop, at_least_every=1.0))
