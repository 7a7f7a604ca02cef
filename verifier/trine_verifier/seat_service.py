"""Where other seats bring their statements: `POST /v1/seats/{batch}/{round}`, answered with our own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request

from trine.errors import BadSignature, InvalidInput, VerificationFailed
from trine_operator.refusal import Refusal
from trine_verifier.exchange import MAX_BYTES, NO_SEAT, NOT_READY, VOTES_ON_CHAIN
from trine_verifier.signing import Declined, NotYet, Signing

AT_ONCE = 8
"""Statements that are checked at a time, by some milliseconds each: strangers must not keep the process busy."""


class SeatEndpoints:
    """Asks nobody: which seats there are, the voting thread has been told by the chain."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing
        self._busy = 0  # on the event loop alone
        self.router = APIRouter(prefix="/v1")
        self.router.add_api_route("/seats/{batch_id}/{round_}", self.statement, methods=["POST"])

    async def statement(self, batch_id: str, round_: int, request: Request) -> dict[str, Any]:
        """Takes the sender's statement and answers with this verifier's, as far as it may show it."""
        name = _batch(batch_id)
        document = _parsed(await _body(request))
        if self._busy >= AT_ONCE:
            raise Refusal("too many statements at once: try again", status=429, code="busy")
        self._busy += 1
        try:
            return await asyncio.to_thread(self._receive, name, round_, document)
        finally:
            self._busy -= 1

    def _receive(self, batch_id: bytes, round_: int, document: Any) -> dict[str, Any]:
        try:
            return self._signing.receive(batch_id, round_, document)
        except KeyError:
            raise Refusal("no seat of this verifier's is known there", status=404, code=NO_SEAT) from None
        except NotYet:
            raise Refusal("heard; there is no vote to commit to yet", status=409, code=NOT_READY) from None
        except Declined as error:
            message = f"this seat votes on the chain: {error}"
            raise Refusal(message, status=403, code=VOTES_ON_CHAIN) from None
        except BadSignature as error:
            raise Refusal(str(error), status=401, code="bad_signature") from None
        except VerificationFailed as error:
            raise Refusal(str(error), status=403, code="bad_statement") from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Refusal(f"a statement has at most {MAX_BYTES} bytes", status=413, code="too_large")
    return bytes(body)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("a statement is an object of JSON") from None


def _batch(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise Refusal("a batch's id is 32 bytes in hexadecimal", status=404, code="not_a_hash")
    return raw
