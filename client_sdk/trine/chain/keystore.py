"""Account keys: Web3 Secret Storage files and the passwords that open them. No key leaves here as text."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from trine.errors import InvalidInput

MAX_KEYSTORE_BYTES = 1 << 16


def create_keystore(
    path: Path, password: str, private_key: bytes | None = None, *, iterations: int | None = None
) -> str:
    """Writes a new encrypted keystore (mode 0600, never over an existing file) and returns its address.

    `iterations` lowers scrypt's work factor (a power of two); leave it alone outside of throw-away devnets.
    """
    if not password:
        raise InvalidInput("a keystore needs a password")
    account: LocalAccount = Account.from_key(private_key or secrets.token_bytes(32))
    document = Account.encrypt(account.key, password, kdf="scrypt", iterations=iterations)
    write_document(path, document)
    return str(account.address)


def load_keystore(path: Path, password_file: Path) -> LocalAccount:
    """Opens a keystore with the first line of `password_file`. Raises InvalidInput."""
    password = read_password(password_file)
    document = read_document(path)
    try:
        key = Account.decrypt(document, password)
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(f"the password in {password_file} does not open {path}") from None
    account: LocalAccount = Account.from_key(key)
    return account


def read_password(password_file: Path) -> str:
    """The first line. Raises InvalidInput."""
    try:
        return password_file.read_text().splitlines()[0]
    except (OSError, IndexError):
        raise InvalidInput(f"cannot read a password from {password_file}") from None


def read_document(path: Path, made_by: str = "trine keys new") -> Any:
    """A keystore's JSON. Raises InvalidInput, naming the command that makes one where there is none."""
    try:
        if path.stat().st_size > MAX_KEYSTORE_BYTES:
            raise InvalidInput(f"{path} is too large for a keystore")
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InvalidInput(f"no keystore at {path}: create one with `{made_by} {path}`") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read the keystore {path}: {error}") from None


def write_document(path: Path, document: Any) -> None:
    """Mode 0600, never over an existing file. Raises InvalidInput."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(f"{path} exists: a keystore is never overwritten") from None
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
