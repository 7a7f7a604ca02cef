"""An examiner among three verifiers, one of whom accepts whatever it sees: who pays and who is paid."""

from functools import partial

import pytest
import waiting

from trine.audit import operator_report
from trine.chain import Role
from trine.protocol.messages import engine_class_bytes
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.reporting import Report

eventually = partial(waiting.eventually, timeout=400.0)

THREE = ("verifier-1", "verifier-2", "verifier-3")
LAZY = "verifier-1"
FOURTH = "verifier-4"
POOL = 10 * TOKEN
PARAMETERS = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "appealWindowSeconds": 40,
    "answerSeconds": 1200,
    "ordinaryPerCanary": 3,
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """As in `test_dishonest_verifiers`, all seats are those of three, whom a fourth has helped to be calibrated."""
    with Devnet(tmp_path_factory.mktemp("devnet") / "home", Report(print)) as network:
        network.start_chain(PARAMETERS)
        network.add([Member(name, Role.VERIFIER, cheats=("honest",)) for name in THREE])
        network.add([Member(FOURTH, Role.VERIFIER, options={"calibrate": False})])
        fourth = network.chain(network.operators[FOURTH].account)
        engine_class = engine_class_bytes("cpu-fp32")
        fourth.request_calibration(network.record.model_id, Role.VERIFIER, engine_class, bytes([1]) * 32)
        network.create_client("customer")
        planting = {
            "clients": [str(network.keystore("customer"))],
            "record": str(network.home / "planted.jsonl"),
            "order_seconds": 0.5,
            "canary_rate": 0.2,
            "answer_tokens": [16, 24],
            "kinds": ["other-prompt", "swapped-token"],
            "batch_max_wait_seconds": 25.0,
        }
        network.add([Member("examiner", Role.NODE, options=planting, examines=True)])
        network.admin.transfer(network.admin.deployment.address("Examiners"), POOL)
        network.wait_ready()
        yield network


def test_an_examiner_is_paid_and_who_always_accepts_is_fined_and_nobody_else(net):
    net.tell(LAZY, "always-accept")
    chain, examiner = net.chain(), net.operators["examiner"].account.address
    addresses = {name: net.operators[name].account.address for name in THREE}

    # The chain's clock is not moved on: other batches of the examiner's would run out of time to be opened.
    eventually(
        lambda: _events(chain, "Finality", "WrongVotePenalized", verifier=addresses[LAZY]),
        "the one that always accepts to be fined",
    )
    (paid, *_) = eventually(lambda: _events(chain, "Examiners", "ExaminerPaid"), "the examiner to be paid")

    fines = _events(chain, "Finality", "WrongVotePenalized", verifier=addresses[LAZY])
    penalty = chain.parameters().canary_penalty
    assert all(event.args["acceptedCanary"] and event.args["amount"] == penalty for event in fines)
    for honest in (addresses["verifier-2"], addresses["verifier-3"], examiner):
        assert not _events(chain, "Staking", "Slashed", operator=honest)
    assert paid.args["examiner"] == examiner
    assert 0 < paid.args["counted"] <= paid.args["confirmed"]
    pool = chain.token_balance(chain.deployment.address("Examiners"))
    assert POOL - pool == sum(e.args["amount"] for e in _events(chain, "Examiners", "ExaminerPaid")) > 0
    assert operator_report(chain, addresses[LAZY]).canary_fines_wei >= len(fines) * penalty
    assert operator_report(chain, examiner).bounties_wei >= paid.args["amount"]
    # Less than its verifiers were paid, so it has not lived on it.
    batch = chain.batch(bytes(paid.args["batchId"]))
    tokens = batch.known_header.tokens
    assert paid.args["amount"] <= chain.parameters(batch.terms).verifier_fee(batch.leaf_count, tokens) // 2


def _events(chain, contract, name, **filters):
    return list(chain.events(contract, name, **filters))
