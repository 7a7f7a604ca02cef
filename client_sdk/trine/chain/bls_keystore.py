"""BLS secrets at rest: EIP-2335 files, as validators' tools write and read them, and the passwords that open them.

The encryption is eth-keyfile's. It leaves the password as it is when it decrypts, and it notes the public key in G1;
both are done here as EIP-2335 and our keys in G2 want it.
"""

from __future__ import annotations

import secrets
import unicodedata
from pathlib import Path
from typing import Any

from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json

from trine.chain.keystore import read_document, read_password, write_document
from trine.errors import InvalidInput
from trine.protocol import bls

# So that a file cannot ask for all memory or for days: eight times the usual work.
MAX_SCRYPT_BYTES = 1 << 31
MAX_PBKDF2_ROUNDS = 1 << 23


def create_bls_keystore(
    path: Path, password: str, secret: bls.SecretKey | None = None, *, iterations: int | None = None
) -> bytes:
    """Writes a new encrypted keystore (mode 0600, never over an existing file) and returns its public key, 256 bytes.

    `iterations` lowers scrypt's work factor (a power of two); leave it alone outside of throw-away devnets.
    """
    if not _clean(password):
        raise InvalidInput("a keystore needs a password")
    secret = secret or bls.SecretKey.from_seed(secrets.token_bytes(bls.SECRET_BYTES))
    key = secret.public_key()
    document = create_keyfile_json(
        secret.to_bytes(), _clean(password), version=4, kdf="scrypt", iterations=iterations, description="Trine"
    )
    write_document(path, document | {"pubkey": bls.compress_key(key).hex()})
    return key


def load_bls_keystore(path: Path, password_file: Path) -> bls.SecretKey:
    """Opens a keystore with the first line of `password_file`. Raises InvalidInput."""
    password = read_password(password_file)
    document = read_document(path, "trine keys bls new")
    try:
        secret = decrypt(document, password)
    except InvalidInput as error:
        raise InvalidInput(f"the password in {password_file} does not open {path}: {error}") from None
    noted = document.get("pubkey", "")
    # A key in G1, 48 bytes, is another scheme's note of the same secret.
    if len(noted) == 192 and noted != bls.compress_key(secret.public_key()).hex():
        raise InvalidInput(f"{path} holds another secret than that of the public key it names")
    return secret


def noted_key(path: Path) -> bytes:
    """The public key that a keystore names, 256 bytes, without opening it. Raises InvalidInput."""
    document = read_document(path, "trine keys bls new")
    try:
        return bls.expand_key(bytes.fromhex(document["pubkey"]))
    except (InvalidInput, ValueError, KeyError, TypeError):
        raise InvalidInput(f"{path} names no BLS key in G2, as `trine keys bls new` writes it") from None


def decrypt(document: Any, password: str) -> bls.SecretKey:
    """The secret in an EIP-2335 document. Raises InvalidInput."""
    try:
        if document["version"] != 4:
            raise InvalidInput("not an EIP-2335 keystore: its version is not 4")
        _require_bounded(document["crypto"]["kdf"]["params"])
        raw = decode_keyfile_json(document, _clean(password))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise InvalidInput(f"cannot decrypt: {error}") from None
    return bls.SecretKey.from_bytes(raw)


def _require_bounded(params: Any) -> None:
    memory = 128 * int(params.get("n", 0)) * int(params.get("r", 0)) * int(params.get("p", 0))
    if memory > MAX_SCRYPT_BYTES or int(params.get("c", 0)) > MAX_PBKDF2_ROUNDS:
        raise InvalidInput("the keystore asks for more work than any tool does")


def _clean(password: str) -> bytes:
    """NFKD without control characters, as UTF-8."""
    normal = unicodedata.normalize("NFKD", password)
    return "".join(c for c in normal if unicodedata.category(c) != "Cc").encode()
