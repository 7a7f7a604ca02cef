"""Puts the interpreter's recursion limit back where it was.

py_ecc, which eth-account needs, raises it to 100,000 when it is first imported. Then a few kilobytes of nested brackets
from another party overflow the C stack in `json` and end the process, where they should end in a RecursionError.
"""

from __future__ import annotations

import sys

import py_ecc  # noqa: F401  (its curves, which take long, are imported when they are used)

PY_ECC_LIMIT = 100_000
DEFAULT_LIMIT = 1_000

if sys.getrecursionlimit() == PY_ECC_LIMIT:
    sys.setrecursionlimit(DEFAULT_LIMIT)
