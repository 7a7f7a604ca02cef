"""`trine stake …`: put stake in, take it out."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    AsJson,
    DeploymentFile,
    Keystore,
    PasswordFile,
    RpcUrl,
    account_chain,
    read_chain,
)
from trine.cli.output import fail_cleanly, print_json, say, tokens
from trine.errors import InvalidInput

app = typer.Typer(help="Stake, unbond, withdraw.", no_args_is_help=True)
Amount = Annotated[str, typer.Argument(help="In whole tokens, e.g. 250 or 0.5.")]


@app.command()
@fail_cleanly
def add(
    amount: Amount,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Stakes tokens of the account."""
    wei = _wei(amount)
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.approve("Staking", wei)
    chain.stake(wei)
    say(f"{chain.address} has {tokens(chain.stake_of(chain.address).active)} tokens at stake")


@app.command()
@fail_cleanly
def unbond(
    amount: Amount,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Starts taking stake out; it stays slashable until it is withdrawn after the delay."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.unbond(_wei(amount))
    stake = chain.stake_of(chain.address)
    say(f"{tokens(stake.unbonding)} tokens are unbonding, withdrawable at unix time {stake.releasable_at}")


@app.command()
@fail_cleanly
def withdraw(
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Pays out what has finished unbonding."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.withdraw_stake()
    say("withdrawn")


@app.command()
@fail_cleanly
def show(
    operator: Annotated[str, typer.Argument(help="Address of the operator.")],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    json: AsJson = False,
) -> None:
    """Prints an operator's stake."""
    stake = read_chain(rpc_url, deployment).stake_of(operator)
    if json:
        print_json(
            {
                "activeWei": str(stake.active),
                "lockedWei": str(stake.locked),
                "unbondingWei": str(stake.unbonding),
                "releasableAt": stake.releasable_at,
            }
        )
    else:
        say(f"active {tokens(stake.active)}, locked {tokens(stake.locked)}, unbonding {tokens(stake.unbonding)}")


def _wei(amount: str) -> int:
    try:
        wei = Decimal(amount) * 10**18
        if not 0 < wei < 2**128 or wei != int(wei):
            raise InvalidOperation
    except InvalidOperation:
        raise InvalidInput(f"{amount!r} is no amount of tokens: expected e.g. 250 or 0.5") from None
    return int(wei)
