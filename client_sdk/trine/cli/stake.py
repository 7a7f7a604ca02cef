"""`trine stake …`: put stake in, take it out; prepay verification."""

from __future__ import annotations

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
    account_chain,
    load_account,
    read_chain,
    token_wei,
)
from trine.cli.output import fail_cleanly, print_json, say, tokens
from trine.errors import InvalidInput
from trine.wording import when

if TYPE_CHECKING:
    from trine.chain import Chain

app = group("Stake, delegate, unbond, withdraw, prepay.")
Amount = Annotated[str, typer.Argument(help="In whole tokens, e.g. 250 or 0.5.")]
With = Annotated[
    str | None, typer.Option("--operator", help="With whom the account has the stake; default: itself, as an operator.")
]


@app.command()
@fail_cleanly
def add(
    amount: Amount,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Stakes tokens of the account, as an operator."""
    wei = _positive(amount)
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.allow("Staking", wei)
    chain.stake(wei)
    say(f"{chain.address} has {tokens(chain.stake_of(chain.address).active)} tokens at stake")


@app.command()
@fail_cleanly
def delegate(
    operator: Annotated[str, typer.Argument(help="Address of the operator.")],
    amount: Amount,
    max_commission: Annotated[
        float | None,
        typer.Option(help="Percent; refuse if the operator keeps more. Default: what it keeps now.", min=0, max=50),
    ] = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Stakes tokens of the account with an operator that has opened its pool: rewards, released over some days, and
    slashes are shared, less the commission."""
    wei = _positive(amount)
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    free = _free_for_delegators(chain, operator)
    if wei > free:
        raise InvalidInput(
            f"{operator} takes {tokens(free)} tokens more of delegators in all; it may open its pool for more with "
            "`trine stake open`"
        )
    most = chain.commission_of(operator) if max_commission is None else _bps(max_commission)
    chain.allow("Staking", wei)
    chain.delegate(operator, wei, most)
    share = chain.delegation_of(operator, chain.address)
    say(f"{chain.address} has {tokens(share)} tokens at stake with {operator}")


@app.command()
@fail_cleanly
def unbond(
    amount: Amount,
    operator: With = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Starts taking stake out; it stays slashable until it is withdrawn after the delay."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.unbond(operator or chain.address, _positive(amount))
    ticket = chain.ticket_of(operator or chain.address, chain.address)
    say(f"{tokens(ticket.amount)} tokens are unbonding, and can be withdrawn from {when(ticket.releasable_at)} on")


@app.command()
@fail_cleanly
def withdraw(
    operator: With = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Pays out what has finished unbonding."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.withdraw_stake(operator or chain.address)
    say("withdrawn")


@app.command()
@fail_cleanly
def credit(
    amount: Annotated[str | None, typer.Argument(help="Tokens to add; none: print what there is.")] = None,
    take_out: Annotated[bool, typer.Option("--withdraw", help="Pay all of it out.")] = False,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Prepays the verifiers' fees of the account's batches, or takes out what is not used."""
    if take_out and amount is not None:
        raise InvalidInput("either an amount to add or --withdraw")
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    if take_out:
        chain.withdraw_credit()
    elif amount is not None:
        wei = _positive(amount)
        chain.allow("Staking", wei)
        chain.add_credit(wei)
    say(f"{chain.address} has {tokens(chain.credit_of(chain.address))} tokens of credit")


@app.command("open")
@fail_cleanly
def open_(
    limit: Annotated[str, typer.Argument(help="The most that all delegators may have, in whole tokens; 0 closes.")],
    commission: Annotated[float, typer.Option(help="Percent of rewards that the account keeps.", min=0, max=50)],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Lets others delegate to the account, an operator. A lower limit turns out nobody who has delegated."""
    wei = token_wei(limit)
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.open_delegation(wei, _bps(commission))
    say(f"{chain.address} takes up to {tokens(wei)} tokens of delegators and keeps {_kept(chain, commission)}")


@app.command()
@fail_cleanly
def commission(
    percent: Annotated[float, typer.Argument(help="Of rewards, kept before they are shared.", min=0, max=50)],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Sets what the account, an operator, keeps of rewards. Once others have delegated to it, a rise counts only after
    the unbonding delay."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.set_commission(_bps(percent))
    say(f"{chain.address} keeps {_kept(chain, percent)}")


@app.command()
@fail_cleanly
def show(
    operator: Annotated[str | None, typer.Argument(help="Its address; default: the account itself.")] = None,
    holder: Annotated[str | None, typer.Option(help="Also what this account has with the operator.")] = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Prints an operator's stake and credit."""
    operator = operator or str(load_account(keystore, password_file).address)
    chain = read_chain(rpc_url, deployment)
    report = _report(chain, operator, holder or operator)
    if json:
        print_json(report)
        return
    shown = {name: tokens(int(value)) for name, value in report.items() if name.endswith("Wei")}
    say(
        f"active {shown['activeWei']} ({shown['ownWei']} its own), locked {shown['lockedWei']}, unbonding "
        f"{shown['unbondingWei']}, credit {shown['creditWei']}, commission {report['commissionBps'] / 100:g} %"
    )
    if report["announcedFrom"]:
        coming = f"{report['announcedCommissionBps'] / 100:g} %"
        say(f"commission {coming} from {when(report['announcedFrom'])} on")
    say(f"open to {shown['delegationLimitWei']} of delegators; {shown['releasingWei']} of income are being released")
    say(
        f"{holder or operator} holds {shown['heldWei']} of it; {shown['leavingWei']} are leaving",
    )
    if report["releasableAt"]:
        say(f"what leaves can be withdrawn from {when(report['releasableAt'])} on")


def _report(chain: Chain, operator: str, holder: str) -> dict[str, Any]:
    stake, ticket = chain.stake_of(operator), chain.ticket_of(operator, holder)
    announced = _announced(chain, operator)
    return {
        "activeWei": str(stake.active),
        "ownWei": str(stake.own),
        "lockedWei": str(stake.locked),
        "unbondingWei": str(stake.unbonding),
        "releasingWei": str(stake.releasing),
        "delegationLimitWei": str(chain.delegation_limit_of(operator)),
        "creditWei": str(chain.credit_of(operator)),
        "commissionBps": chain.commission_of(operator),
        "announcedCommissionBps": announced[0] if announced else None,
        "announcedFrom": announced[1] if announced else None,
        "heldWei": str(chain.delegation_of(operator, holder)),
        "leavingWei": str(ticket.amount),
        "releasableAt": ticket.releasable_at,
    }


def _free_for_delegators(chain: Chain, operator: str) -> int:
    """How much more, in wei, others may delegate; all that there is to the account itself."""
    stake = chain.stake_of(operator)
    if operator.lower() == chain.address.lower():
        return chain.token_balance(operator)
    return max(0, chain.delegation_limit_of(operator) - (stake.active - stake.own))


def _bps(percent: float) -> int:
    return round(percent * 100)


def _kept(chain: Chain, wanted: float) -> str:
    """What the account keeps now and, if that is not what it wanted, from when on it does."""
    now = chain.commission_of(chain.address)
    later = "" if now == _bps(wanted) else f", {wanted:g} % {_announced_for(chain, chain.address)}"
    return f"{now / 100:g} %{later}"


def _announced(chain: Chain, operator: str) -> tuple[int, int] | None:
    """The commission that is to come, in basis points, and from when on; None without one."""
    announced = chain.announced_commission_of(operator)
    return announced if announced[1] > chain.timestamp() else None


def _announced_for(chain: Chain, operator: str) -> str:
    announced = _announced(chain, operator)
    return f"from {when(announced[1])} on" if announced else "soon"


def _positive(amount: str) -> int:
    wei = token_wei(amount)
    if wei == 0:
        raise InvalidInput("the amount must be more than zero")
    return wei
