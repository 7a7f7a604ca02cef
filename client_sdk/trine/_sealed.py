"""Orders and answers that nobody reads between client and node: keys of nodes, a sealed exchange with one of them.

`trine.protocol.sealing` is what travels. There is no way back to an open request: a node that shows no key, or a
stranger in its place, is one that cannot be reached. Waits for nothing; `_flow` and the clients do.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from trine._reading import MAX_BODY_BYTES, Fetch, Reply, decoded
from trine.chain import Chain
from trine.errors import NodeRefused, NodeUnreachable, ProtocolError, VerificationFailed
from trine.protocol import sealing

UNKNOWN_KEY = "unknown_key"
BUSY = (429, 503)
"""What is said outside of the seal nobody has signed: it is believed that a node is busy, and nothing else."""


class Seals:
    """Keys of nodes. Thread-safe."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._keys: dict[str, sealing.SealingKey] = {}
        self._lock = threading.Lock()

    def key(self, node: str) -> sealing.SealingKey | None:
        """Of a node's address, if it is known and still good."""
        with self._lock:
            known = self._keys.get(node.lower())
        return known if known and self._chain.now() <= known.valid_until else None

    def learn(self, document: Any, node: str, url: str) -> sealing.SealingKey:
        """Raises NodeUnreachable for what the node has not signed."""
        try:
            key = sealing.read_key(document, self._chain.domain, node, self._chain.now())
        except ProtocolError as error:
            raise NodeUnreachable(f"{url:.200} cannot be sealed to: {error}", unsent=True) from None
        with self._lock:
            self._keys[node.lower()] = key
        return key

    def forget(self, node: str) -> None:
        with self._lock:
            self._keys.pop(node.lower(), None)

    def seal(self, key: sealing.SealingKey, step: Fetch, url: str) -> tuple[Fetch, sealing.Opener]:
        """The step as it travels, and what opens its answer. `url`: the node's endpoint, which the step's begins with.

        Never the same twice: a node refuses what it has seen.
        """
        body, headers = step.content or b"", dict(step.headers)
        if step.json is not None:
            body, headers["content-type"] = json.dumps(step.json).encode(), "application/json"
        path = step.url.removeprefix(url)
        sent = sealing.seal(key, self._chain.domain, self._chain.now(), step.method, path, headers, body)
        kind = {"content-type": sealing.MEDIA_TYPE}
        made = Fetch("POST", url + sealing.SEALED_PATH, kind, seconds=step.seconds, content=sent.wire)
        return made, sent.opener()


def no_key(error: NodeRefused, url: str) -> NodeRefused:
    """In place of what a node said that was asked for its key."""
    if error.status in BUSY:
        return error
    said = f"{url:.200} shows no sealing key ({error.said:.100}): ask another node, or this one without sealing"
    return NodeRefused(said, status=404, code="no_sealing_key")


class Opening:
    """The answer to one sealed request, as its bytes come."""

    def __init__(self, opener: sealing.Opener, seals: Seals, node: str, url: str) -> None:
        self._opener = opener
        self._seals = seals
        self._node = node
        self._url = url
        self._refusal = bytearray()

    def refused(self, reply: Reply) -> None:
        """Raises what an answer outside of the seal comes to."""
        try:
            decoded(reply)
        except NodeRefused as error:
            if error.code == UNKNOWN_KEY:
                self._seals.forget(self._node)
                said = f"{self._url:.200} has a new sealing key"
                raise NodeRefused(said, status=429, code=UNKNOWN_KEY, retry_after=0) from None
            if error.status in BUSY:
                raise
            raise NodeUnreachable(f"{self._url:.200}: refused before it was opened: {error.said:.200}") from None
        except VerificationFailed:
            pass
        raise NodeUnreachable(f"{self._url:.200}: the answer is not sealed")

    def feed(self, chunk: bytes) -> bytes:
        """The bytes of a good answer. Raises NodeUnreachable: it was changed on its way."""
        try:
            data = self._opener.feed(chunk)
        except VerificationFailed as error:
            raise NodeUnreachable(f"{self._url:.200}: {error}") from None
        if self._opener.status == 200:
            return data
        self._refusal += data
        if len(self._refusal) > MAX_BODY_BYTES:
            raise VerificationFailed(f"the node's answer is longer than {MAX_BODY_BYTES} bytes")
        return b""

    def end(self) -> None:
        """After the last byte. Raises NodeUnreachable for what was cut off, NodeRefused for what the node refused."""
        if not self._opener.is_whole or self._opener.status is None:
            raise NodeUnreachable(f"{self._url:.200}: the sealed answer was cut off")
        if self._opener.status != 200:
            decoded(Reply(self._opener.status, self._opener.headers, bytes(self._refusal)))

    def whole(self, reply: Reply) -> Reply:
        """What a whole answer holds. Raises NodeError."""
        if reply.status_code != 200 or reply.headers.get("content-type") != sealing.MEDIA_TYPE:
            self.refused(reply)
        body = self.feed(reply.content)
        self.end()
        return Reply(200, self._opener.headers, body)
