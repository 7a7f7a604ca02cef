"""The relay against two real chains, and verifiers' endpoints that misbehave."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from eth_account import Account
from signed_support import TEXT, Endpoints, anchoring_node, other_chain, send, signing

from trine import handovers
from trine import relay as relay_module
from trine.audit import certificate_report
from trine.certificates import handed_over, hard_certificate, portable_certificate, source_of
from trine.chain.batches import LATE_LOG_SECONDS
from trine.chain.deployment import abi, bytecode
from trine.chain.foreign import ForeignChain, deploy_verifier
from trine.errors import ChainError, InvalidInput, NodeUnreachable, NotReady, TransactionReverted, VerificationFailed
from trine.handovers import assembled, collect, steps_from
from trine.protocol import bls
from trine.protocol.key_root import MAX_STEP_EPOCHS, EligibleKey, KeySet, enough_signers
from trine.protocol.roster import Roster
from trine.relay import Limits, Relay

FUNDED = Account.from_key("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""Anvil's first account."""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with signing(tmp_path_factory.mktemp("chain") / "home") as found:
        found.endpoints = Endpoints(found)
        yield found
        found.endpoints.close()


@pytest.fixture
def source(net):
    """Asked fresh, and verifiers are honest again."""
    net.endpoints.instead.clear()
    net.endpoints.asked.clear()
    return net.network.chain()


@pytest.fixture(scope="module")
def abroad():
    with other_chain() as rpc:
        yield rpc


def relay_from(net, source, abroad, epoch, limits=None):
    foreign = deployed(source, abroad, source.roster(epoch).key_set)
    relay = Relay(source, foreign, limits)
    relay.require_fit()
    return relay, foreign


def deployed(source, abroad, genesis, max_age=8):
    return deploy_verifier(
        abroad.url,
        FUNDED,
        chain_id=source.deployment.chain_id,
        batches=source.deployment.address("Batches"),
        genesis=genesis,
        max_age_epochs=max_age,
    )


# What is decided without I/O


def test_as_few_signers_as_possible_and_no_fewer():
    keys = [EligibleKey(bytes([i]) * 32, weight) for i, weight in enumerate((1, 50, 20, 20, 9))]
    key_set = KeySet.of(1, keys, 9)
    assert enough_signers(key_set, dict(enumerate((1, 50, 20, 20, 9)))) == [1, 2]
    assert enough_signers(key_set, {0: 1, 2: 20, 3: 20, 4: 9}) is None
    assert enough_signers(key_set, {1: 50, 3: 20}) == [1, 3]
    assert enough_signers(replace(key_set, total_weight=105), {1: 50, 3: 20}) is None  # two thirds are not more


def test_a_hand_over_is_tried_as_far_as_it_may_reach_and_then_nearer():
    assert steps_from(10, 11) == [11]
    assert steps_from(10, 18) == [18, 14, 12, 11]
    assert steps_from(10, 10) == []
    assert steps_from(0, 10**6)[0] == MAX_STEP_EPOCHS
    assert len(steps_from(0, 10**6)) == 11


# Two chains


def test_a_relay_carries_sets_to_another_chain_and_resumes_by_itself(net, source, abroad):
    genesis = net.next_epoch()
    relay, foreign = relay_from(net, source, abroad, genesis)
    assert foreign.deployment.chain_id != source.deployment.chain_id
    assert relay.step() is None
    for _ in range(2):
        epoch = net.next_epoch()
        advanced = relay.step()
        assert (advanced.since, advanced.epoch) == (epoch - 1, epoch)
        assert foreign.key_set_of(epoch) == source.roster(epoch).key_set
        assert advanced.signers == 4  # of five with equal weights: more than two thirds
    # Another process knows nothing, and deploys nothing anew.
    again, same = relay_from(net, net.network.chain(), abroad, genesis)
    assert same.verifier == foreign.verifier
    assert again.step() is None
    skipped = [net.next_epoch() for _ in range(3)]
    assert again.step().epoch == skipped[-1]
    assert foreign.newest_epoch() == skipped[-1]
    assert foreign.key_set_of(skipped[0]) is None


def test_every_epoch_is_carried_where_that_is_wanted(net, source, abroad):
    relay, _ = relay_from(net, source, abroad, net.next_epoch(), Limits(every_epoch=True))
    epochs = [net.next_epoch() for _ in range(3)]
    assert [relay.step().epoch for _ in epochs] == epochs
    assert relay.step() is None


def test_a_relayer_that_was_overtaken_goes_on(net, source, abroad, monkeypatch):
    relay, foreign = relay_from(net, source, abroad, net.next_epoch())
    other = Relay(net.network.chain(), ForeignChain.at(abroad.url, foreign.verifier, FUNDED))
    net.next_epoch()
    real = foreign.advance_gas

    def late(following, handover):
        assert other.step()
        return real(following, handover)

    monkeypatch.setattr(foreign, "advance_gas", late)
    assert relay.step() is None
    monkeypatch.undo()
    net.next_epoch()
    assert relay.step()


def test_a_reorganisation_of_the_other_chain_is_survived(net, source, abroad):
    relay, foreign = relay_from(net, source, abroad, net.next_epoch())
    snapshot = abroad.call("evm_snapshot")
    epoch = net.next_epoch()
    assert relay.step().epoch == epoch
    abroad.call("evm_revert", snapshot)
    assert foreign.newest_epoch() == epoch - 1
    assert relay.step().epoch == epoch


def test_blocks_of_the_source_that_may_still_change_are_not_carried(net, source, abroad):
    from trine.chain import Chain

    genesis = net.next_epoch()
    net.network.rpc.call("anvil_mine", hex(8))
    careful = Chain.connect(source.deployment, net.network.rpc_url, confirmations=8)
    relay, _ = relay_from(net, careful, abroad, genesis)
    epoch = net.next_epoch()
    assert relay.step() is None
    net.network.rpc.call("anvil_mine", hex(8))
    assert relay.step().epoch == epoch


def test_a_contract_whose_newest_set_is_not_the_networks_is_denounced(net, source, abroad):
    roster = source.roster(net.next_epoch())
    forged = replace(roster.key_set, root=b"f" * 32)
    relay = Relay(source, deployed(source, abroad, forged))
    with pytest.raises(VerificationFailed, match="is not the network's"):
        relay.step()
    stop = threading.Event()
    with pytest.raises(VerificationFailed):
        relay.run(stop)


def test_a_contract_of_another_network_is_refused(net, source, abroad):
    key_set = source.roster(net.next_epoch()).key_set
    theirs = deploy_verifier(
        abroad.url, FUNDED, chain_id=1, batches="0x" + "11" * 20, genesis=key_set, max_age_epochs=8
    )
    with pytest.raises(InvalidInput, match="is of Batches 0x1111"):
        Relay(source, theirs).require_fit()
    nobody = ForeignChain.at(abroad.url, "0x" + "22" * 20, FUNDED)
    with pytest.raises(InvalidInput, match="there is no contract at"):
        Relay(source, nobody).require_fit()
    with pytest.raises(InvalidInput, match="network's own"):
        deployed(source, net.network.rpc, key_set)


def test_gas_and_signers_are_bounded(net, source, abroad):
    genesis = net.next_epoch()
    _, foreign = relay_from(net, source, abroad, genesis)
    net.next_epoch()
    with pytest.raises(InvalidInput, match=r"gas with 4 signers.*--max-gas"):
        Relay(source, foreign, Limits(max_gas=100_000)).step()
    with pytest.raises(InvalidInput, match="takes 4 signers, more than 3"):
        Relay(source, foreign, Limits(max_signers=3)).step()
    assert foreign.newest_epoch() == genesis
    assert Relay(source, foreign).step().gas < 1_000_000


def test_a_set_whose_time_is_up_is_said_to_be_lost(net, source, abroad):
    relay, _ = relay_from(net, source, abroad, net.next_epoch())
    net.next_epoch()
    snapshot = abroad.call("evm_snapshot")
    abroad.call("evm_increaseTime", hex(source.unbonding_delay() + 10))
    abroad.call("evm_mine")
    with pytest.raises(VerificationFailed, match="stays silent for ever"):
        relay.step()
    abroad.call("evm_revert", snapshot)


# Endpoints


def hang(request):
    time.sleep(5)


def drip(request):
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(100):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def flood(request):
    request.send_response(200)
    request.end_headers()
    try:
        while True:
            request.wfile.write(b"x" * 65536)
    except OSError:
        pass


def packed(request):
    request.send_response(200)
    request.send_header("content-encoding", "gzip")
    request.end_headers()
    request.wfile.write(b"\x1f\x8b" + bytes(100))


def redirected(request):
    request.send_response(302)
    request.send_header("location", "http://127.0.0.1:1/")
    request.end_headers()


BAD = {
    "slow": (hang, "not all of it came"),
    "drips": (drip, "not all of it came"),
    "floods": (flood, "more than 16384 bytes"),
    "compresses": (packed, "compressed"),
    "redirects": (redirected, "answers 302"),
    "refuses": (lambda r: send(r, {"error": "no"}, 500), "answers 500"),
    "writes to the terminal": (lambda r: send(r, b"\x1b[2J\x07gone", 500), "[2Jgone"),
    "is no JSON": (lambda r: send(r, b"<html>"), "no hand-over"),
    "nests": (lambda r: send(r, b"[" * 16000), "no hand-over"),
    "is a list": (lambda r: send(r, []), "no hand-over"),
    "is short": (lambda r: send(r, {"key": "0x00", "signature": "0x00"}), "no hand-over"),
    "is no hex": (lambda r: send(r, {"key": "zz", "signature": 7}), "no hand-over"),
}


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(handovers, "ANSWER_SECONDS", 2.5)


@pytest.mark.parametrize("how", BAD)
def test_attack_an_endpoint_that_misbehaves_costs_little_and_is_named(net, source, hurried, how):
    epoch = net.next_epoch()
    current, following = source.roster(epoch - 1), source.roster(epoch)
    bad, reason = BAD[how]
    culprit = current.eligible[2].operator
    net.endpoints.instead[culprit] = bad
    collected = collect(current, following, source_of(source), source.endpoint_of)
    assert reason in collected.refused[culprit]
    assert collected.refused[culprit].isprintable()
    assert len(collected.signatures) == 4
    handover = assembled(current, following, collected)
    assert 2 not in [member.index for member in handover.members]


def test_attack_signatures_over_something_else_are_not_taken(net, source):
    """Another set, another source, another's key, a point that is none: each is seen before anything is sent."""
    epoch = net.next_epoch()
    current, following = source.roster(epoch - 1), source.roster(epoch)
    where = source_of(source)
    a, b, c, d = (current.eligible[i].operator for i in range(4))
    documents = {
        a: {**net.endpoints.document(a, epoch - 1, epoch), "signature": "0x" + "11" * 128},
        b: net.endpoints.document(b, epoch - 1, epoch - 1),
        c: net.endpoints.document(d, epoch - 1, epoch),
    }
    for who, document in documents.items():
        net.endpoints.instead[who] = lambda request, document=document: send(request, document)
    collected = collect(current, following, where, source.endpoint_of)
    assert set(collected.refused) == {a, b, c}
    assert "another key" in collected.refused[c]
    with pytest.raises(NotReady, match=r"no quorum.*more than two thirds.*has not signed"):
        assembled(current, following, collected)


def test_attack_an_endpoint_that_is_no_address_is_not_asked(net, source):
    epoch = net.next_epoch()
    current, following = source.roster(epoch - 1), source.roster(epoch)
    for endpoint in ("", "file:///etc/passwd", "http://", "http://[", "gopher://127.0.0.1"):
        collected = collect(current, following, source_of(source), lambda _, endpoint=endpoint: endpoint)
        assert len(collected.refused) == 5
        assert not collected.signatures


def test_only_as_many_are_asked_as_are_needed(net, source):
    epoch = net.next_epoch()
    current = source.roster(epoch - 1)
    heavy = Roster(
        current.epoch, tuple(replace(e, weight=10**6 if i == 3 else 1) for i, e in enumerate(current.eligible)), 1
    )
    asked = []
    many = Roster(1, tuple(replace(heavy.eligible[i % 5], weight=10**6 - i) for i in range(40)), 1)

    async def nothing(url, *_):
        asked.append(url)
        raise NodeUnreachable("away")

    object.__setattr__(many, "key_set", replace(heavy.key_set, total_weight=40 * 10**6))
    collect(many, source.roster(epoch), source_of(source), lambda who: f"http://{who}", download=nothing)
    assert len(asked) == 40


# Certificates


@pytest.fixture(scope="module")
def answers(net):
    node = anchoring_node(net)
    net.next_epoch()  # weights count from then on
    return net.settled(node, 3, rejects=[1])


def test_an_answer_travels_to_a_chain_that_has_never_seen_the_network(net, source, abroad, answers):
    hard, roster = hard_certificate(source, answers[0])
    later = net.next_epoch()
    assert hard.epoch < later
    relay, foreign = relay_from(net, source, abroad, roster.epoch)
    batch_id, verdict, size = foreign.check(hard)
    assert (batch_id, verdict, size) == (answers[0].batch_id, "accept", 3)
    assert relay.step().epoch == later
    assert foreign.check(hard)[1] == "accept"
    rejected, _ = hard_certificate(source, answers[1])
    assert foreign.check(rejected)[1] == "reject"
    with pytest.raises(TransactionReverted, match="CertificateVerifierNotSigned"):
        foreign.check(replace(hard, accepted=7, rejected=0))


def test_a_consumer_abroad_pays_for_the_answer(net, source, abroad, answers):
    from web3 import Web3

    hard, roster = hard_certificate(source, answers[2])
    _, foreign = relay_from(net, source, abroad, roster.epoch)
    web3 = Web3(Web3.HTTPProvider(abroad.url))
    factory = web3.eth.contract(abi=abi("ExampleConsumer"), bytecode=bytecode("ExampleConsumer").creation)
    sent = {"from": FUNDED.address}
    created = factory.constructor(foreign.verifier, net.model_id, 3).transact(sent)
    consumer = web3.eth.contract(
        web3.eth.wait_for_transaction_receipt(created)["contractAddress"], abi=abi("ExampleConsumer")
    )
    deadline = web3.eth.get_block("latest")["timestamp"] + 1000
    asked = consumer.functions.ask(hard.receipt.input_hash, deadline).transact({**sent, "value": 10**15})
    assert web3.eth.wait_for_transaction_receipt(asked)["status"] == 1
    values = hard.receipt.values()
    tampered = replace(hard, signature=hard.members[0].key[:128])
    with pytest.raises(Exception, match=r"0x|revert"):
        consumer.functions.answer(tampered.to_call(), values, TEXT).transact(sent)
    before = web3.eth.get_balance(hard.receipt.node)
    answered = consumer.functions.answer(hard.to_call(), values, TEXT).transact(sent)
    assert web3.eth.wait_for_transaction_receipt(answered)["status"] == 1
    assert web3.eth.get_balance(hard.receipt.node) == before + 10**15


def test_a_certificate_that_begins_with_an_older_root(net, source, answers):
    hard, roster = hard_certificate(source, answers[0])
    first = source.roster(roster.epoch - 1)
    portable = portable_certificate(source, answers[0], root_epoch=first.epoch)
    assert [each.epoch for each in portable.key_sets] == [first.epoch, roster.epoch]
    trusted = first.key_set.id_on(hard.chain_id, hard.batches)
    portable.verify(trusted, source.timestamp())
    with pytest.raises(VerificationFailed, match="is not the one that you trust"):
        portable.verify(roster.key_set.id_on(hard.chain_id, hard.batches), source.timestamp())
    with pytest.raises(VerificationFailed, match="was good until"):
        portable.verify(trusted, first.valid_until + 1)
    with pytest.raises(InvalidInput, match="forwards only"):
        handed_over(source, source.roster(net.next_epoch()), roster)


def test_a_batch_that_was_settled_by_votes_has_none(source, answers, monkeypatch):
    real = type(source).newest_event

    def by_votes(self, contract, name, **filters):
        event = real(self, contract, name, **filters)
        return replace(event, args={**event.args, "signed": False}) if name == "BatchSettled" else event

    with pytest.raises(NotReady, match="is not settled yet"):
        hard_certificate(source, replace(answers[0], root=b"n" * 32))
    monkeypatch.setattr(type(source), "newest_event", by_votes)
    with pytest.raises(NotReady, match="settled by votes"):
        hard_certificate(source, answers[0])


@pytest.mark.parametrize("look", [hard_certificate, certificate_report])
def test_an_answer_of_an_earlier_chain_is_not_waited_for(source, answers, look):
    """A devnet that is started again has the chain id and the addresses of the one before."""
    began = source.block_timestamp(source.deployment.block)
    unknown = replace(answers[0], root=b"n" * 32)
    with pytest.raises(NotReady, match="is not settled"):
        look(source, unknown)
    with pytest.raises(InvalidInput, match="it was given on another chain"):
        look(source, replace(unknown, receipt=replace(unknown.receipt, issued_at=began - 1, anchor_by=began)))
    late = replace(unknown.receipt, issued_at=began, anchor_by=source.timestamp() - 1)
    with pytest.raises(NotReady, match=r"had promised to anchor it by .*`trine claim`"):
        look(source, replace(unknown, receipt=late))


def test_an_endpoint_without_old_blocks_says_nothing_of_an_answers_age(source, answers, monkeypatch):
    def pruned(*_):
        raise ChainError("missing trie node")

    monkeypatch.setattr(type(source), "block_timestamp", pruned)
    old = replace(answers[0].receipt, issued_at=1, anchor_by=2)
    with pytest.raises(NotReady, match="had promised"):
        hard_certificate(source, replace(answers[0], root=b"n" * 32, receipt=old))


def test_an_endpoint_that_hides_the_signatures_is_found_out(source, answers, monkeypatch):
    monkeypatch.setattr(type(source), "transaction_input", lambda *_: b"\0" * 1000)
    with pytest.raises(ChainError, match="shows no committee's signatures"):
        hard_certificate(source, answers[0])


def test_a_batch_whose_logs_show_later_than_its_state_is_no_lie_of_the_endpoints(source, answers, monkeypatch):
    """As with an endpoint that is busy, or another one behind a balancer."""
    batch_id = answers[0].batch_id
    late, real, looks = type(source), source.newest_event, []

    def shows_late(_, *which, **of):
        looks.append(which)
        return real(*which, **of) if len(looks) > 2 else None

    monkeypatch.setattr(late, "newest_event", shows_late)
    assert source.batch(batch_id).header.root == answers[0].root
    assert len(looks) == 3
    source._headers.clear()
    monkeypatch.setattr(late, "newest_event", lambda *_, **__: looks.append(0))
    for expected in (len(LATE_LOG_SECONDS) + 1, 1):  # waited for once, and not at every look
        looks.clear()
        with pytest.raises(VerificationFailed, match="no header"):
            source.batch(batch_id)
        assert len(looks) == expected


def test_a_settlement_within_another_call_is_found(net, source, answers):
    """As when somebody's account contract sends it, or the seed is recorded with it."""
    from trine.certificates import signed_settlement

    settled = source.newest_event("Batches", "BatchSettled", batchId=answers[0].batch_id)
    sent = source.transaction_input(settled.transaction)
    direct = signed_settlement(source, answers[0].batch_id)
    wrapped = bytes(68) + sent[:4] + b"decoy" + bytes(31) + sent + bytes(28)
    source.transaction_input = lambda _: wrapped
    assert signed_settlement(source, answers[0].batch_id) == direct


def test_keys_that_were_registered_during_the_epoch_do_not_travel(net, source, answers, monkeypatch):
    roster = source.roster(hard_certificate(source, answers[0])[1].epoch)
    monkeypatch.setattr(
        type(source),
        "roster",
        lambda *_: Roster(
            roster.epoch,
            tuple(replace(e, key_hash=bytes([i]) * 32) for i, e in enumerate(roster.eligible)),
            roster.valid_until,
        ),
    )
    with pytest.raises(NotReady, match="registered after the epoch's first block"):
        hard_certificate(source, answers[0])


def test_attack_a_quorum_that_lies_is_seen_by_who_reads_the_source(net, source, abroad):
    """More than two thirds of a set's keys can install what they like abroad; honest relayers stop and say so."""
    epoch = net.next_epoch()
    relay, foreign = relay_from(net, source, abroad, epoch)
    current = source.roster(epoch)
    lie = Roster(
        epoch + 1,
        tuple(replace(e, key_hash=bytes([i + 1]) * 32) for i, e in enumerate(current.eligible)),
        current.valid_until,
    )
    where = source_of(source)
    digest = current.key_set.handover_digest(where.chain_id, where.batches, lie.key_set)
    signatures = {}
    for i, eligible in enumerate(current.eligible[:4]):
        secret = net.secrets[eligible.operator]
        signatures[i] = (secret.public_key(), secret.sign(digest))
    collected = handovers.Collected(signatures)
    foreign.advance(lie.key_set, assembled(current, lie, collected))
    net.next_epoch()
    with pytest.raises(VerificationFailed, match="more than two thirds"):
        relay.step()


def test_attack_a_relayer_cannot_install_what_too_few_have_signed(net, source, abroad):
    epoch = net.next_epoch()
    _, foreign = relay_from(net, source, abroad, epoch)
    current, following = source.roster(epoch), replace(source.roster(epoch), epoch=epoch + 1)
    where = source_of(source)
    digest = current.key_set.handover_digest(where.chain_id, where.batches, following.key_set)
    three = [net.secrets[e.operator] for e in current.eligible[:3]]
    members = current.members(secret.public_key() for secret in three)
    handover = handovers.Handover(members, bls.aggregate([secret.sign(digest) for secret in three]))
    with pytest.raises(TransactionReverted, match="CertificateVerifierNoQuorum"):
        foreign.advance(following.key_set, handover)
    twice = handovers.Handover((members[0], *members), handover.signature)
    with pytest.raises(TransactionReverted, match="CertificateVerifierMembersNotRising"):
        foreign.advance(following.key_set, twice)


def test_a_relay_that_runs_goes_on_after_what_passes_and_ends_when_told(net, source, abroad, monkeypatch):
    monkeypatch.setattr(relay_module, "PAUSES_SECONDS", (0.05, 0.1))
    epoch = net.next_epoch()
    relay, foreign = relay_from(net, source, abroad, epoch)
    for account in net.accounts[:3]:
        net.endpoints.instead[account.address] = lambda request: send(request, {}, 503)
    net.next_epoch()
    stop, told = threading.Event(), []
    runner = threading.Thread(target=relay.run, args=(stop, 0.05, told.append))
    runner.start()
    while len(net.endpoints.asked) < 10:  # twice in vain
        time.sleep(0.05)
    assert not told
    net.endpoints.instead.clear()
    while foreign.newest_epoch() == epoch:
        time.sleep(0.05)
    stop.set()
    runner.join(60)
    assert not runner.is_alive()
    assert [advanced.epoch for advanced in told] == [epoch + 1]
