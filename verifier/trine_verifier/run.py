"""A verifier's process: wiring, start and orderly end. No decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import structlog

from trine.chain import Chain, Role
from trine.protocol.evidence import Evidence
from trine.protocol.inputs import Input
from trine_node.engines.base import Engine
from trine_node.engines.loading import load_engine
from trine_node.generating import answer_prompt
from trine_operator.batcher import Batcher
from trine_operator.calibrate import Candidate, calibrate
from trine_operator.loops import keep_doing
from trine_operator.opening import open_operator
from trine_operator.outbox import Submits
from trine_operator.process import DRAIN_SECONDS, BackgroundServer, Worker, stop_on_signals
from trine_operator.pruning import DAY_SECONDS, IDLE_SECONDS, Pruning
from trine_operator.service import create_evidence_app, serve_registration
from trine_verifier.exchange import Exchange
from trine_verifier.handing_over import HandingOver, KeySets, handover_endpoints
from trine_verifier.kept import Limits
from trine_verifier.keys import load_signing_key, register_signing_key
from trine_verifier.metrics import create_metrics_router
from trine_verifier.seat_service import SeatEndpoints
from trine_verifier.settings import VerifierSettings
from trine_verifier.signing import Signing
from trine_verifier.store import VerifierStore
from trine_verifier.voting import Voting

log = structlog.get_logger()

PATIENCE_SECONDS = 10.0
"""Everything that a verifier does follows from a block; without one it looks again after so long."""

VOTING_BACKOFF_SECONDS = (1.0, 4.0)
"""Reveals are due soon: a chain that was away is asked again soon."""

MakeVoting = Callable[[Chain, VerifierStore, Submits, Engine, bytes, threading.Event, Callable[[], None]], Voting]
"""From the chain, the store of votes, what sends, the engine, the model's id, what is set when the process is to end,
and what is called when there is a new vote to send."""


def run_verifier(settings: VerifierSettings, make_voting: MakeVoting = Voting) -> None:
    """Votes until SIGTERM or SIGINT. Calibrates itself first, voting meanwhile on others who do.

    `make_voting` is how adversaries take the honest voting's place.
    """
    stop = stop_on_signals()
    signing_key = load_signing_key(settings)
    kept = Limits(settings.pass_on_mb << 20, settings.pass_on_batch_mb << 20)
    open_store = partial(VerifierStore, kept=kept)
    operator = open_operator(settings, Role.VERIFIER, partial(load_engine, settings), open_store, stop)
    chain, model, engine, store = operator.chain, operator.model, operator.engine, operator.store
    outbox = operator.outbox
    try:
        register_signing_key(chain, signing_key)
    except BaseException:
        operator.close()
        raise
    reason: list[str | None] = ["starting"]

    def tell(state: str) -> None:
        reason[0] = f"calibrating: {state}"

    def why_not() -> str | None:
        return outbox.halted or reason[0] or store.why_not_ready()

    app = create_evidence_app("Trine verifier", store, chain, why_not, operator.lease.instance, store.kept)
    handing_over = HandingOver(chain, KeySets(store, operator.lease.fence), signing_key) if signing_key else None
    app.include_router(handover_endpoints(handing_over))
    signing = Signing(chain, store, signing_key if settings.sign_results else None, operator.lease.fence)
    exchange = signing.exchanges = Exchange(signing)
    app.include_router(SeatEndpoints(signing).router)
    app.include_router(create_metrics_router(signing))
    serve_registration(app, settings.registration_file)
    server = BackgroundServer(app, settings.host, settings.port)
    server.start()
    blocks, voted = chain.follow(settings.poll_seconds), threading.Event()

    def answer(prompt: Input) -> tuple[bytes, Evidence]:
        finished = answer_prompt(engine, chain, model, prompt)
        return finished.digest, finished.evidence

    def wake() -> None:
        voted.set()
        blocks.nudge()

    voting = make_voting(chain, store, outbox, engine, model.model_id, stop, wake)
    voting.dissenting.willing = settings.willing
    voting.signing, signing.wake = signing, wake
    exchange.start()
    batcher = Batcher(
        store,
        chain,
        outbox,
        model.model_id,
        max_leaves=1,
        max_wait_seconds=0,
        credit_target_wei=settings.credit_target_wei,
    )

    pruning = Pruning(
        store,
        chain,
        keep_evidence_days=settings.keep_evidence_days,
        more=[
            partial(store.prune_votes, keep_seconds=round(settings.keep_votes_days * DAY_SECONDS)),
            lambda _now: store.kept.prune(chain),
        ],
    )

    def vote() -> None:
        keep_doing(
            "voting", voting.step, blocks, stop,
            at_least_every=PATIENCE_SECONDS, wake=voted, backoff=VOTING_BACKOFF_SECONDS,
        )  # fmt: skip

    workers = [
        Worker("voting", vote),
        Worker("batcher", lambda: keep_doing("batcher", batcher.step, blocks, stop, at_least_every=PATIENCE_SECONDS)),
        Worker("pruning", lambda: keep_doing("pruning", pruning.step, blocks, stop, at_least_every=IDLE_SECONDS)),
    ]
    if handing_over:
        step = handing_over.step
        hand_over = partial(keep_doing, "handing_over", step, blocks, stop, at_least_every=PATIENCE_SECONDS)
        workers.append(Worker("handing_over", hand_over))
    for worker in workers:
        worker.start()
    try:
        if settings.calibrate:
            candidate = Candidate(chain, store, model, engine.engine_class, answer)
            calibrate(candidate, Role.VERIFIER, blocks, stopped=stop.is_set, tell=tell)
        reason[0] = None
        log.info("verifier_ready", address=chain.address)
        stop.wait()
    finally:
        log.info("verifier_stopping")
        stop.set()
        blocks.stop()
        for worker in workers:
            worker.join()
        exchange.stop()
        voting.close()
        server.stop()
        operator.close(DRAIN_SECONDS)
