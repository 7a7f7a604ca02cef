"""Transactions through a faulty RPC endpoint: each is executed once, or its sender is told that something is wrong."""

from __future__ import annotations

import threading
import time

import pytest
from chain_support import devnet, funded

from trine.chain import Chain, Deployment
from trine.errors import TrineError
from trine_devnet.faults.endpoint_faults import FAULTS
from trine_devnet.faults.proxy import RpcProxy
from trine_devnet.network import TOKEN

FAULTY_SECONDS = 1.5
LATER_SECONDS = 20.0
"""What was not told may still be executed; nothing comes after that."""
SLOW = {"swallows transactions", "already known"}
"""Noticed only when nothing is mined for a while: tested where that while can be set."""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        yield network


def cases():
    for number, name in enumerate(sorted(set(FAULTS) - SLOW)):
        yield pytest.param(name, f"0x{number + 4_096:040x}", id=name)


@pytest.mark.parametrize(("name", "receiver"), list(cases()))
def test_a_transaction_is_executed_once_or_its_sender_is_told(net, name, receiver):
    account = funded(net, TOKEN)
    with RpcProxy(net.rpc_url) as endpoint:
        chain = Chain.connect(Deployment.load(net.deployment_file), endpoint.url, account)
        endpoint.inject(FAULTS[name])
        lifting = threading.Timer(FAULTY_SECONDS, endpoint.lift)
        lifting.start()
        try:
            assert chain.transfer(receiver, 1)["status"] == 1
            assert net.admin.token_balance(receiver) == 1
        except TrineError:
            pass  # told
        finally:
            lifting.join()
        sent = len(endpoint.sent)
        assert sent == 0 or _settles(net, receiver) in (0, 1)
        assert chain.transfer(receiver, 1)["status"] == 1  # the account is not stuck


def _settles(net, receiver):
    """What is executed once two blocks have brought nothing more."""
    deadline, seen = time.monotonic() + LATER_SECONDS, -1
    while seen != (found := net.admin.token_balance(receiver)) and time.monotonic() < deadline:
        seen = found
        net.rpc.call("anvil_mine", hex(2))
    return found
