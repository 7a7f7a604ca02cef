"""Options that several commands share, with their environment variables."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.errors import InvalidInput

if TYPE_CHECKING:
    from trine.chain import Chain

RpcUrl = Annotated[str, typer.Option(envvar="TRINE_RPC_URL", help="JSON-RPC endpoint of the chain.")]
DeploymentFile = Annotated[
    Path, typer.Option("--deployment", envvar="TRINE_DEPLOYMENT", help="JSON file with the contracts' addresses.")
]
Keystore = Annotated[
    Path | None, typer.Option(envvar="TRINE_KEYSTORE", help="Web3 Secret Storage file of the account.")
]
PasswordFile = Annotated[
    Path | None, typer.Option(envvar="TRINE_PASSWORD_FILE", help="File whose first line opens the keystore.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DEFAULT_RPC_URL = "http://127.0.0.1:8545"
DEFAULT_DEPLOYMENT = Path(".trine/devnet/deployment.json")


def read_chain(rpc_url: str, deployment: Path) -> Chain:
    from trine.chain import Chain, Deployment

    return Chain.connect(Deployment.load(deployment), rpc_url)


def account_chain(rpc_url: str, deployment: Path, keystore: Path | None, password_file: Path | None) -> Chain:
    """Raises InvalidInput naming the option that is missing."""
    if keystore is None or password_file is None:
        raise InvalidInput("this needs an account: pass --keystore and --password-file")
    from trine.chain import Chain, Deployment, load_keystore

    account = load_keystore(keystore, password_file)
    return Chain.connect(Deployment.load(deployment), rpc_url, account)


def token_wei(amount: str) -> int:
    """Whole tokens as people write them, in wei. Raises InvalidInput."""
    try:
        wei = Decimal(amount) * 10**18
        if not 0 <= wei < 2**128 or wei != int(wei):
            raise InvalidOperation
    except InvalidOperation:
        raise InvalidInput(f"{amount!r} is no amount of tokens: expected e.g. 250 or 0.5") from None
    return int(wei)
