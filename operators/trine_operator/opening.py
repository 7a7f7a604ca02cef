"""What every operator's process does before it works: key, chain, stake, model files, engine, store.

Refuses to start, saying what to do, rather than to run into a slash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

import structlog

from trine.chain import Chain, Deployment, Model, Role, load_keystore
from trine.errors import ChainUnreachable, InvalidInput, NotReady, TrineError
from trine_operator.credit import Credit
from trine_operator.outbox import Outbox
from trine_operator.outbox.instances import Lease, refuse_copy_at
from trine_operator.outbox.queue import Queue
from trine_operator.settings import OperatorSettings
from trine_operator.store import Store
from trine_operator.vault import Vault

log = structlog.get_logger()

TOKENS_OF_AN_ANSWER = 512
"""With its prompt, as reckoned before there is one."""
DRIFT_SECONDS = 60
"""Blocks may be that far apart."""
NEW_STORE = (
    "the account has been an operator's before: if its store was lost, put it back, or import its protection record; "
    "open votes of that time cannot be revealed from here"
)
CREDIT_SECONDS = 900.0
CREDIT_POLL_SECONDS = 0.25
ENDPOINT_PATIENCE_SECONDS = 120.0
"""A machine's services start in any order, and an endpoint that restarts is back in a minute."""
ENDPOINT_PAUSE_SECONDS = (1.0, 15.0)
"""Between two tries to open: the first pause, and the longest."""


class HasClass(Protocol):
    """An engine, as far as this room knows one."""

    @property
    def engine_class(self) -> str: ...


E = TypeVar("E", bound=HasClass)
S = TypeVar("S", bound=Store)


@dataclass(frozen=True, slots=True)
class Operator(Generic[E, S]):
    """An opened account with its model and store."""

    chain: Chain
    model: Model
    engine: E
    store: S
    outbox: Outbox
    lease: Lease

    def close(self, drain_seconds: float = 0.0) -> None:
        """What is in flight is waited for so long; the next start goes on with the rest."""
        _close(self.outbox, self.lease, self.store, drain_seconds)


def _close(outbox: Outbox, lease: Lease, store: Store, drain_seconds: float = 0.0) -> None:
    outbox.stop(drain_seconds)
    try:
        lease.release()
    except TrineError as error:
        log.warning("store_not_released", error=str(error))
    store.close()


def open_chain(settings: OperatorSettings) -> Chain:
    account = load_keystore(settings.keystore, settings.password_file)
    chain = Chain.connect(Deployment.load(settings.deployment), settings.rpc_url, account, settings.confirmations)
    chain.beacon_urls = tuple(settings.beacon_urls)
    return chain


def clock_drift(chain: Chain) -> int:
    """Seconds that this machine's clock is ahead of the chain's; a block may be a few seconds old. Decides nothing."""
    return round(time.time()) - chain.timestamp()


def find_model(chain: Chain, name: str) -> Model:
    """The newest registered model of that name. Raises InvalidInput listing the names that exist."""
    entries = chain.models()
    for entry in reversed(entries):
        if entry.name == name:
            return chain.model(entry.model_id)
    known = ", ".join(sorted({entry.name for entry in entries})) or "none"
    raise InvalidInput(f"no model {name!r} is registered on this chain; registered: {known}")


def open_operator(
    settings: OperatorSettings,
    role: Role,
    load_engine: Callable[[Model], E],
    open_store: Callable[[str], S],
    stop: threading.Event,
) -> Operator[E, S]:
    """Waits for an endpoint that is away for ENDPOINT_PATIENCE_SECONDS, or until `stop` is set.

    Raises InvalidInput, NotReady (naming the next command), ChainError (also on a chain whose seeds this version cannot
    show), and what loading the engine raises.
    """
    loaded = cache(load_engine)  # once, however often the endpoint goes away meanwhile
    until = time.monotonic() + ENDPOINT_PATIENCE_SECONDS
    pause, longest = ENDPOINT_PAUSE_SECONDS
    while True:
        try:
            return _open_operator(settings, role, loaded, open_store)
        except ChainUnreachable as error:
            left = until - time.monotonic()
            if left <= 0 or stop.is_set():
                raise
            log.warning("endpoint_away", error=str(error), tries_for_seconds=round(left))
            stop.wait(min(pause, left))
            pause = min(2 * pause, longest)


def _open_operator(
    settings: OperatorSettings, role: Role, load_engine: Callable[[Model], E], open_store: Callable[[str], S]
) -> Operator[E, S]:
    chain = open_chain(settings)
    chain.require_seeds()
    if chain.gas_balance(chain.address) == 0:
        raise NotReady(f"{chain.address} has no gas money: send it some of the chain's currency")
    drift = clock_drift(chain)
    if abs(drift) > DRIFT_SECONDS:
        log.warning("clock_off", seconds=drift, hint="nothing on the chain goes by it, but logs and certificates do")
    model = find_model(chain, settings.model)
    if chain.stake_of(chain.address).active == 0:
        raise NotReady(f"{chain.address} has no stake: run `trine stake add <amount>` with this keystore")
    store = open_store(settings.store_url)
    store.vault = Vault(chain.sign)
    lease = _only_copy(settings, chain, store)
    gateway, queue = chain.gateway(), Queue(store, lease.fence)
    outbox = Outbox(chain, gateway, queue, settings.fee_limits, heed_copies=not settings.ignore_other_copies)
    try:
        if queue.is_new() and chain.endpoint_of(chain.address):
            log.error("store_is_new", store="empty", transactions=gateway.nonce(), hint=NEW_STORE)
        lease.keep(lost=outbox.halt)
        engine = load_engine(model)
        chain.send_through(outbox)
        outbox.start()
        _fill_credit(settings, chain, outbox)
        if chain.endpoint_of(chain.address) != settings.endpoint:
            chain.set_endpoint(settings.endpoint)
    except BaseException:
        _close(outbox, lease, store)
        raise
    log.info("operator_ready", address=chain.address, role=role.name.lower(), engine=engine.engine_class)
    return Operator(chain, model, engine, store, outbox, lease)


def _only_copy(settings: OperatorSettings, chain: Chain, store: Store) -> Lease:
    """Raises AnotherCopy when this operator runs already, with this store or, by its endpoint, with another."""
    lease = Lease(store)
    try:
        store.claim(f"{chain.address} on chain {chain.domain.chain_id} at {chain.domain.verifying_contract}")
        if not settings.ignore_other_copies:
            refuse_copy_at(chain.endpoint_of(chain.address), chain.address, lease.instance)
        lease.take(by_force=settings.ignore_other_copies)
    except BaseException:
        store.close()
        raise
    return lease


def _fill_credit(settings: OperatorSettings, chain: Chain, outbox: Outbox) -> None:
    """Raises NotReady when the first batch could not be paid for."""
    credit = Credit(chain, outbox, settings.credit_target_wei)
    leaves = chain.parameters().prompts_per_challenge if settings.calibrate else 1
    deadline = time.monotonic() + CREDIT_SECONDS
    while not credit.covers(leaves, tokens=leaves * TOKENS_OF_AN_ANSWER):
        if time.monotonic() > deadline:
            raise NotReady(f"no credit for the verifiers' fees within {CREDIT_SECONDS:.0f} s: see the log")
        time.sleep(CREDIT_POLL_SECONDS)
