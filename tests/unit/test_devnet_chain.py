"""The devnet's chain: what stands on it, and what many clients of one account do to one another there: nothing."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from bare_chain import bare_chain
from chain_support import devnet, funded
from eth_account import Account
from typer.testing import CliRunner

from trine.chain import Chain, Deployment, Role
from trine.chain.deployment import COMPILED, CONTRACTS, bytecode
from trine.chain.sender import Sender
from trine.chain.views import Views
from trine.chain.writes import CALLS
from trine.cli.audit import app as audit_app
from trine.cli.stake import app as stake_app
from trine.errors import ChainUnreachable, InvalidInput, NoGasMoney, NotReady, TransactionReverted, TrineError
from trine_devnet import contracts
from trine_devnet.addresses import DEVNET_DEPLOYER
from trine_devnet.cli import app as devnet_app
from trine_devnet.contracts import check_code, deploy, next_nonce, words_of
from trine_devnet.rpc import Rpc
from trine_devnet.specification import specification

NODE = "0x" + "11" * 20
TOKEN = 10**18


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home", {"appealWindowSeconds": 7}) as network:
        yield network


def test_every_contract_stands_where_the_bundled_deployment_says(net):
    deployment = Deployment.load(net.deployment_file)
    assert deployment == Deployment.bundled(31337)
    check_code(net.rpc, deployment)
    assert net.chain().parameters().appeal_window_seconds == 7
    assert net.chain().parameters().commit_seconds == specification()["parameters"]["commitSeconds"]


def test_a_model_is_as_old_as_the_block_that_registered_it(net):
    chain = net.chain()
    (model,) = chain.models()
    (event,) = chain.events("ModelRegistry", "ModelRegistered")
    assert chain.registered_at([model.model_id]) == {model.model_id: chain.block_timestamp(event.block)}
    assert chain.registered_at([]) == {}


def test_other_code_at_a_contracts_address_is_noticed(net):
    address = net.admin.deployment.address("Canaries")
    code = net.rpc.call("eth_getCode", address, "latest")
    net.rpc.call("anvil_setCode", address, code[:-2] + ("00" if code[-2:] != "00" else "01"))
    try:
        with pytest.raises(TrineError, match="Canaries: the code at"):
            check_code(net.rpc, net.admin.deployment)
    finally:
        net.rpc.call("anvil_setCode", address, code)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_constructor_is_specified(contract):
    assert contract in specification()["constructors"]


@pytest.mark.parametrize("contract", COMPILED)
def test_every_contract_fits_a_chain(contract):
    assert len(bytecode(contract).deployed) <= 24_576  # EIP-170


def test_a_parameter_that_no_constructor_takes_is_refused(net):
    with pytest.raises(InvalidInput, match=r"appealWindow; parameters are .*appealWindowSeconds"):
        deploy(net.rpc, {"appealWindow": 8})


def test_a_chain_of_users_is_refused(net):
    net.rpc.call("anvil_setChainId", 1)
    try:
        with pytest.raises(InvalidInput, match="this one has 1: deploy with Ignition"):
            deploy(net.rpc, {})
    finally:
        net.rpc.call("anvil_setChainId", 31337)


@pytest.mark.parametrize("value", ["ten", "-1", "0x12"])
def test_a_parameter_is_a_number_an_address_or_a_name(value):
    with pytest.raises(InvalidInput, match="neither a number nor an address"):
        words_of({"guardian": value}, Deployment.bundled(31337).contracts)


def test_a_parameter_out_of_range_is_said(tmp_path):
    with (
        pytest.raises(TrineError, match="did not take Parameters's constructor"),
        devnet(tmp_path / "home", {"commitSeconds": 0}),
    ):
        pass


def test_a_devnet_gives_a_strangers_account_what_it_needs_and_no_other_chain_does(net, tmp_path):
    stranger = Account.create().address
    where = ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file)]
    funded_ = CliRunner().invoke(devnet_app, ["fund", stranger, "--tokens", "12.5", *where])
    assert funded_.exit_code == 0, funded_.output
    assert net.chain().token_balance(stranger) == 25 * TOKEN // 2
    assert net.chain().gas_balance(stranger) > 0
    elsewhere = json.loads(net.deployment_file.read_text()) | {"chainId": 1}
    (tmp_path / "mainnet.json").write_text(json.dumps(elsewhere))
    refused = CliRunner().invoke(
        devnet_app, ["fund", stranger, "--rpc-url", net.rpc_url, "--deployment", str(tmp_path / "mainnet.json")]
    )
    assert refused.exit_code == 3
    assert "on a devnet only" in refused.output


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_auditing_an_address_that_the_chain_does_not_know_fails_and_says_why(net, form):
    where = ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file)]
    stranger = Account.create().address
    asked = CliRunner().invoke(audit_app, ["operator", stranger, *where, *form])
    assert asked.exit_code == 3
    assert f"{stranger} is no operator here" in asked.stderr
    assert (json.loads(asked.stdout)["known"] is False) if form else (asked.stdout == "")
    operator = funded(net, 1_000 * TOKEN)
    chain = net.chain(operator)
    chain.allow("Staking", 500 * TOKEN)
    chain.stake(500 * TOKEN)
    known = CliRunner().invoke(audit_app, ["operator", operator.address, *where, *form])
    assert (known.exit_code, known.stderr) == (0, "")


def test_a_chain_that_is_not_there_is_said():
    with Rpc("http://127.0.0.1:9") as rpc, pytest.raises(ChainUnreachable, match="devnet's chain"):
        rpc.call("eth_chainId")


def test_deposits_of_many_threads_and_clients_all_stand(net):
    """Each with a client of its own, as an application's workers have."""
    account = funded(net, 1_000 * TOKEN)
    amounts = [(number + 1) * TOKEN for number in range(12)]

    def work(amount):
        _deposit(net.rpc_url, str(net.deployment_file), account.key.hex(), amount)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, amounts))
    assert net.chain().account(account.address, NODE).balance == sum(amounts)


def test_deposits_of_many_processes_all_stand(net):
    account = funded(net, 1_000 * TOKEN)
    # All the same: what two processes sign at one moment must not be one transaction.
    amounts = [TOKEN] * 9
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(_deposit, net.rpc_url, str(net.deployment_file), account.key.hex(), amount)
            for amount in amounts
        ]
        for job in jobs:
            job.result(timeout=300)
    assert net.chain().account(account.address, NODE).balance == sum(amounts)


def test_whoever_wants_delegators_says_so(net):
    operator = net.create_account("operator", 1_000 * TOKEN)
    delegator = net.create_account("delegator", 1_000 * TOKEN)
    assert _stake(net, "operator", "add", "500").exit_code == 0
    refused = _stake(net, "delegator", "delegate", operator.address, "100")
    assert refused.exit_code != 0
    assert "takes 0 tokens more of delegators in all" in " ".join(refused.output.split())

    assert _stake(net, "operator", "open", "100", "--commission", "5").exit_code == 0
    dear = _stake(net, "delegator", "delegate", operator.address, "100", "--max-commission", "4")
    assert dear.exit_code != 0
    assert "the commission is 5 %, and may be 4 % at most" in " ".join(dear.output.split())
    assert _stake(net, "delegator", "delegate", operator.address, "100").exit_code == 0
    assert net.chain().delegation_of(operator.address, delegator.address) == 100 * TOKEN
    assert net.chain().stake_of(operator.address).own == 500 * TOKEN
    assert _stake(net, "delegator", "delegate", operator.address, "1").exit_code != 0

    connection = ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file)]
    shown = CliRunner().invoke(stake_app, ["show", operator.address, *connection, "--json"])
    assert json.loads(shown.output)["delegationLimitWei"] == str(100 * TOKEN)


def _stake(net, name, *arguments):
    """`trine stake …` of an account that the network has made."""
    connection = ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file)]
    account = ["--keystore", str(net.keystore(name)), "--password-file", str(net.password_file)]
    return CliRunner().invoke(stake_app, [*arguments, *connection, *account])


def test_an_allowance_is_only_ever_added_to(net):
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    chain.allow("Payments", TOKEN)
    chain.deposit(NODE, TOKEN)
    before = chain.allowance(account.address, "Payments")
    chain.allow("Payments", 2 * TOKEN)
    assert chain.allowance(account.address, "Payments") == before >= 9 * TOKEN


def test_a_rest_of_an_allowance_from_elsewhere_is_not_relied_on(net):
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    chain._write("TrineToken", "approve", chain.deployment.address("Payments"), 2 * TOKEN)
    chain.allow("Payments", 2 * TOKEN)  # another client may use it up before this one does
    net.chain(account).deposit(NODE, 2 * TOKEN)
    chain.deposit(NODE, 2 * TOKEN)
    assert chain.account(account.address, NODE).balance == 4 * TOKEN


def test_two_that_sign_the_same_at_one_moment_make_two_transactions(net):
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    call = chain.encoded(CALLS.transfer(NODE, 1))
    senders = [Sender(net.chain(account).gateway()) for _ in range(2)]
    before = net.admin.token_balance(NODE)
    net.rpc.call("evm_setAutomine", False)
    try:
        first, second = (sender._submit(call) for sender in senders)
        assert first.transactions[0].hash != second.transactions[0].hash
    finally:
        net.rpc.call("evm_setAutomine", True)
    for sent in (first, second):
        assert senders[0]._receipt(sent)["status"] == 1
    assert net.admin.token_balance(NODE) == before + 2


def test_a_transaction_that_is_stuck_is_replaced_and_executed_once(net, monkeypatch):
    """Nothing is mined; what comes again pays more, under the same nonce."""
    monkeypatch.setattr("trine.chain.sender.REPLACE_SECONDS", 0.05)
    account = funded(net, 10 * TOKEN)
    chain, before = net.chain(account), net.admin.token_balance(NODE)
    sender, sent = chain._require_sender(), []
    replace = sender._replace

    def replaced(each):
        replace(each)
        sent.append(each.transactions[-1])
        if len(sent) == 3:
            net.rpc.call("evm_setAutomine", True)
            net.rpc.call("evm_mine")

    monkeypatch.setattr(sender, "_replace", replaced)
    net.rpc.call("evm_setAutomine", False)
    try:
        receipt = chain.transfer(NODE, 3)
    finally:
        net.rpc.call("evm_setAutomine", True)
    assert receipt["status"] == 1
    assert net.admin.token_balance(NODE) == before + 3
    assert len({each.nonce for each in sent}) == 1
    prices = [each.fees.max_fee_wei for each in sent]
    assert all(later >= earlier * 1.1 for earlier, later in pairwise(prices))


def test_a_transaction_that_is_never_mined_says_so_with_its_hash(net, monkeypatch):
    for name, value in {"REPLACE_SECONDS": 0.02, "RECEIPT_TIMEOUT_SECONDS": 0.5, "MAX_REPLACEMENTS": 2}.items():
        monkeypatch.setattr(f"trine.chain.sender.{name}", value)
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    net.rpc.call("evm_setAutomine", False)
    try:
        with pytest.raises(NotReady, match=r"transfer: not mined .* 0x[0-9a-f]{64}"):
            chain.transfer(NODE, 1)
    finally:
        net.rpc.call("evm_setAutomine", True)
        net.rpc.call("evm_mine")


def test_a_transaction_whose_answer_was_lost_is_not_sent_twice(net, monkeypatch):
    """web3 repeats a request that got no answer; the chain then says that the nonce is taken: by this transaction."""
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    before = net.admin.token_balance(NODE)
    send = chain._web3.eth.send_raw_transaction

    def sent_twice(raw):
        send(raw)
        net.rpc.call("evm_mine")
        return send(raw)

    monkeypatch.setattr(chain._web3.eth, "send_raw_transaction", sent_twice)
    chain.transfer(NODE, 5)
    assert net.admin.token_balance(NODE) == before + 5


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_a_chain_that_loses_one_of_many_transactions_gets_it_again(monkeypatch, lost):
    """Those behind the one that is lost wait in the pool, which is never empty then."""

    class Losing(Rpc):
        has_lost = False

        def batch(self, method, parameters):
            if method != "eth_sendTransaction" or self.has_lost:
                return super().batch(method, parameters)
            self.has_lost = True
            found = super().batch(method, [each for number, each in enumerate(parameters) if number != lost])
            return [*found[:lost], "0x" + "11" * 32, *found[lost:]]

    monkeypatch.setattr("trine_devnet.contracts.MINING_LOOKS", 200)
    with bare_chain() as chain, Losing(chain.url) as rpc:
        first = next_nonce(rpc)
        calls = [
            {"from": DEVNET_DEPLOYER, "to": NODE, "value": hex(7), "gas": hex(21_000), "nonce": hex(first + number)}
            for number in range(5)
        ]
        receipts = contracts.sent(rpc, calls)
        assert [int(receipt["status"], 16) for receipt in receipts] == [1] * 5
        assert int(rpc.call("eth_getBalance", NODE, "latest"), 16) == 5 * 7


def test_gas_holds_when_the_state_moves_between_estimate_and_execution(net, monkeypatch):
    """The estimate is made with the slots in place; they are emptied before the transaction is executed."""
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    chain.allow("Payments", 10 * TOKEN)
    chain.deposit(NODE, TOKEN)
    warm = chain._contract("Payments").functions.deposit(NODE, TOKEN).estimate_gas({"from": account.address})
    fresh = "0x" + "12" * 20
    cold = chain._contract("Payments").functions.deposit(fresh, TOKEN).estimate_gas({"from": account.address})
    assert cold > warm * 1.25, "the case is none"
    monkeypatch.setattr("trine.chain.gateway.Gateway.estimate", lambda *_: warm)
    chain.deposit(fresh, TOKEN)
    assert chain.account(account.address, fresh).balance == TOKEN


def test_what_needs_far_more_gas_than_estimated_is_sent_again_with_more(net, monkeypatch):
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    chain.allow("Payments", 10 * TOKEN)
    monkeypatch.setattr("trine.chain.transactions.GAS_RESERVE", 0)
    monkeypatch.setattr("trine.chain.transactions.GAS_MARKS", 1)  # or chance adds what was missing
    monkeypatch.setattr("trine.chain.gateway.Gateway.estimate", lambda *_: 50_000)
    nonce = net.admin._web3.eth.get_transaction_count(account.address)
    chain.deposit(NODE, TOKEN)
    assert chain.account(account.address, NODE).balance == TOKEN
    assert net.admin._web3.eth.get_transaction_count(account.address) > nonce + 1


def test_a_revert_is_still_a_revert_and_costs_nothing(net):
    account = funded(net, TOKEN)
    chain = net.chain(account)
    before = chain.gas_balance(account.address)
    with pytest.raises(TransactionReverted, match="deposit: "):
        chain.deposit(NODE, 5 * TOKEN)
    assert chain.gas_balance(account.address) == before


def test_a_following_chain_knows_its_own_transactions_blocks(net):
    account = funded(net, TOKEN)
    chain = net.chain(account)
    blocks = chain.follow(30.0)  # by polling it would notice half a minute later
    try:
        receipt = chain.transfer(NODE, 1)
        assert chain.block_number() >= receipt["blockNumber"]
    finally:
        blocks.stop()


def test_models_and_operators_are_found_without_events(net, monkeypatch):
    """Whatever the chain's age: its logs are not read."""
    asked, ask = [], Views._ask

    def counted(views, method, *rest):
        asked.append(method)
        return ask(views, method, *rest)

    monkeypatch.setattr(Views, "_ask", counted)
    chain = net.chain()
    (entry,) = chain.models()
    assert (entry.model_id, entry.name) == (net.record.model_id, net.record.name)
    assert entry.price_per_token_wei == net.record.price_per_token_wei
    assert chain.operators(entry.model_id, Role.NODE) == []
    assert asked == ["eth_chainId", "eth_call", "eth_call"]


def test_a_following_chain_is_told_of_blocks(net):
    chain = net.chain()
    blocks = chain.follow(3_600.0)
    try:
        seen = chain.block_number()
        for _ in range(2):
            net.rpc.call("evm_mine")
            seen, before = blocks.wait(seen, 60), seen
            assert seen > before
        assert abs(chain.now() - chain.timestamp()) <= 3
    finally:
        blocks.stop()


def test_a_following_chain_finds_events_of_blocks_that_it_was_not_told_of_yet(net, monkeypatch):
    monkeypatch.setattr("trine.chain.subscription.announced_heads", lambda _url: ())
    account = funded(net, TOKEN)
    chain = net.chain()
    blocks = chain.follow(600.0)
    try:
        receipt = net.chain(account).transfer(NODE, 3)
        assert chain.block_number() < receipt["blockNumber"]
        sent = {"from": account.address, "to": NODE}
        assert [event.args["value"] for event in chain.events("TrineToken", "Transfer", **sent)] == [3]
        assert chain.newest_event("TrineToken", "Transfer", **sent).block == receipt["blockNumber"]
    finally:
        blocks.stop()


def test_an_account_without_gas_money_is_named_with_what_helps(net):
    poor = Account.create()
    with pytest.raises(NoGasMoney, match=f"{poor.address} has too little gas money .*devnet fund {poor.address}"):
        net.chain(poor).allow("Payments", 1)
    net.rpc.call("anvil_setBalance", poor.address, hex(10**18))
    net.chain(poor).allow("Payments", 1)


def test_events_of_several_kinds_come_in_order(net):
    account = funded(net, 10 * TOKEN)
    chain = net.chain(account)
    start = chain.block_number() + 1
    chain.allow("Staking", TOKEN)
    chain.add_credit(TOKEN)
    chain.set_endpoint("http://127.0.0.1:1")
    kinds = (("Staking", "EndpointChanged"), ("TrineToken", "Approval"), ("TrineToken", "Transfer"))
    found = list(chain.events_of(kinds, start, chain.block_number()))
    assert [event.name for event in found] == ["Approval", "Transfer", "EndpointChanged"]
    assert found[-1].args["endpoint"] == "http://127.0.0.1:1"
    for event in found:
        (contract,) = (c for c, name in kinds if name == event.name)
        assert event in list(chain.events(contract, event.name, from_block=start))


def _deposit(rpc_url, deployment, key, amount):
    from trine._core import Core

    chain = Chain.connect(Deployment.load(Path(deployment)), rpc_url, Account.from_key(key))
    Core(chain, None, 0).deposit(NODE, amount)
