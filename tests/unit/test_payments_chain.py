"""Vouchers, orders and receipts as Python signs and shows them, before the contracts themselves."""

from __future__ import annotations

import pytest
from chain_support import devnet, funded
from sqlalchemy import select
from test_node_support import RecordingOutbox

from trine.chain import ClaimState
from trine.errors import TransactionReverted
from trine.protocol import merkle
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Receipt, Request, Voucher, engine_class_bytes
from trine_operator.inclusion import Claims
from trine_operator.store import Store
from trine_operator.tables import ClaimRow

TOKEN = 10**18


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home", {"inclusionSeconds": 3_600}) as network:
        yield network


@pytest.fixture(scope="module")
def client(net):
    return net.chain(funded(net, 100 * TOKEN))


@pytest.fixture(scope="module")
def node(net):
    chain = net.chain(funded(net, 1_000 * TOKEN))
    chain.allow("Staking", 500 * TOKEN)
    chain.stake(500 * TOKEN)
    return chain


def ordered(client, node, nonce=1):
    """An order and its receipt, both signed, as far as the chain looks at them."""
    request = Request(client.address, b"\1" * 32, b"\2" * 32, 8, 2 * TOKEN, nonce, client.timestamp() + 900)
    now = client.timestamp()
    receipt = Receipt(
        request.digest(client.domain), client.address, node.address, request.model_id, request.input_hash, b"\3" * 32,
        b"\4" * 32, b"\5" * 32, b"\6" * 32, 3, 4, 8, 0, engine_class_bytes("cpu-fp32"), TOKEN, now, now + 600,
    )  # fmt: skip
    return request, receipt


def place(client, node, receipt):
    """Where it would be in a batch that nobody has anchored."""
    leaves = [merkle.leaf_hash(0, receipt)]
    domain = client.domain
    return Certificate(
        chain_id=domain.chain_id,
        batches=domain.verifying_contract,
        root=merkle.root(leaves),
        canary=b"\7" * 32,
        index=0,
        receipt=receipt,
        receipt_signature=node.sign(receipt.digest(domain)),
        proof=tuple(merkle.proof(leaves, 0)),
        accepted=0,
        rejected=0,
    )


def test_a_voucher_pays_what_it_acknowledges_and_nothing_else(client, node):
    client.allow("Payments", 10 * TOKEN)
    client.deposit(node.address, 10 * TOKEN)
    limit = Voucher(client.address, node.address, 10 * TOKEN)
    with pytest.raises(TransactionReverted, match="PaymentsNothingToCollect"):
        node.collect(limit, client.sign(limit.digest(client.payments_domain)))
    voucher = Voucher(client.address, node.address, 10 * TOKEN, 3 * TOKEN, 1_000)
    before = node.token_balance(node.address)
    node.collect(voucher, client.sign(voucher.digest(client.payments_domain)))
    assert node.token_balance(node.address) - before == 3 * TOKEN
    account = node.account(client.address, node.address)
    assert (account.collected, account.as_of, account.balance) == (3 * TOKEN, 1_000, 7 * TOKEN)


def test_an_order_and_its_receipt_are_read_as_they_were_signed_and_paid_once_they_are_accepted(client, node):
    """All of it fits but the verdict."""
    request, receipt = ordered(client, node)
    voucher = Voucher(client.address, node.address, 10 * TOKEN)
    signature = client.sign(voucher.digest(client.payments_domain))
    with pytest.raises(TransactionReverted, match="PaymentsNotAccepted"):
        node.collect_opened(voucher, signature, [request], [place(client, node, receipt).opening()])
    other, _ = ordered(client, node, nonce=2)
    with pytest.raises(TransactionReverted, match="PaymentsOtherOrder"):
        node.collect_opened(voucher, signature, [other], [place(client, node, receipt).opening()])
    assert not node.is_opened(node.address, receipt.request_hash)


def test_a_receipt_that_is_in_no_batch_costs_the_node_and_its_process_sees_it_coming(net, client, node, tmp_path):
    _, receipt = ordered(client, node, nonce=3)
    signature = node.sign(receipt.digest(client.domain))
    digest = receipt.struct_hash()
    client.allow("Inclusion", client.inclusion_bond())
    with pytest.raises(TransactionReverted, match="InclusionTooEarly"):
        client.claim_inclusion(receipt, signature)
    net.pass_time(700)
    client.claim_inclusion(receipt, signature)
    claim = client.inclusion_claim(digest)
    assert claim.state == ClaimState.OPEN
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    Claims(store, node, RecordingOutbox(node)).step()
    with store.reading() as session:
        (row,) = session.scalars(select(ClaimRow))
        assert (row.receipt_hash, row.answer_by) == (digest.hex(), claim.answer_by)
    store.close()
    with pytest.raises(TransactionReverted, match="InclusionNotJudged"):
        node.answer_inclusion(place(client, node, receipt).opening())
    net.pass_time(3_700)
    stake, tokens = node.stake_of(node.address).active, client.token_balance(client.address)
    client.conclude_inclusion(receipt)
    leaf = client.parameters().stake_per_leaf
    assert stake - node.stake_of(node.address).active == leaf + TOKEN
    assert client.token_balance(client.address) - tokens == (leaf + TOKEN) // 2 + client.inclusion_bond()
    assert client.inclusion_claim(digest).state == ClaimState.BROKEN
