"""A real chain with the contracts on it, for tests of what talks to one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from trine.chain import Chain
from trine_devnet.network import DEPLOYER_KEY, Devnet
from trine_devnet.reporting import Report


@contextmanager
def devnet(home: Path, parameters: Mapping[str, int | str] | None = None) -> Iterator[Devnet]:
    """The chain alone: contracts and the model, no operators."""
    with Devnet(home, Report(print)) as network:
        network.start_chain(dict(parameters or {}))
        yield network


def funded(network: Devnet, tokens_wei: int) -> LocalAccount:
    """A new account with gas money and tokens."""
    account = Account.create()
    network.rpc.call("anvil_setBalance", account.address, hex(10**20))
    network.admin.transfer(account.address, tokens_wei)
    return account


def deployer(network: Devnet) -> Chain:
    return network.chain(Account.from_key(DEPLOYER_KEY))
