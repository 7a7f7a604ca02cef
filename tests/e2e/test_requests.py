"""Contracts ask: a wallet that knows nothing of Trine, a node that answers, a contract that is told; and a refund."""

import json
import subprocess
import sys

import httpx2
from waiting import eventually

from trine.audit import operator_report
from trine.chain import BatchState, Deployment
from trine.protocol.messages import ZERO_ADDRESS, Receipt, text_hash
from trine.protocol.requests import Order, RequestState
from trine_devnet.dapp import FEE_WEI, Dapp
from trine_devnet.network import TOKEN

QUESTION = 'What is the capital of "France"?\nOne word.'


def test_a_contract_asks_and_is_told_though_its_node_crashes_meanwhile(net):
    """From the wallet's transaction to the contract's state; beside it, what pays nobody is refunded."""
    deployment = Deployment.load(net.deployment_file)
    wallet, poor = net.create_account("wallet", FEE_WEI), net.create_account("poor", TOKEN)
    node = net.operators["honest"]
    cheap = net.chain(poor)
    unpaid = post(cheap, net.record.model_id, fee_wei=1_000, seconds=12)

    dapp = Dapp(net.rpc_url, deployment, wallet)
    dapp.deploy()
    before = dapp.chain.token_balance(node.account.address)
    request_id = dapp.ask(net.record.model_id, QUESTION, FEE_WEI)
    assert dapp.chain.token_balance(wallet.address) == 0
    url = f"{node.endpoint}/v1/posted/0x{request_id.hex()}"
    eventually(lambda: httpx2.get(url).json()["receipt"], "the node to answer")
    receipt = Receipt.from_json(httpx2.get(url).json()["receipt"])
    node.child.kill()
    net.restart("honest")

    eventually(lambda: cheap.timestamp() > unpaid[1], "the deadline of what nobody answers")
    assert json.loads(trine(net, "request", "show", f"0x{unpaid[0].hex()}", "--json"))["state"] == "open"
    account = ("--keystore", str(net.keystore("poor")), "--password-file", str(net.password_file))
    told = json.loads(trine(net, "request", "refund", f"0x{unpaid[0].hex()}", *account, "--json"))
    assert (told["state"], told["withdrawnWei"]) == ("expired", "1000")
    assert cheap.token_balance(poor.address) == TOKEN

    answer = dapp.wait(request_id, 240)
    assert receipt.text_hash == text_hash(answer)
    posted = dapp.chain.posted_request(request_id)
    assert (posted.state, posted.paid) == (RequestState.FULFILLED, receipt.fee_wei)
    shown = json.loads(trine(net, "request", "show", f"0x{request_id.hex()}", "--json"))
    assert (shown["answer"], shown["node"]) == (answer, node.account.address)
    batch = dapp.chain.batch(bytes.fromhex(shown["batchId"][2:]))
    assert batch.state == BatchState.FINAL
    assert batch.result(shown["leaf"]) == "accept"
    assert len(list(dapp.chain.events("Requests", "RequestFulfilled", requestId=request_id))) == 1
    dapp.refund(request_id)
    assert dapp.chain.token_balance(wallet.address) == FEE_WEI - receipt.fee_wei
    net.wait_ready(["honest"])
    assert dapp.chain.token_balance(node.account.address) >= before + receipt.fee_wei
    assert operator_report(dapp.chain, node.account.address).slashes == ()


def post(chain, model_id, *, fee_wei, seconds):
    """A request that pays nobody; its id and deadline."""
    deadline = chain.timestamp() + seconds
    about = (bytes(32), chain.address, model_id, ZERO_ADDRESS, b'{"prompt":"Hello"}')
    chain.allow("Requests", fee_wei)
    return chain.post_request(Order(*about, 8, fee_wei, deadline, callback_gas=0, wait_for_final=False))[0], deadline


def trine(net, *arguments):
    where = ("--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file))
    command = [sys.executable, "-m", "trine", *arguments, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
