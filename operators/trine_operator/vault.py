"""Evidence at rest: each answer under a data key of its own, the data keys under the operator's account.

Evidence is people's prompts and answers. On the disk, in a backup or in a database that somebody else runs it is
ciphertext. When it is pruned its data key goes: 60 bytes, of which nothing is left in the file, instead of hundreds of
kilobytes that a file system may keep somewhere.

Data keys are wrapped with a key that is made from a signature of the operator's account, which is deterministic (RFC
6979) and leaves the process nowhere: whoever opens the keystore opens the store, and nobody else. Knows no table.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_utils.crypto import keccak

from trine_operator.database import StoreError

MESSAGE = b"trine evidence at rest: never sign this for anybody"
NONCE_BYTES = 12
ONCE = bytes(NONCE_BYTES)
"""A data key seals one text."""


class Vault:
    """Of one operator's account."""

    def __init__(self, sign: Callable[[bytes], bytes]) -> None:
        """`sign`: the account's signature over 32 bytes, the same each time."""
        signature = sign(bytes(keccak(MESSAGE)))
        master = HKDF(SHA256(), length=32, salt=None, info=b"trine vault").derive(signature)
        self._master = ChaCha20Poly1305(master)

    def seal(self, name: str, text: str) -> tuple[str, str]:
        """(wrapped data key, sealed text), both base64. `name`: what nothing else in the store is called."""
        key, nonce = ChaCha20Poly1305.generate_key(), os.urandom(NONCE_BYTES)
        wrapped = nonce + self._master.encrypt(nonce, key, name.encode())
        sealed = ChaCha20Poly1305(key).encrypt(ONCE, text.encode(), name.encode())
        return base64.b64encode(wrapped).decode(), base64.b64encode(sealed).decode()

    def open(self, name: str, wrapped: str, sealed: str) -> str:
        """Raises StoreError for what this account has not sealed under this name."""
        try:
            raw = base64.b64decode(wrapped, validate=True)
            key = self._master.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], name.encode())
            return ChaCha20Poly1305(key).decrypt(ONCE, base64.b64decode(sealed, validate=True), name.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise StoreError("evidence in the store was sealed by another account, or is damaged") from None
