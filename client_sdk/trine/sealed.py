"""Asks operators what nobody on the way is to read: evidence, which holds prompts. For those who judge answers.

`bounded` with a seal around it. As for clients there is no way back: who shows no key of its own is asked nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from trine import bounded
from trine._reading import Fetch, Reply, decoded
from trine._sealed import UNKNOWN_KEY, Opening, Seals, no_key
from trine.chain import Chain
from trine.errors import NodeError, NodeRefused, NodeUnreachable, VerificationFailed
from trine.protocol import sealing

KEPT_BYTES = 1 << 16
"""Besides an eighth: by which a sealed answer may be longer than what is in it."""


class SealedAsking:
    """Keys of operators are kept from one question to the next. Thread-safe."""

    def __init__(self, chain: Chain) -> None:
        self._seals = Seals(chain)

    async def ask(
        self,
        operator: str,
        endpoint: str,
        path: str,
        most_bytes: int,
        seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> bounded.Answer:
        """The answer to a GET of an operator, whom the address names. Raises as `bounded.ask`."""
        url, until = endpoint.rstrip("/"), time.monotonic() + seconds
        step = Fetch("GET", url + path, dict(headers or {}))
        for is_last in (False, True):
            key = self._seals.key(operator) or await self._learn(operator, url, until - time.monotonic())
            made, opener = self._seals.seal(key, step, url)
            opening = Opening(opener, self._seals, operator, url)
            most, left = most_bytes + most_bytes // 8 + KEPT_BYTES, max(0.01, until - time.monotonic())
            answer = await bounded.ask(made.url, most, left, headers=made.headers, content=made.content)
            try:
                body = opening.whole(Reply(answer.status, {"content-type": sealing.MEDIA_TYPE}, answer.body)).content
            except NodeRefused as error:
                if error.code == UNKNOWN_KEY and not is_last:
                    continue
                return bounded.Answer(step.url, error.status, error.said.encode("utf-8", "replace"))
            except VerificationFailed as error:
                raise NodeError(f"{url:.200}: {error}") from None
            if len(body) > most_bytes:
                raise NodeError(f"{url:.200} sends more than {most_bytes} bytes")
            return bounded.Answer(step.url, 200, body)
        raise AssertionError("unreachable")

    async def _learn(self, operator: str, url: str, seconds: float) -> sealing.SealingKey:
        answer = await bounded.ask(url + sealing.KEY_PATH, sealing.MAX_KEY_BYTES, max(0.01, seconds))
        try:
            document = decoded(Reply(answer.status, {}, answer.body))
        except NodeRefused as error:
            raise no_key(error, url) from None
        except VerificationFailed as error:
            raise NodeUnreachable(f"{url:.200} shows no sealing key: {error!s:.100}") from None
        return self._seals.learn(document, operator, url)
