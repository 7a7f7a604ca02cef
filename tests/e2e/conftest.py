"""One real network for all end-to-end tests: chain, contracts, model, operators, each a process of its own."""

from contextlib import ExitStack

import pytest
from gateway_process import Process

from trine import Client
from trine.chain import Role
from trine_devnet.faults.proxy import RpcProxy
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.paying import PAID_BY_X402
from trine_devnet.reporting import Report

PARAMETERS = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "commitSeconds": 60,
    "appealWindowSeconds": 10,
}
DEPOSIT = 100 * TOKEN
VERIFIERS = ("verifier-1", "verifier-2", "verifier-3", "verifier-4")


@pytest.fixture(scope="session")
def standing(tmp_path_factory):
    """The network, and the RPC endpoints of its verifiers, which can be made faulty."""
    with ExitStack() as stack:
        network = stack.enter_context(Devnet(tmp_path_factory.mktemp("devnet") / "home", Report(print)))
        network.start_chain(PARAMETERS)
        proxies = {name: stack.enter_context(RpcProxy(network.rpc_url)) for name in VERIFIERS}
        stack.callback(network.stop)  # before its endpoints
        network.add([Member(name, Role.VERIFIER, options={"rpc_url": proxies[name].url}) for name in VERIFIERS])
        # Batches wait a while to be sealed, so that a test can stop the node between a receipt and its anchor.
        network.add(
            [
                Member("honest", Role.NODE, "bf16", options={"batch_max_wait_seconds": 6.0}, agent=True),
                # The last cheat is for test_protocol_x402, which comes next to test_protocol.
                Member(
                    "cheater",
                    Role.NODE,
                    "fp32",
                    ("int8-weights", "swapped-token", "other-seed", "other-prompt"),
                    options={**PAID_BY_X402, "x402.max_unsettled_per_payer": 8},
                ),
                Member("hider", Role.NODE, "bf16", anchors=False, options={"anchor_within_seconds": 600}),
            ]
        )
        network.wait_ready()
        yield network, proxies


@pytest.fixture(scope="session")
def net(standing):
    return standing[0]


@pytest.fixture
def endpoints(standing):
    """RPC endpoints of the verifiers by their names; well again after the test."""
    yield standing[1]
    for proxy in standing[1].values():
        proxy.lift()


@pytest.fixture(scope="session")
def account(net):
    return net.create_client()


@pytest.fixture
def ask(net, account):
    """A client of one node: ask("honest")."""
    clients = []

    def connect(node, payer=account, **options):
        client = Client(
            rpc_url=net.rpc_url,
            deployment=net.deployment_file,
            account=payer,
            node=net.operators[node].endpoint,
            deposit_wei=DEPOSIT if payer is account else 0,
            **options,
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def gateway(net, tmp_path_factory):
    """Before the honest node."""
    net.create_client("gateway")
    folder = tmp_path_factory.mktemp("gateway")
    process = Process(
        folder,
        {
            "TRINE_RPC_URL": net.rpc_url,
            "TRINE_DEPLOYMENT": str(net.deployment_file),
            "TRINE_KEYSTORE": str(net.keystore("gateway")),
            "TRINE_PASSWORD_FILE": str(net.password_file),
            "TRINE_GATEWAY_NODE": net.operators["honest"].endpoint,
        },
    )
    process.trine("init", "--deposit", "10")
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def key(gateway):
    return gateway.trine("keys", "add", "tests", "--budget", "10", "--rpm", "600")
