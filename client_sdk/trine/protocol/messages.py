"""The two signed messages of an answer, and the payment voucher, as EIP-712 typed data.

`Request` is the client's wish, `Receipt` the node's promise. Both are signed under the domain
("Trine", "1", chain id, address of `Batches`); `Voucher` under the same with the address of `Payments`.
`contracts/libraries/LeafLib.sol` holds the Solidity twin of `Receipt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import lru_cache
from typing import Any, ClassVar, Self

from eth_abi.abi import encode
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature as EthBadSignature
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from trine.errors import BadSignature, InvalidInput
from trine.protocol.salts import salted_hash

ZERO_HASH = bytes(32)
ZERO_ADDRESS = "0x" + "00" * 20

MAX_ANCHOR_SECONDS = 6 * 3600
"""The latest that a receipt may promise to be in a batch, after it was issued: while the node's stake is there."""

DOMAIN_NAME = "Trine"
DOMAIN_VERSION = "1"
_DOMAIN_TYPEHASH = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


class FinishReason(IntEnum):
    """Why an answer ends. The value is what receipts carry."""

    STOP = 0
    LENGTH = 1


@dataclass(frozen=True, slots=True)
class Domain:
    """EIP-712 domain of one deployment's contract."""

    chain_id: int
    verifying_contract: str

    def separator(self) -> bytes:
        return _separator(self.chain_id, self.verifying_contract)


@lru_cache(maxsize=64)
def _separator(chain_id: int, verifying_contract: str) -> bytes:
    """There are few domains, and each message needs its own."""
    kinds = ("bytes32", "bytes32", "bytes32", "uint256", "address")
    values = (_DOMAIN_TYPEHASH, keccak(text=DOMAIN_NAME), keccak(text=DOMAIN_VERSION), chain_id, verifying_contract)
    return bytes(keccak(abi_words(kinds, values)))


@lru_cache(maxsize=64)
def _type_hash(type_string: str) -> bytes:
    return bytes(keccak(text=type_string))


@lru_cache(maxsize=4096)
def _address_word(address: str) -> bytes:
    """Its checksum is looked at, too, which takes a hash. Raises EncodingError."""
    return bytes(encode(["address"], [address]))


def abi_words(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    """`abi.encode` of values of 32 bytes, addresses and unsigned integers; other kinds, and values that do not fit,
    are for eth_abi, which says what is wrong with them. Raises EncodingError.

    A message is hashed wherever it is signed, checked or looked up, and eth_abi takes four times as long.
    """
    words = []
    for kind, value in zip(kinds, values, strict=True):
        if kind == "bytes32" and type(value) is bytes and len(value) == 32:
            words.append(value)
        elif kind == "address" and type(value) is str:
            words.append(_address_word(value))
        elif kind[:4] == "uint" and type(value) is int and 0 <= value < 1 << int(kind[4:]):
            words.append(value.to_bytes(32, "big"))
        else:
            return bytes(encode(list(kinds), list(values)))
    return b"".join(words)


class TypedStruct:
    """EIP-712 hashing for dataclasses whose fields are all atomic."""

    NAME: ClassVar[str]
    # (solidity name, solidity type) in field order
    FIELDS: ClassVar[tuple[tuple[str, str], ...]]

    @classmethod
    def type_string(cls) -> str:
        return f"{cls.NAME}({','.join(f'{kind} {name}' for name, kind in cls.FIELDS)})"

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct: keccak256(typeHash || encodeData)."""
        kinds = ("bytes32", *(kind for _, kind in self.FIELDS))
        return bytes(keccak(abi_words(kinds, (_type_hash(self.type_string()), *self.values()))))

    def digest(self, domain: Domain) -> bytes:
        """What is signed: keccak256(0x1901 || domainSeparator || hashStruct)."""
        return bytes(keccak(b"\x19\x01" + domain.separator() + self.struct_hash()))

    def values(self) -> tuple[Any, ...]:
        """Field values in the struct's order, as the ABI takes them."""
        return tuple(getattr(self, each.name) for each in fields(self))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """JSON object with the Solidity names; bytes as 0x-hex, integers over 2**53 as decimal strings."""
        return {name: _to_json(kind, value) for (name, kind), value in zip(self.FIELDS, self.values(), strict=True)}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput naming the field that is missing or out of range."""
        if not isinstance(document, dict) or set(document) != {name for name, _ in cls.FIELDS}:
            raise InvalidInput(f"{cls.NAME} must have exactly the fields {', '.join(n for n, _ in cls.FIELDS)}")
        values = [_from_json(cls.NAME, name, kind, document[name]) for name, kind in cls.FIELDS]
        return cls(*values)


@dataclass(frozen=True, slots=True)
class Request(TypedStruct):
    """A client's signed order for one answer."""

    NAME = "Request"
    FIELDS = (
        ("client", "address"),
        ("modelId", "bytes32"),
        ("inputHash", "bytes32"),
        ("maxTokens", "uint32"),
        ("maxFeeWei", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint64"),
    )

    client: str
    model_id: bytes
    input_hash: bytes
    max_tokens: int
    max_fee_wei: int
    nonce: int
    deadline: int  # seconds since 1970; the node must not start after it


@dataclass(frozen=True, slots=True)
class Receipt(TypedStruct):
    """What a node signs for one answer. `LeafLib.sol` describes the fields.

    The client has no tokenizer: `text_hash` binds the text it was given to the token ids that verifiers check.
    """

    NAME = "Receipt"
    FIELDS = (
        ("requestHash", "bytes32"),
        ("client", "address"),
        ("node", "address"),
        ("modelId", "bytes32"),
        ("inputHash", "bytes32"),
        ("promptHash", "bytes32"),
        ("outputHash", "bytes32"),
        ("textHash", "bytes32"),
        ("fingerprintHash", "bytes32"),
        ("promptTokens", "uint32"),
        ("outputTokens", "uint32"),
        ("maxTokens", "uint32"),
        ("finishReason", "uint8"),
        ("engineClass", "bytes32"),
        ("feeWei", "uint256"),
        ("issuedAt", "uint64"),
        ("anchorBy", "uint64"),
    )

    request_hash: bytes
    client: str
    node: str
    model_id: bytes
    input_hash: bytes
    prompt_hash: bytes
    output_hash: bytes
    text_hash: bytes
    fingerprint_hash: bytes
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    finish_reason: int
    engine_class: bytes
    fee_wei: int
    issued_at: int  # seconds since 1970, of the chain's time, as is the next
    anchor_by: int  # in no batch by then, it costs the node stake; see `MAX_ANCHOR_SECONDS`

    @property
    def engine_class_name(self) -> str:
        return self.engine_class.rstrip(b"\0").decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class Voucher(TypedStruct):
    """What `payee` may collect from `payer` in all since the beginning: at most `cumulative_wei`, and without showing
    accepted answers `earned_wei`, which is for all orders whose deadline is before `as_of` (seconds since 1970)."""

    NAME = "Voucher"
    FIELDS = (
        ("payer", "address"),
        ("payee", "address"),
        ("cumulativeWei", "uint256"),
        ("earnedWei", "uint256"),
        ("asOf", "uint64"),
    )

    payer: str
    payee: str
    cumulative_wei: int
    earned_wei: int = 0
    as_of: int = 0


def text_hash(text: str, salt: bytes = b"") -> bytes:
    """Hash of the text's UTF-8 bytes under the input's salt, if that has one (`salts`)."""
    return salted_hash(text.encode("utf-8"), salt)


def engine_class_bytes(name: str) -> bytes:
    """Short string as bytes32, padded right with zeros. Raises InvalidInput over 31 ASCII characters."""
    if not name.isascii() or not 0 < len(name) <= 31:
        raise InvalidInput(f"engine class {name!r} must be 1 to 31 ASCII characters")
    return name.encode("ascii").ljust(32, b"\0")


def recover(digest: bytes, signature: bytes) -> str:
    """Checksummed address that signed `digest` (65-byte r, s, v with v 27 or 28; low s only). Raises BadSignature."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise BadSignature(f"expected a 65-byte signature with v 27 or 28, got {len(signature)} bytes")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise BadSignature("signature with high s: a malleable twin is not accepted")
    try:
        key = Signature(signature[:64] + bytes([signature[64] - 27])).recover_public_key_from_msg_hash(digest)
    except (EthBadSignature, ValidationError) as error:
        raise BadSignature(f"no key can be recovered from the signature: {error}") from None
    return key.to_checksum_address()


_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def require_signer(digest: bytes, signature: bytes, expected: str, what: str) -> None:
    """Raises BadSignature unless `expected` signed `digest`."""
    signer = recover(digest, signature)
    if signer.lower() != expected.lower():
        raise BadSignature(f"{what} is signed by {signer}, not by {expected}")


def _to_json(kind: str, value: Any) -> Any:
    if kind == "bytes32":
        return "0x" + value.hex()
    if kind == "uint256":
        return str(value)
    return value


def _from_json(struct: str, name: str, kind: str, value: Any) -> Any:
    try:
        if kind == "bytes32":
            raw = bytes.fromhex(value.removeprefix("0x"))
            if len(raw) != 32:
                raise ValueError(f"{len(raw)} bytes instead of 32")
            return raw
        if kind == "address":
            return to_checksum_address(value)
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError("not an integer")
        if isinstance(value, str) and (len(value) > 78 or not value.isdecimal() or not value.isascii()):
            raise ValueError("not a decimal integer")
        number = int(value)
        if not 0 <= number < 2 ** int(kind.removeprefix("uint")):
            raise ValueError(f"{number} does not fit {kind}")
        return number
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{struct}.{name}: {error!s:.200}") from None


# Field tuples and dataclass fields must stay in step: checked once, at import.
for _struct in (Request, Receipt, Voucher):
    if len(fields(_struct)) != len(_struct.FIELDS):
        raise AssertionError(f"{_struct.NAME}: FIELDS and dataclass fields differ")
