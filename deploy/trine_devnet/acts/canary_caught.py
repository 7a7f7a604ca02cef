"""An examiner plants answers that it knows to be bad; a verifier that accepts whatever it sees pays for one."""

from __future__ import annotations

from trine.chain import Role
from trine.cli.output import tokens
from trine_devnet.acts.act import NotShown, Shown, Stage, events, hashes
from trine_devnet.acts.captured import THREE, captured
from trine_devnet.network import TOKEN, Member

LAZY = THREE[0]
POOL = 10 * TOKEN
PARAMETERS: dict[str, int | str] = {"appealWindowSeconds": 40, "ordinaryPerCanary": 3}
"""The examiner opens its canaries within the time to appeal, of ordinary answers three for each."""


def play(stage: Stage) -> Shown:
    """Waits until the lazy one is fined for a canary and the examiner is paid for it. Raises TrineError."""
    with captured(stage, "canary", PARAMETERS) as net:
        net.create_client("customer")
        planting = {
            "clients": [str(net.keystore("customer"))],
            "record": str(net.home / "planted.jsonl"),
            "order_seconds": 0.5,
            "canary_rate": 0.2,
            "answer_tokens": [16, 24],
            "kinds": ["other-prompt", "swapped-token"],
            "batch_max_wait_seconds": 25.0,
        }
        net.add([Member("examiner", Role.NODE, options=planting, examines=True)])
        net.admin.transfer(net.admin.deployment.address("Examiners"), POOL)
        net.wait_ready()
        net.tell(LAZY, "always-accept")
        chain = net.chain()
        accounts = {name: net.operators[name].account.address for name in (*THREE, "examiner")}
        fines = stage.until(
            lambda: events(chain, "Finality", "WrongVotePenalized", verifier=accounts[LAZY]),
            f"{LAZY}, who accepts whatever it sees, to accept a canary",
            net,
        )
        paid = stage.until(lambda: events(chain, "Examiners", "ExaminerPaid"), "the examiner to be paid", net)
        for honest in (*THREE[1:], "examiner"):
            if events(chain, "Staking", "Slashed", operator=accounts[honest]):
                raise NotShown(f"{honest}, who is honest, was slashed")
        lost, earned = (sum(event.args["amount"] for event in seen) for seen in (fines, paid))
        return Shown(
            f"{LAZY} accepted what it had not checked and lost {tokens(lost)} tokens; the examiner who had planted it "
            f"earned {tokens(earned)}",
            hashes([*fines, *paid]),
        )
