"""Where the Ignition module deploys what: computed, not asked of a chain.

The factory is created by CreateX with CREATE2, so its address follows from its code; every other contract is created by
the factory with CREATE3, so its address follows from factory, deployer and name. `python -m trine_devnet.addresses`
writes the devnet's deployment file into the Python package; `--check` writes nothing and fails when it is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from eth_abi.abi import encode
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak

from trine.chain.deployment import CONTRACTS, FACTORY, Deployment, bytecode
from trine_devnet.specification import specification
from trine_devnet.toolchain import project_root

RELEASE: str = specification()["release"]
"""Part of every address. A release that deploys anew on a chain that has an older one needs another name."""
CREATEX = "0xba5Ed099633D3B313e4D5F7bdc1305d3c28ba5Ed"
"""Keyless CREATE2 and CREATE3 factory that Hardhat Ignition's `create2` strategy uses; the same on all chains."""
CREATE2_SALT = b"trine".ljust(32, b"\0")
CREATE3_PROXY = bytes.fromhex("73365f5f37365f34f06012573d5f5f3e3d5ffd5b005f526014600cf3")
"""OpenZeppelin's proxy: its first creation is the contract."""
DEVNET_CHAIN_ID = 31337
DEVNET_DEPLOYER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
"""Account 0 of Hardhat's public mnemonic."""


def salt_of(name: str) -> bytes:
    """The deployer's salt for a contract: release and name in ASCII, padded to 32 bytes."""
    return f"{RELEASE}/{name}".encode("ascii").ljust(32, b"\0")


def create2_address(creator: str, salt: bytes, init_code: bytes) -> str:
    """EIP-1014."""
    return to_checksum_address(keccak(b"\xff" + to_canonical_address(creator) + salt + keccak(init_code))[12:])


def factory_address(init_code: bytes) -> str:
    """Where CreateX puts the factory; it hashes salts that belong to nobody."""
    return create2_address(CREATEX, keccak(CREATE2_SALT), init_code)


def address_of(factory: str, deployer: str, name: str) -> str:
    """What the factory's `addressOf(deployer, salt)` answers."""
    bound = keccak(encode(["address", "bytes32"], [deployer, salt_of(name)]))
    proxy = create2_address(factory, bound, CREATE3_PROXY)
    # RLP of [proxy, 1]: contracts count their creations from 1.
    return to_checksum_address(keccak(b"\xd6\x94" + to_canonical_address(proxy) + b"\x01")[12:])


def devnet_deployment() -> Deployment:
    """Every devnet's deployment. It follows from the factory's code that ships in the Python package."""
    factory = factory_address(bytecode(FACTORY).creation)
    return Deployment(DEVNET_CHAIN_ID, 0, {name: address_of(factory, DEVNET_DEPLOYER, name) for name in CONTRACTS})


def bundled_file() -> Path:
    return project_root() / "client_sdk" / "trine" / "chain" / "deployments" / f"{DEVNET_CHAIN_ID}.json"


def main() -> None:
    deployment, file = devnet_deployment(), bundled_file()
    if "--check" not in sys.argv:
        deployment.save(file)
    elif not file.exists() or Deployment.load(file) != deployment:
        sys.exit(f"{file} is stale: run `make abi` and commit it")


if __name__ == "__main__":
    main()
