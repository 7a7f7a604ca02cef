"""Server-sent events as the HTML standard has them (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Lines end with CR, LF or both, and with nothing else: texts hold U+2028 and its like. Bounded: a node may send anything.
"""

from __future__ import annotations

import re

from trine.errors import VerificationFailed

MAX_EVENT_BYTES = 8 << 20
"""The last event holds the receipt, others a token: this is for answers that come whole."""
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventDecoder:
    """Feed it bytes as they come; it gives the data of each event that is complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._is_first_line = True

    def feed(self, chunk: bytes) -> list[str]:
        """Raises VerificationFailed for an event beyond MAX_EVENT_BYTES."""
        text = self._rest + chunk
        # Whether a CR at the end is a whole line's end, the next byte tells.
        held = b"\r" if text.endswith(b"\r") else b""
        *lines, last = _LINE_END.split(text[: len(text) - len(held)])
        self._rest = last + held
        events = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise VerificationFailed(f"the node's stream holds an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def end(self) -> list[str]:
        """After the last byte. What is not complete by then is no event."""
        rest, self._rest = self._rest, b""
        lines = _LINE_END.split(rest)[:-1]
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: bytes) -> str | None:
        """The event's data where the line ends it. Names, ids and times to reconnect say nothing here."""
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data).decode("utf-8", "replace") if data else None
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
        return None
