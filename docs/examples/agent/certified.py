"""Answers that are used only once verifiers have accepted them, and proven before money moves.

The verdict that three verifiers have signed or voted for is waited for before an action is carried out at all: an
answer that a node has made up does nothing. Before a payment, every answer of the run must have the certificate that
is checked without a chain, or, where its committee has voted, a verdict that no appeal can change any more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from trine import Answer, Client, NotReady, PortableCertificate, VerificationFailed

from .loop import Message

MAX_TOKENS = 40


class Certified:
    """`key_set`: names the verifiers' keys that the owner trusts (`PortableCertificate.root_id`); None: those that the
    owner's own chain endpoint shows. Times in seconds."""

    def __init__(self, client: Client, *, key_set: bytes | None = None, timeout: float = 900.0) -> None:
        self._client, self._key_set, self._timeout = client, key_set, timeout
        self.answers: list[Answer] = []
        self.certificates: dict[bytes, PortableCertificate | None] = {}
        """By the receipt's digest; None where the verdict is final on the chain."""

    def answer(self, messages: Sequence[Message]) -> str:
        """Raises VerificationFailed, NotReady, NodeError: then there is no answer."""
        answer = self._client.chat(messages, max_tokens=MAX_TOKENS, stop=["\n"])
        require_accepted(self._client.certify(answer, timeout=self._timeout).result)
        self.answers.append(answer)
        return answer.text

    def prove(self) -> None:
        """Raises VerificationFailed or NotReady: then nothing must be paid."""
        for answer in self.answers:
            if answer.digest not in self.certificates:
                self.certificates[answer.digest] = self._proof(answer)

    def _proof(self, answer: Answer) -> PortableCertificate | None:
        try:
            proof = self._client.certify(answer, hard=True, timeout=self._timeout)
        except NotReady:  # settled by votes: the chain holds them, and nobody may appeal in the end
            require_accepted(self._client.certify(answer, final=True, timeout=self._timeout).result)
            return None
        proof.verify(proof.root_id if self._key_set is None else self._key_set, at=int(time.time()))
        if proof.certificate.receipt != answer.receipt:
            raise VerificationFailed("the certificate is another answer's")
        require_accepted(proof.certificate.result)
        return proof


def require_accepted(result: str) -> None:
    if result != "accept":
        raise VerificationFailed(f"the verifiers' result for this answer is {result}: nothing is done")
