"""What is published about gas is what was measured, and meets its targets."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("gas", ROOT / "benchmarks" / "gas.py")
assert spec
assert spec.loader
gas = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gas)

PUBLISHED = json.loads((ROOT / "docs" / "gas.json").read_text())


def test_the_report_is_what_follows_from_the_snapshots():
    data = gas.report(gas.read(), gas.conditions())
    assert gas.DATA.read_text() == gas.render(data), "run `make gas` and commit the result"
    assert gas.PAGE.read_text() == gas.page(data), "run `make gas` and commit the result"


@pytest.mark.parametrize(
    ("figure", "target"),
    [
        ("answer_full_batch", 2_200),
        ("answer_full_batch_aggregated", 1_300),
        ("single_answer_batch", 700_000),
        ("certificate_check", 250_000),
    ],
)
def test_a_target_is_met(figure: str, target: int):
    assert 0 < PUBLISHED[figure] <= target
    assert gas.TARGETS[figure] == target


@pytest.mark.parametrize("figure", ["answer_full_batch", "answer_full_batch_aggregated", "single_answer_batch"])
def test_the_payout_costs_something_and_more_alone(figure: str):
    assert PUBLISHED[figure] < PUBLISHED[f"{figure}_with_payout"] < PUBLISHED[f"{figure}_with_payout_alone"]


def test_an_answer_costs_what_the_transactions_of_its_batch_cost():
    steps = PUBLISHED["steps"]["full batch"]
    votes = sum(steps[f"{step} {seat}"] for step in ("commit", "reveal") for seat in (1, 2, 3))
    verdict = steps["anchor"] + steps["draw"] + votes
    assert PUBLISHED["answer_full_batch"] == -(-verdict // 256)
    share = -(-steps["finalize sixteen batches"] // 16)
    assert PUBLISHED["answer_full_batch_with_payout"] == -(-(verdict + share) // 256)


def test_every_contract_with_a_test_of_its_costs_is_in_the_report():
    measured = {path.stem for path in gas.SNAPSHOTS.glob("*.json")}
    known = {name.lower() for name in gas.CONTRACTS} | set(gas.LIVES) | {"sortition", "certificate"}
    assert known == measured
    assert all(PUBLISHED["entry_points"][name] for name in gas.CONTRACTS)


def test_a_missed_target_is_told():
    data = {name: target + 1 for name, target in gas.TARGETS.items()}
    assert gas.headlines(data).count("MISSED") == len(gas.TARGETS)
