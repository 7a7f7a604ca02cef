"""A contract on a second chain, which has never seen the network, takes one of its answers and pays for it."""

from __future__ import annotations

from trine import Answer, Client
from trine.errors import NotReady
from trine.protocol.portable import PortableCertificate
from trine_devnet.abroad import Abroad
from trine_devnet.acts.act import NotShown, Shown, Stage

QUESTIONS = ("Name the largest ocean.", "Name the longest river.", "Name the highest mountain.")
"""One after the other until one is settled by signatures, as most are: votes make no certificate that travels."""
SECONDS = 600.0


def play(stage: Stage) -> Shown:
    """Asks, certifies, relays, shows. Raises TrineError."""
    with stage.client("abroad", salted=False) as client:  # the contract compares the bare text
        answer, portable = _certified(stage, client)
    with Abroad(stage.net) as abroad:
        stage.state = "relays key sets to the second chain"
        shown = abroad.show(portable, answer.text)
    if not shown.accepted:
        raise NotShown(f"the contract on chain {shown.chain_id} did not take the certificate")
    if not shown.refused:
        raise NotShown(f"the contract on chain {shown.chain_id} took a certificate that was tampered with")
    return Shown(
        f"a contract on chain {shown.chain_id} checked the committee's signatures, paid for the answer "
        f"({shown.gas:,} gas in all), and refused the same certificate with one bit changed",
        (shown.transaction,),
    )


def _certified(stage: Stage, client: Client) -> tuple[Answer, PortableCertificate]:
    """Raises NotReady when nothing was settled by signatures."""
    last = NotReady("nothing was asked")
    for question in QUESTIONS:
        stage.state = "asks"
        answer = client.chat(question, max_tokens=12)
        stage.state = "waits for a certificate that travels"
        try:
            return answer, client.certify(answer, hard=True, timeout=SECONDS)
        except NotReady as error:
            last = error
    raise last
