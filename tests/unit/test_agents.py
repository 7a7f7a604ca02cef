"""Agents of ERC-8004 on a real chain: registered, read, published for, spoken of. Registries and files are hostile."""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager

import pytest
from agents_support import ENDPOINT, TOKEN, agent, answered, decide
from chain_support import devnet, funded
from eth_utils.crypto import keccak

from trine import identity
from trine.agents import Coverage, agent_report, agent_report_of, coverage_of
from trine.audit import OperatorReport, Standing, Work
from trine.chain import CalibrationResult, ReputationRecord, Role, Stake
from trine.chain.agents import Publication
from trine.errors import InvalidInput, NotReady, TransactionReverted
from trine.identity import feedback_value, give_feedback, publish
from trine.registration import WELL_KNOWN, Place, Registration
from trine_devnet.agents import PARAMETERS, compiled, deploy_registries, register

NOBODY = "0x" + "00" * 20
REVERTS = "0x60006000fd"
BURNS = "0x5b600056"
"""Runtime code of a registry: one that reverts, and one that takes all the gas it is given."""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        decide(network)
        yield network


@pytest.fixture
def node(net, tmp_path):
    """Account, chain and number of an operator that is an agent."""
    return agent(net, tmp_path)


@pytest.fixture
def client(net):
    return net.chain(funded(net, TOKEN))


# Registering


def test_an_operator_becomes_an_agent_once_however_often_it_asks(net, tmp_path):
    account = funded(net, TOKEN)
    chain = net.chain(account)
    file = tmp_path / "agent.json"
    first = register(chain, "node", ENDPOINT, file)
    assert len(first.transactions) == 3  # minted, linked, approved
    assert register(chain, "node", ENDPOINT, file).transactions == ()
    assert chain.agents_of(account.address) == [first.agent.agent_id]
    assert chain.agent_of(account.address) == first.agent.agent_id
    said = identity.read_file(file)
    assert said.names(Place(31337, chain.registry("Erc8004Identity"), first.agent.agent_id))
    assert chain.agent(first.agent.agent_id).uri == ENDPOINT + WELL_KNOWN


@pytest.mark.parametrize("sent", [1, 2])
def test_who_was_interrupted_goes_on_where_it_was(net, tmp_path, sent):
    account = funded(net, TOKEN)
    chain = net.chain(account)
    chain.registry("Erc8004Identity")
    chain.register_agent("")
    (agent_id,) = chain.agents_of(account.address)
    if sent > 1:
        chain.link_agent(agent_id)
    done = register(chain, "node", ENDPOINT, tmp_path / "agent.json")
    assert done.agent.agent_id == agent_id
    assert len(done.transactions) == 4 - sent  # the rest, and the URI
    assert chain.agents_of(account.address) == [agent_id]


def test_an_account_with_two_agents_must_say_which(net, tmp_path):
    account, chain, first = agent(net, tmp_path)
    said = Registration("second", "")
    second = identity.register(chain, said, None, another=True).agent.agent_id
    assert second != first
    assert chain.agent_of(account.address) == second
    chain.unlink_agent()
    with pytest.raises(InvalidInput, match=f"agents {first}, {second}: say which"):
        identity.register(chain, said, None)
    assert identity.register(chain, said, None, agent_id=first).agent.agent_id == first


def test_nobody_updates_anothers_agent(net, node, client):
    _, _, agent_id = node
    with pytest.raises(InvalidInput, match="belongs to"):
        identity.update(client, agent_id, Registration("mine", ""), None)
    with pytest.raises(InvalidInput, match="belongs to"):
        identity.register(client, Registration("mine", ""), None, agent_id=agent_id)


def test_a_file_on_the_chain_is_updated_where_it_has_changed(node):
    _, chain, agent_id = node
    said = Registration("node", "first")
    changed = identity.update(chain, agent_id, said, None)
    assert len(changed.transactions) == 1
    assert identity.update(chain, agent_id, changed.registration, None).transactions == ()
    report = agent_report(chain, agent_id)
    assert report.registration == changed.registration
    assert report.agent.uri.startswith("data:application/json;base64,")


def test_a_deployment_without_registries_says_so(tmp_path):
    with devnet(tmp_path / "bare", dict.fromkeys(PARAMETERS, "nobody")) as bare:
        chain = bare.chain(funded(bare, TOKEN))
        with pytest.raises(NotReady, match="knows no identity registry"):
            register(chain, "node", ENDPOINT, tmp_path / "agent.json")
        assert chain.agent_of(chain.address) is None
        assert not (tmp_path / "agent.json").exists()


def test_a_file_that_cannot_be_written_or_read_is_an_error_of_the_caller(tmp_path):
    with pytest.raises(InvalidInput, match="cannot write"):
        identity.write_file(tmp_path, Registration("node", ""))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="cannot read"):
        identity.read_file(tmp_path / "missing.json")
    (tmp_path / "large.json").write_bytes(b" " * (1 << 20))
    with pytest.raises(InvalidInput, match=r"large\.json: a registration file has at most"):
        identity.read_file(tmp_path / "large.json")


# Reading


def test_a_report_says_what_contradicts_the_file(net, node, client):
    _, chain, agent_id = node
    identity.update(chain, agent_id, Registration("node", ""), None)
    fine = agent_report(client, agent_id)
    assert fine.problems == ()
    chain.set_endpoint("https://elsewhere.example")
    (moved,) = agent_report(client, agent_id).problems
    assert "does not name the endpoint" in moved
    # Another's file, which does not name this agent.
    chain.set_agent_uri(agent_id, Registration("node", "", active=False).data_uri())
    problems = agent_report(client, agent_id).problems
    assert any("not this agent's" in problem for problem in problems)
    assert any("not active" in problem for problem in problems)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "its URI is empty"),
        ("http://127.0.0.1:1/file", "only https"),
        ("https://169.254.169.254/latest/meta-data", "not everybody's"),
        ("ipfs://cid", "only https"),
        ("data:application/json;base64,e30=", "type: expected"),
        ("https://[", "Invalid"),
    ],
)
def test_a_hostile_uri_is_a_line_in_the_report(node, client, uri, said):
    _, chain, agent_id = node
    chain.set_agent_uri(agent_id, uri)
    report = agent_report(client, agent_id)
    assert report.registration is None
    assert any(said in problem for problem in report.problems), report.problems
    json.dumps(report.to_json())


def test_an_agent_that_does_not_exist(client):
    with pytest.raises(InvalidInput, match="has no agent 123456"):
        agent_report(client, 123_456)


def test_an_agent_that_was_sold_is_its_old_operators_no_more(net, node, client):
    account, _, agent_id = node
    _transfer(net, account, client.address, agent_id)
    assert client.agent_of(account.address) is None
    problems = agent_report(client, agent_id).problems
    assert any("no operator of this network" in problem for problem in problems)
    assert any("no wallet" in problem for problem in problems)


def test_a_registry_that_was_replaced_is_contradicted(net, node, client):
    account, chain, agent_id = node
    batch = answered(chain, account, canary=keccak(text="contradicted"))
    chain.publish(batch.header)
    assert _about(agent_report(client, agent_id), "contradicts") == []
    with _replaced(net, chain.registry("Erc8004Validation"), REVERTS):
        report = agent_report(client, agent_id)
        assert report.validations is None
        assert _about(report, "contradicts 1 of the verdicts")
        assert _about(report, "gives no summary")


@pytest.mark.parametrize("code", [REVERTS, BURNS], ids=["reverts", "burns gas"])
def test_what_trine_says_of_an_operator_does_not_depend_on_strangers_code(net, node, client, code):
    account, chain, _ = node
    record = OperatorReport(account.address, 1, "", Stake(0, 0, 0, 0), 0, (), ())
    report, why_not = agent_report_of(client, record)
    assert report is not None
    assert not why_not
    with _replaced(net, chain.registry("Erc8004Validation"), code):
        report, _ = agent_report_of(client, record)
        assert report.validations is None
    with _replaced(net, chain.registry("Erc8004Identity"), code):
        report, _ = agent_report_of(client, record)
        assert report is None


# Publishing and feedback


def test_a_final_verdict_is_a_validation_response(node, client):
    account, chain, agent_id = node
    batch = answered(chain, account)
    # Anybody may, the node or a client whose answer was bad.
    client.publish(batch.header)
    assert chain.publication(batch.batch_id) is Publication.FINAL
    held = chain.validation(chain.request_hash(batch.batch_id))
    assert (held.validator, held.agent_id) == (chain.deployment.address("Erc8004Adapter"), agent_id)
    assert (held.response, held.tag) == (100, "hard")
    assert chain.validation_summary(agent_id) == (1, 100)
    with pytest.raises(TransactionReverted, match="AlreadyPublished"):
        chain.publish(batch.header, b"\x01" * 32)
    report = agent_report(client, agent_id)
    assert report.published == (batch.batch_id,)
    assert report.validations == (1, 100)


def test_what_cannot_be_published_is_said_before_anything_is_sent(net, node, client):
    account, chain, _ = node
    batch = answered(chain, account, canary=keccak(text="twice"))
    chain.publish(batch.header)
    with pytest.raises(NotReady, match="published already"):
        publish(client, batch.batch_id)
    try:
        decide(net, settled=False, final=False)
        with pytest.raises(NotReady, match="not settled yet"):
            publish(client, keccak(text="pending"))
        decide(net, leaves=0, settled=False, final=False)
        with pytest.raises(NotReady, match="knows no such batch"):
            publish(client, keccak(text="unknown"))
    finally:
        decide(net)


def test_a_client_says_what_an_answer_was_worth_once(net, node, client):
    account, chain, agent_id = node
    certificate = answered(chain, account, client.address).certificate
    assert give_feedback(client, certificate, "-4.25", "starred")
    assert chain.feedback_summary(agent_id) == (1, -425, 2)
    assert chain.feedback_summary(agent_id, "starred", "accepted") == (1, -425, 2)
    assert chain.feedback_summary(agent_id, "starred", "rejected") == (0, 0, 0)
    (said,) = chain.feedback_of(agent_id)
    assert (said.client, said.leaf, said.value) == (client.address, 0, -425)
    with pytest.raises(TransactionReverted, match="AlreadyGiven"):
        give_feedback(client, certificate, 100, "starred")
    assert agent_report(client, agent_id).feedback == (1, -425, 2)


def test_the_verdict_stands_beside_the_praise(net, node, client):
    account, chain, agent_id = node
    try:
        decide(net, accepted=0, rejected=1)
        held = answered(chain, account, client.address, keccak(text="rejected")).certificate
        give_feedback(client, dataclasses.replace(held, accepted=0, rejected=1), 100)
        assert chain.feedback_summary(agent_id, "", "rejected") == (1, 100, 0)
        decide(net, accepted=0)
        doubtful = answered(chain, account, client.address, keccak(text="doubt")).certificate
        with pytest.raises(NotReady, match="inconclusive"):
            give_feedback(client, dataclasses.replace(doubtful, accepted=0), 100)
    finally:
        decide(net)


def test_a_thousand_accounts_without_a_judged_answer_change_no_summary(net, node, client):
    """A Sybil may write into the registry directly; what came through the adapter is asked for by its author alone."""
    account, chain, agent_id = node
    certificate = answered(chain, account, client.address, keccak(text="honest")).certificate
    give_feedback(client, certificate, 10)
    for _ in range(3):
        sybil = net.chain(funded(net, TOKEN))
        sybil.registry("Erc8004Reputation")
        sybil._write("Erc8004Reputation", "giveFeedback", agent_id, 1_000, 0, "quality", "accepted", "", "", bytes(32))
        with pytest.raises(InvalidInput, match="feedback is the client's"):
            give_feedback(sybil, certificate, 1_000)
        with pytest.raises(TransactionReverted, match="NotTheClient"):
            sybil.give_feedback(certificate.batch_id, certificate.opening(), 1_000, 0, "quality")
    assert chain.feedback_summary(agent_id) == (1, 10, 0)


def test_feedback_needs_an_agent(net, client):
    account = funded(net, TOKEN)
    certificate = answered(client, account, client.address).certificate
    with pytest.raises(NotReady, match="nobody to give feedback to"):
        give_feedback(client, certificate, 1)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (87, (87, 0)),
        ("4.5", (45, 1)),
        (-0.5, (-5, 1)),
        ("1e2", (100, 0)),
        ("1.000000000000000001", (10**18 + 1, 18)),
        (0, (0, 0)),
        ("99999999999999999999999999999999999999", (10**38 - 1, 0)),
    ],
)
def test_numbers_are_given_as_the_registry_takes_them(given, taken):
    assert feedback_value(given) == taken


@pytest.mark.parametrize(
    "given", ["", "many", "nan", "inf", "-Infinity", "1e39", "1e-19", 10**39, "1e99999999", "1" * 100]
)
def test_other_numbers_are_refused(given):
    with pytest.raises(InvalidInput):
        feedback_value(given)


def test_a_tag_is_bounded_in_bytes(node, client):
    account, chain, _ = node
    certificate = answered(chain, account, client.address).certificate
    with pytest.raises(InvalidInput, match="the tag has 66 bytes"):
        give_feedback(client, certificate, 1, "ü" * 33)


# What is left out


def test_who_publishes_only_good_batches_is_seen_to():
    record = _record([(1, 1.0, 0.0), (2, 0.0, 1.0), (3, 1.0, 1.0)])
    every = coverage_of(record, tuple(bytes([n]) * 32 for n in (1, 2, 3)))
    assert every == Coverage(3, 3, 2.0, 4.0, 2.0, 4.0)
    assert not every.is_flattering
    good = coverage_of(record, (bytes([1]) * 32,))
    assert good.shares == (0.5, 1.0)
    assert good.is_flattering
    assert not coverage_of(record, ()).is_flattering
    assert coverage_of(record, (bytes([1]) * 32, bytes([9]) * 32)).others == 1, "bought with the agent"
    assert not coverage_of(record, (bytes([2]) * 32,)).is_flattering


# The stand-ins


def test_registries_of_a_devnet_are_the_development_contracts(net):
    chain = net.chain()
    for name, registry in zip(
        ("Erc8004Identity", "Erc8004Reputation", "Erc8004Validation"),
        ("IdentityRegistry", "ReputationRegistry", "ValidationRegistry"),
        strict=True,
    ):
        code = net.rpc.call("eth_getCode", chain.registry(name), "latest")
        assert len(code) == len(compiled(registry)["deployedBytecode"])
    assert len(set(deploy_registries(net.rpc).values())) == 3


def _record(work):
    reputation = ReputationRecord(*[0] * len(dataclasses.fields(ReputationRecord)))
    standing = Standing(
        bytes(32),
        "model",
        Role.NODE,
        reputation,
        CalibrationResult(*[0] * len(dataclasses.fields(CalibrationResult))),
        True,
        tuple(Work(bytes([number]) * 32, 1, good, bad, 0.0, 0) for number, good, bad in work),
    )
    return OperatorReport(NOBODY, 1, "", Stake(0, 0, 0, 0), 0, (standing,), ())


def _about(report, words):
    return [problem for problem in report.problems if words in problem]


def _transfer(net, account, to, agent_id):
    registry = net.chain(account).registry("Erc8004Identity")
    data = keccak(text="transferFrom(address,address,uint256)")[:4].hex()
    words = "".join(word.removeprefix("0x").lower().rjust(64, "0") for word in (account.address, to, hex(agent_id)))
    net.rpc.call("anvil_impersonateAccount", account.address)
    net.rpc.call("eth_sendTransaction", {"from": account.address, "to": registry, "data": "0x" + data + words})
    net.rpc.call("anvil_mine")


@contextmanager
def _replaced(net, address, code):
    """Other code at an address, as an upgrade would put there."""
    before = net.rpc.call("eth_getCode", address, "latest")
    net.rpc.call("anvil_setCode", address, code)
    try:
        yield
    finally:
        net.rpc.call("anvil_setCode", address, before)
