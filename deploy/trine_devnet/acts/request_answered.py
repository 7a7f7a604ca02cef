"""A contract asks: a new wallet deploys one, pays, asks, and the answer ends up in the contract's state."""

from __future__ import annotations

from trine.chain import Deployment
from trine.cli.output import tokens
from trine_devnet.acts.act import NotShown, Shown, Stage
from trine_devnet.dapp import ask_by_contract
from trine_devnet.network import give
from trine_devnet.outcomes import cut

QUESTION = "What is the capital of France?"


def play(stage: Stage) -> Shown:
    """From the wallet's transaction to the contract's changed state. Raises TrineError."""
    net = stage.net

    def tell(line: str) -> None:
        stage.state = line

    told = ask_by_contract(
        net.rpc_url,
        Deployment.load(net.deployment_file),
        net.record.model_id,
        QUESTION,
        fund=lambda address, wei: give(net.rpc_url, net.deployment_file, address, wei),
        seconds=600,
        tell=tell,
    )
    if not told.is_answered:
        raise NotShown("no node answered what the contract asked")
    return Shown(
        f"a contract asked {QUESTION!r}, a node answered, and after the verdict the contract was told "
        f"{cut(' '.join(told.answer.split()), 40)!r} for {tokens(told.paid_wei)} tokens",
        tuple(told.transactions.values()),
    )
