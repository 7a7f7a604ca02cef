"""What nodes take for an answer to a posted request. Asks several at once, believes none: a price is an offer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trine.bounded import fetch_small

ASK_SECONDS = 5.0
NODES = 16
MAX_WEI = 2**128


def ask_price(
    endpoints: Sequence[str], prompt_tokens: int, max_tokens: int, callback_gas: int
) -> list[tuple[int, str]]:
    """Wei and endpoint of those of the first NODES that answer, cheapest first."""
    asked = f"prompt_tokens={prompt_tokens}&max_tokens={max_tokens}&callback_gas={callback_gas}"
    some = list(endpoints[:NODES])
    told = fetch_small([f"{endpoint.rstrip('/')}/v1/posted-price?{asked}" for endpoint in some], ASK_SECONDS)
    prices = [(_wei(document), endpoint) for endpoint, document in zip(some, told, strict=True) if document]
    return sorted((wei, endpoint) for wei, endpoint in prices if wei is not None)


def _wei(told: bytes) -> int | None:
    try:
        wei = json.loads(told)["maxFeeWei"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_amount = isinstance(wei, str) and wei.isascii() and wei.isdecimal() and len(wei) < 40
    return int(wei) if is_amount and int(wei) < MAX_WEI else None
