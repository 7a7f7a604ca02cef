"""View functions over plain JSON-RPC: what looking something up takes.

web3 does everything else. Its import alone takes longer than looking something up should, and each call through it
several times the processor time of one here. What comes back is what web3 would give. Anything but a plain answer comes
back as None, and web3 is asked then: it knows in how many ways nodes word a revert, what to try again, and what is
wrong with an argument.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from eth_abi.codec import ABICodec
from eth_abi.decoding import AddressDecoder
from eth_abi.encoding import AddressEncoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals, registry
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types
from eth_utils.address import to_checksum_address

from trine.chain.deployment import abi

CONNECTIONS = 32
"""Kept open, at most; more threads than that may ask."""


class Views:
    """Asks one RPC endpoint. Thread-safe."""

    def __init__(self, rpc_url: str, timeout_seconds: float) -> None:
        self._rpc_url = rpc_url
        self._timeout_seconds = timeout_seconds

    def chain_id(self) -> int | None:
        try:
            return int(self._ask("eth_chainId"), 16)
        except _NO_PLAIN_ANSWER:
            return None

    def newest_block(self) -> tuple[int, int] | None:
        """Number and time, in seconds."""
        try:
            block = self._ask("eth_getBlockByNumber", "latest", False)
            return int(block["number"], 16), int(block["timestamp"], 16)
        except _NO_PLAIN_ANSWER:
            return None

    def has_no_logs(self, addresses: list[str], topics: list[str], from_block: int, to_block: int) -> bool:
        """Whether the endpoint says so; not when it says anything else."""
        asked = {"address": addresses, "topics": [topics], "fromBlock": hex(from_block), "toBlock": hex(to_block)}
        try:
            return bool(self._ask("eth_getLogs", asked) == [])
        except _NO_PLAIN_ANSWER:
            return False

    def call(self, contract: str, address: str, function: str, arguments: tuple[Any, ...], block: int | None) -> Any:
        """What the function of one of CONTRACTS returns, at a block or now: its value, or a tuple of several."""
        selector, takes, gives = _signature(contract, function)
        try:
            data = selector + _CODEC.encode(takes, arguments)
            # Shorter bytes would be filled up with zeros.
            if any(len(value) != 32 for kind, value in zip(takes, arguments, strict=True) if kind == "bytes32"):
                return None
            at = "latest" if block is None else hex(block)
            result = str(self._ask("eth_call", {"to": address, "data": "0x" + data.hex()}, at))
            values = _CODEC.decode(gives, bytes.fromhex(result.removeprefix("0x")))
        except _NO_PLAIN_ANSWER:
            return None
        return values if len(values) > 1 else values[0]

    @cached_property
    def _http(self) -> urllib3.PoolManager:
        return _pool(self._rpc_url, self._timeout_seconds)

    def _ask(self, method: str, *parameters: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = self._http.request("POST", self._rpc_url, json=request, retries=False).json()
        return answer["result"]


_NO_PLAIN_ANSWER = (
    urllib3.exceptions.HTTPError,
    EncodingError,
    DecodingError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
)


def _pool(url: str, timeout_seconds: float) -> urllib3.PoolManager:
    """By the proxy that the environment names, if any; with the address's user and password, if it has them."""
    address = urlsplit(url)
    proxy = None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)
    login = unquote(f"{address.username}:{address.password or ''}") if address.username else None
    options: dict[str, Any] = {
        "timeout": timeout_seconds,
        "maxsize": CONNECTIONS,
        "headers": urllib3.make_headers(basic_auth=login),
    }
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


class _ChecksumDecoder(AddressDecoder):
    decoder_fn = staticmethod(to_checksum_address)


def _codec() -> ABICodec:
    """eth_abi's, with addresses in EIP-55 form."""
    ours = registry.copy()  # type: ignore[no-untyped-call]
    ours.unregister("address")
    is_address = BaseEquals("address")  # type: ignore[no-untyped-call]
    ours.register(is_address, AddressEncoder, _ChecksumDecoder, label="address")
    return ABICodec(ours)


_CODEC = _codec()


@cache
def _signature(contract: str, function: str) -> tuple[bytes, list[str], list[str]]:
    """Selector, types of the arguments, types of what is returned. No contract here overloads a view function."""
    (found,) = (item for item in abi(contract) if item["type"] == "function" and item["name"] == function)
    item: Any = found
    return function_abi_to_4byte_selector(item), get_abi_input_types(item), get_abi_output_types(item)
