"""What an operator answers to a request that it does not serve."""

from __future__ import annotations

from collections.abc import Mapping

from trine.errors import InvalidInput


class Refusal(InvalidInput):
    """A request that is not served: HTTP status, OpenAI-style code, the parameter at fault, headers besides."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
