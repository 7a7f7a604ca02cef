"""A contract on a second chain, which has never seen the network, takes one of its answers and pays for it."""

from __future__ import annotations

from trine_devnet.abroad import Abroad
from trine_devnet.acts.act import NotShown, Shown, Stage

TRIES = 3
"""Answers that are asked for until one is settled by signatures: most are."""


def play(stage: Stage) -> Shown:
    """Asks, certifies, relays, shows. Raises TrineError."""
    with stage.client("abroad") as client:
        stage.state = "asks"
        answer = client.chat("Name the largest ocean.", max_tokens=12)
        stage.state = "waits for a certificate that travels"
        portable = client.certify(answer, hard=True, timeout=600)
    with Abroad(stage.net) as abroad:
        stage.state = "relays key sets to the second chain"
        shown = abroad.show(portable, answer.text)
    if not shown.accepted:
        raise NotShown(f"the contract on chain {shown.chain_id} did not take the certificate")
    if not shown.refused:
        raise NotShown(f"the contract on chain {shown.chain_id} took a certificate that was tampered with")
    return Shown(
        f"a contract on chain {shown.chain_id} checked the committee's signatures ({shown.gas:,} gas), paid for the "
        "answer, and refused the same certificate with one bit changed",
        (shown.transaction,),
    )
