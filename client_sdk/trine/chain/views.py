"""View functions over plain JSON-RPC: what looking something up takes.

web3 does everything else. Its import alone takes longer than looking something up should, and each call through it
several times the processor time of one here. What comes back is what web3 would give. Anything but a plain answer comes
back as None, and web3 is asked then: it knows in how many ways nodes word a revert, what to try again, and what is
wrong with an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.decoding import AddressDecoder, StringDecoder
from eth_abi.encoding import AddressEncoder, TextStringEncoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals, registry
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types
from eth_utils.address import to_checksum_address

from trine.chain.deployment import abi
from trine.chain.endpoints import Endpoints
from trine.chain.follower import Head, head_of
from trine.chain.transport import EndpointFailed

RETURN_WORD = "60015260216000f3"
"""Returns the word on the stack behind a zero byte: no code of a contract may begin with 0xEF (EIP-3541)."""
NUMBER_CODE = "0x43" + RETURN_WORD
"""What contracts see as `block.number`, returned by a creation that `eth_call` pretends."""


@dataclass(frozen=True, slots=True)
class Question:
    """A view function of one of CONTRACTS, at an address, with its arguments; at a block or now."""

    contract: str
    address: str
    function: str
    arguments: tuple[Any, ...]
    block: int | None = None


class Views:
    """Asks the RPC endpoints. Thread-safe."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def chain_id(self) -> int | None:
        try:
            return int(self._ask("eth_chainId"), 16)
        except _NO_PLAIN_ANSWER:
            return None

    def newest_block(self) -> Head | None:
        return self._head("latest")

    def block(self, number: int) -> Head | None:
        """None also for a block that the endpoint does not have."""
        return self._head(hex(number))

    def shown_block(self, number: int) -> dict[str, Any] | None:
        """A block as the endpoint shows it, unread."""
        try:
            shown = self._ask("eth_getBlockByNumber", hex(number), False)
        except _NO_PLAIN_ANSWER:
            return None
        return shown if isinstance(shown, dict) else None

    def raw_header(self, number: int) -> str:
        """A block's header in RLP, unread, of an endpoint that has `debug_getRawHeader`; else nothing."""
        try:
            return str(self._ask("debug_getRawHeader", hex(number)))
        except _NO_PLAIN_ANSWER:
            return ""

    def blocks(self, numbers: Sequence[int]) -> list[Head | None]:
        """Several at once; None for those that are not shown."""
        calls = [("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        answers = self._endpoints.batch(calls) if len(calls) > 1 else None
        if answers is None:
            return [self.block(number) for number in numbers]
        return [_head_in(answer) for answer in answers]

    def tagged_block(self, tag: str) -> Head | None:
        """The block that `safe` or `finalized` names; None where the endpoint has no such tags."""
        return self._head(tag)

    def contracts_number(self) -> int | None:
        """What NUMBER gives to contracts in the newest block; None where the endpoint does not tell."""
        return self._word(NUMBER_CODE)

    def has_no_logs(
        self, addresses: list[str], topics: Sequence[list[str] | str | None], from_block: int, to_block: int
    ) -> bool:
        """Whether the endpoint says so; not when it says anything else."""
        asked = {"address": addresses, "topics": topics, "fromBlock": hex(from_block), "toBlock": hex(to_block)}
        try:
            return bool(self._ask("eth_getLogs", asked) == [])
        except _NO_PLAIN_ANSWER:
            return False

    def call(self, contract: str, address: str, function: str, arguments: tuple[Any, ...], block: int | None) -> Any:
        """What the function of one of CONTRACTS returns, at a block or now: its value, or a tuple of several."""
        question = Question(contract, address, function, arguments, block)
        try:
            asked = _asked(question)
            return None if asked is None else _values(question, self._ask(*asked))
        except _NO_PLAIN_ANSWER:
            return None

    def call_all(self, questions: Sequence[Question]) -> list[Any]:
        """What several functions return, asked together; None for what has no plain answer, as in `call`."""
        try:
            asked = [_asked(question) for question in questions]
        except _NO_PLAIN_ANSWER:
            return [None] * len(questions)
        calls = [(method, parameters) for method, *parameters in filter(None, asked)]
        answers = self._endpoints.batch(calls) if len(calls) > 1 else None
        if answers is None:
            return [None] * len(questions)
        said = iter(answers)
        return [None if a is None else _values_in(q, next(said)) for q, a in zip(questions, asked, strict=True)]

    def _head(self, which: str) -> Head | None:
        try:
            return head_of(self._ask("eth_getBlockByNumber", which, False))
        except _NO_PLAIN_ANSWER:
            return None

    def _word(self, code: str) -> int | None:
        try:
            said = str(self._ask("eth_call", {"data": code}, "latest"))
            return int(said, 16) if len(said) == 68 else None
        except _NO_PLAIN_ANSWER:
            return None

    def _ask(self, method: str, *parameters: Any) -> Any:
        return self._endpoints.call(method, parameters)["result"]


_NO_PLAIN_ANSWER = (
    EndpointFailed,
    EncodingError,
    DecodingError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)


def _asked(question: Question) -> tuple[str, Any, str] | None:
    """Method and parameters; None for arguments that web3 has to judge."""
    selector, takes, _ = _signature(question.contract, question.function)
    data = selector + CODEC.encode(takes, question.arguments)
    # Shorter bytes would be filled up with zeros.
    if any(len(value) != 32 for kind, value in zip(takes, question.arguments, strict=True) if kind == "bytes32"):
        return None
    at = "latest" if question.block is None else hex(question.block)
    return "eth_call", {"to": question.address, "data": "0x" + data.hex()}, at


def _values(question: Question, result: Any) -> Any:
    _, _, gives = _signature(question.contract, question.function)
    values = CODEC.decode(gives, bytes.fromhex(str(result).removeprefix("0x")))
    return values if len(values) > 1 else values[0]


def _values_in(question: Question, answer: Any) -> Any:
    try:
        return _values(question, answer["result"])
    except _NO_PLAIN_ANSWER:
        return None


def _head_in(answer: Any) -> Head | None:
    try:
        return head_of(answer["result"])
    except _NO_PLAIN_ANSWER:
        return None


class _ChecksumDecoder(AddressDecoder):
    decoder_fn = staticmethod(to_checksum_address)


class _LenientStringDecoder(StringDecoder):
    def __init__(self) -> None:
        super().__init__(handle_string_errors="replace")  # type: ignore[no-untyped-call]


def _codec() -> ABICodec:
    """eth_abi's, with addresses in EIP-55 form. Strings are whatever strangers have put there: bytes that are no UTF-8
    must not make a whole page of operators, or a node's endpoint, unreadable."""
    ours = registry.copy()  # type: ignore[no-untyped-call]
    ours.unregister("address")
    is_address = BaseEquals("address")  # type: ignore[no-untyped-call]
    ours.register(is_address, AddressEncoder, _ChecksumDecoder, label="address")
    ours.unregister("string")
    is_string = BaseEquals("string", with_sub=False)  # type: ignore[no-untyped-call]
    ours.register(is_string, TextStringEncoder, _LenientStringDecoder, label="string")
    return ABICodec(ours)


CODEC = _codec()
"""For web3, too."""


@cache
def _signature(contract: str, function: str) -> tuple[bytes, list[str], list[str]]:
    """Selector, types of the arguments, types of what is returned. No contract here overloads a view function."""
    (found,) = (item for item in abi(contract) if item["type"] == "function" and item["name"] == function)
    item: Any = found
    return function_abi_to_4byte_selector(item), get_abi_input_types(item), get_abi_output_types(item)
