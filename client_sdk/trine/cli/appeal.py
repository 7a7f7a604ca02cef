"""`trine appeal`: disagree with a verdict."""

from __future__ import annotations

import json as json_module
from pathlib import Path
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
)
from trine.cli.output import fail_cleanly, note, print_json, say, tokens
from trine.errors import InvalidInput


@fail_cleanly
def appeal(
    file: Annotated[Path, typer.Argument(help="The answer's certificate as JSON.", exists=True, dir_okay=False)],
    claim: Annotated[str, typer.Argument(help="What the verdict should have been: accept or reject.")],
    resume: Annotated[bool, typer.Option("--resume", help="Only see an open appeal through.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the end.", min=1)] = 86_400.0,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Appeals a settled answer to a larger committee; a second time, the outcome of the first appeal.

    Puts up the bond, draws the committee, waits for the end and takes out what is won.
    """
    if claim not in ("accept", "reject"):
        raise InvalidInput(f"{claim!r} is no claim: accept or reject")
    from trine.appeal import open_appeal, see_through
    from trine.chain import Verdict
    from trine.protocol.certificate import Certificate

    try:
        certificate = Certificate.from_json(json_module.loads(file.read_text()))
    except ValueError as error:
        raise InvalidInput(f"{file}: {error}") from None
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    if not resume:
        wanted = Verdict.ACCEPTED if claim == "accept" else Verdict.REJECTED
        bond = open_appeal(chain, certificate, wanted)
        note(f"appealed, {tokens(bond)} tokens are put up; waiting for the larger committee")
    outcome = see_through(chain, certificate, timeout=timeout)
    if outcome.credit_wei:
        chain.withdraw_appeal_credit()
    if json:
        print_json({"verdict": outcome.verdict.name.lower(), "withdrawnWei": str(outcome.credit_wei)})
    else:
        say(f"final verdict: {outcome.verdict.name.lower()}; {tokens(outcome.credit_wei)} tokens withdrawn")
