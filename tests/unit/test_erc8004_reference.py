"""The same acts against the code of ERC-8004's real registries, copied from a chain that has them.

The real registries are published neither as a package nor with a licence file, so no copy of them is here. What stands
on a public chain can be read by everybody: give an RPC endpoint of it and the addresses of its registries,

    TRINE_ERC8004_RPC=https://… TRINE_ERC8004_REGISTRIES=<identity>,<reputation>[,<validation>] \\
        pytest tests/unit/test_erc8004_reference.py

and these tests put that code onto a chain of their own. Without, they are skipped.
"""

from __future__ import annotations

import os

import pytest
from agents_support import TOKEN, agent, answered, decide
from chain_support import devnet, funded
from eth_utils.crypto import keccak

from trine.agents import agent_report
from trine.chain.agents import Publication
from trine.errors import NotReady, TransactionReverted
from trine.identity import give_feedback, publish
from trine_devnet.agents import PARAMETERS
from trine_devnet.rpc import Rpc

RPC_URL = os.environ.get("TRINE_ERC8004_RPC", "")
REGISTRIES = tuple(filter(None, os.environ.get("TRINE_ERC8004_REGISTRIES", "").split(",")))
IMPLEMENTATION = hex(int.from_bytes(keccak(text="eip1967.proxy.implementation")) - 1)
"""The slot in which a proxy keeps whose code it runs (EIP-1967)."""
IDENTITY_SLOT = "0x0"
"""In which the two others keep the identity registry."""

pytestmark = pytest.mark.skipif(
    not RPC_URL or len(REGISTRIES) < 2, reason="set TRINE_ERC8004_RPC and TRINE_ERC8004_REGISTRIES"
)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    parameters = dict.fromkeys(PARAMETERS, "nobody") | dict(zip(PARAMETERS, REGISTRIES, strict=False))
    with devnet(tmp_path_factory.mktemp("chain") / "home", parameters) as network:
        with Rpc(RPC_URL) as public:
            for address in REGISTRIES:
                _copy(public, network.rpc, address)
        decide(network)
        yield network


@pytest.fixture
def node(net, tmp_path):
    return agent(net, tmp_path)


@pytest.fixture
def client(net):
    return net.chain(funded(net, TOKEN))


def _copy(source, target, address):
    """The code of a registry and, if it is a proxy, of what stands behind it. None of its agents."""
    target.call("anvil_setCode", address, source.call("eth_getCode", address, "latest"))
    behind = source.call("eth_getStorageAt", address, IMPLEMENTATION, "latest")
    if int(behind, 16):
        target.call("anvil_setStorageAt", address, IMPLEMENTATION, behind)
        implementation = "0x" + behind[-40:]
        target.call("anvil_setCode", implementation, source.call("eth_getCode", implementation, "latest"))
    if address != REGISTRIES[0]:
        target.call("anvil_setStorageAt", address, IDENTITY_SLOT, "0x" + REGISTRIES[0][2:].rjust(64, "0"))


def test_an_operator_is_an_agent_of_the_real_registry(node, client):
    account, chain, agent_id = node
    assert chain.agent(agent_id).owner == account.address
    assert chain.agent(agent_id).wallet == account.address
    assert chain.is_approved(chain.agent(agent_id))
    assert client.agent_of(account.address) == agent_id


def test_feedback_reaches_the_real_registry(node, client):
    account, chain, agent_id = node
    certificate = answered(chain, account, client.address).certificate
    give_feedback(client, certificate, "4.5", "starred")
    assert chain.feedback_summary(agent_id, "starred", "accepted") == (1, 45, 1)
    with pytest.raises(TransactionReverted, match="AlreadyGiven"):
        give_feedback(client, certificate, 5)


def test_the_real_registry_takes_no_praise_of_an_owner_for_itself(node):
    account, chain, _ = node
    certificate = answered(chain, account, account.address, keccak(text="own")).certificate
    chain.registry("Erc8004Reputation")
    with pytest.raises(TransactionReverted, match="Self-feedback"):
        chain._write("Erc8004Reputation", "giveFeedback", node[2], 100, 0, "quality", "", "", "", bytes(32))
    # Through the adapter it counts as any client's: the answer was ordered, judged and paid for like another's.
    assert give_feedback(chain, certificate, 100)


def test_a_verdict_reaches_the_real_validation_registry(node, client):
    account, chain, agent_id = node
    batch = answered(chain, account, canary=keccak(text="real"))
    if len(REGISTRIES) < 3:
        with pytest.raises(NotReady, match="knows no validation registry"):
            publish(client, batch.batch_id)
        return
    client.publish(batch.header)
    assert chain.publication(batch.batch_id) is Publication.FINAL
    assert chain.validation_summary(agent_id) == (1, 100)
    report = agent_report(client, agent_id)
    assert report.published == (batch.batch_id,)
    assert not [problem for problem in report.problems if "contradicts" in problem]
