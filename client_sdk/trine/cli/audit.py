"""`trine audit …`: anybody's look at anybody's record."""

from __future__ import annotations

import json as json_module
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
    RpcUrl,
    read_chain,
    typed_address,
)
from trine.cli.output import fail_cleanly, note, print_json, say, tokens
from trine.errors import InvalidInput

if TYPE_CHECKING:
    from rich.table import Table

    from trine.audit import OperatorReport, Standing

app = group("Read operators' records and check certificates.")


@app.command()
@fail_cleanly
def operator(
    address: Annotated[str, typer.Argument(help="Address of the operator.")],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    allow_local: Annotated[
        bool, typer.Option("--allow-local", help="Fetch an agent's file from a private network, too.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Stake, calibration and reputation, with the batches behind them, and its agent of ERC-8004.

    Exit code 3 for an address without any.
    """
    from trine.agents import agent_report_of
    from trine.audit import operator_report

    operator, chain = typed_address(address), read_chain(rpc_url, deployment)
    report = operator_report(chain, operator)
    agent, why_not = agent_report_of(chain, report, local=allow_local) if report.is_known else (None, "")
    if json:
        print_json({**report.to_json(), "agent": agent.to_json() if agent else None})
    elif report.is_known:
        _print(report)
    if agent and not json:
        from trine.cli.identity import print_agent

        say("")
        print_agent(agent)
    if why_not:
        note(why_not)
    if not report.is_known:
        raise InvalidInput(
            f"{operator} is no operator here: this deployment has never seen it, no stake, no endpoint, no "
            "calibration, no record; compare address and deployment file"
        )


@app.command()
@fail_cleanly
def certificate(
    file: Annotated[Path, typer.Argument(help="A certificate as JSON.", exists=True, dir_okay=False)],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    json: AsJson = False,
) -> None:
    """Checks a stored certificate against the chain. Exit code 7 when it does not hold."""
    from trine.audit import certificate_report
    from trine.protocol.certificate import Certificate

    try:
        document = json_module.loads(file.read_text())
        held = None if _is_another_kind(document) else Certificate.from_json(document)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is no certificate: {error}") from None
    if held is None:
        raise InvalidInput(f"{file} is {_is_another_kind(document)}")
    report = certificate_report(read_chain(rpc_url, deployment), held)
    if json:
        print_json(report.to_json())
    else:
        finality = "final" if report.is_final else "soft: an appeal may still change it"
        say(f"the certificate holds: {held.receipt.node}'s answer, result {held.result} ({finality})")


def _is_another_kind(document: Any) -> str:
    """What a file is that this command has written or takes elsewhere, and what it is for; else nothing."""
    if isinstance(document, dict) and "nodeUrl" in document:
        return "a receipt, to which `trine claim` holds its node; its certificate is made by `trine certificate get`"
    if isinstance(document, dict) and "keySets" in document:
        return "a certificate that needs no chain: `trine verify` checks it"
    return ""


def _print(report: OperatorReport) -> None:
    from rich.table import Table

    stake = report.stake
    say(f"operator   {report.operator}")
    say(f"endpoint   {report.endpoint or '-'}")
    say(
        f"stake      {tokens(stake.active)} active ({tokens(stake.own)} its own, {tokens(stake.locked)} locked), "
        f"{tokens(stake.unbonding)} unbonding, {tokens(report.credit_wei)} credit"
    )
    if report.canary_fines_wei or report.bounties_wei:
        say(
            f"canaries   {tokens(report.canary_fines_wei)} lost for accepting some, "
            f"{tokens(report.bounties_wei)} earned by planting some"
        )
    say(f"as of      block {report.block}")
    for standing in report.standings:
        _print_standing(standing)
    if report.slashes:
        table = Table("block", "batch", "taken", title="slashes", title_justify="left")
        for slash in report.slashes:
            table.add_row(str(slash.block), "0x" + slash.batch_id.hex(), tokens(slash.taken_wei))
        _show(table)


def _print_standing(standing: Standing) -> None:
    from rich.table import Table

    reputation, calibration = standing.reputation, standing.calibration
    say("")
    say(f"{standing.role.name.lower()} of {standing.model_name}")
    until = datetime.fromtimestamp(calibration.valid_until, UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(
        f"  calibration  {'valid until ' + until if standing.calibrated else 'none valid'} "
        f"({calibration.leaves_passed} of {calibration.leaves} answers, {calibration.output_tokens} tokens in "
        f"{calibration.seconds_to_answer} s, distance {calibration.distance_ppm / 1e6:.4f})"
    )
    accepted, rejected, missed = standing.counts
    worth = [
        f"{micro / 1e6:.2f}"
        for micro in (reputation.accepted_micro, reputation.rejected_micro, reputation.missed_micro)
    ]
    say(
        f"  reputation   {reputation.score_bps / 100:.2f} % ({accepted:g} accepted, {rejected:g} rejected, "
        f"{missed:g} missed; worth {', '.join(worth)} now)"
    )
    if standing.work:
        table = Table("block", "batch", "accepted", "rejected", "missed", "score after")
        for work in standing.work:
            table.add_row(
                str(work.block),
                "0x" + work.batch_id.hex(),
                f"{work.accepted:g}",
                f"{work.rejected:g}",
                f"{work.missed:g}",
                f"{work.score_bps / 100:.2f} %",
            )
        _show(table)


def _show(table: Table) -> None:
    """With ids in full: somebody will look them up. A file is as wide as they are."""
    from rich.console import Console

    from trine.cli.output import out

    for column in table.columns:
        column.overflow = "fold"
    console = out if out.is_terminal else Console(file=out.file, width=140)
    console.print(table)
