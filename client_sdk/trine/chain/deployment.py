"""Where Trine's contracts are: one JSON file a chain.

`{"chainId": 31337, "block": 1, "contracts": {"Batches": "0x…", …}}`. ABIs, compiled code and the addresses of known
deployments ship inside this package, so nobody needs Node or a compiler to use or to make one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

from eth_utils.address import is_address, to_checksum_address

from trine.errors import InvalidInput
from trine.protocol.numbers import whole

CONTRACTS = (
    "TrineToken",
    "Timelock",
    "Parameters",
    "Staking",
    "ModelRegistry",
    "Reputation",
    "Seeds",
    "Payments",
    "Committees",
    "Calibration",
    "Batches",
    "Finality",
    "Appeals",
    "Canaries",
    "Inclusion",
    "VerifierKeys",
    "Requests",
    "Erc8004Adapter",
    "Directory",
    "Examiners",
)

SOURCES = {"randao": "RandaoSeeds", "drand": "DrandSeeds"}
"""What may stand at the address of `Seeds`, by what it calls its source."""
FACTORY = "Factory"
"""Creates all of CONTRACTS. It has no place in a deployment: nobody calls it afterwards."""
FOREIGN = ("CertificateVerifier", "ExampleConsumer")
"""For other chains than the deployment's: what checks certificates there, and an example of what uses it."""
COMPILED = (*(name for name in CONTRACTS if name != "Seeds"), *SOURCES.values(), FACTORY, *FOREIGN)
"""What has code in this package."""


@dataclass(frozen=True, slots=True)
class Bytecode:
    """What the compiler made of a contract."""

    creation: bytes
    """Creates the contract; constructor arguments follow it."""
    deployed: bytes
    """Stays on the chain. Zeros where the constructor writes immutables."""
    immutables: tuple[slice, ...]
    """The parts of `deployed` that the constructor writes, in order."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Addresses of one deployment. `block` is where it began: no event is older."""

    chain_id: int
    block: int
    contracts: dict[str, str]

    def address(self, contract: str) -> str:
        return self.contracts["Seeds" if contract in SOURCES.values() else contract]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"chainId": self.chain_id, "block": self.block, "contracts": self.contracts}
        path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")

    @classmethod
    def bundled(cls, chain_id: int) -> Self:
        """The deployment that ships with this package. Raises InvalidInput for a chain that has none."""
        folder = resources.files("trine.chain").joinpath("deployments")
        try:
            document = json.loads(folder.joinpath(f"{chain_id}.json").read_text())
        except FileNotFoundError:
            known = ", ".join(sorted(file.name.removesuffix(".json") for file in folder.iterdir()))
            raise InvalidInput(
                f"this version of trine knows no deployment on chain {chain_id} (it knows: {known}): pass the file "
                "that the network's operators publish (--deployment, TRINE_DEPLOYMENT), or check the RPC endpoint"
            ) from None
        return cls.from_json(document, f"bundled deployment of chain {chain_id}")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a deployment file. Raises InvalidInput saying what is wrong with it."""
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            raise InvalidInput(
                f"no deployment file at {path}: start a devnet with `trine devnet up`, or name the file that the "
                "network's operators publish"
            ) from None
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read the deployment file {path}: {error}") from None
        return cls.from_json(document, str(path))

    @classmethod
    def from_json(cls, document: Any, where: str = "deployment") -> Self:
        try:
            chain_id, block = whole(document["chainId"]), whole(document["block"])
            contracts = {name: str(document["contracts"][name]) for name in CONTRACTS}
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"{where}: missing or malformed field {error}") from None
        for name, address in contracts.items():
            if not is_address(address):
                raise InvalidInput(f"{where}: {address!r} is no address for {name}")
        return cls(chain_id, block, {n: to_checksum_address(a) for n, a in contracts.items()})


@cache
def abi(contract: str) -> list[dict[str, Any]]:
    """The ABI of FACTORY, of one of CONTRACTS, FOREIGN or SOURCES; `Seeds` is what these have in common. And what Trine
    uses of ERC-8004's registries (`trine.chain.agents.REGISTRIES`)."""
    text = resources.files("trine.chain").joinpath("abi", f"{contract}.json").read_text()
    loaded: list[dict[str, Any]] = json.loads(text)
    return loaded


@cache
def bytecode(contract: str) -> Bytecode:
    """The compiled code of one of COMPILED."""
    document = json.loads(resources.files("trine.chain").joinpath("bytecode", f"{contract}.json").read_text())
    return Bytecode(
        creation=bytes.fromhex(document["bytecode"][2:]),
        deployed=bytes.fromhex(document["deployedBytecode"][2:]),
        immutables=tuple(
            slice(part["start"], part["start"] + part["length"]) for part in document["immutableReferences"]
        ),
    )
