"""The schedule of faults: a pure function of its seed that keeps its promises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine_devnet.faults.endpoint_faults import FAULTS
from trine_devnet.faults.plan import (
    CHAIN,
    CLOCK_SECONDS,
    KINDS,
    REST_SECONDS,
    FullDisk,
    KillChain,
    Reorg,
    Targets,
    WrongClock,
    counts,
    kind_of,
    name_of,
    plan,
)

NAMES = ("node", "verifier-1", "verifier-2", "verifier-3", "verifier-4")
TARGETS = Targets(NAMES, with_disk=("node", "verifier-1"), with_database=("verifier-2",))


def planned(seed, minutes=30.0, kills=40, only=()):
    return plan(seed, minutes, counts(minutes, kills, only, TARGETS), TARGETS)


@given(st.integers(0, 2**64))
def test_the_same_seed_gives_the_same_plan(seed):
    assert planned(seed) == planned(seed)


def test_other_seeds_give_other_plans():
    assert len({planned(seed) for seed in range(20)}) == 20


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_every_fault_is_in_the_plan_as_often_as_asked_for(seed, kills):
    wanted = counts(30.0, kills, (), TARGETS)
    kinds = [kind_of(injection.fault) for injection in plan(seed, 30.0, wanted, TARGETS)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == wanted
    assert wanted.get("kill", 0) + wanted.get("chain", 0) == kills


@given(st.integers(0, 2**32))
def test_no_target_has_two_faults_at_once_and_all_end_in_time(seed):
    injections = planned(seed)
    assert list(injections) == sorted(injections, key=lambda each: each.at)
    for name in {each.target for each in injections}:
        mine = [each for each in injections if each.target == name]
        for before, after in itertools.pairwise(mine):
            assert before.end + REST_SECONDS[type(before.fault)] <= after.at + 0.011  # times are rounded
    assert all(each.at >= 0 and each.end + REST_SECONDS[type(each.fault)] <= 30 * 60 + 0.011 for each in injections)


@given(st.integers(0, 2**32))
def test_each_fault_hits_what_can_have_it(seed):
    for each in planned(seed):
        match each.fault:
            case KillChain() | Reorg():
                assert each.target == CHAIN
            case FullDisk():
                assert each.target in TARGETS.with_disk
            case _:
                assert each.target in NAMES
        match each.fault:
            case Reorg(depth, share):
                assert 1 <= depth <= 8
                assert 0 <= share <= 1
            case KillChain(lost):
                assert 0 <= lost <= 8
            case WrongClock(seconds):
                assert seconds in CLOCK_SECONDS


def test_all_kinds_are_drawn_and_named():
    injections = planned(1)
    assert {kind_of(each.fault) for each in injections} == set(KINDS)
    assert all(name_of(each.fault) for each in injections)


def test_every_way_in_which_an_endpoint_can_be_faulty_is_tried():
    tried = [each.fault.name for each in plan(3, 20.0, {"endpoint": len(FAULTS)}, TARGETS)]
    assert sorted(tried) == sorted(FAULTS)


def test_only_what_is_asked_for_is_injected():
    assert set(counts(10, None, ("kill", "reorg"), TARGETS)) == {"kill", "reorg"}
    assert counts(10, 7, ("kill",), TARGETS) == {"kill": 7}
    assert counts(10, 7, ("chain",), TARGETS) == {"chain": 7}
    assert counts(10, 200, (), TARGETS)["chain"] == 20
    with pytest.raises(InvalidInput, match="no faults called fire, flood: there are kill"):
        counts(10, None, ("flood", "fire"), TARGETS)


def test_what_a_network_lacks_is_not_injected():
    bare = Targets(NAMES)
    assert {"disk", "postgres"}.isdisjoint(counts(10, None, (), bare))


def test_what_does_not_fit_is_said():
    with pytest.raises(InvalidInput, match="do not fit into 2 minutes"):
        planned(1, minutes=2.0, kills=200)
