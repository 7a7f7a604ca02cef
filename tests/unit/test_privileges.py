"""Who may do what that others may not: the whole list, so that a new privilege shows in review."""

import re

from trine_devnet.toolchain import project_root

FUNCTION = re.compile(r"function (\w+)\([^)]*\)([^{;]*)[{;]")
BY_THE_OWNER = {
    # The owner of all is the timelock. None of these reaches stake, verdicts or reputation.
    "Parameters": {"set"},
    "ModelRegistry": {"setPolicy", "setPromptSet", "setPrice", "setRegistrar"},
    "Payments": {"setProtocolFee"},
    # What examiners are paid, and the protocol's own money that they do not need.
    "Examiners": {"set", "release"},
    # What a guardian has stopped, which is new work only, the owner lets go on. Its ownership cannot be given up.
    "Guarded": {"unpause", "setGuardian", "renounceOwnership"},
}
BY_CONTRACTS = {
    # Of Trine's own: those that judge.
    "Staking": {"lockSeats", "unlock", "paySeats", "credit", "burnFees"},
    "Reputation": {"record", "recordMany"},
}
OWNABLE = {"Parameters", "ModelRegistry", "Payments", "Guarded", "Examiners"}


def _sources() -> dict[str, str]:
    return {file.stem: file.read_text() for file in sorted((project_root() / "contracts").rglob("*.sol"))}


def _restricted(modifier: str) -> dict[str, set[str]]:
    """Functions with the modifier, by contract."""
    found: dict[str, set[str]] = {}
    for contract, source in _sources().items():
        for name, modifiers in FUNCTION.findall(source):
            if re.search(rf"\b{modifier}\b", modifiers):
                found.setdefault(contract, set()).add(name)
    return found


def test_only_these_functions_are_the_owners():
    assert _restricted("onlyOwner") == BY_THE_OWNER


def test_only_these_functions_are_for_contracts_that_judge():
    assert _restricted("onlyJudges") == BY_CONTRACTS
    assert _restricted("onlyJudgesOrInclusion") == {"Staking": {"slash"}}
    assert set(_restricted(r"only[A-Z]\w*")) == set(BY_THE_OWNER) | set(BY_CONTRACTS)


def test_a_guardian_can_stop_only_what_begins():
    assert _restricted("whenNotPaused") == {"Batches": {"anchor"}, "Requests": {"post"}}


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
