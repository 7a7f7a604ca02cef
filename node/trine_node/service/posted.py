"""For those who ask by a transaction: what an answer costs here, and to other nodes, which have one already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from trine.protocol.requests import MAX_CALLBACK_GAS, MAX_INPUT_BYTES
from trine_node.posted.table import PostedRequests
from trine_operator.refusal import Refusal
from trine_operator.store import Store

MAX_TOKENS = 1 << 17
Price = Callable[[int, int, int], int]
"""What an answer costs at most, in wei: by tokens of the prompt, tokens of the answer, gas of the callback."""


class PostedEndpoints:
    """Reads the store. Receipts hold hashes only, and what was posted is public anyway."""

    def __init__(self, store: Store, price: Price | None = None) -> None:
        """`price` is None where no requests are answered."""
        self._posted = PostedRequests(store)
        self._price = price
        self.router = APIRouter(prefix="/v1")
        self.router.add_api_route("/posted/{request_id}", self.receipt, methods=["GET"])
        self.router.add_api_route("/posted-price", self.price, methods=["GET"])

    async def price(
        self,
        prompt_tokens: Annotated[int, Query(ge=1, le=MAX_INPUT_BYTES)],
        max_tokens: Annotated[int, Query(ge=1, le=MAX_TOKENS)],
        callback_gas: Annotated[int, Query(ge=0, le=MAX_CALLBACK_GAS)] = 0,
    ) -> dict[str, Any]:
        """What must wait for an answer of that size, as gas costs now; what is not taken comes back."""
        if self._price is None:
            raise Refusal("this node answers no posted requests", status=404, code="no_posted_requests")
        return {"maxFeeWei": str(await asyncio.to_thread(self._price, prompt_tokens, max_tokens, callback_gas))}

    async def receipt(self, request_id: str) -> dict[str, Any]:
        """The signed receipt of this node's answer to the request; null while it has given none."""
        try:
            name = bytes.fromhex(request_id.removeprefix("0x"))
        except ValueError:
            name = b""
        if len(name) != 32:
            raise Refusal("expected 0x and 64 hexadecimal digits", param="request_id")
        found = await asyncio.to_thread(self._posted.receipt, name)
        if found is None:
            return {"receipt": None, "signature": None}
        receipt, signature = found
        return {"receipt": receipt.to_json(), "signature": "0x" + signature.hex()}
