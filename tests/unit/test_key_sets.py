"""Key sets from the chain: whoever reads the same block computes the same set, bit for bit."""

from __future__ import annotations

import random

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st
from signed_support import STAKE, TOKEN, signing

from trine.chain import Chain
from trine.chain.deployment import Deployment
from trine.errors import ChainError, InvalidInput, NotReady
from trine.protocol import bls
from trine.protocol.key_root import EligibleKey, KeySet, root
from trine.protocol.roster import NO_KEY, Roster

ADDRESSES = [to_checksum_address(bytes([i + 1]) * 20) for i in range(8)]
HASHES = {address: bytes([200 - i]) * 32 for i, address in enumerate(ADDRESSES)}

pools = st.lists(
    st.lists(
        st.tuples(st.sampled_from(ADDRESSES), st.integers(0, 2**30 - 1)), max_size=8, unique_by=lambda row: row[0]
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with signing(tmp_path_factory.mktemp("chain") / "home") as found:
        yield found


def test_leaves_are_in_the_order_of_the_keys_hashes_whatever_the_order_of_reading():
    pool = [(address, 10 + i) for i, address in enumerate(ADDRESSES)]
    one = Roster.of(7, [pool], HASHES, 1_000, 50)
    other = Roster.of(7, [list(reversed(pool))], dict(reversed(HASHES.items())), 1_000, 50)
    assert one == other
    assert [each.key_hash for each in one.eligible] == sorted(HASHES.values())
    assert one.key_set == KeySet.of(7, [EligibleKey(HASHES[a], w) for a, w in reversed(pool)], 1_050)


@given(pools)
def test_an_operator_weighs_what_it_has_in_its_heaviest_pool(pools):
    heaviest = {a: max((w for pool in pools for b, w in pool if b == a), default=0) for a in ADDRESSES}
    expected = {a: w for a, w in heaviest.items() if w}
    if len(expected) < 3:
        with pytest.raises(InvalidInput, match=r"has \d verifiers"):
            Roster.of(7, pools, HASHES, 1_000, 50)
        return
    roster = Roster.of(7, pools, HASHES, 1_000, 50)
    assert {each.operator: each.weight for each in roster.eligible} == expected
    assert roster.key_set.total_weight == sum(expected.values())
    assert roster.key_set.root == root(roster.keys)


def test_positions_of_several_classes_are_one_operators():
    pool = [(ADDRESSES[0], 0), (ADDRESSES[0].lower(), 9), *((a, 1) for a in ADDRESSES[1:3])]
    assert {e.operator: e.weight for e in Roster.of(1, [pool], HASHES, 0, 1).eligible}[ADDRESSES[0]] == 9


def test_who_has_no_key_is_not_in_the_set():
    hashes = {**HASHES, ADDRESSES[0]: NO_KEY}
    del hashes[ADDRESSES[1]]
    roster = Roster.of(1, [[(address, 5) for address in ADDRESSES]], hashes, 0, 1)
    assert {each.operator for each in roster.eligible} == set(ADDRESSES[2:])


def test_members_come_with_proofs_in_rising_order():
    secrets = [bls.SecretKey(i + 1) for i in range(5)]
    keys = [secret.public_key() for secret in secrets]
    hashes = dict(zip(ADDRESSES, map(bls.key_hash, keys), strict=False))
    roster = Roster.of(1, [[(address, 5) for address in ADDRESSES[:5]]], hashes, 0, 1)
    members = roster.members(random.sample(keys, 3))
    assert [m.index for m in members] == sorted(m.index for m in members)
    for member in members:
        key = EligibleKey(bls.key_hash(member.key), member.weight)
        assert roster.key_set.contains(member.index, key, member.proof)
    with pytest.raises(InvalidInput, match="not in the key set of epoch 1"):
        roster.members([bls.SecretKey(99).public_key()])


# From a chain


@pytest.fixture(scope="module")
def epoch(net):
    return net.next_epoch()


def test_two_who_read_the_chain_agree_bit_for_bit(net, epoch):
    mine, theirs = net.network.chain().roster(epoch), net.network.chain().roster(epoch)
    assert mine == theirs
    assert mine.key_set.to_json() == theirs.key_set.to_json()
    first = net.chain.epoch_first_block(epoch)
    assert first == epoch * net.chain.epoch_blocks()
    assert mine.valid_until == net.chain.block_timestamp(first) + net.chain.unbonding_delay()
    assert {e.operator for e in mine.eligible} == {account.address for account in net.accounts[:5]}
    assert all(e.key_hash == bls.key_hash(net.secrets[e.operator].public_key()) for e in mine.eligible)
    assert {e.weight for e in mine.eligible} == {STAKE // TOKEN // 4}  # newcomers: a quarter of their stake


def test_what_happens_in_an_epoch_changes_the_next_ones_set(net, epoch):
    before = net.network.chain().roster(epoch)
    newcomer = net.add_verifier()
    leaver = net.network.chain(net.accounts[0])
    leaver.unbond(leaver.address, STAKE)
    rotating = net.network.chain(net.accounts[1])
    net.register(rotating, bls.SecretKey(424242))
    assert net.network.chain().roster(epoch) == before
    following = net.next_epoch()
    assert net.network.chain().roster(epoch) == before  # an archive remembers
    after = net.network.chain().roster(following)
    operators = {each.operator: each for each in after.eligible}
    assert newcomer.address in operators
    assert leaver.address not in operators
    assert operators[rotating.address].key_hash == bls.key_hash(bls.SecretKey(424242).public_key())


def test_no_stake_of_a_set_can_leave_before_its_time_is_up(net, epoch):
    """Who leaves in the epoch's very first block waits until then, and nobody who had left before weighs in it."""
    epoch = net.next_epoch()
    leaver = net.network.chain(net.accounts[2])
    leaver.unbond(leaver.address, STAKE)
    roster = net.network.chain().roster(epoch)
    assert leaver.address in {each.operator for each in roster.eligible}
    assert net.chain.ticket_of(leaver.address, leaver.address).releasable_at >= roster.valid_until


def test_an_epoch_that_has_not_begun_has_no_set_yet(net):
    with pytest.raises(NotReady, match="has not begun"):
        net.chain.roster(net.chain.newest_key_epoch() + 1)
    deep = Chain.connect(net.chain.deployment, net.network.rpc_url, confirmations=10)
    newest = net.next_epoch()
    with pytest.raises(NotReady, match="may still change"):
        deep.roster(newest)
    net.network.rpc.call("anvil_mine", hex(10))
    assert deep.roster(newest) == net.network.chain().roster(newest)


def test_an_epoch_before_the_deployment_has_none(net):
    contracts = net.chain.deployment.contracts
    late = Deployment(net.chain.deployment.chain_id, net.chain.block_number(), contracts)
    with pytest.raises(InvalidInput, match="before the contracts were deployed"):
        Chain.connect(late, net.network.rpc_url).roster(0)


def test_an_endpoint_without_old_state_says_what_to_do(net, epoch, monkeypatch):
    chain = net.network.chain()
    real = chain._endpoints.call
    pruned = {"error": {"code": -32000, "message": "missing trie node"}}

    def call(method, parameters, **options):
        return pruned if method == "eth_call" and parameters[-1] != "latest" else real(method, parameters, **options)

    monkeypatch.setattr(chain._endpoints, "call", call)
    monkeypatch.setattr(chain._endpoints, "batch", lambda calls: None)
    with pytest.raises(ChainError, match="archive node"):
        chain.roster(epoch)


def test_a_set_is_read_in_few_requests(net, epoch, monkeypatch):
    chain = net.network.chain()
    asked = []
    for name in ("call", "batch"):
        real = getattr(chain._endpoints, name)
        monkeypatch.setattr(chain._endpoints, name, lambda *a, real=real, **o: asked.append(a) or real(*a, **o))
    chain.roster(epoch)
    assert len(asked) <= 15
    asked.clear()
    chain.roster(epoch)
    assert len(asked) <= 4
