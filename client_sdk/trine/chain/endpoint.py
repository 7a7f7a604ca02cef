"""What of an RPC endpoint's address may be shown. Providers put keys into paths, queries, logins and host names."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SHORTEST_SECRET = 6
HIDDEN = "…"


def origin_of(rpc_url: str) -> str:
    """Scheme, host and port. All of the address that Trine shows."""
    try:
        address = urlsplit(rpc_url)
        port = f":{address.port}" if address.port else ""
    except ValueError:
        return "(its address is malformed)"
    host = address.hostname or ""
    return f"{address.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def without_secrets(text: str, rpc_url: str) -> str:
    """The text of somebody's error, with nothing of the address in it that could be a key."""
    try:
        address = urlsplit(rpc_url)
    except ValueError:
        return text.replace(rpc_url, HIDDEN)
    text = text.replace(rpc_url, origin_of(rpc_url))
    _, _, port = address.netloc.rpartition("@")[2].partition(":")  # whatever stands there
    parts = [port, address.path, address.query, address.fragment, address.username or "", address.password or ""]
    words = {word for part in parts for word in re.split(r"[/?&=#;,]+", part)} | set(parts)
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= SHORTEST_SECRET:
            text = text.replace(word, HIDDEN)
    return text
