"""Requests and answers sealed between a caller and an operator: whoever stands between them reads neither.

An operator's process draws an X25519 key, keeps it in memory alone, and signs with the account that the chain knows
until when the key may be sealed to (`SealingKey`): nobody on the way can put another in its place, and what was sealed
to a key that is gone stays sealed, whoever gets hold of the machine or of the account later.

A request is one message of HPKE (RFC 9180, mode base: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305):

    version (1) || key id (8) || encapsulated key (32) || ciphertext
    info: "trine sealed request" || domain separator of `Batches` || operator's address

so it opens for this operator on this chain alone. Inside are method, path, headers, body, the chain's time and a secret
that the caller draws, padded. The answer is the construction of chunked oblivious HTTP (RFC 9458, section 4.4, and
draft-ietf-ohai-chunked-ohttp), with the caller's secret in the place of HPKE's export, which the library that we use
does not offer; either is known to these two alone:

    nonce (32), then frames: last (1 bit) and length (31 bits) || ChaCha20-Poly1305 ciphertext
    key || iv: HKDF-SHA256(secret, salt: nonce, info: "trine sealed answer" || SHA-256 of the request)

Frame i is under iv XOR i, its first four bytes are authenticated, and only the last one is marked as such: a frame that
is changed, left out, moved, or of another answer does not open, and an answer that was cut off has no end. The first
frame holds status and headers. Frames are padded: the length of a token says much about it.

No I/O, no clock: `at` is the caller's, and whether it is fresh and new is for the operator to see (`REPLAYED_SECONDS`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_utils.address import to_canonical_address

from trine.errors import InvalidInput, VerificationFailed, what_is_wrong
from trine.protocol.messages import Domain, TypedStruct, require_signer

KEY_PATH, SEALED_PATH = "/v1/sealing-key", "/v1/sealed"
MEDIA_TYPE = "application/x-trine-sealed"
MAX_KEY_SECONDS = 2 * 86_400
"""The longest that a key may be sealed to: a signature of an old one is good for nobody longer."""
MAX_KEY_BYTES = 4_096
MAX_HEAD_BYTES = 16_384
MAX_FRAME_BYTES = 1 << 20
MAX_DATA_BYTES = MAX_FRAME_BYTES - 1_024
"""In a frame; what is more goes into several."""
REQUEST_PADDING, FRAME_PADDING = 1_024, 256
"""Bytes: lengths are multiples of these."""
SECRET_BYTES = 32
_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_ENCAPSULATED_BYTES = 32
_TAG_BYTES = 16
_LAST = 1 << 31
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
OVERHEAD_BYTES = MAX_HEAD_BYTES + REQUEST_PADDING + 128
"""By which a sealed request may be longer than its body."""


@dataclass(frozen=True, slots=True)
class SealingKey(TypedStruct):
    """Which key seals to an operator, from when until when; signed by the operator under the domain of `Batches`."""

    NAME = "SealingKey"
    FIELDS = (
        ("operator", "address"),
        ("publicKey", "bytes32"),
        ("validFrom", "uint64"),
        ("validUntil", "uint64"),
    )

    operator: str
    public_key: bytes
    valid_from: int  # seconds, the chain's, as is the next
    valid_until: int

    @property
    def key_id(self) -> bytes:
        return key_id(self.public_key)


def key_id(public_key: bytes) -> bytes:
    """By what a request names the key that it is sealed to."""
    return hashlib.sha256(b"trine sealing key" + public_key).digest()[:_KEY_ID_BYTES]


def read_key(document: Any, domain: Domain, operator: str, now: int) -> SealingKey:
    """The key that an operator shows, once it has signed it and it is good at `now`.

    Raises VerificationFailed or BadSignature.
    """
    try:
        key = SealingKey.from_json(document["key"])
        signature = bytes.fromhex(document["signature"].removeprefix("0x"))
    except (InvalidInput, KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the operator's sealing key is malformed: {error!r:.200}") from None
    if key.operator.lower() != operator.lower():
        raise VerificationFailed(f"the sealing key is {key.operator}'s, not {operator}'s")
    require_signer(key.digest(domain), signature, operator, "sealing key")
    if not key.valid_from <= now <= key.valid_until or key.valid_until - key.valid_from > MAX_KEY_SECONDS:
        raise VerificationFailed(
            f"the sealing key is good from {key.valid_from} to {key.valid_until}, the chain's time is {now}"
        )
    return key


@dataclass(frozen=True, slots=True)
class Inner:
    """What a sealed request holds."""

    method: str
    path: str
    body: bytes
    at: int  # the caller's idea of the chain's time, seconds
    secret: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """A sealed request as it travels, and what opens its answer."""

    wire: bytes
    secret: bytes = field(repr=False)

    def opener(self) -> Opener:
        return Opener(self.secret, self.wire)


def seal(
    key: SealingKey, domain: Domain, at: int, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> Sent:
    """Raises InvalidInput for a head that is too long, VerificationFailed for a key that is none."""
    secret = secrets.token_bytes(SECRET_BYTES)
    said = {"method": method, "path": path, "headers": dict(headers), "at": at, "secret": secret.hex()}
    head = json.dumps(said, separators=(",", ":")).encode()
    if len(head) > MAX_HEAD_BYTES:
        raise InvalidInput(f"method, path and headers of {len(head)} bytes, at most {MAX_HEAD_BYTES} are sealed")
    plain = _padded(_with_length(head) + _with_length(body), REQUEST_PADDING)
    try:
        public = X25519PublicKey.from_public_bytes(key.public_key)
        ciphertext = _SUITE.encrypt(plain, public, _info(domain, key.operator))
    except ValueError:
        raise VerificationFailed("the operator's sealing key is no point that can be sealed to") from None
    return Sent(_VERSION + key.key_id + ciphertext, secret)


def key_id_of(wire: bytes) -> bytes:
    """The key that a sealed request names. Raises InvalidInput for what is no such request."""
    least = len(_VERSION) + _KEY_ID_BYTES + _ENCAPSULATED_BYTES + _TAG_BYTES
    if len(wire) < least or not wire.startswith(_VERSION):
        raise InvalidInput("this is no sealed request of this version")
    return wire[len(_VERSION) : len(_VERSION) + _KEY_ID_BYTES]


def encapsulated(wire: bytes) -> bytes:
    """What no two requests share, and nobody can change: the request's own public key."""
    start = len(_VERSION) + _KEY_ID_BYTES
    return wire[start : start + _ENCAPSULATED_BYTES]


def open_request(wire: bytes, private: X25519PrivateKey, domain: Domain, operator: str) -> Inner:
    """Raises InvalidInput: it was changed, is for another operator or chain, or is malformed inside."""
    try:
        plain = _SUITE.decrypt(wire[len(_VERSION) + _KEY_ID_BYTES :], private, _info(domain, operator))
    except (InvalidTag, ValueError):
        raise InvalidInput("the sealed request does not open: it was changed, or is for another operator") from None
    head, rest = _split(plain)
    body, _ = _split(rest)
    try:
        said = json.loads(head)
        method, path, at, headers = (said[name] for name in ("method", "path", "at", "headers"))
        secret = bytes.fromhex(said["secret"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the sealed request is malformed inside: {what_is_wrong(error)}") from None
    texts = [method, path, *headers, *headers.values()] if isinstance(headers, dict) else [None]
    if not all(isinstance(text, str) and text.isascii() and text.isprintable() for text in texts):
        raise InvalidInput("the sealed request is malformed inside: method, path and headers are printable ASCII")
    if type(at) is not int or len(secret) != SECRET_BYTES or len(head) > MAX_HEAD_BYTES or not path.startswith("/"):
        raise InvalidInput("the sealed request is malformed inside: its time, its secret or its path")
    return Inner(method, path, body, at, secret, headers)


class Sealer:
    """Seals one answer, frame by frame."""

    def __init__(self, secret: bytes, wire: bytes) -> None:
        """`secret` and `wire`: of the request."""
        self._nonce = secrets.token_bytes(SECRET_BYTES)
        self._key, self._iv = _keys(secret, self._nonce, hashlib.sha256(wire).digest())
        self._count = 0

    def begin(self, status: int, headers: Mapping[str, str]) -> bytes:
        """First of all."""
        head = json.dumps({"status": status, "headers": dict(headers)}, separators=(",", ":")).encode()
        return self._nonce + self._frame(head, is_last=False)

    def frames(self, data: bytes, *, is_last: bool) -> bytes:
        """As many as there must be; nothing for nothing but the end."""
        parts = [data[at : at + MAX_DATA_BYTES] for at in range(0, len(data), MAX_DATA_BYTES)]
        if is_last and not parts:
            parts = [b""]
        return b"".join(self._frame(part, is_last=is_last and n == len(parts)) for n, part in enumerate(parts, 1))

    def _frame(self, data: bytes, *, is_last: bool) -> bytes:
        plain = _padded(_with_length(data), FRAME_PADDING)
        head = (len(plain) + _TAG_BYTES | (_LAST if is_last else 0)).to_bytes(4, "big")
        sealed = self._key.encrypt(_nonce_of(self._iv, self._count), plain, head)
        self._count += 1
        return head + sealed


class Opener:
    """Opens one answer as its bytes come. Raises VerificationFailed for what the operator has not sealed for it."""

    def __init__(self, secret: bytes, wire: bytes) -> None:
        self._secret = secret
        self._transcript = hashlib.sha256(wire).digest()
        self._key: tuple[ChaCha20Poly1305, bytes] | None = None
        self._open = bytearray()
        self._count = 0
        self.status: int | None = None  # until the first frame is there
        self.headers: Mapping[str, str] = {}
        self.is_whole = False

    def feed(self, chunk: bytes) -> bytes:
        """What of the answer's body is there now."""
        self._open += chunk
        if self._key is None and len(self._open) >= SECRET_BYTES:
            self._key = _keys(self._secret, bytes(self._open[:SECRET_BYTES]), self._transcript)
            del self._open[:SECRET_BYTES]
        data = bytearray()
        at = 0
        while self._key is not None and len(self._open) - at >= 4:
            word = int.from_bytes(self._open[at : at + 4], "big")
            size = word & ~_LAST
            if self.is_whole or not _TAG_BYTES + 4 <= size <= MAX_FRAME_BYTES + _TAG_BYTES:
                raise VerificationFailed("the sealed answer goes on after its end, or holds no frame")
            if len(self._open) - at - 4 < size:
                break
            data += self._frame(bytes(self._open[at : at + 4]), bytes(self._open[at + 4 : at + 4 + size]), self._key)
            self.is_whole = bool(word & _LAST)
            at += 4 + size
        del self._open[:at]
        if self.is_whole and self._open:
            raise VerificationFailed("the sealed answer goes on after its end")
        return bytes(data)

    def _frame(self, head: bytes, sealed: bytes, key: tuple[ChaCha20Poly1305, bytes]) -> bytes:
        cipher, iv = key
        try:
            plain = cipher.decrypt(_nonce_of(iv, self._count), sealed, head)
        except InvalidTag:
            raise VerificationFailed("the sealed answer was changed on its way, or is another's") from None
        self._count += 1
        try:
            data, _ = _split(plain)
            if self.status is not None:
                return data
            said = json.loads(data)
            status, headers = said["status"], said["headers"]
            if type(status) is not int or not 200 <= status <= 599 or not isinstance(headers, dict):
                raise ValueError("no status")
        except (InvalidInput, KeyError, TypeError, ValueError, RecursionError) as error:
            raise VerificationFailed(f"the sealed answer is malformed inside: {error!r:.100}") from None
        self.status, self.headers = status, {str(name).lower(): str(value) for name, value in headers.items()}
        return b""


def _info(domain: Domain, operator: str) -> bytes:
    return b"trine sealed request" + domain.separator() + to_canonical_address(operator)


def _keys(secret: bytes, nonce: bytes, transcript: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    made = HKDF(SHA256(), length=44, salt=nonce, info=b"trine sealed answer" + transcript).derive(secret)
    return ChaCha20Poly1305(made[:32]), made[32:]


def _nonce_of(iv: bytes, count: int) -> bytes:
    return (int.from_bytes(iv, "big") ^ count).to_bytes(len(iv), "big")


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """What has its length before it, and the rest. Raises InvalidInput."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise InvalidInput("what was sealed is shorter than it says")
    return data[4 : 4 + size], data[4 + size :]
