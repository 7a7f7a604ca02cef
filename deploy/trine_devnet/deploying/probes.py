"""Small programs and known answers that show what a chain's EVM can do, by `eth_call` alone: nothing is sent.

A program is the init code of a contract that is never made: what it returns is the call's result.
"""

from __future__ import annotations

from functools import cache

from trine.protocol import bls

WORD = 32
_RETURN_WORD = bytes.fromhex("60015260216000f3")
"""The word on the stack, after a zero byte: code that begins with 0xEF would be refused (EIP-3541)."""


def _returning(program: str) -> bytes:
    return bytes.fromhex(program) + _RETURN_WORD


TRANSIENT_STORAGE = _returning("602a60005d60005c")
"""TSTORE, TLOAD: 42."""
PUSH_ZERO = _returning("5f602a01")
"""PUSH0: 42."""
MEMORY_COPY = _returning("602a6000526020600060405e604051")
"""MCOPY: 42."""
ANSWER = 42

BLOCK_NUMBER = _returning("43")
PARENT_HASH = _returning("6001430340")
"""BLOCKHASH of the block before."""
RANDAO = _returning("44")
GAS_LEFT = _returning("5a")


def word_of(returned: bytes) -> int | None:
    """What a program here returned; None if that is something else."""
    return int.from_bytes(returned, "big") if len(returned) == WORD + 1 else None


def code_of(size: int, creation: int) -> bytes:
    """Init code of `creation` bytes that leaves `size` bytes of code; none of its own bytes is zero."""
    program = bytes.fromhex(f"61{size:04x}6001f3")
    return program + b"\x01" * (creation - len(program))


@cache
def precompiles() -> tuple[tuple[str, int, bytes, bytes], ...]:
    """EIP-2537's contracts that Trine calls: name, address, input, and what it must answer."""
    secret = bls.SecretKey(7)
    key, other = secret.public_key(), bls.SecretKey(11).public_key()
    hashed, signed = bls.hash_to_g1(b"trine"), secret.sign(b"trine")
    negative = _negative_generator()
    element = 5
    return (
        ("BLS12_G1ADD", 0x0B, hashed + signed, bls.aggregate([hashed, signed])),
        ("BLS12_G2ADD", 0x0D, key + other, bls.aggregate_keys([key, other])),
        # e(signature, -generator) * e(hash, key) is one, and with another key it is not.
        ("BLS12_PAIRING_CHECK", 0x0F, signed + negative + hashed + key, _word(1)),
        ("BLS12_PAIRING_CHECK, a forgery", 0x0F, signed + negative + hashed + other, _word(0)),
        ("BLS12_MAP_FP_TO_G1", 0x10, element.to_bytes(64, "big"), _mapped(element)),
    )


def _word(value: int) -> bytes:
    return value.to_bytes(WORD, "big")


def _negative_generator() -> bytes:
    return bls.SecretKey(bls.GROUP_ORDER - 1).public_key()


def _mapped(element: int) -> bytes:
    """By another implementation than any chain's."""
    from py_ecc.bls.hash_to_curve import clear_cofactor_G1, map_to_curve_G1
    from py_ecc.fields import optimized_bls12_381_FQ as FQ
    from py_ecc.optimized_bls12_381.optimized_curve import normalize

    x, y = normalize(clear_cofactor_G1(map_to_curve_G1(FQ(element))))
    return int(x).to_bytes(64, "big") + int(y).to_bytes(64, "big")
