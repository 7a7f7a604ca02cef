"""Salts: why a hash that everybody may see tells nobody what was asked.

A receipt comes on the chain when an answer is paid for by opening it, refunded, claimed or certified elsewhere, and the
hash of a likely text is as good as the text. So a client draws a salt for each order. It stands in the input that is
hashed and signed, and before all else that the receipt hashes: token ids, text, fingerprint. Client, node and
verifiers know it; who is to be shown what a receipt stands for is shown the salt, too.

Without a salt every hash is what it is of the bare bytes: for what is public anyway, as a contract's question is.
"""

from __future__ import annotations

from typing import Any

from eth_utils.crypto import keccak

from trine.errors import InvalidInput

SALT_BYTES = 32
_MARK = b"\xff"
"""No UTF-8 text and no fingerprint begins with it, and it leaves no whole number of token ids. So nobody can choose a
salt whose bytes pass for the beginning of an answer that has none."""


def salted_hash(raw: bytes, salt: bytes = b"") -> bytes:
    """keccak256(0xff || salt || bytes); of the bytes alone without a salt."""
    return bytes(keccak(_MARK + salt + raw if salt else raw))


def read_salt(value: Any) -> bytes:
    """A salt in hexadecimal, with or without 0x. Raises InvalidInput."""
    try:
        salt = bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, TypeError, ValueError):
        salt = b""
    if len(salt) != SALT_BYTES:
        raise InvalidInput(f"a salt is {SALT_BYTES} bytes in hexadecimal")
    return salt
