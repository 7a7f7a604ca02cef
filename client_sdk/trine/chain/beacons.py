"""Rounds of a drand beacon over HTTP. Any endpoint will do: what it shows is checked against the network's key."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from trine.errors import InvalidInput, NotReady
from trine.protocol.beacon import Beacon, expanded
from trine.protocol.numbers import whole

QUICKNET = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"
"""Hash of drand's network of rounds every three seconds: https://docs.drand.love."""
QUICKNET_URLS = tuple(
    f"https://{host}/{QUICKNET}" for host in ("api.drand.sh", "api2.drand.sh", "api3.drand.sh", "drand.cloudflare.com")
)
TIMEOUT_SECONDS = 5.0
"""For one endpoint, in all."""
MAX_ANSWER_BYTES = 4096
"""Ten times what a round takes."""


def require_urls(urls: Sequence[str]) -> None:
    """Raises InvalidInput unless each is an HTTP address."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"{url!r} is no HTTP address of a drand endpoint")


def fetch_signature(beacon: Beacon, urls: Sequence[str], round_: int) -> bytes:
    """The signature of a round, 128 bytes, of the first endpoint that shows the network's own. Raises NotReady."""
    reasons = []
    for url in urls:
        try:
            signature = expanded(_shown(f"{url.rstrip('/')}/public/{round_}", round_))
        except (InvalidInput, OSError) as error:
            reasons.append(f"{urlsplit(url).hostname}: {error}")
            continue
        if beacon.has_signed(round_, signature):
            return signature
        reasons.append(f"{urlsplit(url).hostname}: a signature that is not the network's")
    told = "; ".join(reasons) or "no endpoint is set (beacon_urls)"
    raise NotReady(f"round {round_} of the beacon, which draws here, cannot be had: {told}")


def _shown(url: str, round_: int) -> bytes:
    """The signature in an endpoint's answer, unchecked. Raises OSError or InvalidInput."""
    answer = _get(url)
    try:
        document = json.loads(answer)
        shown, signature = whole(document["round"]), bytes.fromhex(document["signature"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InvalidInput("shows no round") from None
    if shown != round_:
        raise InvalidInput(f"shows round {shown}")
    return signature


def _get(url: str) -> bytes:
    """What the endpoint answers. Raises OSError."""
    import urllib3  # a chain without a beacon never asks

    deadline = time.monotonic() + TIMEOUT_SECONDS
    with urllib3.PoolManager() as http:
        try:
            response = http.request(
                "GET", url, timeout=TIMEOUT_SECONDS, retries=False, redirect=False, preload_content=False
            )
            try:
                if response.status != 200:
                    raise OSError(f"answers with status {response.status}")
                answer = b""
                while part := response.read1(MAX_ANSWER_BYTES):
                    answer += part
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise OSError("answers with too many bytes")
                    if time.monotonic() > deadline:
                        raise OSError("answers too slowly")
                return answer
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise OSError(f"no answer ({type(error).__name__})") from None
