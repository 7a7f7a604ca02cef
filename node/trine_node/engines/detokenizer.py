"""Text of tokens as they arrive: whole characters only.

A byte-level tokenizer may split a character over several tokens; text is held back until it is complete. Deltas put
together equal `engine.decode` of all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from trine.protocol.inputs import first_stop, shown
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

    def held(self) -> str:
        """What is left, incomplete characters and all; a later token may make something else of it."""
        return self._beyond()

    def _advance(self, *, hold_back: bool) -> str:
        more = self._beyond()
        if not more or (hold_back and more.endswith(REPLACEMENT)):
            return ""
        self._window, self._done = self._done, len(self._ids)
        return more

    def _beyond(self) -> str:
        """Of a few tokens, however long the answer is."""
        before = self._engine.decode(self._ids[self._window : self._done])
        after = self._engine.decode(self._ids[self._window :])
        return after[len(before) :]


class TextStream:
    """The text of tokens as a client may see it: up to the first stop string, and nothing that could become one."""

    def __init__(self, engine: Engine, stop: Sequence[str]) -> None:
        self._stop = stop
        self._detokenizer = Detokenizer(engine)
        self._longest = max(map(len, stop), default=0)
        self._text = ""
        self._sent = 0
        self.stopped = False

    def push(self, token_id: int) -> str:
        """New text, maybe empty. Sets `stopped` when the token completes a stop string."""
        delta = self._detokenizer.push(token_id)
        if not self._stop:
            return delta
        # With incomplete characters and all, as verifiers do, who see all tokens at once. What was searched before is
        # not searched again.
        start = max(0, len(self._text) - self._longest + 1)
        self._text += delta
        whole = self._text if delta else self._text + self._detokenizer.held()
        self.stopped = first_stop(whole[start:], self._stop) is not None
        if self.stopped:
            return self._send(whole[:start] + shown(whole[start:], self._stop))
        return self._send(self._text[: len(self._text) - self._held()])

    def flush(self) -> str:
        """What is left at the end."""
        if not self._stop:
            return self._detokenizer.flush()
        return "" if self.stopped else self._send(self._text + self._detokenizer.flush())

    def _send(self, text: str) -> str:
        more = text[self._sent :]
        self._sent = max(self._sent, len(text))
        return more

    def _held(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(self._text)), 0, -1):
            if any(stop.startswith(self._text[-length:]) for stop in self._stop):
                return length
        return 0
