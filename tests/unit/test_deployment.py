"""Addresses of deployments: what ships, what is computed, what the Ignition module says."""

import json
import re

import pytest

from trine.chain import Deployment
from trine.chain.deployment import COMPILED, CONTRACTS, bytecode
from trine.errors import InvalidInput
from trine_devnet.addresses import (
    DEVNET_CHAIN_ID,
    RELEASE,
    address_of,
    create2_address,
    devnet_deployment,
    factory_address,
)
from trine_devnet.specification import specification
from trine_devnet.toolchain import project_root

ONES = "0x" + "11" * 20
L2_BLOCK_SECONDS = 2


def test_the_bundled_devnet_is_where_the_module_deploys():
    assert Deployment.bundled(DEVNET_CHAIN_ID) == devnet_deployment()


def test_what_is_specified_is_every_contract_and_the_release_that_addresses_follow_from():
    assert set(specification()["constructors"]) == set(CONTRACTS)
    assert specification()["release"] == RELEASE


def test_a_network_that_lasts_names_who_governs_and_lets_users_see_changes_come():
    lasting, development = (specification()[kind] for kind in ("parameters", "development"))
    assert lasting["governor"] is lasting["guardian"] is None
    assert lasting["timelockSeconds"] >= 86_400
    assert set(development) == {"timelockSeconds", "governor", "guardian", "drawDelayBlocks", "seedDelayBlocks"}
    assert lasting["drawDelayBlocks"] >= 16, "who proposes all blocks up to the seed's knows it: docs/randomness.md"


def test_a_beacons_round_comes_after_the_seed_block():
    """Else who knows the round could still move the weights that it draws from."""
    lasting = specification()["parameters"]
    assert lasting["beaconMarginSeconds"] >= 30 + lasting["drawDelayBlocks"] * L2_BLOCK_SECONDS


def test_abi_and_code_are_exported_for_every_contract():
    script = (project_root() / "deploy" / "scripts" / "export-contracts.js").read_text()
    listed = re.findall(
        r'"(?:deployment/|foreign/)?(\w+)"', script[script.index("const CONTRACTS") : script.index("];")]
    )
    assert set(listed) == set(COMPILED)
    # Compares what is exported with what the compiler makes.
    compared = (project_root() / "tests" / "contracts" / "Packaged.t.sol").read_text()
    assert set(re.findall(r'"(\w+)"', compared)) == set(COMPILED)


def test_solidity_tests_try_what_is_deployed_and_not_their_own_compilation_of_it():
    names = "|".join(file.stem for file in (project_root() / "contracts").rglob("*.sol"))
    created = re.compile(rf"\bnew (?:{names})\(")
    found = [
        f"{file.name}: {match[0]}"
        for file in (project_root() / "tests" / "contracts").rglob("*.sol")
        for match in created.finditer(file.read_text())
    ]
    assert found == [], "create it with Built.create"


@pytest.mark.parametrize("name", COMPILED)
def test_packaged_code_creates_what_stays_on_the_chain(name):
    code = bytecode(name)
    assert code.deployed in code.creation
    assert len(code.deployed) <= 24_576  # EIP-170
    assert not any(any(code.deployed[part]) for part in code.immutables)
    assert list(code.immutables) == sorted(code.immutables, key=lambda part: part.start)


@pytest.mark.parametrize(
    ("creator", "salt", "init_code", "expected"),
    [
        # Examples of EIP-1014.
        ("0x" + "00" * 20, bytes(32), "00", "0x4D1A2e2bB4F88F0250f26Ffff098B0b30B26BF38"),
        ("0xdeadbeef" + "00" * 16, bytes(32), "00", "0xB928f69Bb1D91Cd65274e3c79d8986362984fDA3"),
        (
            "0x00000000000000000000000000000000deadbeef",
            bytes(28) + bytes.fromhex("cafebabe"),
            "deadbeef",
            "0x60f3f640a8508fC6a86d45DF051962668E1e8AC7",
        ),
    ],
)
def test_create2_addresses(creator, salt, init_code, expected):
    assert create2_address(creator, salt, bytes.fromhex(init_code)) == expected


def test_an_address_follows_from_factory_deployer_and_name():
    factory = factory_address(b"code")
    addresses = {
        address_of(factory, ONES, "Staking"),
        address_of(factory, ONES, "Batches"),
        address_of(factory, "0x" + "22" * 20, "Staking"),
        address_of(factory_address(b"other code"), ONES, "Staking"),
    }
    assert len(addresses) == 4


def test_a_chain_without_a_bundled_deployment_says_what_to_do():
    with pytest.raises(InvalidInput, match=r"no deployment on chain 1 \(it knows: 31337\).*--deployment"):
        Deployment.bundled(1)


def test_a_deployment_survives_its_file(tmp_path):
    deployment = Deployment(1, 7, dict.fromkeys(CONTRACTS, ONES))
    deployment.save(tmp_path / "deployment.json")
    assert Deployment.load(tmp_path / "deployment.json") == deployment


def test_a_deployment_without_a_contract_is_refused():
    contracts = dict.fromkeys(CONTRACTS[1:], ONES)
    with pytest.raises(InvalidInput, match=CONTRACTS[0]):
        Deployment.from_json(json.loads(json.dumps({"chainId": 1, "block": 0, "contracts": contracts})))
