"""JSON-RPC to the devnet's own chain: methods that only a development chain has, many calls in one request."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx2

from trine.errors import ChainUnreachable, NotReady

TIMEOUT_SECONDS = 30.0
SHOWN = 300
"""Characters of an answer that is no answer."""


class Rpc:
    """One connection. Thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx2.Client(timeout=TIMEOUT_SECONDS, trust_env=False)  # never through a proxy: it is local

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """One call's result. Raises ChainUnreachable, or NotReady when the chain refuses it."""
        return self.batch(method, [arguments])[0]

    def batch(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """Results of one method's calls, made in this order. Raises as `call` does, at the first that is refused."""
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(arguments)}
            for number, arguments in enumerate(calls)
        ]
        try:
            answers = self._http.post(self.url, json=body).raise_for_status().json()
        except (httpx2.HTTPError, ValueError) as error:
            raise ChainUnreachable(f"no answer from the devnet's chain ({type(error).__name__})") from None
        if not isinstance(answers, list):
            raise NotReady(f"{method}: {str(answers)[:SHOWN]}")  # of all calls together: too large, for example
        for answer in answers:
            if "error" in answer:
                raise NotReady(f"{method}: {answer['error'].get('message', answer['error'])}")
        return [answer["result"] for answer in sorted(answers, key=lambda answer: int(answer["id"]))]
