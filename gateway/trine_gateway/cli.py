"""`trine gateway …`: set up, serve, keys, what was spent."""

from __future__ import annotations

import json as json_module
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trine.cli.groups import group
from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    AsJson,
    DeploymentFile,
    Keystore,
    PasswordFile,
    RpcUrl,
    load_account,
    token_wei,
)
from trine.cli.output import fail_cleanly, note, print_json, say, tokens
from trine.errors import InvalidInput

if TYPE_CHECKING:
    from trine_gateway.settings import GatewaySettings
    from trine_gateway.store import GatewayStore

app = group("Serve OpenAI's interface, and let staked nodes answer.")
keys_app = group("Keys of those who may ask: each with a budget and a rate.")
app.add_typer(keys_app, name="keys")

DEFAULT_CONFIG = Path("gateway.toml")
Config = Annotated[Path, typer.Option(help="TOML file with the settings; see docs/gateway.md.")]
DAY_SECONDS = 86_400


def _settings(config: Path) -> GatewaySettings:
    if not config.exists() and config != DEFAULT_CONFIG:
        raise InvalidInput(f"there is no file {config}: `trine gateway init` writes one")
    return _loaded(config)


def _loaded(config: Path, **given: Any) -> GatewaySettings:
    """Raises InvalidInput."""
    from trine_gateway.settings import GatewaySettings

    if config.exists():
        return GatewaySettings.load(config, **given)
    try:  # the environment may say it all
        return GatewaySettings.load(None, **given)
    except InvalidInput as error:
        missing = f"there is no file {config}, which `trine gateway init` writes"
        raise InvalidInput(f"{missing}; without one: {error}") from None


def _store(config: Path) -> GatewayStore:
    from trine_gateway.store import GatewayStore
    from trine_operator.logs import configure_logs

    configure_logs("warning")
    return GatewayStore(_settings(config).store_url)


@app.command()
@fail_cleanly
def init(
    config: Config = DEFAULT_CONFIG,
    deposit: Annotated[
        str, typer.Option(help="Tokens to deposit with a node whenever what is there does not cover an order.")
    ] = "10",
    store_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL; default: gateway.sqlite beside FILE.")] = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Writes a file with the settings, after a look at the chain and the account, and makes the store."""
    if config.exists():
        raise InvalidInput(f"{config} is there already: edit it, or name another by --config")
    token_wei(deposit)
    account = load_account(keystore, password_file)
    from trine.chain import Chain, Deployment
    from trine_gateway.chain_watch import require_own_chain
    from trine_gateway.store import GatewayStore
    from trine_operator.logs import configure_logs

    configure_logs("warning")
    chain = Chain.connect(Deployment.load(deployment), rpc_url, account)
    store_url = store_url or f"sqlite:///{config.absolute().with_suffix('.sqlite')}"
    store = GatewayStore(store_url)
    try:
        require_own_chain(store, chain)
        balance, models = chain.token_balance(account.address), chain.models()
    finally:
        store.close()
    values = {
        "rpc_url": rpc_url,
        "deployment": str(deployment.absolute()),
        "keystore": str(keystore.absolute()) if keystore else "",
        "password_file": str(password_file.absolute()) if password_file else "",
        "deposit": deposit,
        "store_url": store_url,
        "host": "127.0.0.1",
        "port": 8080,
    }
    config.touch(0o600)  # addresses may hold keys
    config.write_text("".join(f"{name} = {json_module.dumps(value)}\n" for name, value in values.items()))
    note(f"the account {account.address} has {tokens(balance)} tokens; models: {_named([m.name for m in models])}")
    say(f"{config} is written; next: trine gateway keys add NAME --budget 10, then trine gateway run")


@app.command()
@fail_cleanly
def run(
    config: Config = DEFAULT_CONFIG,
    host: Annotated[str | None, typer.Option(help="Address to listen at.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serves until stopped."""
    from trine_gateway.run import run_gateway
    from trine_operator.logs import configure_logs

    configure_logs()
    _settings(config)
    run_gateway(_loaded(config, host=host, port=port))


@keys_app.command("add")
@fail_cleanly
def add_key(
    name: Annotated[str, typer.Argument(help="What to call it: who uses it, for instance.")],
    budget: Annotated[str | None, typer.Option(help="Tokens that may be spent with it; default: no limit.")] = None,
    per_minute: Annotated[int, typer.Option("--rpm", help="Requests a minute.", min=1, max=1_000_000)] = 60,
    days: Annotated[float | None, typer.Option(help="How long it is valid; default: until it is revoked.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may see what all keys have spent.")] = False,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Makes a key and prints it, this once: only its hash is kept."""
    if days is not None and not 0 < days <= 36_500:
        raise InvalidInput("a key is valid for more than no days, and for 36,500 at most")
    store = _store(config)
    try:
        namesakes = [each.key.key_id for each in store.usage(recent=0) if each.key.name == name]
        key_id, text = store.add_key(
            name,
            budget_wei=None if budget is None else token_wei(budget),
            requests_per_minute=per_minute,
            expires_at=None if days is None else int(time.time() + days * DAY_SECONDS),
            is_admin=admin,
        )
    finally:
        store.close()
    if json:
        print_json({"id": key_id, "key": text})
        return
    if namesakes:
        note(f"{name} is also what key {_named(namesakes)} is called: `trine gateway keys revoke` ends one")
    note(f"key {key_id} for {name}: keep what follows, it is not shown again")
    say(text)


@keys_app.command("list")
@fail_cleanly
def list_keys(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Lists keys, with what they have spent."""
    _show(config, None, json)


@keys_app.command("revoke")
@fail_cleanly
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Its id: the twelve characters after sk-trine-.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Ends a key for good. Answers on their way are finished."""
    store = _store(config)
    try:
        store.revoke(key_id)
    finally:
        store.close()
    say(f"key {key_id} is revoked")


@app.command()
@fail_cleanly
def usage(
    key: Annotated[str | None, typer.Option(help="Id of one key: with its last answers.")] = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """What keys have spent, and what verifiers said of their answers."""
    _show(config, key, json)


def _show(config: Path, key_id: str | None, json: bool) -> None:
    from trine_gateway.service.usage import document, of_key

    store = _store(config)
    try:
        found = store.usage(key_id)
    finally:
        store.close()
    if key_id is not None and not found:
        raise InvalidInput(f"there is no key {key_id!r:.64}: `trine gateway keys list` shows their ids")
    if json:
        print_json([of_key(each) for each in found] if key_id is None else document(found[0].key, found[0], (), ()))
        return
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Column, Table

    from trine.cli.output import out

    # An id is typed again by who revokes it: it is never cut.
    table = Table(
        Column("key", no_wrap=True), "name", "spent", "answers", "accepted", "refused", "pending", box=SIMPLE_HEAD
    )
    for each in found:
        held = each.key
        state = " (revoked)" if held.revoked_at else "" if held.is_valid(time.time()) else " (expired)"
        table.add_row(
            held.key_id,
            escape(held.name) + state,
            tokens(each.spent_wei) + ("" if held.budget_wei is None else f" of {tokens(held.budget_wei)}"),
            str(each.answers),
            str(each.verdicts["accept"]),
            str(each.verdicts["reject"] + each.verdicts["unavailable"]),
            str(each.answers - sum(each.verdicts.values())),
        )
    out.print(table)
    if key_id is not None:
        for answer in found[0].recent:
            when = datetime.fromtimestamp(answer.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
            verdict = (answer.verdict or "pending") + (", final" if answer.is_final else "")
            say(f"{when}  {answer.digest}  {tokens(answer.fee_wei)}  {verdict}")


def _named(names: list[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"
