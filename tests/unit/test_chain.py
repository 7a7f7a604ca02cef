"""What `Chain` puts together from events and records, without a chain."""

import pytest
from eth_utils.crypto import keccak
from test_node_support import model

from trine.chain import Chain, Event
from trine.chain.records import Account, Batch, BatchState
from trine.errors import InvalidInput, NotReady


def policy_set(policy, block, log_index, told=None):
    args = {"policy": policy, "policyHash": told or keccak(policy)}
    return Event("registry", "PolicySet", args, block, log_index, bytes(32))


class Policies(Chain):
    """A registry whose newest policy was set in block 30."""

    has_own_numbers = True

    def __init__(self, *events):
        self._told = events

    def model(self, _model_id):
        from dataclasses import replace

        return replace(model(), policy=b"newest", policy_block=30)

    def events(self, *_names, to_block, **_filters):
        return iter([event for event in self._told if event.block <= to_block])


def test_a_batch_is_judged_by_the_policy_that_was_in_force_when_it_was_anchored():
    chain = Policies(
        policy_set(b"first", 10, 3),
        policy_set(b"second", 20, 5),
        policy_set(b"third", 20, 9),
        policy_set(b"new", 30, 0),
    )
    cases = {(10, 4): b"first", (20, 5): b"first", (20, 6): b"second", (21, 0): b"third", (30, 0): b"third"}
    for (block, log_index), policy in cases.items():
        assert chain.policy_at(bytes(32), block, log_index) == policy
    assert chain.policy_at(bytes(32), 31, 0) == b"newest"
    with pytest.raises(InvalidInput, match="no policy at block 10"):
        chain.policy_at(bytes(32), 10, 3)


def test_a_policy_that_does_not_hash_to_its_event_is_not_believed():
    chain = Policies(policy_set(b"first", 10, 0), policy_set(b"forged", 11, 0, told=bytes(32)))
    assert chain.policy_at(bytes(32), 12, 0) == b"first"


def test_money_under_notice_is_not_firm():
    assert Account(100, 7, 30, 0).firm == 70
    assert Account(10, 7, 30, 0).firm == 0


def test_a_batch_that_is_not_anchored_has_no_header():
    batch = Batch(bytes(32), None, BatchState.NONE, False, False, False, False, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(NotReady, match="not anchored"):
        _ = batch.known_header
