"""A contract asks a model: from a wallet that has never seen the project to the contract's changed state.

The wallet does what any would: it gets tokens, deploys `AnswerConsumer` (contracts/examples), lets it take the fee, and
calls its `ask`. All that follows it reads off the chain.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, cast

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3
from web3.contract import Contract
from web3.types import TxReceipt

from trine.chain import Chain, Deployment
from trine.errors import NotReady, TransactionReverted
from trine.protocol.inputs import chat_input

FEE_WEI = 5 * 10**18
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ContractAnswer:
    """What came of a contract's question; transactions by what they did."""

    contract: str
    request_id: bytes
    question: str
    answer: str  # as the contract holds it
    paid_wei: int
    transactions: dict[str, str]
    seconds: float  # from the wallet's transaction to the contract's state

    @property
    def is_answered(self) -> bool:
        return bool(self.answer)

    def to_json(self) -> dict[str, Any]:
        return {
            "contract": self.contract,
            "requestId": "0x" + self.request_id.hex(),
            "question": self.question,
            "answer": self.answer,
            "paidWei": str(self.paid_wei),
            "transactions": self.transactions,
            "seconds": round(self.seconds, 1),
        }


@cache
def example() -> dict[str, Any]:
    """ABI and code of `AnswerConsumer`, as the compiler made them."""
    text = resources.files("trine_devnet").joinpath("examples", "AnswerConsumer.json").read_text()
    return dict(json.loads(text))


class Wallet:
    """An account that knows nothing of Trine but addresses: it sends what any wallet can. Waits for each receipt."""

    def __init__(self, rpc_url: str, account: LocalAccount) -> None:
        self.web3 = Web3(Web3.HTTPProvider(rpc_url))
        self.account = account

    def send(self, to: str | None, data: bytes) -> TxReceipt:
        """Raises TransactionReverted."""
        eth = self.web3.eth
        fields: dict[str, Any] = {
            "from": self.account.address,
            "data": data,
            "nonce": eth.get_transaction_count(self.account.address, "pending"),
            "chainId": eth.chain_id,
            "maxFeePerGas": 2 * eth.gas_price + 10**9,
            "maxPriorityFeePerGas": 10**9,
            **({"to": to} if to else {}),
        }
        fields["gas"] = eth.estimate_gas(cast(Any, fields)) * 5 // 4
        signed = self.account.sign_transaction(fields)
        receipt = eth.wait_for_transaction_receipt(eth.send_raw_transaction(signed.raw_transaction), poll_latency=0.1)
        if receipt["status"] != 1:
            raise TransactionReverted("the wallet's transaction was mined as failed", reason="failed")
        return receipt


class Dapp:
    """The example's contract on a chain, and a wallet that uses it."""

    def __init__(self, rpc_url: str, deployment: Deployment, wallet: LocalAccount) -> None:
        self.chain = Chain.connect(deployment, rpc_url)
        self.wallet = Wallet(rpc_url, wallet)
        self.transactions: dict[str, str] = {}
        self._contract: Contract | None = None

    @property
    def contract(self) -> Contract:
        """Raises NotReady before it is deployed."""
        if self._contract is None:
            raise NotReady("the example's contract is not deployed")
        return self._contract

    def deploy(self) -> str:
        """Creates the contract; returns its address."""
        requests = self.chain.deployment.address("Requests")
        code = bytes.fromhex(example()["bytecode"][2:]) + encode(["address"], [requests])
        receipt = self._send("deploy", None, code)
        self._contract = self.wallet.web3.eth.contract(
            address=cast(Any, receipt["contractAddress"]), abi=example()["abi"]
        )
        return str(self._contract.address)

    def ask(self, model_id: bytes, question: str, fee_wei: int) -> bytes:
        """Has the contract ask; returns the request's id."""
        token = self.chain.deployment.address("TrineToken")
        approve = keccak(text="approve(address,uint256)")[:4] + encode(
            ["address", "uint256"], [self.contract.address, fee_wei]
        )
        self._send("approve", token, approve)
        data = bytes.fromhex(self.contract.encode_abi("ask", args=[model_id, question, fee_wei])[2:])
        receipt = self._send("ask", self.contract.address, data)
        (asked,) = self.contract.events.QuestionAsked().process_receipt(receipt, _discard())
        request_id = bytes(asked["args"]["requestId"])
        posted = self.chain.posted_request(request_id)
        # What the contract made of the question is what a client would have asked.
        canonical = chat_input([{"role": "user", "content": question}]).hash()
        if posted is None or posted.input_hash != canonical:
            raise NotReady("the chain does not show the question that was asked")
        return request_id

    def answer_of(self, request_id: bytes) -> str:
        """What the contract holds; empty until it was told."""
        return str(self.contract.functions.answerOf(request_id).call())

    def refund(self, request_id: bytes) -> None:
        """Gets back what the node has not taken, or all of it where nobody answered in time."""
        data = bytes.fromhex(self.contract.encode_abi("refundQuestion", args=[request_id])[2:])
        self._send("refund", self.contract.address, data)

    def wait(self, request_id: bytes, seconds: float, tell: Callable[[str], None] = lambda _: None) -> str:
        """The answer once the contract has it. Raises NotReady, saying how far it is."""
        until, last = time.monotonic() + seconds, ""
        while not (answer := self.answer_of(request_id)):
            posted = self.chain.posted_request(request_id)
            state = posted.state.name.lower() if posted else "unknown"
            if state != last:
                tell(f"request 0x{request_id.hex()[:12]}…: {state}")
                last = state
            if time.monotonic() > until:
                raise NotReady(f"the contract has no answer after {seconds:.0f} s; its request is {state}")
            time.sleep(LOOK_SECONDS)
        fulfilled = self.chain.newest_event("Requests", "RequestFulfilled", requestId=request_id)
        if fulfilled is not None:
            self.transactions["fulfil"] = "0x" + fulfilled.transaction.hex()
        return answer

    def _send(self, what: str, to: str | None, data: bytes) -> TxReceipt:
        receipt = self.wallet.send(to, data)
        self.transactions[what] = receipt["transactionHash"].to_0x_hex()
        return receipt


def ask_by_contract(
    rpc_url: str,
    deployment: Deployment,
    model_id: bytes,
    question: str,
    *,
    fund: Callable[[str, int], None],
    fee_wei: int = FEE_WEI,
    seconds: float = 300.0,
    tell: Callable[[str], None] = lambda _: None,
) -> ContractAnswer:
    """The whole story with a new wallet. `fund` gives an address gas money and so many wei of tokens.

    Raises NotReady when no answer comes within `seconds`.
    """
    account: LocalAccount = Account.create()
    fund(account.address, fee_wei)
    tell(f"wallet {account.address}: new, with {fee_wei / 10**18:g} tokens")
    dapp = Dapp(rpc_url, deployment, account)
    contract = dapp.deploy()
    tell(f"contract {contract}: AnswerConsumer, deployed by the wallet")
    started = time.monotonic()
    request_id = dapp.ask(model_id, question, fee_wei)
    tell(f"asked {question!r} by the wallet's transaction {dapp.transactions['ask']}")
    answer = dapp.wait(request_id, seconds, tell)
    took = time.monotonic() - started
    dapp.refund(request_id)  # what was left of the fee goes to who asked
    posted = dapp.chain.posted_request(request_id)
    paid = posted.paid if posted else 0
    return ContractAnswer(contract, request_id, question, answer, paid, dict(dapp.transactions), took)


def _discard() -> Any:
    from web3.logs import DISCARD

    return DISCARD
