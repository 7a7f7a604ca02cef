"""A policy has one byte form, and its bounds widen for short answers only."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.policy import Bounds, Policy

CLASSES = ("cpu-bf16", "cpu-fp16", "cpu-fp32")
whole = st.integers(0, 2**40)
bounds = st.tuples(whole, whole, whole, whole, whole, whole, whole).map(
    lambda v: Bounds(v[0], v[1], v[2], min(v[3], v[4]), max(v[3], v[4]), v[5], v[6])
)
names = st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True)
policies = st.dictionaries(st.tuples(names, names), bounds, max_size=6).map(
    lambda pairs: Policy(tuple((p, v, b) for (p, v), b in sorted(pairs.items())))
)


@given(policies)
def test_bytes_lead_back_to_the_same_policy(policy: Policy) -> None:
    assert Policy.from_bytes(policy.to_bytes()) == policy


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput):
        Policy.from_bytes(document)


@pytest.mark.parametrize(
    "change",
    [
        {"deviationTypical": 1.5},
        {"deviationTypical": True},
        {"deviationFloor": -1},
        {"deviationScatter": 2**60},
        {"marginRms": None},
        {"marginAccept": "1"},
        {"marginAccept": 801},
        {"prover": None},
        {"extra": 1},
    ],
)
def test_a_malformed_entry_is_refused(change: dict[str, object]) -> None:
    document = json.loads(Policy((("a", "b", Bounds(1, 2, 3, 600, 800, 5, 6)),)).to_bytes())
    document["pairs"][0].update(change)
    with pytest.raises(InvalidInput):
        Policy.from_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def test_a_policy_of_another_version_is_refused_by_its_version() -> None:
    """Its margins are in other units: a network that registered one needs a new calibration."""
    document = Policy((("a", "b", Bounds(1, 2, 3, 600, 800, 5, 6)),)).to_bytes().replace(b'"version":3', b'"version":2')
    with pytest.raises(InvalidInput, match="of version 2, this release reads version 3"):
        Policy.from_bytes(document)


@pytest.mark.parametrize("document", [b"[" * 5_000, b'{"pairs":[],"version":1}', b" " * (1 << 21)])
def test_hostile_documents_are_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput):
        Policy.from_bytes(document)


@given(bounds, st.integers(1, 10**6), st.floats(0, 10), st.floats(0, 10))
def test_bounds_tighten_with_length_and_widen_with_sigmas(bound: Bounds, tokens: int, a: float, b: float) -> None:
    less, more = sorted((a, b))
    assert bound.deviation_bound(tokens, less) <= bound.deviation_bound(tokens, more)
    assert bound.deviation_bound(tokens + 1, more) <= bound.deviation_bound(tokens, more)
    assert bound.deviation_bound(tokens, 0) == bound.deviation_typical / 1e3
    totals = [bound.total_margin_bound(tokens, s, bound.margin_accept) for s in (less, more)]
    assert totals[0] <= totals[1] <= bound.total_margin_bound(tokens, more, bound.margin_reject)


@pytest.mark.parametrize("sigmas", [(-1, 5000), (5001, 5000), (4000, 20_001), (True, 5000), (4.5, 5000)])
def test_sigmas_are_bounded_and_in_order(sigmas: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput):
        Policy((), *sigmas)


def test_an_uncalibrated_pair_has_no_bounds() -> None:
    policy = Policy((("a", "b", Bounds(1, 2, 3, 4, 5, 6, 7)),))
    assert policy.bounds("a", "b") == Bounds(1, 2, 3, 4, 5, 6, 7)
    assert policy.bounds("b", "a") is None


def test_the_shipped_policy_covers_every_pair_of_cpu_classes() -> None:
    policy = Policy.from_bytes(load_record("smollm2-135m-instruct").policy)
    assert {(p, v) for p, v, _ in policy.pairs} == {(p, v) for p in CLASSES for v in CLASSES}
