"""Two colluding verifiers accept a cheat, and the honest third appeals by itself: nobody else looks, nobody is asked.

Real processes on a real chain. What the third needs is in `trine_verifier.dissent`.
"""

from functools import partial

import pytest
import waiting
from test_dishonest_verifiers import FOURTH, PARAMETERS, SEVEN, THREE, _slashed

from trine import Client
from trine.chain import AppealPhase, BatchState, Role, Verdict
from trine.protocol.messages import engine_class_bytes
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.reporting import Report

eventually = partial(waiting.eventually, timeout=300.0)

HONEST = "verifier-3"


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """As in `test_dishonest_verifiers`: all seats on nodes' answers are `THREE`'s, until the seven come."""
    with Devnet(tmp_path_factory.mktemp("devnet") / "home", Report(print)) as network:
        network.start_chain(PARAMETERS)
        network.add([Member(name, Role.VERIFIER, cheats=("honest",)) for name in THREE])
        network.add([Member(FOURTH, Role.VERIFIER, options={"calibrate": False})])
        fourth = network.chain(network.operators[FOURTH].account)
        model_id, secret = network.record.model_id, bytes([1]) * 32
        fourth.request_calibration(model_id, Role.VERIFIER, engine_class_bytes("cpu-fp32"), secret)
        network.add([Member("cheater", Role.NODE, "bf16", ("other-prompt",), options={"batch_max_wait_seconds": 0.0})])
        network.wait_ready()
        yield network


def test_the_honest_third_of_a_captured_committee_appeals_by_itself_and_wins(net):
    with Client(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=net.create_client(),
        node=net.operators["cheater"].endpoint,
        deposit_wei=10 * TOKEN,
    ) as client:
        for name in THREE:
            net.tell(name, "honest" if name == HONEST else "colluding", ["cheater"])
        answer = client.chat("Name a metal.", max_tokens=8)
        certificate = client.certify(answer, timeout=300)
        assert certificate.result == "accept"
        chain, leaf = client.chain, certificate.index
        batch = chain.batch(certificate.batch_id)
        honest = net.operators[HONEST].account.address
        before = chain.token_balance(honest)

        net.add([Member(name, Role.VERIFIER) for name in SEVEN])  # only now, or they could have been drawn
        net.wait_ready(list(SEVEN))

        def case():
            return chain.appeal_case(batch.batch_id, leaf)

        eventually(lambda: case().phase != AppealPhase.NONE, "the third to appeal", timeout=400)
        assert case().levels[0].appellant == honest
        assert case().levels[0].claim == Verdict.REJECTED
        bond = chain.appeal_bond(1, batch.terms)
        assert chain.token_balance(honest) == before - bond
        eventually(lambda: case().phase == AppealPhase.RESOLVED, "the seven", timeout=400)
        net.pass_time(PARAMETERS["appealWindowSeconds"] + 1)
        eventually(lambda: case().phase == AppealPhase.CONCLUDED, "the appeal to be concluded")
        assert chain.verdict(batch.batch_id, leaf) == (Verdict.REJECTED, True)

        reopened = chain.batch(batch.batch_id)
        assert (reopened.state, reopened.reopened) == (BatchState.SETTLED, True)
        assert reopened.clock > batch.clock
        net.pass_time(PARAMETERS["appealWindowSeconds"] + 1)
        eventually(lambda: chain.batch(batch.batch_id).state == BatchState.FINAL, "the batch to be final")
        terms = chain.parameters(batch.terms)
        for name in THREE:
            fine = 0 if name == HONEST else terms.overturned_fine
            assert _slashed(chain, batch.batch_id, net.operators[name].account.address) == fine
        # The bond is back, with the prize, without anybody having asked for it.
        eventually(lambda: chain.token_balance(honest) > before, "the prize to be taken out")
        logs = [net.operators[name].child.log.read_text() for name in (*THREE, *SEVEN, "cheater")]
        assert not any("FinalityAppealsOpen" in log or "FinalityDeadlineNotReached" in log for log in logs)
