"""Records, enumerations and constants of the contracts are the same in Python: by name, from the ABI and the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trine.chain import records
from trine.chain.deployment import abi
from trine.chain.named import fields_of, members_of, record, snake
from trine.errors import ChainError

CONTRACTS = Path(__file__).parents[2] / "contracts"
SOURCE = "\n".join(file.read_text() for file in sorted(CONTRACTS.rglob("*.sol")))

RECORDS = {
    records.Batch: ("Batches", "batchOf", {"batch_id", "header"}),
    records.Result: ("Finality", "resultOf", set()),
    records.Parameters: ("Parameters", "current", set()),
    records.Stake: ("Staking", "stakeOf", set()),
    records.RegistryEntry: ("ModelRegistry", "modelOf", set()),
    records.AppealCase: ("Appeals", "caseOf", {"batch_id", "leaf"}),
    records.Challenge: ("Calibration", "challengeOf", set()),
    records.CalibrationResult: ("Calibration", "resultOf", set()),
    records.ReputationRecord: ("Reputation", "recordOf", {"score_bps"}),
    records.Account: ("Payments", "accountOf", set()),
}
ENUMS = {
    records.BatchState: "IBatches.State",
    records.AppealPhase: "IAppeals.Phase",
    records.Verdict: "IVerdicts.Verdict",
    records.Role: "Role",
}


def assert_same(kind, members, ours=frozenset()):
    """Every member is a field, every field but `ours` is a member."""
    names = {name for each in fields_of(kind).values() for name in each}
    unknown = [m["name"] for m in members if m["name"] not in names and snake(m["name"]) not in names]
    assert not unknown, f"{kind.__name__} lacks {unknown}"
    members = {name for m in members for name in (m["name"], snake(m["name"]))}
    absent = {field for field, each in fields_of(kind).items() if not members & set(each)}
    assert absent == set(ours)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_has_the_members_of_its_struct(kind):
    contract, function, ours = RECORDS[kind]
    members = members_of(contract, function)
    assert_same(kind, members, ours)
    for member in members:
        if "components" in member:
            assert_same(records.AppealLevel, member["components"])


@pytest.mark.parametrize(("kind", "function"), [(records.ModelEntry, "models"), (records.OperatorEntry, "operators")])
def test_the_directorys_entries_have_the_members_of_their_structs(kind, function):
    page, total = members_of("Directory", function)
    assert_same(kind, page["components"])
    assert total["name"] == "total"


def test_a_struct_in_another_order_gives_the_same_record():
    members = members_of("Batches", "batchOf")
    values = [1 if m["type"] == "uint8" else m["type"] == "bool" and m["name"] == "signed" for m in members]
    more = {"batch_id": bytes(32), "header": None}
    one = record(records.Batch, members, values, **more)
    assert record(records.Batch, members[::-1], values[::-1], **more) == one
    assert (one.signed, one.marked, one.is_calibration) == (True, False, False)


def test_what_the_abi_does_not_have_is_an_error():
    members = members_of("Staking", "stakeOf")
    for wrong in (members[1:], [*members[1:], {"name": "other"}]):
        with pytest.raises(ChainError, match="Stake"):
            record(records.Stake, wrong, [1] * len(wrong))
    with pytest.raises(ChainError, match="3 values"):
        record(records.Stake, members, [1, 2, 3])


def test_a_state_that_is_not_known_is_an_error_not_a_crash():
    members = members_of("Batches", "batchOf")
    with pytest.raises(ChainError, match="99 is no BatchState"):
        record(records.Batch, members, [99] * len(members), batch_id=bytes(32), header=None)


def solidity_enum(name):
    interface, _, enum = name.rpartition(".")
    body = SOURCE
    if interface:
        found = re.search(rf"interface\s+{interface}\b(.*?)\n}}", SOURCE, re.DOTALL)
        assert found, interface
        body = found[1]
    members = re.search(rf"enum\s+{enum}\s*{{(.*?)}}", body, re.DOTALL)
    assert members, name
    return re.findall(r"^\s*(\w+),?\s*(?:///.*)?$", re.sub(r"//.*", "", members[1]).replace(",", "\n"), re.MULTILINE)


@pytest.mark.parametrize("ours", ENUMS)
def test_an_enumeration_has_the_members_of_the_contracts(ours):
    assert [member.name for member in ours] == [snake(name).upper() for name in solidity_enum(ENUMS[ours])]


def test_no_view_function_that_is_read_is_overloaded():
    for contract in {contract for contract, *_ in RECORDS.values()}:
        names = [item["name"] for item in abi(contract) if item["type"] == "function"]
        for read, function, _ in RECORDS.values():
            assert read != contract or names.count(function) == 1
