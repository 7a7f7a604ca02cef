"""Options that several commands share, with their environment variables."""

from __future__ import annotations

import json
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from trine.errors import InvalidInput

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from trine.chain import Chain

RpcUrl = Annotated[
    str, typer.Option(envvar="TRINE_RPC_URL", help="JSON-RPC endpoint of the chain, or several with commas between.")
]
DeploymentFile = Annotated[
    Path, typer.Option("--deployment", envvar="TRINE_DEPLOYMENT", help="JSON file with the contracts' addresses.")
]
Keystore = Annotated[
    Path | None, typer.Option(envvar="TRINE_KEYSTORE", help="Web3 Secret Storage file of the account.")
]
PasswordFile = Annotated[
    Path | None, typer.Option(envvar="TRINE_PASSWORD_FILE", help="File whose first line opens the keystore.")
]
Temperature = Annotated[
    float | None, typer.Option(help="Draws the answer's tokens, 2 at most; 0 or left out: the likeliest ones.")
]
TopP = Annotated[float | None, typer.Option(help="With a temperature: only the likeliest, this much in all.")]
TopK = Annotated[int | None, typer.Option(help="With a temperature: only so many of the likeliest.")]
MinP = Annotated[float | None, typer.Option(help="With a temperature: only what is this likely beside the likeliest.")]
Seed = Annotated[int | None, typer.Option(help="With a temperature: what decides the draw; left out, one is drawn.")]
Schema = Annotated[
    Path | None, typer.Option("--schema", help="File with a JSON Schema: the answer is JSON that keeps to it.")
]
Choices = Annotated[list[str] | None, typer.Option("--choice", help="The answer is one of these; repeat it for each.")]
Regex = Annotated[str | None, typer.Option(help="The answer is what this regular expression matches, as a whole.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

MAX_SCHEMA_BYTES = 1 << 20
"""Of a file that is read at all; the protocol allows less."""
DEFAULT_RPC_URL = "http://127.0.0.1:8545"
DEFAULT_DEPLOYMENT = Path(".trine/devnet/deployment.json")


class Shape(TypedDict):
    """What an answer must be: some of the fields of an order."""

    guided_json: dict[str, Any] | None
    guided_choice: list[str] | None
    guided_regex: str | None


def read_chain(rpc_url: str, deployment: Path) -> Chain:
    from trine.chain import Chain, Deployment

    return Chain.connect(Deployment.load(deployment), rpc_url)


def typed_address(address: str) -> str:
    """One that a person has typed, in EIP-55 form. Raises InvalidInput, also where its letters' case says that another
    letter is wrong: what machines send has any case, people copy checksums."""
    from trine.chain.calls import checksum

    known = str(checksum(address))
    digits = address.removeprefix("0x").removeprefix("0X")
    if digits not in (digits.lower(), digits.upper()) and known[2:] != digits:
        raise InvalidInput(
            f"{address} has a typing error: its checksum (EIP-55) is wrong; in small letters it has none"
        )
    return known


def shape(schema: Path | None, choices: list[str] | None, regex: str | None) -> Shape:
    """What the answer must be, as fields of an order. Raises InvalidInput for a file that has no schema."""
    from trine.protocol.members import RepeatedMember, each_once

    read = None
    if schema is not None:
        try:
            with schema.open("rb") as file:  # a device has no size, and no end
                written = file.read(MAX_SCHEMA_BYTES + 1)
            if len(written) > MAX_SCHEMA_BYTES:
                raise InvalidInput(f"{schema} has over {MAX_SCHEMA_BYTES} bytes: is it the schema?")
            read = json.loads(written, object_pairs_hook=each_once)
        except OSError as error:
            raise InvalidInput(f"{schema} cannot be read: {error.strerror}") from None
        except RepeatedMember as error:
            raise InvalidInput(f"{schema}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{schema} is no JSON: {error!s:.200}") from None
        if not isinstance(read, dict):
            raise InvalidInput(f"{schema} holds no JSON Schema, which is an object")
    return {"guided_json": read, "guided_choice": choices or None, "guided_regex": regex}


def load_account(keystore: Path | None, password_file: Path | None) -> LocalAccount:
    """Raises InvalidInput naming what is missing, and where it may come from."""
    missing = [
        f"{option} ({variable})"
        for option, variable, given in (
            ("--keystore", "TRINE_KEYSTORE", keystore),
            ("--password-file", "TRINE_PASSWORD_FILE", password_file),
        )
        if given is None
    ]
    if keystore is None or password_file is None:
        raise InvalidInput(
            f"this needs an account: give {' and '.join(missing)}. `trine devnet up` prints those of its "
            "client, `trine keys` makes new ones"
        )
    from trine.chain import load_keystore

    return load_keystore(keystore, password_file)


def account_chain(rpc_url: str, deployment: Path, keystore: Path | None, password_file: Path | None) -> Chain:
    """The chain, with an account that sends. Raises InvalidInput naming the option that is missing."""
    account = load_account(keystore, password_file)
    from trine.chain import Chain, Deployment

    return Chain.connect(Deployment.load(deployment), rpc_url, account)


def new_password(file: Path | None) -> str:
    """For a keystore to be written: the file's first line, or what is typed. Raises InvalidInput."""
    if file is not None:
        from trine.chain.keystore import read_password

        return read_password(file)
    if not sys.stdin.isatty():
        raise InvalidInput("no terminal to ask for a password: pass --password-file")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def token_wei(amount: str) -> int:
    """Whole tokens as people write them, in wei. Raises InvalidInput."""
    try:
        wei = Decimal(amount) * 10**18
        if not 0 <= wei < 2**128 or wei != int(wei):
            raise InvalidOperation
    except InvalidOperation:
        raise InvalidInput(f"{amount!r} is no amount of tokens: expected e.g. 250 or 0.5") from None
    return int(wei)
