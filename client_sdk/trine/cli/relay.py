"""`trine relay …`: key sets to another chain, so that contracts there can check certificates."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Annotated

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
    read_chain,
)
from trine.cli.output import fail_cleanly, note, print_json, say
from trine.errors import InvalidInput

app = group("Carry key sets to another chain, so that contracts there can check certificates.")

ToRpcUrl = Annotated[str, typer.Option("--to", envvar="TRINE_TO_RPC_URL", help="JSON-RPC endpoint of the other chain.")]
Confirmations = Annotated[
    str, typer.Option(help="Blocks of the network's chain on top of one that is taken to stay, or safe, or finalized.")
]


@app.command()
@fail_cleanly
def deploy(
    to: ToRpcUrl,
    genesis: Annotated[
        str, typer.Option(help="Id of the genesis set, which you have compared: see `trine certificate root`.")
    ],
    epoch: Annotated[int, typer.Option(min=0, help="Epoch of the genesis set.")],
    max_age: Annotated[
        int, typer.Option(min=0, max=1024, help="For how many epochs a certificate is taken once newer ones are there.")
    ] = 64,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Puts a CertificateVerifier on another chain and prints its address. A second try finds the first one's."""
    account = load_account(keystore, password_file)
    from trine.chain.foreign import deploy_verifier
    from trine.cli.certificate import root_document

    chain = read_chain(rpc_url, deployment)
    roster = chain.roster(epoch)
    document = root_document(chain, roster)
    if document["id"] != genesis.lower():
        raise InvalidInput(
            f"the key set of epoch {epoch} has the id {document['id']} by your RPC endpoint, not {genesis:.80}: one of "
            "the two is wrong, and what you deploy can never be corrected"
        )
    there = deploy_verifier(
        to,
        account,
        chain_id=document["chainId"],
        batches=document["batches"],
        genesis=roster.key_set,
        max_age_epochs=max_age,
    )
    if json:
        print_json({"chainId": there.deployment.chain_id, "verifier": there.verifier, "newestEpoch": epoch})
        return
    say(there.verifier)
    note(f"on chain {there.deployment.chain_id}: keep it up to date with `trine relay run --verifier {there.verifier}`")


@app.command()
@fail_cleanly
def run(
    to: ToRpcUrl,
    verifier: Annotated[str, typer.Option(help="Address of the CertificateVerifier on the other chain.")],
    once: Annotated[bool, typer.Option("--once", help="End when the newest key set is there.")] = False,
    every_epoch: Annotated[
        bool, typer.Option("--every-epoch", help="Skip no epoch, so that certificates of each are taken.")
    ] = False,
    max_gas: Annotated[int, typer.Option(min=1, help="The most that a hand-over may take.")] = 10_000_000,
    poll_seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Between looks at the chains.")] = 12.0,
    confirmations: Confirmations = "0",
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Hands over from epoch to epoch for as long as it runs. Anybody may, and any number; it keeps nothing, and is
    trusted with nothing but its own gas."""
    account = load_account(keystore, password_file)
    from trine.chain import Chain, Deployment
    from trine.chain.foreign import ForeignChain
    from trine.relay import Limits, Relay

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    chain = Chain.connect(Deployment.load(deployment), rpc_url, confirmations=confirmations)
    foreign = ForeignChain.at(to, verifier, account)
    relay = Relay(chain, foreign, Limits(max_gas=max_gas, every_epoch=every_epoch))
    relay.require_fit()
    if once:
        for advanced in relay.catch_up():
            say(advanced.sentence)
        note(f"the newest key set there is of epoch {foreign.newest_epoch()}")
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    relay.run(stop, poll_seconds, lambda advanced: say(advanced.sentence))
