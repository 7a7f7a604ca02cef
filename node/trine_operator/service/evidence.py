"""What verifiers and clients fetch: receipts, batches, evidence. Evidence holds prompts, so it asks who is calling."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from trine.chain import Chain
from trine.errors import BadSignature
from trine.protocol import merkle
from trine.protocol.access import account_digest, caller, evidence_digest
from trine.protocol.evidence import Evidence
from trine_operator.refusal import Refusal
from trine_operator.store import Kept, Store, StoredAnswer, StoredBatch


class EvidenceEndpoints:
    """Reads the store; asks the chain who sits on a committee."""

    def __init__(self, store: Store, chain: Chain) -> None:
        self.store = store
        self.chain = chain
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
        batch = await asyncio.to_thread(self._known, _hash(batch_id))
        evidence = await asyncio.to_thread(self._evidence_of, batch, authorization)
        documents = itertools.chain(
            [{"leaves": ["0x" + leaf.hex() for leaf in batch.leaves]}], (each.to_json() for each in evidence)
        )
        lines = (json.dumps(document, separators=(",", ":")) + "\n" for document in documents)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def leaf_evidence(self, batch_id: str, leaf: int, authorization: str = Header(default="")) -> dict[str, Any]:
        batch = await asyncio.to_thread(self._known, _hash(batch_id))
        if not 0 <= leaf < len(batch.leaves):
            raise Refusal(f"the batch has leaves 0 to {len(batch.leaves) - 1}", status=404, code="no_such_leaf")
        evidence = await asyncio.to_thread(self._evidence_at, batch, leaf, authorization)
        proof = merkle.proof(list(batch.leaves), leaf)
        return {"proof": ["0x" + s.hex() for s in proof], "answer": evidence.to_json()}

    def _evidence_of(self, batch: StoredBatch, authorization: str) -> list[Evidence]:
        """Raises Refusal, or EvidencePruned if any of it is gone."""
        self._permit(batch, authorization)
        return [answer.evidence for answer in self.store.answers_of(batch.batch_id)]

    def _evidence_at(self, batch: StoredBatch, leaf: int, authorization: str) -> Evidence:
        answer = self.store.answer_at(batch.batch_id, leaf)
        if answer is None:
            raise Refusal("no such answer", status=404, code="no_such_leaf")
        self._permit(batch, authorization, answer)
        return answer.evidence

    def _permit(self, batch: StoredBatch, authorization: str, answer: StoredAnswer | None = None) -> None:
        """Raises Refusal for who may see neither the batch nor the answer, which is one leaf of it."""
        if batch.challenge_id is not None:
            return  # calibration prompts are public
        address = self._caller(
            authorization,
            lambda at: evidence_digest(self.chain.domain, batch.batch_id, at),
            "evidence holds prompts: sign the request as a drawn verifier or as the client",
        )
        if answer is not None and answer.receipt.client.lower() == address.lower():
            return
        if not self._judges(address, batch.batch_id, answer.leaf if answer else None):
            raise Refusal(f"{address} has no seat on this batch's committee", status=403, code="no_seat")

    def _judges(self, address: str, batch_id: bytes, leaf: int | None) -> bool:
        """Whether somebody has a seat on the batch's committee, or on the one that an appeal of the leaf has."""
        seats = list(self.chain.seats(self.chain.batch(batch_id)))
        if leaf is not None:
            case = self.chain.appeal_case(batch_id, leaf)
            seats += self.chain.appeal_seats(case, case.level) if case.level else ()
        return address.lower() in {seat.verifier.lower() for seat in seats}

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
