"""A block's header as the chain hashes it, from what JSON-RPC shows of the block.

Every fork may add fields at the end. Which of those that this version knows a block has, its hash tells: an encoding
that does not hash to it is never handed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_utils.crypto import keccak

from trine.errors import ChainError

FIELDS = (
    ("parentHash", 32),
    ("sha3Uncles", 32),
    ("miner", 20),
    ("stateRoot", 32),
    ("transactionsRoot", 32),
    ("receiptsRoot", 32),
    ("logsBloom", 256),
    ("difficulty", None),
    ("number", None),
    ("gasLimit", None),
    ("gasUsed", None),
    ("timestamp", None),
    ("extraData", ...),
    ("mixHash", 32),
    ("nonce", 8),
)
"""Of every block since Frontier: JSON's name, and how many bytes; None for an integer, `...` for any number."""
LATER_FIELDS = (
    ("baseFeePerGas", None),  # London
    ("withdrawalsRoot", 32),  # Shanghai
    ("blobGasUsed", None),  # Cancun
    ("excessBlobGas", None),
    ("parentBeaconBlockRoot", 32),
    ("requestsHash", 32),  # Prague
    ("blockAccessListHash", 32),  # Amsterdam
)
MAX_HEADER_BYTES = 4096
"""Several times what any chain has."""
_INTEGER_BYTES = 32


def encoded_header(block: Mapping[str, Any]) -> bytes:
    """The RLP that hashes to the block's hash. Raises ChainError for a block with fields that are not known here."""
    try:
        wanted = _fixed(block["hash"], 32)
        values = [_value(block[name], size) for name, size in FIELDS]
        for name, size in LATER_FIELDS:
            if block.get(name) is None:
                break
            values.append(_value(block[name], size))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ChainError(f"the RPC endpoint's block makes no sense ({type(error).__name__}: {error})") from None
    # The newest fork first: endpoints of old blocks leave out what these do not have, or show it all the same.
    for count in range(len(values), len(FIELDS) - 1, -1):
        header = rlp_list(values[:count])
        if keccak(header) == wanted:
            return header
    raise ChainError(
        f"block {int(block['number'], 16)} has a header that this version of trine cannot encode: a fork has added "
        "fields that it does not know (update trine), or this chain hashes its blocks otherwise and needs DrandSeeds "
        "(docs/randomness.md)"
    )


def checked_header(raw: str, block_hash: bytes) -> bytes | None:
    """A header that an endpoint shows whole, as `debug_getRawHeader` does, if it is that block's."""
    try:
        header = bytes.fromhex(raw.removeprefix("0x"))
    except (ValueError, AttributeError):
        return None
    return header if len(header) <= MAX_HEADER_BYTES and keccak(header) == block_hash else None


def rlp_list(values: Sequence[bytes]) -> bytes:
    """RLP of a list of strings of bytes."""
    body = b"".join(_rlp(value) for value in values)
    return _prefixed(body, 0xC0)


def _rlp(value: bytes) -> bytes:
    return value if len(value) == 1 and value[0] < 0x80 else _prefixed(value, 0x80)


def _prefixed(body: bytes, base: int) -> bytes:
    if len(body) <= 55:
        return bytes([base + len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(length)]) + length + body


def _value(shown: str, size: Any) -> bytes:
    if size is None:
        number = int(shown, 16)
        if number < 0:
            raise ValueError("a negative number")
        found = number.to_bytes((number.bit_length() + 7) // 8, "big")
        if len(found) > _INTEGER_BYTES:
            raise ValueError(f"a number of {len(found)} bytes")
        return found
    if size is ...:
        found = bytes.fromhex(shown.removeprefix("0x"))
        if len(found) > MAX_HEADER_BYTES:
            raise ValueError(f"extra data of {len(found)} bytes")
        return found
    return _fixed(shown, size)


def _fixed(shown: str, size: int) -> bytes:
    found = bytes.fromhex(shown.removeprefix("0x"))
    if len(found) != size:
        raise ValueError(f"{len(found)} bytes, not {size}")
    return found
