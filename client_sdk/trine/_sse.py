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
        self._open = bytearray()  # the line that has not ended
        self._has_cr = False  # it ends with a CR: whether that is a whole line's end, the next byte tells
        self._data: list[bytes] = []
        self._size = 0
        self._is_first_line = True

    def feed(self, chunk: bytes) -> list[str]:
        """Looks at new bytes only. Raises VerificationFailed for an event beyond MAX_EVENT_BYTES."""
        if not chunk:
            return []
        text = b"\r" + chunk if self._has_cr else chunk
        self._has_cr = text.endswith(b"\r")
        first, *others = _LINE_END.split(text[:-1] if self._has_cr else text)
        self._open += first
        lines: list[bytes] = []
        if others:
            lines = [bytes(self._open), *others[:-1]]
            self._open = bytearray(others[-1])
        events = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._open) > MAX_EVENT_BYTES:
            raise VerificationFailed(f"the node's stream holds an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def end(self) -> list[str]:
        """After the last byte. What is not complete by then is no event."""
        line, self._open = bytes(self._open), bytearray()
        event = self._line(line) if self._has_cr else None
        self._has_cr = False
        return [] if event is None else [event]

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
