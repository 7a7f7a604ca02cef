"""What befalls a chain, a disk and a clock on purpose: that it does, as it is told, and passes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest
from chain_support import devnet, funded

from trine.errors import NotReady
from trine_devnet.faults.chain import keep_state, reorganize
from trine_devnet.faults.disk import SmallDisk
from trine_devnet.faults.injecting import Gear, Injector
from trine_devnet.faults.plan import CHAIN, Injection, KillChain
from trine_devnet.network import TOKEN

NOBODY = "0x" + "12" * 20
EVERYTHING = {"fromBlock": "0x0", "toBlock": "latest"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        yield network


@pytest.mark.parametrize(("share", "returned"), [(0.0, 0), (1.0, 3)])
def test_a_reorganization_takes_transactions_away_and_gives_some_back(net, share, returned):
    account = funded(net, 10 * TOKEN)
    net.rpc.call("anvil_mine", hex(8))  # what funds the account stays
    before = net.admin.token_balance(NOBODY)
    receipts = [net.chain(account).transfer(NOBODY, 1) for _ in range(3)]
    height = net.admin.block_number()
    done = reorganize(net.rpc, height - receipts[0]["blockNumber"] + 1, share, random.Random(1))
    assert (done.dropped, done.returned) == (3, returned)
    assert net.admin.block_number() >= height
    net.rpc.call("evm_mine")
    assert net.admin.token_balance(NOBODY) == before + returned
    new_hash = net.rpc.call("eth_getBlockByNumber", hex(receipts[0]["blockNumber"]), False)["hash"]
    assert new_hash != "0x" + bytes(receipts[0]["blockHash"]).hex()


def test_a_killed_chain_comes_back_with_its_past_and_without_its_last_moments(net):
    account = funded(net, 10 * TOKEN)
    before = net.admin.token_balance(NOBODY)
    kept = net.chain(account).transfer(NOBODY, 1)
    keep_state(net.rpc, net.home / "state.json")
    known = net.rpc.call("eth_getLogs", EVERYTHING)
    lost = net.chain(account).transfer(NOBODY, 2)
    net.kill_chain()
    net.restart_chain(net.home / "state.json")
    assert net.admin.token_balance(NOBODY) == before + 1
    assert net.rpc.call("eth_getLogs", EVERYTHING) == known
    assert net.rpc.call("eth_getTransactionReceipt", "0x" + bytes(kept["transactionHash"]).hex())
    assert net.rpc.call("eth_getTransactionReceipt", "0x" + bytes(lost["transactionHash"]).hex()) is None
    net.chain(account).transfer(NOBODY, 4)
    assert net.admin.token_balance(NOBODY) == before + 5


def test_a_chain_that_is_back_is_not_killed_by_what_was_planned_before(net):
    """Keeping the state of a long chain takes longer than the fault was to last: it is restarted first, then."""
    injector = Injector(net, Gear({}), net.report, seed=1)
    (done,) = injector.run([Injection(0.0, 0.0, CHAIN, KillChain(lost_seconds=1.0))], seconds=2.0)
    assert done.ended is not None
    assert net.admin.block_number() > 0


def test_a_request_that_is_too_large_is_said(net):
    with pytest.raises(NotReady, match="anvil_loadState"):
        net.rpc.call("anvil_loadState", "0x" + "00" * (4 * MIB))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_takes_nothing_until_it_is_freed(tmp_path):
    with SmallDisk(tmp_path / "disk", MIB) as disk:
        (disk.folder / "store").write_bytes(b"kept")
        assert 0 < disk.fill() <= MIB
        with pytest.raises(OSError, match="No space left"):
            (disk.folder / "more").write_bytes(bytes(MIB // 8))
        disk.free()
        (disk.folder / "more").write_bytes(bytes(MIB // 8))
        assert (disk.folder / "store").read_bytes() == b"kept"
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("seconds", [1_200, -180])
def test_a_clock_is_off_for_the_whole_process(tmp_path, seconds):
    (tmp_path / "told.py").write_text("import sys, time\nprint(sys.argv, round(time.time()), time.time_ns() // 10**9)")
    command = [sys.executable, "-m", "trine_devnet.faults.clock", str(seconds), "told", "--one"]
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    *_, told, told_ns = shown.split()
    assert "'--one'" in shown
    assert abs(int(told) - time.time() - seconds) < 60
    assert abs(int(told_ns) - int(told)) <= 1
