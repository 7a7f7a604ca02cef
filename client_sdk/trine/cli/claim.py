"""`trine claim`: hold a node to its promise to anchor an answer."""

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
    load_account,
)
from trine.cli.output import fail_cleanly, note, print_json, say
from trine.errors import InvalidInput


@fail_cleanly
def claim(
    file: Annotated[
        Path, typer.Argument(help="What `trine ask --save-receipt` has written.", exists=True, dir_okay=False)
    ],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Claims that an answer is in no batch, though its node has promised to anchor it by now.

    Puts up a bond, which the node gets if it shows the answer in a batch in time. To be called again after that time:
    a node that has not is slashed, and the bond comes back with half of that.
    """
    account = load_account(keystore, password_file)
    from trine import Answer, Client, Deployment
    from trine.chain import ClaimState
    from trine.unsettled import require_of_this_chain

    try:
        answer = Answer.from_held(json_module.loads(file.read_text()))
    except ValueError as error:
        raise InvalidInput(f"{file}: {error}") from None
    with Client(rpc_url=rpc_url, deployment=Deployment.load(deployment), account=account) as client:
        require_of_this_chain(client.chain, answer.receipt)
        now_claimed = client.claim_inclusion(answer)
    if json:
        print_json({"state": now_claimed.state.name.lower(), "answerBy": now_claimed.answer_by})
        return
    say(now_claimed.state.name.lower())
    if now_claimed.state == ClaimState.OPEN:
        note(f"the node has until {now_claimed.answer_by} (seconds since 1970) to show the answer: then come again")
