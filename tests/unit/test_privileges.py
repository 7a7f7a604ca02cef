"""Who may do what that others may not: the whole list, so that a new privilege shows in review."""

import re

from trine_devnet.toolchain import project_root

FUNCTION = re.compile(r"function (\w+)\([^)]*\)([^{;]*)[{;]")
BY_THE_OWNER = {
    # The owner of both is the timelock. None of these reaches stake, verdicts or reputation.
    "Parameters": {"set"},
    "ModelRegistry": {"setPolicy", "setPromptSet", "setPrice", "setRegistrar"},
}
OWNABLE = {"Parameters", "ModelRegistry"}


def _sources() -> dict[str, str]:
    return {file.stem: file.read_text() for file in sorted((project_root() / "contracts").rglob("*.sol"))}


def test_only_these_functions_are_the_owners():
    found: dict[str, set[str]] = {}
    for contract, source in _sources().items():
        for name, modifiers in FUNCTION.findall(source):
            if re.search(r"\bonly[A-Z]\w*", modifiers):
                found.setdefault(contract, set()).add(name)
    assert found == BY_THE_OWNER


def test_only_these_contracts_have_an_owner_or_roles():
    assert {name for name, source in _sources().items() if "access/Ownable" in source} == OWNABLE
    assert {name for name, source in _sources().items() if "AccessControl" in source} == set()
    assert {name for name, source in _sources().items() if "TimelockController" in source} == {"Timelock"}


def test_the_only_other_use_of_ownership_is_to_register_a_model():
    uses = {name: source.count("owner()") for name, source in _sources().items() if "owner()" in source}
    assert uses == {"ModelRegistry": 1}


def test_no_contract_can_be_replaced_or_destroyed():
    for name, source in _sources().items():
        assert not re.search(r"delegatecall|selfdestruct|UUPS|Proxy\.sol|Initializable", source), name
