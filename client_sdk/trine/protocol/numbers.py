"""Whole numbers out of JSON that somebody else wrote. Knows nothing of what they count."""

from __future__ import annotations

import re
from typing import Any

_DIGITS = re.compile(r"-?[0-9]{1,100}")


def whole(value: Any) -> int:
    """A JSON integer, or one as decimal digits: amounts of wei are strings. Raises ValueError for anything else.

    `int` takes more: 1.5 for 1, and no exception that is expected of infinity, which JSON's 1e999 is.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise ValueError(f"{value!r:.40} is no whole number")
