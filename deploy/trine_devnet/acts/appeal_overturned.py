"""Two of three seats collude and pass a cheat; the third appeals by itself, seven more judge, and the two pay."""

from __future__ import annotations

from trine import Client
from trine.chain import AppealPhase, BatchState, Chain, Role, Verdict
from trine.chain.records import AppealCase
from trine.cli.output import tokens
from trine.protocol.certificate import Certificate
from trine_devnet.acts.act import NotShown, Shown, Stage, events, hashes
from trine_devnet.acts.captured import THREE, captured
from trine_devnet.network import TOKEN, Devnet, Member

HONEST = THREE[2]
SEVEN = tuple(f"verifier-{number}" for number in range(5, 12))
PARAMETERS: dict[str, int | str] = {"appealWindowSeconds": 900}
"""Until the seven are calibrated, on a slow machine; afterwards the chain's clock is moved on."""


def play(stage: Stage) -> Shown:
    """Until the batch is final and everybody has what is due. Raises TrineError."""
    with captured(stage, "appeal", PARAMETERS) as net:
        at_once = {"batch_max_wait_seconds": 0.0}
        net.add([Member("cheater", Role.NODE, "bf16", ("other-prompt",), options=at_once)])
        net.wait_ready()
        for name in THREE:
            net.tell(name, "honest" if name == HONEST else "colluding", ["cheater"])
        certificate = _passed(stage, net)
        chain = net.chain()
        honest = net.operators[HONEST].account.address
        before = chain.token_balance(honest)
        # Only now: had they been there, they could have been drawn.
        net.add([Member(name, Role.VERIFIER) for name in SEVEN])
        net.wait_ready(list(SEVEN))
        _appealed(stage, net, chain, certificate, honest)
        stage.until(lambda: chain.token_balance(honest) > before, f"{HONEST} to take its prize out", net)
        prize = chain.token_balance(honest) - before
        return _shown(net, chain, certificate, prize)


def _passed(stage: Stage, net: Devnet) -> Certificate:
    stage.state = "asks the cheater"
    with Client(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=net.create_client(),
        node=net.operators["cheater"].endpoint,
        deposit_wei=10 * TOKEN,
    ) as client:
        answer = client.chat("Name a metal.", max_tokens=8)
        stage.state = "waits for the verdict of the captured committee"
        certificate = client.certify(answer, timeout=600)
    if certificate.result != "accept":
        raise NotShown(f"two colluders of three brought about {certificate.result}, not the cheat's acceptance")
    return certificate


def _appealed(stage: Stage, net: Devnet, chain: Chain, certificate: Certificate, honest: str) -> None:
    batch_id, leaf = certificate.batch_id, certificate.index

    def case() -> AppealCase:
        return chain.appeal_case(batch_id, leaf)

    stage.until(lambda: case().phase != AppealPhase.NONE, f"{HONEST} to appeal", net)
    if case().levels[0].appellant != honest:
        raise NotShown(f"{case().levels[0].appellant} appealed, not {HONEST}")
    stage.until(lambda: case().phase == AppealPhase.RESOLVED, "the seven to judge", net)
    net.pass_time(int(PARAMETERS["appealWindowSeconds"]) + 1)
    stage.until(lambda: case().phase == AppealPhase.CONCLUDED, "the appeal to be concluded", net)
    if chain.verdict(batch_id, leaf) != (Verdict.REJECTED, True):
        raise NotShown("the seven did not turn the verdict")
    # The first appeal that turns a verdict begins the time to appeal anew.
    net.pass_time(int(PARAMETERS["appealWindowSeconds"]) + 1)
    stage.until(lambda: chain.batch(batch_id).state == BatchState.FINAL, "the batch to be final", net)


def _shown(net: Devnet, chain: Chain, certificate: Certificate, prize: int) -> Shown:
    about = {"batchId": certificate.batch_id}
    fined = {
        name: events(
            chain,
            "Staking",
            "Slashed",
            operator=net.operators[name].account.address,
            cause=certificate.batch_id,
        )
        for name in THREE
    }
    if fined[HONEST] or not all(fined[name] for name in THREE if name != HONEST):
        raise NotShown("not the two colluders were fined, and nobody else")
    slashes = [event for name in THREE for event in fined[name]]
    lost = sum(event.args["taken"] for event in slashes)
    opened, concluded = (events(chain, "Appeals", name, **about) for name in ("AppealOpened", "AppealConcluded"))
    return Shown(
        f"two of three passed a cheat; {HONEST} appealed by itself, seven others rejected it, the two lost "
        f"{tokens(lost)} tokens and {HONEST} won {tokens(prize)}",
        hashes([*opened, *concluded, *slashes]),
    )
