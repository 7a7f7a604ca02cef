"""ERC-8004 on a devnet: registries to register in, and operators that are agents.

The real registries belong to others and stand on public chains. A devnet has stand-ins of the same interface
(`contracts/development`); on a chain that has registries, name them by the parameters of `PARAMETERS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from eth_abi.abi import encode

from trine import identity
from trine.chain.agents import FINAL_TAG
from trine.errors import TrineError
from trine.identity import Registered
from trine.registration import WELL_KNOWN
from trine_devnet.addresses import DEVNET_DEPLOYER
from trine_devnet.contracts import next_nonce, sent
from trine_devnet.rpc import Rpc

if TYPE_CHECKING:
    from pathlib import Path

    from trine.chain import Chain

REGISTRIES = ("IdentityRegistry", "ReputationRegistry", "ValidationRegistry")
PARAMETERS = ("erc8004Identity", "erc8004Reputation", "erc8004Validation")
"""Of the adapter, in the order of REGISTRIES."""
GAS = 6_000_000


def compiled(registry: str) -> dict[str, Any]:
    """ABI and code of one of REGISTRIES."""
    text = resources.files("trine_devnet").joinpath("registries", f"{registry}.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def deploy_registries(rpc: Rpc) -> dict[str, str]:
    """Puts the stand-ins on the chain; their addresses by PARAMETERS."""
    addresses: list[str] = []
    for name in REGISTRIES:
        code = str(compiled(name)["bytecode"])
        arguments = encode(["address"], addresses[:1]).hex() if addresses else ""
        nonce = hex(next_nonce(rpc))
        call = {"from": DEVNET_DEPLOYER, "nonce": nonce, "gas": hex(GAS), "data": code + arguments}
        receipt = _mined(rpc, call)
        addresses.append(str(receipt["contractAddress"]))
    return dict(zip(PARAMETERS, addresses, strict=True))


def register(chain: Chain, name: str, endpoint: str, file: Path) -> Registered:
    """Makes the account's operator an agent, and writes the file that it is to serve."""
    said = identity.described(
        name,
        "Verifiable inference on a development chain: every answer is re-checked by three staked verifiers.",
        endpoint,
        chain.address,
        chain.deployment.chain_id,
    )
    done = identity.register(chain, said, endpoint + WELL_KNOWN)
    identity.write_file(file, done.registration)
    return done


def published(chain: Chain, operator: str) -> tuple[bytes, ...]:
    """The transactions by which final verdicts of an operator came into the validation registry, oldest first.

    Each is checked: the registry holds, from the adapter, the response that it announced.
    """
    agent_id = chain.agent_of(operator)
    if agent_id is None:
        return ()
    found = []
    for event in chain.publications_of(agent_id):
        held = chain.validation(bytes(event.args["requestHash"]))
        if event.args["isFinal"] and held and held.tag == FINAL_TAG and held.response == event.args["response"]:
            found.append(event.transaction)
    return tuple(found)


def _mined(rpc: Rpc, call: Mapping[str, str]) -> dict[str, Any]:
    (receipt,) = sent(rpc, [call])
    if int(receipt["status"], 16) != 1:
        raise TrineError("the development chain did not take a registry of ERC-8004")
    return receipt
