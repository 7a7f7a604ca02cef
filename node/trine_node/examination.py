"""What an operator's start needs, looked at beforehand: `trine node check`, `trine verifier check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trine.cli.output import say, tokens
from trine.errors import InvalidInput, NotReady, TrineError

if TYPE_CHECKING:
    from trine.chain import Role
    from trine_node.settings import NodeSettings
    from trine_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check. `todo` is None where nothing needs to be done."""

    what: str
    found: str
    todo: str | None = None


def report(findings: Iterator[Finding], purpose: str) -> None:
    """Prints findings as they come. Raises NotReady if something is missing."""
    missing = 0
    for finding in findings:
        missing += finding.todo is not None
        say(f"{finding.what:<12}{finding.found}")
        if finding.todo:
            say(f"{'':<12}-> {finding.todo}")
    if missing:
        raise NotReady(f"{missing} of these must be seen to before {purpose}")


def examine(settings: OperatorSettings, role: Role, start: str, leaves: int) -> Iterator[Finding]:
    """Looks at everything that an operator's start needs, without a transaction.

    `start` is the command that starts it, `leaves` those of the first batch that must be paid for. Raises where looking
    further is pointless.
    """
    from trine.chain.endpoint import origin_of
    from trine_node.engines.base import EngineError
    from trine_node.engines.loading import load_engine
    from trine_node.models import RendererMismatch
    from trine_operator.opening import clock_drift, find_model, open_chain
    from trine_operator.store import Store

    chain = open_chain(settings)
    me = chain.address
    account = (
        f"--keystore {settings.keystore} --password-file {settings.password_file} --deployment {settings.deployment} "
        f"--rpc-url {origin_of(settings.rpc_url)}"
    )
    yield Finding("account", me)
    yield Finding("chain", f"{chain.domain.chain_id} at {origin_of(settings.rpc_url)}, block {chain.block_number()}")
    drift = clock_drift(chain)
    yield Finding("clock", f"{drift} s ahead of the newest block" + (", which is a lot" if abs(drift) > 60 else ""))
    gas = chain.gas_balance(me)
    yield Finding("gas money", f"{gas} wei", None if gas else f"send some of the chain's currency to {me}")
    stake = chain.stake_of(me)
    todo = None if stake.active else f"trine stake add <amount> {account}"
    yield Finding("stake", f"{tokens(stake.active)} tokens, {tokens(stake.locked)} of them locked", todo)
    credit, balance = chain.credit_of(me), chain.token_balance(me)
    enough = credit + balance >= chain.parameters().verifier_fee(leaves, 0)
    todo = None if enough else f"send tokens to {me}: they pay the verifiers"
    yield Finding("credit", f"{tokens(credit)} tokens, {tokens(balance)} more in the account", todo)
    model = find_model(chain, settings.model)
    yield Finding("model", f"{model.name}, 0x{model.model_id.hex()}")
    yield Finding("loading", "the model, to compare it with what is registered; this may take a minute")
    where = f" at {settings.engine_url}" if settings.engine_url else ""
    try:
        engine = load_engine(settings, model)
        yield Finding("files", "every one as registered")
        yield Finding("renderer", "gives the registered tokens for every golden vector")
        yield Finding("engine", engine.engine_class + where)
    except RendererMismatch as error:
        yield Finding("renderer", str(error), "install the versions that the model's manifest pins")
    except EngineError as error:
        yield Finding("engine", str(error), f"see to the {settings.engine} server{where}")
    try:
        store = Store(settings.store_url)
        try:
            store.claim(f"{me} on chain {chain.domain.chain_id} at {chain.domain.verifying_contract}")
        finally:
            store.close()
        yield Finding("store", "opens, and is this account's")
    except TrineError as error:
        yield Finding("store", str(error), "see the setting store_url")
    registered = chain.endpoint_of(me)
    later = "" if registered == settings.endpoint else f"; `{start}` will register {settings.endpoint}"
    yield Finding("endpoint", (registered or "none registered") + later)
    calibrated = chain.is_calibrated(me, role, model.model_id)
    asks = f"no: `{start}` will ask for a challenge" if settings.calibrate else "no"
    todo = None if calibrated or settings.calibrate else "set calibrate = true"
    yield Finding("calibrated", "yes" if calibrated else asks, todo)


def examine_x402(settings: NodeSettings) -> Iterator[Finding]:
    """Whether what payers sign by x402 could be charged, where the setting is on."""
    from trine_operator.opening import find_model, open_chain

    if settings.x402 is None:
        return
    try:
        from trine_node.x402.opening import terms_of
    except ImportError:
        yield Finding("x402", "the library is not installed", "in a checkout of Trine, pip install './node[x402]'")
        return
    chain = open_chain(settings)
    try:
        terms = terms_of(settings.x402, chain, find_model(chain, settings.model), settings.anchor_within_seconds)
    except InvalidInput as error:
        yield Finding("x402", str(error), "see to x402 in the settings")
        return
    price = f"{terms.units_per_million_tokens} units of {terms.name} a million tokens"
    yield Finding("x402", f"{price}, charged after final verdicts; signatures must be good for {terms.valid_seconds} s")
