"""What every operator's process does before it works: key, chain, stake, model files, engine, store.

Refuses to start, saying what to do, rather than to run into a slash.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from trine.chain import Chain, Deployment, Model, Role, load_keystore
from trine.errors import InvalidInput, NotReady
from trine_operator.credit import Credit
from trine_operator.settings import OperatorSettings
from trine_operator.store import Store

log = structlog.get_logger()

TOKENS_OF_AN_ANSWER = 512
"""With its prompt, as reckoned before there is one."""
DRIFT_SECONDS = 60
"""Blocks may be that far apart."""


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


def open_chain(settings: OperatorSettings) -> Chain:
    account = load_keystore(settings.keystore, settings.password_file)
    return Chain.connect(Deployment.load(settings.deployment), settings.rpc_url, account, settings.confirmations)


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
    settings: OperatorSettings, role: Role, load_engine: Callable[[Model], E], open_store: Callable[[str], S]
) -> Operator[E, S]:
    """Raises InvalidInput, NotReady (naming the next command), and what loading the engine raises."""
    chain = open_chain(settings)
    if chain.gas_balance(chain.address) == 0:
        raise NotReady(f"{chain.address} has no gas money: send it some of the chain's currency")
    drift = clock_drift(chain)
    if abs(drift) > DRIFT_SECONDS:
        log.warning("clock_off", seconds=drift, hint="nothing on the chain goes by it, but logs and certificates do")
    model = find_model(chain, settings.model)
    if chain.stake_of(chain.address).active == 0:
        raise NotReady(f"{chain.address} has no stake: run `trine stake add <amount>` with this keystore")
    engine = load_engine(model)
    store = open_store(settings.store_url)
    leaves = chain.parameters().prompts_per_challenge if settings.calibrate else 1
    Credit(chain, settings.credit_target_wei).ensure(leaves, tokens=leaves * TOKENS_OF_AN_ANSWER)
    if chain.endpoint_of(chain.address) != settings.endpoint:
        chain.set_endpoint(settings.endpoint)
    log.info("operator_ready", address=chain.address, role=role.name.lower(), engine=engine.engine_class)
    return Operator(chain, model, engine, store)
