"""`trine keys bls …`: the keys that committees sign results with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from trine.cli.groups import group
from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    DeploymentFile,
    Keystore,
    PasswordFile,
    RpcUrl,
    account_chain,
    new_password,
)
from trine.cli.output import fail_cleanly, say

app = group("BLS keys, by which a verifier signs results: create, inspect, register.")

BlsKeystore = Annotated[Path, typer.Argument(help="An EIP-2335 keystore.")]


@app.command()
@fail_cleanly
def new(
    path: Annotated[Path, typer.Argument(help="Where to write the keystore; must not exist.")],
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password.")] = None,
) -> None:
    """Creates a new BLS key, encrypted as EIP-2335, and prints its public key."""
    from trine.chain.bls_keystore import create_bls_keystore
    from trine.protocol.bls import compress_key

    say("0x" + compress_key(create_bls_keystore(path, new_password(password_file))).hex())


@app.command()
@fail_cleanly
def show(path: BlsKeystore) -> None:
    """Prints the public key of a keystore and the hash that contracts know it by, without opening it."""
    from trine.chain.bls_keystore import noted_key
    from trine.protocol.bls import compress_key, key_hash

    key = noted_key(path)
    say(f"key   0x{compress_key(key).hex()}")
    say(f"hash  0x{key_hash(key).hex()}")


@app.command()
@fail_cleanly
def register(
    path: BlsKeystore,
    bls_password_file: Annotated[
        Path | None, typer.Option(help="File whose first line opens the BLS keystore; the account's, unless given.")
    ] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the key that is registered, for good.")] = False,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Registers the account's BLS key with its proof of possession. A verifier's start does it, too.

    To rotate: stop the verifier, `register --rotate` the new key, name it in the settings, start again.
    """
    from trine.chain.bls_keystore import load_bls_keystore
    from trine.chain.verifier_keys import register_key
    from trine.protocol.bls import key_hash

    chain = account_chain(rpc_url, deployment, keystore, password_file)
    # `account_chain` has refused to go on without the account's.
    secret = load_bls_keystore(path, bls_password_file or cast(Path, password_file))
    done = register_key(chain, secret, rotate=rotate)
    what = "registered" if done else "was registered already"
    say(f"BLS key 0x{key_hash(secret.public_key()).hex()} of {chain.address} {what}")
