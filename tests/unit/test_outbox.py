"""The outbox on a real chain: what crashes, rollbacks, lost and stuck transactions and other senders do to it."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from itertools import pairwise

import outbox_support
import pytest
import structlog
from chain_support import devnet, funded
from eth_account import Account
from outbox_support import LIMITS, PAYEE, POINTS, open_operator, payment

from trine.chain.transactions import Call, FeeLimits, Fees
from trine.chain.writes import CALLS
from trine.errors import ChainUnreachable, NotReady, TransactionReverted
from trine.protocol.messages import engine_class_bytes
from trine_operator.outbox import Act, Due
from trine_operator.outbox.queue import State

TOKEN = 10**18
GWEI = 10**9


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        yield network


@pytest.fixture
def account(net):
    return funded(net, 1_000 * TOKEN)


@pytest.fixture
def staked(net, account):
    """The account may take a challenge."""
    chain = net.chain(account)
    chain.allow("Staking", 500 * TOKEN)
    chain.stake(500 * TOKEN)


@pytest.fixture
def opened(net, account, tmp_path):
    """Opens operators of the account: one store unless another is named."""
    open_ones = []

    def open_one(store="operator", limits=LIMITS, **more):
        operator = open_operator(
            net.rpc_url, net.deployment_file, account.key.hex(), f"sqlite:///{tmp_path}/{store}.sqlite", limits, **more
        )
        open_ones.append(operator)
        return operator

    yield open_one
    for each in open_ones:
        each.store.close()


@contextmanager
def nothing_is_mined(net):
    net.rpc.call("evm_setAutomine", False)
    net.rpc.call("evm_setIntervalMining", 0)
    try:
        yield
    finally:
        net.rpc.call("evm_setIntervalMining", 1)
        net.rpc.call("evm_setAutomine", True)
        net.rpc.call("evm_mine")


def paid(net):
    return net.admin.token_balance(PAYEE)


def in_pool(net, account):
    """Nonces of the account's transactions that wait."""
    content = net.rpc.call("txpool_content")["pending"]
    waiting = next((each for at, each in content.items() if at.lower() == account.address.lower()), {})
    return sorted(int(nonce) for nonce in waiting)


def test_what_is_submitted_is_executed_once(net, opened):
    operator, before = opened(), paid(net)
    for _ in range(3):
        operator.outbox.submit(payment("rent", 7))
    assert operator.outbox.open_names() == {"rent"}
    operator.finish()
    assert paid(net) == before + 7
    operator.outbox.submit(payment("rent", 7))  # the next month's
    operator.finish()
    assert paid(net) == before + 14


def test_many_are_in_flight_and_who_is_due_first_goes_first(net, opened, account):
    operator, before = opened(), paid(net)
    now = operator.chain.timestamp()
    dues = [None, now + 900, now + 60, None, now + 300]
    for number, due in enumerate(dues):
        operator.outbox.submit(payment(f"pay {number}", 1 << number, due))
    with nothing_is_mined(net):
        operator.step(2)
        assert len(in_pool(net, account)) == 5
        by_nonce = sorted(operator.queue.open_acts(), key=lambda act: act.nonce)
        assert [act.name for act in by_nonce] == ["pay 2", "pay 4", "pay 1", "pay 0", "pay 3"]
        fees = {act.name: act.signed[0].fees.max_fee_wei for act in by_nonce}
        assert fees["pay 2"] > fees["pay 1"] == fees["pay 0"]
    operator.finish()
    assert paid(net) == before + 0b11111


@pytest.mark.parametrize(("point", "mining"), [*((p, True) for p in POINTS), *((p, False) for p in POINTS[:3])])
def test_a_process_that_is_killed_loses_nothing_and_sends_nothing_twice(net, opened, account, tmp_path, point, mining):
    """`kill -9` of a real process, whether blocks come while it is dead or not."""
    before = paid(net)
    arguments = [net.rpc_url, str(net.deployment_file), account.key.hex(), f"sqlite:///{tmp_path}/operator.sqlite"]

    def run():
        program = [sys.executable, outbox_support.__file__, *arguments, point]
        return subprocess.run(program, capture_output=True, timeout=120).returncode

    if mining:
        assert run() == -signal.SIGKILL
    else:
        with nothing_is_mined(net):
            assert run() == -signal.SIGKILL
    operator = opened()
    with structlog.testing.capture_logs() as logs:
        operator.finish()
        operator.step()
    assert paid(net) == before + 3
    assert operator.gateway.nonce() == 3
    strange = {"transaction_by_hand", "store_is_older", "another_copy_sends", "unknown_pending", "nonce_gap"}
    assert not strange & {each["event"] for each in logs}


def test_a_transaction_that_was_dropped_is_handed_over_again(net, opened, account):
    operator, before = opened(), paid(net)
    with nothing_is_mined(net):
        operator.outbox.submit(payment("pay"))
        operator.step()
        net.rpc.call("anvil_dropAllTransactions")
        assert in_pool(net, account) == []
        operator.step(2, seconds=11)
        assert in_pool(net, account) == [0]
    operator.finish()
    assert paid(net) == before + 1


def test_a_stuck_transaction_is_replaced_for_the_sake_of_one_that_is_due(net, opened):
    """The patient one waits 24 s; one behind it that is due in 30 s does not."""
    operator, before = opened(), paid(net)
    with nothing_is_mined(net):
        operator.outbox.submit(payment("patient"))
        operator.step()
        operator.outbox.submit(payment("due", due=operator.chain.timestamp() + 30))
        operator.step(4, seconds=3)
        acts = {act.name: act for act in operator.queue.open_acts()}
        assert len(acts["patient"].signed) > 1
        fees = [signed.fees.max_fee_wei for signed in acts["patient"].signed]
        assert all(later * 100 >= earlier * 110 for earlier, later in pairwise(fees))
        assert {signed.nonce for signed in acts["patient"].signed} == {0}
    operator.finish()
    assert paid(net) == before + 2


def test_a_chain_that_is_rolled_back_gets_its_transactions_again(net, opened):
    operator, before = opened(), paid(net)
    snapshot = net.rpc.call("evm_snapshot")
    for number in range(3):
        operator.outbox.submit(payment(f"pay {number}"))
    operator.finish()
    assert paid(net) == before + 3
    net.rpc.call("evm_revert", snapshot)
    assert paid(net) == before
    operator.until(lambda: paid(net) == before + 3)
    operator.finish()
    assert operator.gateway.nonce() == 3


def test_an_outcome_counts_once_its_block_is_taken_to_stay(net, opened, monkeypatch):
    operator = opened()
    confirmed = operator.chain.block_number()
    monkeypatch.setattr(operator.chain, "confirmed_block", lambda: confirmed)
    operator.outbox.submit(payment("pay"))
    with nothing_is_mined(net):
        operator.step()
        snapshot = net.rpc.call("evm_snapshot")
        net.rpc.call("evm_mine")
        operator.step(2)
        assert operator.outbox.open_names() == {"pay"}
        net.rpc.call("evm_revert", snapshot)  # gone, and out of the pool
        operator.step()
    confirmed = 1 << 40
    operator.finish()
    assert operator.gateway.nonce() == 1


def test_a_refusal_by_simulation_comes_back_to_who_asked_and_costs_nothing(net, opened):
    operator = opened()
    act = payment("too much", 5_000 * TOKEN)
    operator.outbox.submit(act)
    operator.finish()
    with pytest.raises(TransactionReverted, match="ERC20InsufficientBalance") as refused:
        operator.outbox.submit(act)
    assert "ERC20InsufficientBalance" in refused.value.reason
    assert operator.gateway.nonce() == 0
    with pytest.raises(TransactionReverted):
        operator.outbox.submit(act)  # not at once, and each time later than the time before
    pauses = []
    for _ in range(7):
        started = operator.clock.now
        while not operator.outbox.open_names():
            operator.clock.now += 0.5
            with suppress(TransactionReverted):
                operator.outbox.submit(act)
        pauses.append(operator.clock.now - started)
        operator.step()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_a_refusal_by_receipt_comes_back_to_who_asked(net, opened, account):
    """Two payments of all there is: both are simulated before either is mined."""
    operator, other = opened(), opened("other")
    everything = operator.chain.token_balance(account.address)
    with nothing_is_mined(net):
        for name in ("first", "second"):
            operator.outbox.submit(payment(name, everything))
        operator.step()
    operator.finish()
    assert operator.gateway.nonce() == 2
    operator.outbox.submit(payment("first", everything))
    with pytest.raises(TransactionReverted, match=r"InsufficientBalance|failed in block"):
        operator.outbox.submit(payment("second", everything))
    assert other.outbox.open_names() == frozenset()


def test_who_waits_gets_the_receipt_or_the_refusal(net, opened):
    operator = opened()
    operator.chain.send_through(operator.outbox)
    operator.outbox.start()
    try:
        before = paid(net)
        assert operator.chain.transfer(PAYEE, 3)["status"] == 1
        assert paid(net) == before + 3
        with pytest.raises(TransactionReverted, match="transfer: ERC20InsufficientBalance"):
            operator.chain.transfer(PAYEE, 5_000 * TOKEN)
    finally:
        operator.outbox.stop()


def test_a_nonce_that_somebody_else_took_is_given_up(net, opened, account):
    """`trine stake add` in another process, at the same moment: the second of the two is sent again."""
    operator, before = opened(), paid(net)
    other = net.chain(account)
    with nothing_is_mined(net):
        operator.outbox.submit(payment("ours", 1))
        operator.step()
        (ours,) = operator.queue.open_acts()
        gateway = other.gateway()
        call = other.encoded(CALLS.transfer(PAYEE, 10))
        foreign = gateway.signed(call, ours.nonce, 100_000, Fees(LIMITS.max_fee_wei, LIMITS.max_priority_fee_wei))
        assert gateway.broadcast(foreign, "transfer") is None
    operator.finish()
    assert paid(net) == before + 11
    assert operator.gateway.nonce() == 2


def test_a_gap_that_a_dropped_transaction_of_others_leaves_is_filled(net, opened, account):
    operator, before = opened(), paid(net)
    other = net.chain(account)
    with nothing_is_mined(net):
        gateway = other.gateway()
        foreign = gateway.signed(other.encoded(CALLS.transfer(PAYEE, 100)), 0, 100_000, Fees(20 * GWEI, GWEI))
        assert gateway.broadcast(foreign, "transfer") is None
        operator.clock.now += 1_000  # it is not waited for any more
        operator.outbox.submit(payment("ours", 1))
        operator.step()
        assert [act.nonce for act in operator.queue.open_acts()] == [1]
        net.rpc.call("anvil_dropTransaction", "0x" + foreign.hash.hex())
        operator.step(12, seconds=1)
        assert 0 in [act.nonce for act in operator.queue.open_acts()]
    operator.finish()
    assert paid(net) == before + 1
    assert operator.gateway.nonce() == 2


def test_an_endpoint_whose_pool_lags_gets_no_two_transactions_of_one_nonce(net, opened, account):
    operator, before = opened(), paid(net)
    nonce = operator.gateway.nonce
    operator.gateway.nonce = lambda block="latest": nonce("latest" if block == "pending" else block)
    with nothing_is_mined(net):
        for number in range(4):
            operator.outbox.submit(payment(f"pay {number}"))
            operator.step()
        assert sorted(act.nonce for act in operator.queue.open_acts()) == [0, 1, 2, 3]
    operator.finish()
    assert paid(net) == before + 4


@pytest.mark.parametrize("arrives", [True, False])
def test_an_endpoint_that_gives_no_answer_gets_the_same_transaction_again(net, opened, arrives):
    operator, before = opened(), paid(net)
    broadcast, tries = operator.gateway.broadcast, []

    def failing(signed, function):
        tries.append(signed.hash)
        if len(tries) < 3:
            if arrives:
                broadcast(signed, function)
            raise ChainUnreachable("no answer")
        return broadcast(signed, function)

    operator.gateway.broadcast = failing
    operator.outbox.submit(payment("pay"))
    operator.finish()
    assert len(set(tries)) == 1
    assert paid(net) == before + 1
    assert operator.gateway.nonce() == 1


def test_fees_above_the_limit_are_waited_out_and_said(net, opened):
    operator, before = opened(limits=FeeLimits(50 * GWEI, 2 * GWEI)), paid(net)
    with nothing_is_mined(net):
        net.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(400 * GWEI))
        net.rpc.call("evm_mine")
        operator.outbox.submit(payment("pay"))
        operator.outbox.submit(payment("due", due=operator.chain.timestamp() + 20))
        with structlog.testing.capture_logs() as logs:
            operator.step(3, seconds=10)
        (said,) = [each for each in logs if each["event"] == "fees_above_limit"]
        assert said["max_fee_gwei"] == 50
        assert said["base_fee_gwei"] > 300
        assert {act.state for act in operator.queue.open_acts()} == {State.QUEUED}
        net.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        net.rpc.call("evm_mine")
        operator.step()
        offered = {act.name: act.signed[0].fees for act in operator.queue.open_acts()}
        assert offered["due"].max_fee_wei > offered["pay"].max_fee_wei
        assert all(fees.max_fee_wei <= 50 * GWEI for fees in offered.values())
    operator.finish()
    assert paid(net) == before + 2


def test_what_a_person_sends_by_hand_alarms_nobody(net, opened, account):
    operator = opened()
    operator.step()
    by_hand = net.chain(account)
    by_hand.allow("Staking", TOKEN)
    by_hand.stake(TOKEN)  # `trine stake add`
    operator.outbox.submit(payment("pay"))
    with structlog.testing.capture_logs() as logs:
        operator.finish()
        operator.step()
    assert operator.outbox.halted is None
    assert [each["nonce"] for each in logs if each["event"] == "transaction_by_hand"] == [0, 1]
    assert operator.gateway.nonce() == 3


def test_another_copy_of_the_operator_stops_this_one(net, staked, opened):
    operator, copy = opened(), opened("copy")
    operator.step()
    copy.step()
    copy.outbox.submit(Act(("challenge",), _challenge(net)))
    copy.finish()
    with structlog.testing.capture_logs() as logs:
        operator.step()
    assert "Calibration.request" in operator.outbox.halted
    assert "ignore_other_copies" in operator.outbox.halted
    assert any(each["event"] == "another_copy_sends" and each["log_level"] == "error" for each in logs)
    with pytest.raises(NotReady, match="another copy"):
        operator.outbox.submit(payment("pay"))
    copy.step()
    assert copy.outbox.halted is None


def test_an_older_store_says_so_at_start_and_goes_on(net, staked, opened, tmp_path):
    operator = opened()
    operator.step()
    operator.store.close()
    (tmp_path / "backup.sqlite").write_bytes((tmp_path / "operator.sqlite").read_bytes())
    operator = opened()
    operator.outbox.submit(Act(("challenge",), _challenge(net)))
    operator.finish()
    operator.store.close()
    restored = opened("backup")
    restored.outbox.submit(payment("pay"))
    with structlog.testing.capture_logs() as logs:
        restored.finish()
    (said,) = [each for each in logs if each["event"] == "store_is_older"]
    assert (said["duty"], said["log_level"]) == ("Calibration.request", "error")
    assert restored.outbox.halted is None


def test_votes_that_a_newer_store_has_sent_are_waited_for(net, opened, account):
    """They are in the pool, and this store does not know them: nothing is signed before they are mined."""
    newer, older = opened("newer"), opened("older")
    with nothing_is_mined(net):
        newer.outbox.submit(payment("vote"))
        newer.step()
        older.outbox.submit(payment("other vote"))
        older.step(3, seconds=1)
        assert [act.state for act in older.queue.open_acts()] == [State.QUEUED]
    older.finish()
    assert older.gateway.nonce() == 2


def test_what_needs_more_gas_than_estimated_gets_more(net, opened, monkeypatch):
    operator = opened()
    operator.chain.allow("Payments", 10 * TOKEN)
    operator = opened("fresh")
    monkeypatch.setattr("trine.chain.transactions.GAS_RESERVE", 0)
    monkeypatch.setattr("trine.chain.transactions.GAS_MARKS", 1)
    operator.gateway.estimate = lambda _call: 50_000
    operator.outbox.submit(Act(("deposit",), CALLS.deposit(PAYEE, TOKEN)))
    operator.finish()
    assert operator.chain.account(operator.gateway.address, PAYEE).balance == TOKEN
    assert operator.gateway.nonce() > 2


def test_an_account_without_gas_money_is_told_and_its_transactions_wait(net, tmp_path):
    poor = Account.create()
    net.admin.transfer(poor.address, TOKEN)
    operator = open_operator(net.rpc_url, net.deployment_file, poor.key.hex(), f"sqlite:///{tmp_path}/poor.sqlite")
    try:
        operator.outbox.submit(payment("pay"))
        with structlog.testing.capture_logs() as logs:
            operator.step(2, seconds=1)
        assert any(each["event"] in ("no_gas_money", "failed") for each in logs)
        net.rpc.call("anvil_setBalance", poor.address, hex(10**18))
        operator.until(lambda: not operator.outbox.open_names(), seconds=5)
    finally:
        operator.store.close()


def test_what_has_no_deadline_leaves_room_for_what_has(net, opened, account):
    operator = opened()
    with nothing_is_mined(net):
        for number in range(12):
            operator.outbox.submit(payment(f"pay {number}"))
        operator.step()
        assert len(in_pool(net, account)) == 8
        operator.outbox.submit(Act(("due",), CALLS.transfer(PAYEE, 1), Due(block=operator.chain.block_number() + 9)))
        operator.step()
        assert {act.name for act in operator.queue.open_acts() if act.state is State.SENT} >= {"due"}
    operator.finish()


def _challenge(net):
    """What only an operator's process sends."""
    return Call("Calibration", "request", (net.record.model_id, 0, engine_class_bytes("cpu-fp32"), bytes([1]) * 32))
