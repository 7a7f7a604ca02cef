"""What verifiers and clients fetch: receipts, batches, evidence. Evidence holds prompts, so it asks who is calling.

A verifier shows others' evidence, too, that it was shown itself: to the same people and in the same form.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from trine.chain import Chain
from trine.errors import BadSignature
from trine.protocol import merkle
from trine.protocol.access import account_digest, caller, evidence_digest
from trine.protocol.evidence import Evidence
from trine_operator.refusal import Refusal
from trine_operator.store import Kept, Store, StoredBatch

AT_ONCE = 8
"""Whole batches of others' that one caller is shown at a time: it checks no more at once."""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """Somebody else's answer that this operator was shown: whose it is, its way to the root, its evidence as JSON."""

    client: str
    proof: tuple[bytes, ...]
    document: str


class PassesOn(Protocol):
    """Evidence of others' batches that this operator keeps for who judges them, too."""

    def leaves_of(self, batch_id: bytes) -> Sequence[bytes] | None:
        """Hashes of all leaves; None when there is nothing of the batch, or nothing but single leaves."""
        ...

    def documents_of(self, batch_id: bytes, leaf_count: int) -> Iterator[str]:
        """Each leaf's evidence as JSON, `null` where there is none."""
        ...

    def answer_at(self, batch_id: bytes, leaf: int) -> PassedOn | None: ...


class EvidenceEndpoints:
    """Reads the store; asks the chain who sits on a committee. Adversaries replace `judges`."""

    def __init__(self, store: Store, chain: Chain, passes_on: PassesOn | None = None) -> None:
        self.store = store
        self.chain = chain
        self._passes_on = passes_on
        self._shown_at_once: Counter[str] = Counter()  # by caller; on the event loop alone
        self.router = APIRouter(prefix="/v1")
        self.router.add_api_route("/receipts/{digest}", self.receipt, methods=["GET"])
        self.router.add_api_route("/accounts/{client}", self.account, methods=["GET"])
        self.router.add_api_route("/batches/{batch_id}", self.batch, methods=["GET"])
        self.router.add_api_route("/batches/{batch_id}/evidence", self.evidence, methods=["GET"])
        self.router.add_api_route("/batches/{batch_id}/evidence/{leaf}", self.leaf_evidence, methods=["GET"])

    async def receipt(self, digest: str) -> dict[str, Any]:
        """A receipt, its signature and where it is in which batch (null before it is in one)."""
        answer = await asyncio.to_thread(self.store.answer, _hash(digest))
        if answer is None:
            raise Refusal("no such receipt", status=404, code="receipt_not_found")
        place = None
        if answer.batch_id is not None and answer.leaf is not None:
            batch = await asyncio.to_thread(self._known, answer.batch_id)
            place = _place(batch, answer.leaf)
        return {
            "receipt": answer.receipt.to_json(),
            "signature": "0x" + answer.receipt_signature.hex(),
            "batch": place,
        }

    async def account(self, client: str, authorization: str = Header(default="")) -> dict[str, Any]:
        """What a client owes this node by the node's count, the client's own vouchers as proof, and the accepted
        answers that it has not acknowledged, each with all that proves it. For the client alone.

        `voucher` has the highest limit, `acknowledged` acknowledges most. `orders` are those with a deadline from the
        latter's `asOf` on and before the new `asOf`.
        """
        address = self._caller(
            authorization,
            lambda at: account_digest(self.chain.domain, self.chain.address, at),
            "an account is shown to its client: sign the request",
        )
        if address.lower() != client.lower():
            raise Refusal(f"{address} may not see another's account", status=403, code="not_yours")
        return await asyncio.to_thread(self._account, address)

    def _account(self, client: str) -> dict[str, Any]:
        acknowledged = self.store.acknowledgement(client)
        since = acknowledged.as_of if acknowledged else 0
        until = self.store.resolved_until(client, since, accepted_too=True)
        orders, as_of = self.store.to_acknowledge(client, since, until)
        batches: dict[bytes, StoredBatch] = {}
        shown = []
        for order in orders:
            if order.batch_id not in batches:
                batches[order.batch_id] = self._known(order.batch_id)
            shown.append(
                {
                    "request": order.request.to_json(),
                    "requestSignature": "0x" + order.request_signature.hex(),
                    "receipt": order.receipt.to_json(),
                    "batch": _place(batches[order.batch_id], order.leaf),
                }
            )
        return {
            "owedWei": str(self.store.owed(client)),
            "voucher": _shown(self.store.voucher(client)),
            "acknowledged": _shown(acknowledged),
            "asOf": as_of,
            "orders": shown,
        }

    async def batch(self, batch_id: str) -> dict[str, Any]:
        batch = await asyncio.to_thread(self._known, _hash(batch_id))
        return {
            "batchId": "0x" + batch.batch_id.hex(),
            "modelId": "0x" + batch.model_id.hex(),
            "root": "0x" + batch.root.hex(),
            "canary": "0x" + batch.canary.hex(),
            "state": batch.state,
            "leaves": ["0x" + leaf.hex() for leaf in batch.leaves],
        }

    async def evidence(self, batch_id: str, authorization: str = Header(default="")) -> StreamingResponse:
        """Everything a verifier needs: a line with all leaves, then a line an answer, each an object of JSON."""
        name = _hash(batch_id)
        kept = await asyncio.to_thread(self._kept_leaves, name)
        if kept is not None and self._passes_on is not None:
            caller_ = await asyncio.to_thread(self._permit, name, authorization)
            if self._shown_at_once[caller_] >= AT_ONCE:
                raise Refusal(f"{AT_ONCE} batches are being shown to you: take them first", status=429, code="busy")
            return _Counted(_lines(kept, self._passes_on.documents_of(name, len(kept))), self._shown_at_once, caller_)
        batch = await asyncio.to_thread(self._known, name)
        evidence = await asyncio.to_thread(self._evidence_of, batch, authorization)
        documents = (json.dumps(each.to_json(), separators=(",", ":")) for each in evidence)
        return StreamingResponse(_lines(batch.leaves, documents), media_type=LINES)

    async def leaf_evidence(self, batch_id: str, leaf: int, authorization: str = Header(default="")) -> dict[str, Any]:
        name = _hash(batch_id)
        kept = await asyncio.to_thread(self._kept_answer, name, leaf)
        if kept is not None:
            await asyncio.to_thread(self._permit, name, authorization, kept.client, leaf)
            return {"proof": ["0x" + s.hex() for s in kept.proof], "answer": json.loads(kept.document)}
        batch = await asyncio.to_thread(self._known, name)
        if not 0 <= leaf < len(batch.leaves):
            raise Refusal(f"the batch has leaves 0 to {len(batch.leaves) - 1}", status=404, code="no_such_leaf")
        evidence = await asyncio.to_thread(self._evidence_at, batch, leaf, authorization)
        proof = merkle.proof(list(batch.leaves), leaf)
        return {"proof": ["0x" + s.hex() for s in proof], "answer": evidence.to_json()}

    def judges(self, address: str, batch_id: bytes, leaf: int | None) -> bool:
        """Whether somebody has a seat on the batch's committee, or on the one that an appeal of the leaf has."""
        seats = list(self.chain.seats(self.chain.batch(batch_id)))
        if leaf is not None:
            case = self.chain.appeal_case(batch_id, leaf)
            seats += self.chain.appeal_seats(case, case.level) if case.level else ()
        return address.lower() in {seat.verifier.lower() for seat in seats}

    def _kept_leaves(self, batch_id: bytes) -> Sequence[bytes] | None:
        return self._passes_on.leaves_of(batch_id) if self._passes_on else None

    def _kept_answer(self, batch_id: bytes, leaf: int) -> PassedOn | None:
        if self._passes_on is None or not 0 <= leaf < merkle.MAX_LEAVES:
            return None
        return self._passes_on.answer_at(batch_id, leaf)

    def _evidence_of(self, batch: StoredBatch, authorization: str) -> list[Evidence]:
        """Raises Refusal, or EvidencePruned if any of it is gone."""
        if batch.challenge_id is None:  # calibration prompts are public
            self._permit(batch.batch_id, authorization)
        return [answer.evidence for answer in self.store.answers_of(batch.batch_id)]

    def _evidence_at(self, batch: StoredBatch, leaf: int, authorization: str) -> Evidence:
        answer = self.store.answer_at(batch.batch_id, leaf)
        if answer is None:
            raise Refusal("no such answer", status=404, code="no_such_leaf")
        if batch.challenge_id is None:
            self._permit(batch.batch_id, authorization, answer.receipt.client, leaf)
        return answer.evidence

    def _permit(self, batch_id: bytes, authorization: str, client: str = "", leaf: int | None = None) -> str:
        """Who calls. Raises Refusal for who may see neither the batch nor the `client`'s answer, which is one leaf of
        it."""
        address = self._caller(
            authorization,
            lambda at: evidence_digest(self.chain.domain, batch_id, at),
            "evidence holds prompts: sign the request as a drawn verifier or as the client",
        )
        if client.lower() != address.lower() and not self.judges(address, batch_id, leaf):
            raise Refusal(f"{address} has no seat on this batch's committee", status=403, code="no_seat")
        return address

    def _caller(self, authorization: str, digest: Callable[[int], bytes], wanted: str) -> str:
        """The address that signed. Raises Refusal, saying what is wanted."""
        if not authorization:
            raise Refusal(wanted, status=401, code="authorization_required")
        try:
            return caller(authorization, digest, self.chain.now()).address
        except BadSignature as error:
            raise Refusal(str(error), status=401, code="bad_authorization") from None

    def _known(self, batch_id: bytes) -> StoredBatch:
        batch = self.store.batch(batch_id)
        if batch is None:
            raise Refusal("no such batch", status=404, code="batch_not_found")
        return batch


LINES = "application/x-ndjson"


class _Counted(StreamingResponse):
    """Counts as shown to its caller until it is sent, or nobody takes it any more."""

    def __init__(self, lines: Iterator[str], shown: Counter[str], caller_: str) -> None:
        super().__init__(lines, media_type=LINES)
        self._shown = shown
        self._caller = caller_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._shown[self._caller] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._shown[self._caller] -= 1
            self._shown += Counter()  # forgets those of whom nothing is left


def _lines(leaves: Sequence[bytes], documents: Iterable[str]) -> Iterator[str]:
    head = json.dumps({"leaves": ["0x" + leaf.hex() for leaf in leaves]}, separators=(",", ":"))
    return (line + "\n" for line in itertools.chain([head], documents))


def _place(batch: StoredBatch, leaf: int) -> dict[str, Any]:
    return {
        "batchId": "0x" + batch.batch_id.hex(),
        "root": "0x" + batch.root.hex(),
        "canary": "0x" + batch.canary.hex(),
        "index": leaf,
        "proof": ["0x" + sibling.hex() for sibling in merkle.proof(list(batch.leaves), leaf)],
        "state": batch.state,
    }


def _shown(kept: Kept | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {
        "cumulativeWei": str(kept.cumulative_wei),
        "earnedWei": str(kept.earned_wei),
        "asOf": kept.as_of,
        "signature": "0x" + kept.signature.hex(),
    }


def _hash(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise Refusal("expected 32 bytes in hexadecimal", status=404, code="not_a_hash")
    return raw
