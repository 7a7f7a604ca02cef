"""Dishonest verifiers in a committee of three: what they bring about, what it costs, and what appeals do about it.

How many seats collude decides the verdict, without any chance; what a seat gains and loses follows from the ballots.
The specification (`trine.protocol.settlement`) computes both, and real processes on a real chain are compared with it,
to the wei. So whoever reckons how likely it is that so many seats collude may rely on this table:

    colluding seats of three     0       1       2       3
    verdict on a cheat           reject  reject  accept  accept
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import waiting

from trine import Answer, Client
from trine.appeal import could_judge, open_appeal, see_through
from trine.chain import AppealPhase, Role, Verdict
from trine.protocol.certificate import Certificate
from trine.protocol.messages import engine_class_bytes
from trine.protocol.reputation import Change
from trine.protocol.settlement import Counts, Silence, Terms, conclude
from trine.protocol.votes import Vote, settle
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.reporting import Report

eventually = partial(waiting.eventually, timeout=300.0)

THREE = ("verifier-1", "verifier-2", "verifier-3")
FOURTH = "verifier-4"
SEVEN = tuple(f"verifier-{number}" for number in range(5, 12))
PARAMETERS = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "appealWindowSeconds": 900,
    "answerSeconds": 1200,
}
ACCEPT, REJECT = Vote(1, 0), Vote(0, 1)
VERDICTS_ON_A_CHEAT = {0: "reject", 1: "reject", 2: "accept", 3: "accept"}
"""By the number of colluding seats."""
CONSPIRACIES = {0: (), 1: ("always-accept",), 2: ("colluding", "always-accept"), 3: ("colluding",) * 3}


@dataclass(frozen=True)
class Judged:
    """An answer whose verdict is settled."""

    answer: Answer
    certificate: Certificate


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """All seats on nodes' answers are `THREE`'s. Nobody could calibrate these without a fourth, who is a candidate and
    never takes the test, so it may judge calibrations and nothing else."""
    with Devnet(tmp_path_factory.mktemp("devnet") / "home", Report(print)) as network:
        network.start_chain(PARAMETERS)
        # They leave appeals to these tests; see `test_dissent` for their own.
        quiet = {"appeal_dissents": False}
        network.add([Member(name, Role.VERIFIER, cheats=("honest",), options=quiet) for name in THREE])
        network.add([Member(FOURTH, Role.VERIFIER, options={"calibrate": False})])
        fourth = network.chain(network.operators[FOURTH].account)
        model_id, secret = network.record.model_id, bytes([1]) * 32
        fourth.request_calibration(model_id, Role.VERIFIER, engine_class_bytes("cpu-fp32"), secret)
        at_once = {"batch_max_wait_seconds": 0.0}
        network.add(
            [
                Member("honest", Role.NODE, "bf16", options=at_once),
                Member("cheater", Role.NODE, "bf16", ("other-prompt",) * 12, options=at_once),
            ]
        )
        network.wait_ready()
        yield network


@pytest.fixture(scope="module")
def clients(net):
    account = net.create_client()
    opened = {
        name: Client(
            rpc_url=net.rpc_url,
            deployment=net.deployment_file,
            account=account,
            node=net.operators[name].endpoint,
            deposit_wei=10 * TOKEN,
        )
        for name in ("honest", "cheater")
    }
    yield opened
    for client in opened.values():
        client.close()


@pytest.fixture(scope="module")
def seven(net):
    """Enough more for an appeal of what three have judged. With them in the pool nobody knows who sits."""
    net.add([Member(name, Role.VERIFIER) for name in SEVEN])
    net.wait_ready(list(SEVEN))
    return SEVEN


@pytest.mark.parametrize("colluding", VERDICTS_ON_A_CHEAT)
def test_the_number_of_colluding_seats_decides_the_verdict_on_a_cheat(net, clients, colluding):
    client, verdict = clients["cheater"], VERDICTS_ON_A_CHEAT[colluding]
    votes = [ACCEPT] * colluding + [REJECT] * (3 - colluding)
    assert settle(votes) == (ACCEPT if verdict == "accept" else REJECT)

    judged = _judge(net, client, dict(zip(THREE, CONSPIRACIES[colluding], strict=False)))

    assert judged.certificate.result == verdict
    seats = _concluded(net, client, judged, dict(zip(THREE, votes, strict=True)))
    # Whoever is outvoted pays: one who lies among three, but also one who is honest among three.
    majority = ACCEPT if verdict == "accept" else REJECT
    assert [seats[name].penalty > 0 for name in THREE] == [vote != majority for vote in votes]


def test_a_slanderer_does_not_harm_an_honest_node_and_pays(net, clients):
    client = clients["honest"]
    judged = _judge(net, client, {"verifier-1": "slandering", "verifier-2": "colluding"})
    assert judged.certificate.result == "accept"
    seats = _concluded(net, client, judged, {"verifier-1": REJECT, "verifier-2": ACCEPT, "verifier-3": ACCEPT})
    assert seats["verifier-1"].paid == 0 < seats["verifier-1"].penalty


@pytest.mark.parametrize(
    ("cheat", "silence", "refusals"),
    [
        ("copying", Silence.NO_REVEAL, ("BatchesCommitmentMismatch",)),
        # Too late by the clock, or because the others have settled meanwhile.
        ("waiting", Silence.NO_COMMIT, ("BatchesDeadlinePassed", "BatchesWrongState")),
        ("never-reveal", Silence.NO_REVEAL, ()),
    ],
)
def test_who_copies_or_keeps_silent_earns_nothing_and_pays(net, clients, cheat, silence, refusals):
    """What a colleague has committed nobody else can open, and what it reveals comes too late to be committed."""
    client, log = clients["cheater"], net.operators["verifier-2"].child.log

    def is_refused(batch):
        lines = [line for line in log.read_text().splitlines() if batch.batch_id.hex() in line]
        return not refusals or any(refusal in line for line in lines for refusal in refusals)

    def only_time_is_missing(batch):
        if silence is Silence.NO_COMMIT:
            return batch.committed == 2
        return batch.revealed == 2 and is_refused(batch)

    judged = _judge(net, client, {"verifier-2": cheat}, only_time_is_missing)

    assert judged.certificate.result == "reject"
    batch = client.chain.batch(judged.certificate.batch_id)
    eventually(lambda: is_refused(batch), f"{cheat} to be refused")
    seats = _concluded(net, client, judged, {"verifier-1": REJECT, "verifier-2": silence, "verifier-3": REJECT})
    cheater = seats["verifier-2"]
    assert cheater.paid == 0 < seats["verifier-1"].paid
    assert cheater.penalty > 0
    if silence is Silence.NO_REVEAL:
        assert cheater.penalty >= client.chain.parameters().wrong_vote_penalty


@pytest.mark.parametrize("cheat", ["says-nothing", "stops-committed", "stops-opened", "never-sends"])
def test_a_seat_that_falls_silent_at_a_step_of_signing_costs_nobody_a_verdict_or_a_fine(net, clients, cheat):
    """Silent to its colleagues, that is: on the chain it votes, in time, like them."""
    client = clients["honest"]
    chain = client.chain
    for name in THREE:
        net.tell(name, cheat if name == "verifier-2" else "honest", [])
    before = chain.block_number()
    answer = client.chat("Name a tree.", max_tokens=4)
    (anchored,) = eventually(
        lambda: list(chain.events("Batches", "BatchAnchored", from_block=before, node=answer.receipt.node)),
        "the answer to be anchored",
    )
    batch_id = bytes(anchored.args["batchId"])
    with ThreadPoolExecutor(1) as pool:
        settling = pool.submit(client.certify, answer, timeout=300)
        if cheat != "never-sends":
            eventually(lambda: all(_checked(net, name, batch_id) for name in THREE), "all to have checked")
            clock, half = chain.batch(batch_id).clock, chain.parameters().commit_seconds // 2
            net.pass_time(max(0, clock - half - chain.timestamp()))
        certificate = settling.result()

    batch = chain.batch(batch_id)
    assert certificate.result == "accept"
    assert batch.signed == (cheat == "never-sends")
    net.pass_time(PARAMETERS["appealWindowSeconds"] + 1)
    client.certify(answer, final=True, timeout=300)
    drawn = [seat.verifier for seat in chain.seats(batch)]
    eventually(lambda: not any(chain.stake_of(each).locked for each in drawn), "the seats to be free")
    assert {_slashed(chain, batch_id, each) for each in drawn} == {0}
    assert all(_paid(chain, batch_id, each) > 0 for each in drawn)


def _checked(net, name, batch_id):
    lines = net.operators[name].child.log.read_text().splitlines()
    return any('"event": "verdict"' in line and batch_id.hex() in line for line in lines)


def test_an_appeal_to_seven_overturns_what_two_of_three_have_brought_about_and_slashes_them(net, clients, request):
    client = clients["cheater"]
    chain = client.chain
    judged = _judge(net, client, {"verifier-1": "colluding", "verifier-2": "colluding"})
    certificate = judged.certificate
    assert certificate.result == "accept"

    seven = request.getfixturevalue("seven")  # only now, so that the three were the only ones to draw
    eventually(lambda: _left_to_judge(chain, certificate) >= len(seven), "the seven to have weight")
    bond = open_appeal(chain, certificate, Verdict.REJECTED)
    with ThreadPoolExecutor(1) as pool:
        appealing = pool.submit(see_through, chain, certificate, timeout=300)
        eventually(lambda: appealing.done() or _case(chain, certificate).phase == AppealPhase.RESOLVED, "the seven")
        net.pass_time(PARAMETERS["appealWindowSeconds"] + 1)
        appealed = appealing.result()

    assert appealed.verdict == Verdict.REJECTED
    case = _case(chain, certificate)
    assert {seat.verifier for seat in chain.appeal_seats(case, 1)} == {net.operators[n].account.address for n in seven}
    assert case.current.rejects.bit_count() == 7
    ballots = {"verifier-1": ACCEPT, "verifier-2": ACCEPT, "verifier-3": REJECT}
    seats = _concluded(net, client, judged, ballots, final=REJECT)
    terms = chain.parameters(case.terms)
    assert seats["verifier-1"].penalty == seats["verifier-2"].penalty == terms.overturned_fine
    assert seats["verifier-3"].paid > 0
    # The bond, and what the seven's fees leave of half of the two's fines and of the node's stake less the refund.
    lost = 2 * (terms.overturned_fine // 2) + (terms.stake_per_leaf - 2 * terms.refund_per_leaf) // 2
    assert appealed.credit_wei == bond + lost - 7 * terms.appeal_fee_per_seat > bond
    before = chain.token_balance(chain.address)
    chain.withdraw_appeal_credit()
    assert chain.token_balance(chain.address) == before + appealed.credit_wei


def test_who_appeals_a_right_verdict_is_judged_by_seven_others_and_loses_the_bond(net, clients, seven, tmp_path):
    client = clients["honest"]
    chain = client.chain
    certificate = _judge(net, client, {}).certificate
    eventually(lambda: _left_to_judge(chain, certificate) >= len(seven), "the seven to have weight")
    held = tmp_path / "certificate.json"
    held.write_text(json.dumps(certificate.to_json()))
    before = chain.token_balance(chain.address)
    stakes = {name: chain.stake_of(r.account.address).active for name, r in net.operators.items()}

    secrets = ("--keystore", str(net.keystore("client")), "--password-file", str(net.password_file))
    with _trine(net, "appeal", str(held), "reject", *secrets, "--timeout", "400", "--json") as appealing:
        eventually(
            lambda: appealing.poll() is not None or _case(chain, certificate).phase == AppealPhase.RESOLVED, "the seven"
        )
        net.pass_time(PARAMETERS["appealWindowSeconds"] + 1)
        appealed, _ = appealing.communicate(timeout=400)
    assert appealing.returncode == 0
    assert json.loads(appealed) == {"verdict": "accepted", "withdrawnWei": "0"}

    case = _case(chain, certificate)
    assert (case.phase, case.level, case.verdict) == (AppealPhase.CONCLUDED, 1, Verdict.ACCEPTED)
    judges = {seat.verifier for seat in chain.seats(chain.batch(certificate.batch_id))}
    others = {seat.verifier for seat in chain.appeal_seats(case, 1)}
    assert len(others) == 7
    assert not judges & others
    assert case.current.accepts.bit_count() >= 4
    terms = chain.parameters(case.terms)
    assert chain.token_balance(chain.address) == before - 7 * terms.appeal_bond_per_seat
    for name, running in net.operators.items():
        if running.account.address in others:
            gained = chain.stake_of(running.account.address).active - stakes[name]
            assert gained >= terms.appeal_fee_per_seat
    with _trine(net, "audit", "certificate", str(held)) as auditing:
        assert "result accept (final)" in auditing.communicate(timeout=120)[0]
    assert chain.verdict(certificate.batch_id, certificate.index) == (Verdict.ACCEPTED, True)


def _trine(net, *arguments):
    command = [sys.executable, "-m", "trine", *arguments]
    command += ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _judge(net, client, told, only_time_is_missing=None):
    """Has an answer judged by three who are told how; the rest is honest.

    `only_time_is_missing`: of the batch, when nothing but a deadline is waited for, which then passes at once.
    """
    for name in THREE:
        net.tell(name, told.get(name, "honest"), ["cheater"])
    chain = client.chain
    before = chain.block_number()
    answer = client.chat("Name a metal.", max_tokens=8)
    with ThreadPoolExecutor(1) as pool:
        settling = pool.submit(client.certify, answer, timeout=300)
        if only_time_is_missing:
            (anchored,) = eventually(
                lambda: list(chain.events("Batches", "BatchAnchored", from_block=before, node=answer.receipt.node)),
                "the answer to be anchored",
            )
            batch_id = bytes(anchored.args["batchId"])
            eventually(lambda: settling.done() or only_time_is_missing(chain.batch(batch_id)), "the votes")
            assert not settling.done()
            terms = chain.parameters()
            left = chain.batch(batch_id).clock - chain.timestamp()
            net.pass_time(max(left, terms.reveal_seconds) + 1)
        return Judged(answer, settling.result())


def _concluded(net, client, judged, ballots, final=None):
    """What every seat has gained and lost, by name, when nothing can change the verdict any more.

    Asserts that the chain did what the specification says of these ballots, and of the words after appeals.
    """
    chain, batch_id = client.chain, judged.certificate.batch_id
    drawn = chain.seats(chain.batch(batch_id))
    names = {running.account.address: name for name, running in net.operators.items()}
    assert sorted(names[seat.verifier] for seat in drawn) == sorted(THREE)
    p = chain.parameters(chain.batch(batch_id).terms)
    terms = Terms(
        stake_per_leaf=p.stake_per_leaf,
        refund_per_leaf=p.refund_per_leaf,
        fee_per_leaf=p.verifier_fee_per_leaf,
        fee_per_token=p.verifier_fee_per_token,
        dissent_fine=p.dissent_fine,
        overturned_fine=p.overturned_fine,
        wrong_vote_penalty=p.wrong_vote_penalty,
        no_reveal_penalty=p.no_reveal_penalty,
        no_commit_penalty=p.no_commit_penalty,
        canary_penalty=p.canary_penalty,
    )
    tokens = chain.batch(batch_id).known_header.tokens
    modelled = conclude([ballots[names[seat.verifier]] for seat in drawn], 1, terms, final, tokens=tokens)
    net.pass_time(p.appeal_window_seconds + 1)  # after an appeal that turned the verdict, anew
    client.certify(judged.answer, final=True, timeout=300)
    eventually(lambda: not any(chain.stake_of(seat.verifier).locked for seat in drawn), "the seats to be free")

    batch, result = chain.batch(batch_id), chain.result(batch_id)
    assert Vote(batch.accepted, batch.rejected, batch.unavailable) == modelled.settled
    assert Vote(result.accepted, result.rejected, result.unavailable) == modelled.final
    outcomes = {names[seat.verifier]: outcome for seat, outcome in zip(drawn, modelled.seats, strict=True)}
    for index, (name, outcome) in enumerate(outcomes.items()):
        verifier, said = drawn[index].verifier, ballots[name]
        assert chain.vote(batch, index) == (None if isinstance(said, Silence) else said), name
        assert (_paid(chain, batch_id, verifier), _slashed(chain, batch_id, verifier)) == (
            outcome.paid,
            outcome.penalty,
        ), name
        assert _counts(chain, batch_id, verifier) == outcome.counts, name
    assert _slashed(chain, batch_id, batch.known_header.node) == modelled.node_lost
    return outcomes


def _paid(chain, batch_id, verifier):
    """In wei, for the batch. Nobody here has delegators: all of it is added to the verifier's stake."""
    return sum(
        reward
        for event in chain.events("Staking", "SeatsPaid", cause=batch_id)
        for seat, reward in zip(event.args["seats"], event.args["rewards"], strict=True)
        if seat["verifier"] == verifier
    )


def _slashed(chain, batch_id, operator):
    """In wei, because of the batch."""
    return sum(e.args["taken"] for e in chain.events("Staking", "Slashed", operator=operator, cause=batch_id))


def _counts(chain, batch_id, verifier):
    """What the batch has put on a verifier's record."""
    changes = [
        Change.from_word(event.args["change"])
        for event in chain.events("Reputation", "ReputationChanged", operator=verifier, batchId=batch_id)
    ]
    return Counts(*(sum(getattr(c, part) for c in changes) for part in ("accepted", "rejected", "missed")))


def _case(chain, certificate):
    return chain.appeal_case(certificate.batch_id, certificate.index)


def _left_to_judge(chain, certificate):
    """Verifiers with weight, now and in the next epoch, who have not judged."""
    epoch = chain.block_number() // chain.epoch_blocks()
    barred = [seat.verifier for seat in chain.seats(chain.batch(certificate.batch_id))]
    pools = [chain.pool(certificate.header.model_id, True, each) for each in (epoch, epoch + 1)]
    return min(could_judge(pool, [certificate.header.node, *barred], chain.timestamp()) for pool in pools)
