"""What decides the tokens of one answer: the model's logits, what the client has signed, and the tokens before.

One object an answer, used alike by who generates it and by who checks it, so that both have the same candidates at
every position. Knows no model and no torch.
"""

from __future__ import annotations

import numpy as np

from trine.protocol.decoding import Decoding
from trine_node.engines import sampling as drawing
from trine_node.engines.base import OffGrammar
from trine_node.engines.grammars import Matcher
from trine_node.engines.sampling import Logits, Tokens


class Chooser:
    """At the answer's next position. Not thread-safe."""

    def __init__(self, decoding: Decoding, matcher: Matcher | None = None) -> None:
        """`matcher`: of the decoding's grammar, if it has one."""
        self.decoding = decoding
        self.position = 0
        self._matcher = matcher
        self._permitted: Tokens | None = None

    def choose(self, logits: Logits) -> int:
        """The token. Raises GrammarExhausted."""
        [best] = self.ranked(logits, 1)
        return best

    def ranked(self, logits: Logits, count: int) -> list[int]:
        """The `count` best candidates, best first; fewer if there are fewer. Raises GrammarExhausted."""
        among = self.permitted()
        rows = logits if among is None else logits[among]
        if self.decoding.sampling is None:
            best = [int(rows.argmax())] if count == 1 else np.argsort(-rows, kind="stable")[:count].tolist()
        elif count == 1:
            best = [drawing.choose(rows, self.decoding.sampling, self.position, among)]
        else:
            best = drawing.ranked(rows, self.decoding.sampling, self.position, count, among)
        return best if among is None else among[best].tolist()

    def margin(self, logits: Logits, claimed: int) -> float:
        """Logits that the claimed token is away from being chosen, of those that are candidates.

        Raises OffGrammar if it is none, GrammarExhausted.
        """
        among = self.permitted()
        if among is not None:
            place = int(np.searchsorted(among, claimed))
            if place == len(among) or among[place] != claimed:
                raise OffGrammar(f"token {self.position} is none that the grammar allows there")
            logits, claimed = logits[among], place
        if self.decoding.sampling is None:
            return float(logits.max() - logits[claimed])
        return drawing.margin(logits, self.decoding.sampling, self.position, claimed, among)

    def permitted(self) -> Tokens | None:
        """The candidates, rising; None for all tokens. Raises GrammarExhausted."""
        if self._matcher is not None and self._permitted is None:
            self._permitted = self._matcher.permitted()
        return self._permitted

    def push(self, token: int) -> None:
        """Goes on by the token that was taken."""
        self.permitted()  # node and verifiers ask the library for the same, in the same order
        if self._matcher is not None:
            self._matcher.push(token)
        self._permitted = None
        self.position += 1
