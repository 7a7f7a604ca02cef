"""What a chain shows of itself: asked over JSON-RPC, judged elsewhere (`fitness`). Sends nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.crypto import keccak

from trine.chain.block_header import encoded_header
from trine.chain.deployment import CONTRACTS, SOURCES, bytecode
from trine.chain.endpoint import addresses_of, origin_of, without_secrets
from trine.chain.endpoints import BUSY_CODES, ELSEWHERE, Endpoints
from trine.chain.transport import EndpointFailed
from trine.errors import ChainError, ChainUnreachable
from trine_devnet.addresses import CREATEX
from trine_devnet.deploying import probes

TIMEOUT_SECONDS = 30.0
BLOCKS = 24
"""Looked at: an OP Stack chain shows one RANDAO for six of its blocks."""
CALL_GAS = 10_000_000
"""What a call must be allowed: estimates of the largest creation, and room."""
ARGUMENTS_BYTES = 1024
"""At most, of a constructor; they follow the code."""
SHOWN = 160
"""Characters of an endpoint's error."""
OP_STACK_PREDEPLOY = "0x4200000000000000000000000000000000000015"
"""`L1Block`: https://specs.optimism.io/protocol/predeploys.html"""
NOBODY = "0x" + "00" * 20

LARGEST_CODE = max(len(bytecode(name).deployed) for name in CONTRACTS if name != "Seeds")
LARGEST_CREATION = max(len(bytecode(name).creation) for name in CONTRACTS if name != "Seeds") + ARGUMENTS_BYTES

Shown = bytes | str
"""What a call returned, or the endpoint's refusal in its words."""


@dataclass(frozen=True, slots=True)
class BlockSeen:
    """One of the newest blocks."""

    number: int
    timestamp: int
    gas_limit: int
    difficulty: int
    mix_hash: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that `fitness` goes by."""

    chain_id: int
    now: float
    """Seconds since 1970, by this machine's clock."""
    blocks: Sequence[BlockSeen]
    """Oldest first."""
    programs: Mapping[str, Shown]
    """Of `probes`, by the names below."""
    precompiles: Sequence[tuple[str, Shown, bytes]]
    """Name, what it answered, what it must answer."""
    parent: tuple[Shown, bytes]
    """BLOCKHASH as contracts see it, and the hash that the endpoint shows for that block."""
    code: Shown
    creation_gas: int | str
    """Estimate for the largest contract's creation, or the refusal."""
    createx: bytes
    """Hash of the code at its address; empty without code."""
    is_op_stack: bool
    seeds: tuple[Shown, int]
    """What creating the contract of seeds would leave, and how many bytes it must be."""
    header: str
    """Why the newest block's header cannot be shown; empty if it can."""
    gas_price_wei: int


PROGRAMS = {
    "PUSH0": probes.PUSH_ZERO,
    "MCOPY": probes.MEMORY_COPY,
    "TSTORE": probes.TRANSIENT_STORAGE,
    "NUMBER": probes.BLOCK_NUMBER,
    "PREVRANDAO": probes.RANDAO,
    "GAS": probes.GAS_LEFT,
}


class Endpoint:
    """A network's JSON-RPC endpoint, or several. Its errors show no more of addresses than their origins."""

    def __init__(self, rpc_url: str) -> None:
        self.rpc_url = rpc_url
        self.origin = origin_of(rpc_url)
        self._endpoints = Endpoints(addresses_of(rpc_url), TIMEOUT_SECONDS)

    def ask(self, method: str, *parameters: Any) -> Any:
        """A result, or raises ChainError with the endpoint's refusal, ChainUnreachable without an answer."""
        try:
            answer = self._endpoints.call(method, parameters, patient=True)
        except EndpointFailed as error:
            raise ChainUnreachable(f"the RPC endpoint gives no answer to {method}: {error}") from None
        if "error" not in answer:
            return answer.get("result")
        refused = answer["error"]
        message = str(refused.get("message", refused) if isinstance(refused, dict) else refused)
        told = without_secrets(message, self.rpc_url)[:SHOWN]
        code = refused.get("code") if isinstance(refused, dict) else None
        if code in BUSY_CODES or ELSEWHERE.search(message):
            raise ChainUnreachable(f"the RPC endpoint {self.origin} is busy or lacks data ({told}): try again later")
        raise ChainError(f"{method}: {told}")

    def number(self, method: str, *parameters: Any) -> int:
        return self._whole(method, self.ask(method, *parameters))

    def block(self, number: int | str) -> dict[str, Any]:
        shown = self.ask("eth_getBlockByNumber", hex(number) if isinstance(number, int) else number, False)
        if not isinstance(shown, dict):
            raise ChainError(f"the RPC endpoint {self.origin} does not show block {number}")
        return shown

    def code(self, address: str) -> bytes:
        return self._bytes("eth_getCode", self.ask("eth_getCode", address, "latest"))

    def call(self, data: bytes, to: str | None = None, gas: int = CALL_GAS) -> Shown:
        """What a call returns, or why there is nothing. Without `to`, `data` is init code."""
        asked = {"from": NOBODY, "gas": hex(gas), "data": "0x" + data.hex(), **({"to": to} if to else {})}
        try:
            return self._bytes("eth_call", self.ask("eth_call", asked, "latest"))
        except ChainUnreachable:
            raise
        except ChainError as error:
            return str(error)

    def _bytes(self, method: str, shown: Any) -> bytes:
        try:
            return bytes.fromhex(shown.removeprefix("0x"))
        except (AttributeError, ValueError):
            raise ChainError(f"the RPC endpoint {self.origin} answers {method} with no bytes") from None

    def _whole(self, method: str, shown: Any) -> int:
        try:
            return int(shown, 16)
        except (TypeError, ValueError):
            raise ChainError(f"the RPC endpoint {self.origin} answers {method} with no number") from None


def gather(endpoint: Endpoint, seeds: str, seeds_creation: bytes, sender: str = NOBODY) -> Facts:
    """Asks everything. `seeds_creation`: init code of the contract of `seeds`, with arguments. Raises ChainError."""
    chain_id = endpoint.number("eth_chainId")
    newest = endpoint.block("latest")
    head = endpoint._whole("eth_getBlockByNumber", newest.get("number"))
    blocks = [_seen(endpoint, endpoint.block(n)) for n in range(max(1, head - BLOCKS + 1), head)]
    blocks.append(_seen(endpoint, newest))
    programs = {name: endpoint.call(program) for name, program in PROGRAMS.items()}
    tried = [
        (name, endpoint.call(given, to=f"0x{address:040x}"), expected)
        for name, address, given, expected in probes.precompiles()
    ]
    createx = endpoint.code(CREATEX)
    return Facts(
        chain_id=chain_id,
        now=time.time(),
        blocks=blocks,
        programs=programs,
        precompiles=tried,
        parent=_parent(endpoint),
        code=endpoint.call(probes.code_of(LARGEST_CODE, LARGEST_CREATION)),
        creation_gas=_estimate(endpoint, probes.code_of(LARGEST_CODE, LARGEST_CREATION), sender),
        createx=keccak(createx) if createx else b"",
        is_op_stack=bool(endpoint.code(OP_STACK_PREDEPLOY)),
        seeds=(endpoint.call(seeds_creation), len(bytecode(SOURCES[seeds]).deployed)),
        header=_header(newest),
        gas_price_wei=endpoint.number("eth_gasPrice"),
    )


def _seen(endpoint: Endpoint, block: Mapping[str, Any]) -> BlockSeen:
    def whole(name: str, default: str | None = None) -> int:
        return endpoint._whole("eth_getBlockByNumber", block.get(name) or default)

    return BlockSeen(
        whole("number"), whole("timestamp"), whole("gasLimit"), whole("difficulty", "0x0"), whole("mixHash", "0x0")
    )


def _parent(endpoint: Endpoint) -> tuple[Shown, bytes]:
    """What contracts are told of the block before the newest, and what the endpoint shows of it.

    A block may come between two questions: the number comes with the hash.
    """
    both = bytes.fromhex("43600152600143034060215260416000f3")
    returned = endpoint.call(both)
    if isinstance(returned, str) or len(returned) != 65:
        return returned, b""
    number = int.from_bytes(returned[1:33], "big") - 1
    try:
        shown = endpoint.block(number) if number < 1 << 63 else {}
        return returned[33:], bytes.fromhex(str(shown.get("hash", "")).removeprefix("0x"))
    except ChainUnreachable:
        raise
    except (ChainError, ValueError):
        return returned[33:], b""


def _estimate(endpoint: Endpoint, creation: bytes, sender: str) -> int | str:
    try:
        return endpoint.number("eth_estimateGas", {"from": sender, "data": "0x" + creation.hex()})
    except ChainUnreachable:
        raise
    except ChainError as error:
        return str(error)


def _header(block: Mapping[str, Any]) -> str:
    try:
        encoded_header(block)
    except ChainError as error:
        return str(error)
    return ""
