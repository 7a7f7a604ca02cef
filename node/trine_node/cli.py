"""`trine node …`: check and serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly, say, tokens
from trine.errors import NotReady, TrineError
from trine_operator.protection_cli import protection_group

if TYPE_CHECKING:
    from trine_node.settings import NodeSettings

app = group("Serve a model and be paid for verified answers.")


def _settings(config: Path | None) -> NodeSettings:
    from trine_node.settings import NodeSettings

    return NodeSettings.load(config)


app.add_typer(protection_group(_settings), name="protection")

Config = Annotated[
    Path | None,
    typer.Option(help="TOML file with the settings; see docs/operators.md.", exists=True, dir_okay=False),
]


@app.command()
@fail_cleanly
def serve(
    config: Config = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
    calibrate: Annotated[bool | None, typer.Option(help="Take a challenge if the chain holds no valid one.")] = None,
) -> None:
    """Serves the model until stopped; calibrates first if the chain holds no valid calibration."""
    from trine_node.run import run_node
    from trine_node.settings import NodeSettings
    from trine_operator.logs import configure_logs

    configure_logs()
    run_node(NodeSettings.load(config, port=port, dtype=dtype, calibrate=calibrate))


@app.command()
@fail_cleanly
def check(config: Config = None) -> None:
    """Says what is ready and what is missing, with the next command. Sends and serves nothing."""
    from trine_node.settings import NodeSettings
    from trine_operator.logs import configure_logs

    configure_logs("warning")
    missing = 0
    for finding in examine(NodeSettings.load(config)):
        missing += finding.todo is not None
        say(f"{finding.what:<12}{finding.found}")
        if finding.todo:
            say(f"{'':<12}-> {finding.todo}")
    if missing:
        raise NotReady(f"{missing} of these must be seen to before the node can serve")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check. `todo` is None where nothing needs to be done."""

    what: str
    found: str
    todo: str | None = None


def examine(settings: NodeSettings) -> Iterator[Finding]:
    """Looks at everything that `serve` needs, without a transaction. Raises where looking further is pointless."""
    from trine.chain import Role
    from trine.chain.endpoint import origin_of
    from trine_node.engines.base import EngineError
    from trine_node.engines.loading import load_engine
    from trine_node.models import RendererMismatch
    from trine_operator.opening import clock_drift, find_model, open_chain
    from trine_operator.store import Store

    chain = open_chain(settings)
    me = chain.address
    account = f"--keystore {settings.keystore} --password-file {settings.password_file}"
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
    enough = credit + balance >= chain.parameters().verifier_fee(settings.batch_max_leaves, 0)
    todo = None if enough else f"send tokens to {me}: they pay the verifiers"
    yield Finding("credit", f"{tokens(credit)} tokens, {tokens(balance)} more in the account", todo)
    model = find_model(chain, settings.model)
    yield Finding("model", f"{model.name}, 0x{model.model_id.hex()}")
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
    later = "" if registered == settings.endpoint else f"; `trine node serve` will register {settings.endpoint}"
    yield Finding("endpoint", (registered or "none registered") + later)
    calibrated = chain.is_calibrated(me, Role.NODE, model.model_id)
    asks = "no: `trine node serve` will ask for a challenge" if settings.calibrate else "no"
    todo = None if calibrated or settings.calibrate else "trine node serve --calibrate"
    yield Finding("calibrated", "yes" if calibrated else asks, todo)
