"""What `Client` and `AsyncClient` do the same way: everything but waiting for HTTP.

Chooses nodes, signs orders, puts streams together, checks what comes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx2

from trine._answer import (
    Answer,
    Draft,
    Messages,
    as_input,
    checked_answer,
    draft_request,
    order_body,
    owed_by_proof,
    refusal,
)
from trine.chain import Chain, Model, Role
from trine.errors import InvalidInput, NotReady, VerificationFailed
from trine.protocol.access import access_header, account_digest
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Voucher


class Core:
    """What both clients do the same way: everything but waiting for HTTP."""

    def __init__(self, chain: Chain, node: str | None, deposit_wei: int) -> None:
        if deposit_wei < 0:
            raise InvalidInput("deposit_wei cannot be negative")
        self.chain = chain
        self._node = node
        self._deposit_wei = deposit_wei
        self._models: dict[str, Model] = {}

    def model(self, name: str | None) -> Model:
        """The newest model of that name, or the only one. Raises InvalidInput listing what exists."""
        if name in self._models:
            return self._models[name]
        models = {model.name: model for model in map(self.chain.model, self.chain.model_ids())}
        if name is None and len(models) == 1:
            name = next(iter(models))
        if name not in models:
            raise InvalidInput(f"no model {name!r}; registered: {', '.join(sorted(models)) or 'none'}")
        self._models |= models
        return models[name]

    def nodes(self, model: Model) -> list[tuple[str, str]]:
        """(address, endpoint) of calibrated nodes with an endpoint, best reputation first."""
        operators = {
            event.args["operator"]
            for event in self.chain.events("Calibration", "Calibrated", modelId=model.model_id)
            if event.args["role"] == Role.NODE
        }
        ranked = sorted(
            (
                (-self.chain.reputation(operator, Role.NODE, model.model_id).score_bps, operator, endpoint)
                for operator in operators
                if self.chain.is_calibrated(operator, Role.NODE, model.model_id)
                and (endpoint := self.chain.endpoint_of(operator))
            ),
        )
        return [(operator, endpoint) for _, operator, endpoint in ranked]

    def choose(self, model: Model) -> tuple[str, str]:
        """(address, endpoint) of the node to ask. Raises NotReady."""
        found = self.nodes(model)
        for address, endpoint in found:
            if self._node is None or self._node.rstrip("/") == endpoint.rstrip("/"):
                return address, endpoint
        where = f" at {self._node}" if self._node else ""
        raise NotReady(f"no calibrated node{where} serves {model.name!r}")

    def prepare(
        self, messages: Messages, model: Model, max_tokens: int, stop: Sequence[str], node: str, account: Any
    ) -> Draft:
        """Signs request and voucher; deposits with the node before, if that is wanted and needed."""
        chain = self.chain
        asked = as_input(messages, stop)
        request = draft_request(asked, model, chain.address, max_tokens, chain.now())
        digest = request.digest(chain.domain)
        owed = owed_by_proof(account, chain.address, node, chain.payments_domain)
        voucher = Voucher(chain.address, node, owed + request.max_fee_wei)
        self._cover(node, voucher.cumulative_wei)
        body = order_body(
            asked, model, request, chain.sign(digest), voucher, chain.sign(voucher.digest(chain.payments_domain))
        )
        return Draft(asked, request, digest, body)

    def account_access(self, node: str) -> dict[str, str]:
        """Headers with which the node shows the client's account to nobody but the client."""
        at = self.chain.now()
        return {"authorization": access_header(at, self.chain.sign(account_digest(self.chain.domain, node, at)))}

    def deposit(self, node: str, amount_wei: int) -> None:
        """Adds to what the client has with the node."""
        self.chain.allow("Payments", amount_wei)
        self.chain.deposit(node, amount_wei)

    def _cover(self, node: str, cumulative_wei: int) -> None:
        if not self._deposit_wei:
            return
        account = self.chain.account(self.chain.address, node)
        missing = cumulative_wei - account.collected - account.firm
        if missing > 0:
            self.deposit(node, max(missing, self._deposit_wei))

    def finish(self, document: Any, draft: Draft, node: str, node_url: str) -> Answer:
        """Checks a whole completion."""
        try:
            choice = document["choices"][0]
            text, reason = choice["message"]["content"], choice["finish_reason"]
            extras = document["trine"]
        except (KeyError, IndexError, TypeError) as error:
            raise VerificationFailed(f"the node's answer is malformed: {error!r}") from None
        return checked_answer(extras, text, reason, draft, node, node_url, self.chain.domain)

    def settled(self, place: Certificate, final: bool) -> Certificate | None:
        """The certificate with its result, checked against the chain; None while the batch is open.

        With `final`, None also as long as an appeal may change the answer's verdict.
        """
        result = self.chain.result(place.batch_id)
        if not result.is_settled or (final and not self.chain.verdict(place.batch_id, place.index)[1]):
            return None
        certificate = replace(place, accepted=result.accepted, rejected=result.rejected)
        certificate.verify(result.accepted, result.rejected)
        if not place.index < result.leaf_count:
            raise VerificationFailed("the certificate is not of an answer in the batch")
        return certificate


class Stream:
    """Puts a stream's events together and checks the end."""

    def __init__(self, core: Core, draft: Draft, node: str, node_url: str) -> None:
        self._finish: Callable[[Any, str, str], Answer] = lambda extras, text, reason: checked_answer(
            extras, text, reason, draft, node, node_url, core.chain.domain
        )
        self._parts: list[str] = []
        self.answer: Answer | None = None

    def feed(self, line: str) -> str:
        """The text that a line of the event stream adds."""
        if not line.startswith("data:") or line.strip() == "data: [DONE]":
            return ""
        try:
            document = json.loads(line.removeprefix("data:"))
        except ValueError:
            raise VerificationFailed("the node's stream holds an event that is not JSON") from None
        if "error" in document:
            raise refusal(500, document)
        for choice in document.get("choices", []):
            text = str(choice.get("delta", {}).get("content") or "")
            self._parts.append(text)
            if choice.get("finish_reason"):
                self.answer = self._finish(document.get("trine"), "".join(self._parts), choice["finish_reason"])
            return text
        return ""

    def end(self, seconds: float) -> Answer:
        if self.answer is None:
            raise VerificationFailed("the stream ended without a receipt: do not use this answer")
        self.answer.seconds = seconds
        return self.answer


def decoded(response: httpx2.Response) -> Any:
    """The JSON of a good answer. Raises NodeRefused for any other."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if response.status_code != 200:
        raise refusal(response.status_code, document)
    if document is None:
        raise VerificationFailed("the node's answer is not JSON")
    return document
