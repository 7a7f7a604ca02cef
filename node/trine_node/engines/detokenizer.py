"""Text of tokens as they arrive: whole characters only.

A byte-level tokenizer may split a character over several tokens; text is held back until it is complete. Deltas put
together equal `engine.decode` of all tokens.
"""

from __future__ import annotations

from trine_node.engines.base import Engine

REPLACEMENT = "\ufffd"


class Detokenizer:
    """Feed token ids one by one; each call returns the new text, maybe empty."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids: list[int] = []
        self._window = 0  # tokens before it are out, and give the next ones their context
        self._done = 0  # tokens before it are out

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        return self._advance(hold_back=True)

    def flush(self) -> str:
        """What is left, complete or not."""
        return self._advance(hold_back=False)

    def _advance(self, *, hold_back: bool) -> str:
        before = self._engine.decode(self._ids[self._window : self._done])
        after = self._engine.decode(self._ids[self._window :])
        if (hold_back and after.endswith(REPLACEMENT)) or len(after) <= len(before):
            return ""
        self._window, self._done = self._done, len(self._ids)
        return after[len(before) :]
