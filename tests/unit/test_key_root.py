"""Key sets: proofs lead to the root for their place only, and just over two thirds hand over."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.protocol import bls, key_root
from trine.protocol.key_root import EligibleKey, KeySet, Member, hands_over, signed_by

BATCHES = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SECRETS = [bls.SecretKey(1000 + i) for i in range(6)]
KEYS = [EligibleKey(bls.key_hash(secret.public_key()), 1) for secret in SECRETS]
CURRENT = KeySet.of(7, KEYS, 1_000_000)
FOLLOWING = KeySet.of(8, KEYS[1:], 2_000_000)

weights = st.lists(st.integers(1, key_root.MAX_WEIGHT), min_size=3, max_size=70)


def keys_of(weights: list[int]) -> list[EligibleKey]:
    return [EligibleKey(i.to_bytes(32, "big"), weight) for i, weight in enumerate(weights)]


def members_of(*indices: int) -> list[Member]:
    return [Member(i, 1, SECRETS[i].public_key(), key_root.proof(KEYS, i)) for i in indices]


def signed(digest: bytes, *indices: int) -> bytes:
    return bls.aggregate([SECRETS[i].sign(digest) for i in indices])


@given(weights, st.data())
def test_a_proof_leads_to_the_root_for_its_place_key_and_weight_only(weights, data):
    keys = keys_of(weights)
    key_set = KeySet.of(1, keys, 0)
    index = data.draw(st.integers(0, len(keys) - 1))
    proof = key_root.proof(keys, index)
    assert len(proof) == key_set.depth
    assert key_set.contains(index, keys[index], proof)
    other = data.draw(st.integers(0, key_root.MAX_KEYS).filter(lambda i: i != index))
    assert not key_set.contains(other, keys[index], proof)
    assert not key_set.contains(index, replace(keys[index], key_hash=b"\xff" * 32), proof)
    assert not key_set.contains(index, replace(keys[index], weight=weights[index] % key_root.MAX_WEIGHT + 1), proof)
    assert not key_set.contains(index, keys[index], proof[:-1])


@given(weights)
def test_a_quorum_is_more_than_two_thirds_exactly(weights):
    key_set = KeySet.of(1, keys_of(weights), 0)
    total = sum(weights)
    assert key_set.has_quorum(total)
    assert not key_set.has_quorum(total * 2 // 3)
    assert key_set.has_quorum(total * 2 // 3 + 1)


@given(weights)
def test_a_set_survives_json(weights):
    key_set = KeySet.of(3, keys_of(weights), 5)
    assert KeySet.from_json(key_set.to_json()) == key_set


def test_a_key_is_in_a_set_once():
    with pytest.raises(InvalidInput, match="twice"):
        KeySet.of(1, [*KEYS, KEYS[0]], 0)


def test_sets_and_keys_are_bounded():
    with pytest.raises(InvalidInput):
        KeySet.of(1, KEYS[:2], 0)
    for key_hash, weight in ((bytes(31), 1), (bytes(32), 0), (bytes(32), 2**64)):
        with pytest.raises(InvalidInput):
            EligibleKey(key_hash, weight)
    for field, value in (("epoch", -1), ("epoch", 2**64), ("total_weight", 0), ("valid_until", 2**64), ("root", b"")):
        with pytest.raises(InvalidInput):
            replace(CURRENT, **{field: value})


@pytest.mark.parametrize("document", [None, {}, {"epoch": 1}, {**CURRENT.to_json(), "root": 5}])
def test_what_is_no_key_set_is_refused(document):
    with pytest.raises(InvalidInput):
        KeySet.from_json(document)


def test_just_over_two_thirds_hand_over_and_exactly_two_thirds_do_not():
    digest = CURRENT.handover_digest(1, BATCHES, FOLLOWING)
    for count, expected in ((3, False), (4, False), (5, True), (6, True)):
        indices = range(count)
        signature = signed(digest, *indices)
        assert hands_over(CURRENT, FOLLOWING, 1, BATCHES, members_of(*indices), signature) == expected


def test_a_handover_holds_for_one_source_one_history_and_one_set():
    digest = CURRENT.handover_digest(1, BATCHES, FOLLOWING)
    members, signature = members_of(*range(6)), signed(digest, *range(6))
    assert hands_over(CURRENT, FOLLOWING, 1, BATCHES, members, signature)
    assert not hands_over(CURRENT, FOLLOWING, 2, BATCHES, members, signature)
    assert not hands_over(CURRENT, FOLLOWING, 1, "0x" + "11" * 20, members, signature)
    assert not hands_over(replace(CURRENT, epoch=6), FOLLOWING, 1, BATCHES, members, signature)
    for field, value in (("epoch", 9), ("root", b"r" * 32), ("count", 6), ("total_weight", 6), ("valid_until", 1)):
        assert not hands_over(CURRENT, replace(FOLLOWING, **{field: value}), 1, BATCHES, members, signature)


def test_epochs_only_go_forward_and_not_too_far():
    for epoch in (6, 7, 7 + key_root.MAX_STEP_EPOCHS + 1):
        following = replace(FOLLOWING, epoch=epoch)
        signature = signed(CURRENT.handover_digest(1, BATCHES, following), *range(6))
        assert not hands_over(CURRENT, following, 1, BATCHES, members_of(*range(6)), signature)


def test_nobody_counts_twice():
    digest = b"d" * 32
    assert signed_by(CURRENT, digest, members_of(1, 2), signed(digest, 1, 2)) == 2
    assert signed_by(CURRENT, digest, members_of(1, 1), signed(digest, 1, 1)) is None
    assert signed_by(CURRENT, digest, members_of(2, 1), signed(digest, 2, 1)) is None


@settings(max_examples=20)
@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70), st.binary(max_size=300), st.lists(st.binary()))
def test_junk_signs_nothing_and_does_not_raise(index, weight, key, proof):
    member = Member(index, weight, key, tuple(proof))
    assert signed_by(CURRENT, b"d" * 32, [member], SECRETS[0].sign(b"d" * 32)) is None
