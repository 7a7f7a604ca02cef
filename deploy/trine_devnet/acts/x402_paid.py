"""The x402 library's own client pays a node over HTTP; the node charges it after the final verdict, not before."""

from __future__ import annotations

from eth_account import Account

from trine.cli.output import tokens
from trine_devnet.acts.act import NotShown, Shown, Stage
from trine_devnet.network import TOKEN
from trine_devnet.paying import PAID_BY_X402, ask_by_x402, charge_of, wait_for_payment

SECONDS = 600.0


def play(stage: Stage) -> Shown:
    """Asks, and waits for the charge. Raises TrineError."""
    net, chain = stage.net, stage.net.chain()
    node = next((r for r in net.operators.values() if r.member.options == PAID_BY_X402), None)
    if node is None:
        raise NotShown("no node here takes x402: give the demo two nodes (--node-dtype)")
    payer, asset = Account.create(), chain.deployment.address("TrineToken")
    net.admin.transfer(payer.address, TOKEN)  # and no gas money: it sends no transaction
    network = f"eip155:{chain.deployment.chain_id}"
    stage.state = "asks and pays"
    paid = ask_by_x402(
        node.endpoint, net.record.name, "What is a lighthouse?", payer, asset=asset, network=network, max_tokens=12
    )
    if charge_of(paid, chain) is not None:
        raise NotShown("the client was charged before there was a verdict")
    stage.state = "waits for the charge, after the final verdict"
    payment = wait_for_payment(paid, chain, SECONDS)
    if payment.transaction is None:
        raise NotShown(f"the payment is {payment.state}")
    return Shown(
        f"a stock x402 client that knows nothing of Trine paid {tokens(paid.amount)} tokens over HTTP 402, charged "
        "after the final verdict",
        (payment.transaction,),
    )
