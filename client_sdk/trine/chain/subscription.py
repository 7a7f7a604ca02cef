"""New blocks as the RPC endpoint announces them, over WebSocket, where it does: no question, no delay.

Development chains and most providers take both at one address. Whoever follows asks as before where this ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from trine.chain.follower import Head, head_of
from trine.errors import ChainUnreachable

OPEN_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""A chain may be quiet for so long; a dead connection looks the same, so somebody has to ask then."""
MAX_BYTES = 1 << 18
SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def announced_heads(rpc_url: str) -> Iterator[Head | None]:
    """None as soon as it listens, then the heads of new blocks.

    Ends with ChainUnreachable: not offered, broken off, silent or malformed.
    """
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    try:
        address = urlsplit(rpc_url)
        url = urlunsplit(address._replace(scheme=SCHEMES[address.scheme]))
        with connect(url, open_timeout=OPEN_SECONDS, max_size=MAX_BYTES, compression=None) as socket:
            socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
            name = json.loads(socket.recv(OPEN_SECONDS))["result"]
            yield None
            while True:
                said = json.loads(socket.recv(SILENCE_SECONDS))["params"]
                if said["subscription"] == name:
                    yield head_of(said["result"])
    except (
        WebSocketException, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        raise ChainUnreachable(f"the RPC endpoint announces no blocks ({type(error).__name__})") from None
