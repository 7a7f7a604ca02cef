"""A second chain, in a process of its own and with another id, on which a contract that has never seen the network
takes one of its answers: `CertificateVerifier`, kept up to date by the `trine relay` that anybody may run, and
`ExampleConsumer`, which pays for the answer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount

from trine import Answer, Client
from trine.certificates import source_of
from trine.chain import Chain, Deployment, create_keystore
from trine.chain.calls import checksum
from trine.chain.deployment import bytecode
from trine.chain.foreign import VERIFIER, ForeignChain, deploy_verifier
from trine.chain.transactions import Call
from trine.errors import ChainUnreachable, InvalidInput, NotReady, TransactionReverted, TrineError
from trine.protocol.portable import PortableCertificate
from trine_devnet.network import GAS_MONEY_WEI, SCRYPT_N, Devnet
from trine_devnet.processes import Child, free_port, start
from trine_devnet.rpc import Rpc
from trine_devnet.toolchain import anvil
from trine_devnet.waiting import wait_until

FOREIGN_CHAIN_ID = 31338
CONSUMER = "ExampleConsumer"
REWARD_WEI = 10**15
MAX_AGE_EPOCHS = 1024
RELAY_SECONDS = 120.0
GAS = 6_000_000
LOOK_SECONDS = 0.05
MINING_LOOKS = 600


@dataclass(frozen=True, slots=True)
class ShownAbroad:
    """What came of an answer on another chain."""

    chain_id: int
    verifier: str
    consumer: str
    relayed: tuple[str, ...]
    """What the relay said of each hand-over."""
    accepted: bool
    """Whether the consumer took the answer and paid for it."""
    transaction: str
    gas: int
    refused: str
    """Why a certificate that was tampered with was not taken; empty if it was."""

    @property
    def holds(self) -> bool:
        """Taken as it is, refused when it is tampered with."""
        return self.accepted and bool(self.refused)


class Abroad:
    """The second chain of a devnet. Use as a context manager."""

    def __init__(self, network: Devnet) -> None:
        self._network = network
        self._port = free_port()
        self.rpc_url = f"http://127.0.0.1:{self._port}"
        self._rpc = Rpc(self.rpc_url)
        self._child: Child | None = None
        self._account: LocalAccount = Account.create()
        self.keystore = network.keystore(f"relay-{self._account.address}")
        """Of the relay's account, which has the second chain's currency."""

    def __enter__(self) -> Self:
        command = [
            anvil(), "--host", "127.0.0.1", "--port", str(self._port), "--chain-id", str(FOREIGN_CHAIN_ID),
            "--hardfork", "prague",
        ]  # fmt: skip
        self._child = start("abroad", command, self._network.home / "logs" / "abroad.log", cwd=self._network.home)
        try:
            wait_until(self._answers, "the second chain to start", [self._child], self._network.report)
            self._rpc.call("anvil_setBalance", self._account.address, hex(GAS_MONEY_WEI))
            password = self._network.password_file.read_text()
            create_keystore(self.keystore, password, bytes(self._account.key), iterations=SCRYPT_N)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._child:
            self._child.stop()
        self._rpc.close()

    def show(self, portable: PortableCertificate, text: str) -> ShownAbroad:
        """Deploys, relays, has the answer paid for, and tries it tampered with. Raises TrineError."""
        hard = portable.certificate
        verifier = self._deploy(hard.epoch)
        relayed = self._relay(verifier, hard.epoch)
        consumer = self._create_consumer(verifier, hard.receipt.model_id)
        there = ForeignChain(
            Deployment(FOREIGN_CHAIN_ID, 0, {VERIFIER: verifier, CONSUMER: consumer}), self.rpc_url, self._account
        )
        try:
            there.check(replace(hard, accepted=hard.accepted ^ 1 << hard.index))
            refused = ""
        except TransactionReverted as error:
            refused = error.reason
        deadline = there.timestamp() + 3_600
        self._send(there, Call(CONSUMER, "ask", (hard.receipt.input_hash, deadline)), REWARD_WEI)
        node = hard.receipt.node
        before = there.gas_balance(node)
        receipt = self._send(there, Call(CONSUMER, "answer", (hard.to_call(), hard.receipt.values(), text)))
        return ShownAbroad(
            FOREIGN_CHAIN_ID,
            verifier,
            consumer,
            tuple(relayed),
            there.gas_balance(node) == before + REWARD_WEI,
            receipt["transactionHash"],
            int(receipt["gasUsed"], 16),
            refused,
        )

    def _deploy(self, epoch: int) -> str:
        """With the key set of the epoch before as its genesis, if there is one, so that there is something to relay."""
        chain = self._network.chain()
        source = source_of(chain)
        try:
            genesis = chain.roster(epoch - 1)
        except InvalidInput:
            genesis = chain.roster(epoch)
        return deploy_verifier(
            self.rpc_url,
            self._account,
            chain_id=source.chain_id,
            batches=source.batches,
            genesis=genesis.key_set,
            max_age_epochs=MAX_AGE_EPOCHS,
        ).verifier

    def _relay(self, verifier: str, epoch: int) -> list[str]:
        """By the command, in a process of its own. Raises TrineError."""
        network = self._network
        self._keep_up(network.chain())
        command = [
            sys.executable, "-m", "trine", "relay", "run", "--once", "--every-epoch", "--to", self.rpc_url,
            "--verifier", verifier, "--rpc-url", network.rpc_url, "--deployment", str(network.deployment_file),
            "--keystore", str(self.keystore), "--password-file", str(network.password_file),
        ]  # fmt: skip
        said = _output(command)
        if ForeignChain.at(self.rpc_url, verifier).key_set_of(epoch) is None:
            raise NotReady(f"the relay did not bring the key set of epoch {epoch}: {said[-1] if said else 'silence'}")
        return said

    def _keep_up(self, chain: Chain) -> None:
        """A second chain's clock starts when its process does, a devnet's may have been moved on since."""
        ahead = chain.timestamp() - int(self._rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        if ahead > 0:
            self._rpc.call("evm_increaseTime", hex(ahead))
            self._rpc.call("evm_mine")

    def _create_consumer(self, verifier: str, model_id: bytes) -> str:
        arguments = encode(["address", "bytes32", "uint256"], [verifier, model_id, 3])
        code = "0x" + (bytecode(CONSUMER).creation + arguments).hex()
        return str(checksum(self._mined({"from": self._sender(), "data": code, "gas": hex(GAS)})["contractAddress"]))

    def _send(self, there: ForeignChain, call: Call, value: int = 0) -> dict[str, Any]:
        encoded = there.encoded(call)
        return self._mined(
            {
                "from": self._sender(),
                "to": encoded.to,
                "data": "0x" + encoded.data.hex(),
                "value": hex(value),
                "gas": hex(GAS),
            }
        )

    def _mined(self, transaction: dict[str, str]) -> dict[str, Any]:
        """The receipt; this chain mines at once, but beside answering. Raises TrineError for what reverts."""
        sent, receipt = self._rpc.call("eth_sendTransaction", transaction), None
        for _ in range(MINING_LOOKS):
            if receipt := self._rpc.call("eth_getTransactionReceipt", sent):
                break
            time.sleep(LOOK_SECONDS)
        if not receipt:
            raise NotReady("the second chain does not mine a transaction")
        if int(receipt["status"], 16) != 1:
            self._rpc.call("eth_call", transaction, "latest")  # raises with the contract's reason
            raise TrineError("the second chain refused a transaction")
        return dict(receipt)

    def _sender(self) -> str:
        """The first of the chain's own accounts, which it signs for."""
        return str(self._rpc.call("eth_accounts")[0])

    def _answers(self) -> bool:
        try:
            self._rpc.call("eth_chainId")
        except ChainUnreachable:
            return False
        return True


def certificate_abroad(network: Devnet, client: Client, answer: Answer) -> ShownAbroad:
    """What comes of an answer of the network's on a second chain. Raises NotReady for an answer that was settled by
    votes, which has no certificate that travels."""
    portable = client.certify(answer, hard=True)
    with Abroad(network) as abroad:
        return abroad.show(portable, answer.text)


def _output(command: Sequence[str]) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RELAY_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise NotReady(f"the relay did not end within {RELAY_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise TrineError(f"the relay ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout.splitlines()
