"""A real chain whose verifiers have keys and settle batches by signatures, without a process of theirs.

What is not tried here is not needed: calibration says yes to everybody, because the code at its address is replaced.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from chain_support import devnet, funded
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from trine.certificates import source_of
from trine.chain import Chain
from trine.chain.transactions import Call
from trine.errors import ChainUnreachable
from trine.handovers import handover_json
from trine.protocol import bls, merkle
from trine.protocol.certificate import Certificate, result_digest
from trine.protocol.committee import epoch_at
from trine.protocol.messages import Receipt, engine_class_bytes, text_hash
from trine_devnet.network import Devnet
from trine_devnet.processes import free_port
from trine_devnet.rpc import Rpc
from trine_devnet.toolchain import anvil

TOKEN = 10**18
FOREIGN_CHAIN_ID = 424_242
STAKE = 2_000 * TOKEN
TEXT = "The capital of France is Paris."
ALWAYS_CALIBRATED = "0x63ffffffff60005260206000f3"
"""Returns 2^32 - 1, whatever is asked: good until 2106."""


@dataclass
class Signing:
    """Verifiers with their keys, on a chain that mines by itself."""

    network: Devnet
    secrets: dict[str, bls.SecretKey] = field(default_factory=dict)
    accounts: list[LocalAccount] = field(default_factory=list)
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self.chain = self.network.chain()

    @property
    def model_id(self) -> bytes:
        return self.network.record.model_id

    def add_verifier(self, stake: int = STAKE, *, registers: bool = True) -> Chain:
        account = funded(self.network, stake + 10 * TOKEN)
        theirs = self.network.chain(account)
        theirs.allow("Staking", stake)
        theirs.stake(stake)
        secret = bls.SecretKey(random.Random(account.address).getrandbits(250) + 1)
        self.secrets[account.address] = secret
        self.accounts.append(account)
        if registers:
            self.register(theirs, secret)
        rpc, calibration = self.network.rpc, self.chain.deployment.address("Calibration")
        hardware = engine_class_bytes("cpu-fp32")
        for call in (
            Call("Committees", "nominate", (self.model_id, account.address, hardware)),
            Call("Committees", "admit", (self.model_id, account.address)),
        ):
            encoded = self.chain.encoded(call)
            sent = {"from": calibration, "to": encoded.to, "data": "0x" + encoded.data.hex(), "gas": hex(2_000_000)}
            transaction = rpc.call("eth_sendTransaction", sent)
            rpc.call("anvil_mine", "0x1")
            assert int(rpc.call("eth_getTransactionReceipt", transaction)["status"], 16) == 1
        return theirs

    def register(self, theirs: Chain, secret: bls.SecretKey) -> None:
        chain_id, registry = theirs.deployment.chain_id, theirs.deployment.address("VerifierKeys")
        proof = secret.prove_possession(chain_id, registry, theirs.address)
        theirs._write("VerifierKeys", "register", secret.public_key(), proof)
        self.secrets[theirs.address] = secret

    def next_epoch(self) -> int:
        """Mines into the next epoch; returns it."""
        blocks, number = self.chain.epoch_blocks(), self.chain.block_number()
        self.network.rpc.call("anvil_mine", hex(blocks - number % blocks), "0x0")
        return self.chain.block_number() // blocks

    def settled(self, node: Chain, answers: int = 3, rejects: Sequence[int] = ()) -> list[Certificate]:
        """A batch of `node`'s, settled by its committee's signatures: the certificates of its answers."""
        chain, now = self.chain, self.chain.timestamp()
        receipts = [self._receipt(node.address, i, now) for i in range(answers)]
        leaves = [merkle.leaf_hash(i, receipt) for i, receipt in enumerate(receipts)]
        root, canary = merkle.root(leaves), random.randbytes(32)
        node.anchor(self.model_id, root, canary, answers)
        place = Certificate(
            chain.deployment.chain_id, chain.deployment.address("Batches"), root, canary, 0, receipts[0], bytes(65),
            merkle.proof(leaves, 0), 0, 0,
        )  # fmt: skip
        rejected = sum(1 << i for i in rejects)
        accepted = (1 << answers) - 1 & ~rejected
        self.settle_signed(node, place.batch_id, accepted, rejected)
        return [
            replace(
                place,
                index=i,
                receipt=receipt,
                receipt_signature=node.sign(receipt.digest(node.domain)),
                proof=merkle.proof(leaves, i),
                accepted=accepted,
                rejected=rejected,
            )
            for i, receipt in enumerate(receipts)
        ]

    def _receipt(self, node: str, i: int, now: int) -> Receipt:
        client, word = self.accounts[0].address, bytes([i + 1]) * 32
        return Receipt(
            word, client, node, self.model_id, keccak(word), b"\3" * 32, b"\4" * 32, text_hash(TEXT), b"\6" * 32,
            3, 4 + i, 80, 0, engine_class_bytes("cpu-fp32"), 10, now, now + 600,
        )  # fmt: skip

    def settle_signed(self, sender: Chain, batch_id: bytes, accepted: int, rejected: int) -> None:
        chain = self.chain
        anchored = chain.newest_event("Batches", "BatchAnchored", batchId=batch_id)
        assert anchored
        seed_block, fixed_at = anchored.args["seedBlock"], chain.block_timestamp(anchored.block)
        while chain.block_number() <= seed_block:
            self.network.rpc.call("anvil_mine", "0x1")
        record = Call("Seeds", "record", (chain.raw_header(seed_block),))
        sender._write(record.contract, record.function, *record.arguments)
        assert chain.seed(seed_block, fixed_at)
        drawn = chain.draw_again(chain.batch(batch_id))
        epoch = epoch_at(seed_block, chain.epoch_blocks())
        digest = result_digest(
            chain.deployment.chain_id, chain.deployment.address("Batches"), epoch, batch_id, accepted, rejected
        )
        keys = b"".join(self.secrets[verifier].public_key() for verifier in drawn)
        signature = bls.aggregate([self.secrets[verifier].sign(digest) for verifier in drawn])
        header = chain.batch(batch_id).known_header.values()
        sender._write("Batches", "settleSigned", header, [], epoch, accepted, rejected, keys, signature)


@contextmanager
def signing(home: Path, verifiers: int = 5) -> Iterator[Signing]:
    with devnet(home) as network:
        calibration = network.chain().deployment.address("Calibration")
        # A block for each transaction and no others: no epoch passes unless a test wants it.
        network.rpc.call("evm_setIntervalMining", 0)
        network.rpc.call("evm_setAutomine", True)
        network.rpc.call("anvil_setCode", calibration, ALWAYS_CALIBRATED)
        network.rpc.call("anvil_impersonateAccount", calibration)
        network.rpc.call("anvil_setBalance", calibration, hex(10**20))
        found = Signing(network)
        for _ in range(verifiers):
            found.add_verifier()
        yield found


class Endpoints:
    """An HTTP server for each verifier, which serves its hand-overs, unless it is told to misbehave."""

    def __init__(self, signed: Signing) -> None:
        self._signed = signed
        self.asked: list[str] = []
        self.instead: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self._servers: list[ThreadingHTTPServer] = []
        for account in signed.accounts:
            self.serve(account)

    def serve(self, account: LocalAccount) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(account.address))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        theirs = self._signed.network.chain(account)
        theirs.set_endpoint(f"http://127.0.0.1:{server.server_address[1]}")

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _handler(self, operator: str) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(operator)
                outer.instead.get(operator, outer.answer)(self)

            def log_message(self, *_: object) -> None:
                pass

        Handler.operator = operator  # type: ignore[attr-defined]
        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """As a verifier's process does."""
        epoch, since = map(int, re.fullmatch(r"/v1/handovers/(\d+)\?since=(\d+)", request.path).groups())  # type: ignore[union-attr]
        operator = request.operator  # type: ignore[attr-defined]
        send(request, self.document(operator, since, epoch))

    def document(self, operator: str, since: int, epoch: int) -> dict[str, object]:
        chain, secret = self._signed.chain, self._signed.secrets[operator]
        source = source_of(chain)
        current, following = chain.roster(since).key_set, chain.roster(epoch).key_set
        signature = secret.sign(current.handover_digest(source.chain_id, source.batches, following))
        return handover_json(source, current.to_json(), following.to_json(), secret.public_key(), signature)


def send(request: BaseHTTPRequestHandler, document: object, status: int = 200) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    request.send_response(status)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def other_chain(chain_id: int = FOREIGN_CHAIN_ID) -> Iterator[Rpc]:
    """A second chain, in a process of its own, with another id."""
    port = free_port()
    command = [anvil(), "--port", str(port), "--chain-id", str(chain_id), "--hardfork", "prague", "--silent"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    try:
        with Rpc(f"http://127.0.0.1:{port}") as rpc:
            for _ in range(600):
                try:
                    rpc.call("eth_chainId")
                    break
                except ChainUnreachable:
                    time.sleep(0.05)
            yield rpc
    finally:
        process.terminate()
        process.wait(20)


def anchoring_node(signed: Signing) -> Chain:
    """An account that may anchor."""
    node = signed.network.chain(funded(signed.network, 2_000 * TOKEN))
    node.allow("Staking", 2_000 * TOKEN)
    node.stake(1_000 * TOKEN)
    node.add_credit(100 * TOKEN)
    return node
