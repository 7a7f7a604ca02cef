"""A chain with registries, an operator with an agent, and verdicts as a test sets them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chain_support import funded
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.abi import function_abi_to_4byte_selector

from trine.chain import Chain, Header
from trine.chain.deployment import abi
from trine.protocol import merkle
from trine.protocol.certificate import Certificate
from trine.protocol.messages import ZERO_ADDRESS, Receipt
from trine_devnet.agents import register
from trine_devnet.network import Devnet

TOKEN = 10**18
ENDPOINT = "http://127.0.0.1:8999"
CANARY = b"\x07" * 32
MODEL = b"\x03" * 32


def decide(
    net: Devnet,
    *,
    leaves: int = 1,
    accepted: int = 1,
    rejected: int = 0,
    settled: bool = True,
    final: bool = True,
) -> None:
    """From now on every batch has these words: other code stands in the place of what judges."""
    code = _verdicts(leaves, accepted, rejected, settled, final)
    for contract in ("Batches", "Finality"):
        net.rpc.call("anvil_setCode", net.chain().deployment.address(contract), "0x" + code.hex())


def agent(net: Devnet, home: Path) -> tuple[LocalAccount, Chain, int]:
    """A funded account that is an agent, its chain, and the agent's number."""
    account = funded(net, TOKEN)
    chain = net.chain(account)
    return account, chain, register(chain, "node", ENDPOINT, home / f"{account.address}.json").agent.agent_id


@dataclass(frozen=True)
class Answered:
    """An answer of a node to a client, alone in its batch."""

    certificate: Certificate
    header: Header
    batch_id: bytes


def answered(chain: Chain, node: LocalAccount, client: str = ZERO_ADDRESS, canary: bytes = CANARY) -> Answered:
    receipt = receipt_of(node.address, client)
    leaf = merkle.leaf_hash(0, receipt)
    root = merkle.root([leaf])
    digest = receipt.digest(chain.domain)
    certificate = Certificate(
        chain_id=chain.domain.chain_id,
        batches=chain.domain.verifying_contract,
        root=root,
        canary=canary,
        index=0,
        receipt=receipt,
        receipt_signature=bytes(Account.unsafe_sign_hash(digest, node.key).signature),
        proof=tuple(merkle.proof([leaf], 0)),
        accepted=1,
        rejected=0,
    )
    return Answered(certificate, certificate.header, certificate.batch_id)


def receipt_of(node: str, client: str) -> Receipt:
    words = [bytes([number]) * 32 for number in range(1, 8)]
    return Receipt(
        request_hash=words[0],
        client=client,
        node=node,
        model_id=MODEL,
        input_hash=words[1],
        prompt_hash=words[2],
        output_hash=words[3],
        text_hash=words[4],
        fingerprint_hash=words[5],
        prompt_tokens=3,
        output_tokens=2,
        max_tokens=4,
        finish_reason=1,
        engine_class=b"cpu-fp32".ljust(32, b"\0"),
        fee_wei=100,
        issued_at=1_000,
        anchor_by=2_000,
    )


def _push(number: int) -> bytes:
    raw = number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")
    return bytes([0x5F + len(raw)]) + raw


def _verdicts(leaves: int, accepted: int, rejected: int, settled: bool, final: bool) -> bytes:
    """Runtime code that answers `resultOf`, and everything else as `verdictOf`."""
    words = (leaves, accepted, rejected, 0, int(settled), int(final))
    result = b"".join(_push(word) + _push(32 * place) + b"\x52" for place, word in enumerate(words))
    result += _push(32 * len(words)) + _push(0) + b"\xf3"

    def bit(mask: int) -> bytes:  # of the leaf that is asked for
        return _push(1) + _push(mask) + _push(0x24) + b"\x35\x1c\x16"

    # 4 - 2 * accepted - rejected, or 1 while nothing is settled; shifts take what is on top by as much.
    minus_rejected = bit(rejected)
    minus_accepted = _push(2) + bit(accepted) + b"\x02"
    verdict = minus_rejected + minus_accepted + b"\x01" + _push(4) + b"\x03" if settled else _push(1)
    verdict += _push(0) + b"\x52" + _push(int(final)) + _push(32) + b"\x52" + _push(64) + _push(0) + b"\xf3"
    (entry,) = (each for each in abi("Finality") if each.get("name") == "resultOf")
    selector = function_abi_to_4byte_selector(entry)
    head = _push(0) + b"\x35" + _push(0xE0) + b"\x1c" + b"\x63" + selector + b"\x14"
    jump = len(head) + 4 + len(verdict)
    return head + b"\x61" + jump.to_bytes(2, "big") + b"\x57" + verdict + b"\x5b" + result
