"""RPC endpoints' addresses: the setting that names them, and what of it may be shown.

Providers put keys into paths, queries, logins and host names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from trine.errors import InvalidInput

MAX_ENDPOINTS = 8
SHORTEST_SECRET = 6
HIDDEN = "…"
BETWEEN = re.compile(r"[\s,]+")


def addresses_of(setting: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses of a setting, which separates them by commas or white space, or is a list; each once.

    Raises InvalidInput when there are none, or too many.
    """
    text = setting if isinstance(setting, str) else " ".join(setting)
    found = tuple(dict.fromkeys(part for part in BETWEEN.split(text) if part))
    if not found:
        raise InvalidInput("no RPC endpoint is given: name one, or several with commas between them")
    for address in found:
        if not address.startswith(("http://", "https://")):
            raise InvalidInput(
                f"the RPC endpoint {_origin(address)} has no address that begins with http:// or https://: blocks are "
                "announced over WebSocket at the same address where it offers that"
            )
    if len(found) > MAX_ENDPOINTS:
        raise InvalidInput(f"{len(found)} RPC endpoints are given, {MAX_ENDPOINTS} are the most: leave some out")
    return found


def origin_of(rpc_url: str) -> str:
    """Scheme, host and port of each address. All that Trine shows of them."""
    return ", ".join(_origin(address) for address in BETWEEN.split(rpc_url.strip()))


def without_secrets(text: str, rpc_url: str) -> str:
    """The text of somebody's error, with nothing of the addresses in it that could be a key."""
    for address in sorted(BETWEEN.split(rpc_url.strip()), key=len, reverse=True):
        text = _without_secrets_of(text, address)
    return text


def _origin(rpc_url: str) -> str:
    try:
        address = urlsplit(rpc_url)
        port = f":{address.port}" if address.port else ""
    except ValueError:
        return "(its address is malformed)"
    host = address.hostname or ""
    return f"{address.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _without_secrets_of(text: str, rpc_url: str) -> str:
    try:
        address = urlsplit(rpc_url)
    except ValueError:
        return text.replace(rpc_url, HIDDEN)
    text = text.replace(rpc_url, _origin(rpc_url))
    _, _, port = address.netloc.rpartition("@")[2].partition(":")  # whatever stands there
    parts = [port, address.path, address.query, address.fragment, address.username or "", address.password or ""]
    words = {word for part in parts for word in re.split(r"[/?&=#;,]+", part)} | set(parts)
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= SHORTEST_SECRET:
            text = text.replace(word, HIDDEN)
    return text
