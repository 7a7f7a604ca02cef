"""Puts the interpreter's recursion limit back where it was.

py_ecc, which eth-account needs, raises it to 100,000 when it is imported. Then a few kilobytes of nested brackets from
another party overflow the C stack in `json` and end the process, where they should end in a RecursionError.
"""

from __future__ import annotations

import sys

import eth_keyfile  # noqa: F401  (imports py_ecc: whatever it does to the limit has happened now)

PY_ECC_LIMIT = 100_000
DEFAULT_LIMIT = 1_000

if sys.getrecursionlimit() == PY_ECC_LIMIT:
    sys.setrecursionlimit(DEFAULT_LIMIT)
