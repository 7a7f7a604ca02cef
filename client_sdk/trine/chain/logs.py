"""Reads events in ranges of blocks. Endpoints limit a range by blocks, by results or by time, and calls by rate.

A refusal for size makes ranges smaller, one for rate makes pauses; what works makes ranges grow again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any

import requests.exceptions
from hexbytes import HexBytes
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import Web3RPCError

from trine.chain.endpoint import without_secrets
from trine.chain.records import Event
from trine.chain.transport import MAX_RETRY_AFTER_SECONDS, TOO_LARGE, EndpointFailed
from trine.errors import ChainError, ChainUnreachable

MAX_RANGE = 10_000
GROW_AFTER = 4
"""Answers in a row: a limit that stands is met again only now and then."""
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
BUSY = re.compile(r"too many requests|\brate\b|throttl|capacity|credits|quota|busy|overload|temporar|try again", re.I)
LARGE = re.compile(r"range|results|response size|too (large|big|many|wide|long)|exceed|limit|timed? ?out|entries", re.I)
"""How providers word it; what both fit is a matter of rate."""


class Refusal(Enum):
    """Why an endpoint gave no logs: what to do about it."""

    LARGE = "ask for less"
    BUSY = "ask later"
    UNCLEAR = "ask later, for less"
    FINAL = "do not ask"


def refusal_of(error: Exception) -> Refusal:
    """By status, code and words, as providers have them."""
    if isinstance(error, EndpointFailed) and error.silent:
        return Refusal.UNCLEAR
    if isinstance(error, EndpointFailed) and error.status is None:
        return Refusal.BUSY
    status = _status_of(error)
    if status is not None:
        if status == TOO_LARGE:
            return Refusal.LARGE
        return Refusal.BUSY if status in (408, 425, 429) or status >= 500 else Refusal.FINAL
    if isinstance(error, requests.exceptions.Timeout):
        return Refusal.UNCLEAR
    if isinstance(error, requests.exceptions.RequestException):
        return Refusal.BUSY
    if isinstance(error, Web3RPCError):
        found: Any = (error.rpc_response or {}).get("error")
        details = found if isinstance(found, dict) else {}
        said = f"{details.get('message', error)}"
        if details.get("code") == 429 or BUSY.search(said):
            return Refusal.BUSY
        return Refusal.LARGE if LARGE.search(said) else Refusal.UNCLEAR
    return Refusal.UNCLEAR


class LogReader:
    """Remembers how much the endpoints give at once. Threads may share it: what they learn is of all."""

    def __init__(self, rpc_url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._rpc_url = rpc_url
        self._sleep = sleep
        self._width = MAX_RANGE
        self._good = 0

    def read(
        self, contract: Contract, name: str, first: int, last: int, filters: dict[str, Any] | None = None
    ) -> Iterator[Event]:
        """Events `name` in [first, last], oldest first. Raises ChainUnreachable or ChainError."""
        event = contract.events[name]

        def ask(start: int, end: int) -> Any:
            return event.get_logs(from_block=start, to_block=end, argument_filters=filters or {})

        for logs in self._walk(ask, f"{name} events", first, last):
            for log in logs:
                yield _event(contract, name, log)

    def read_kinds(
        self,
        web3: Web3,
        kinds: Sequence[tuple[Contract, str]],
        first: int,
        last: int,
        *,
        indexed: Sequence[str | None] = (),
        patient: bool = True,
    ) -> Iterator[Event]:
        """Events of several kinds in [first, last], oldest first. Not patient: who asks does not wait for anything.

        `indexed`: the first indexed arguments of all of them, as topics; None where it does not matter.
        """
        by_topic = {
            (str(contract.address), HexBytes(contract.events[name].topic)): (contract, name) for contract, name in kinds
        }
        addresses = sorted({address for address, _topic in by_topic})
        topics = sorted({topic.to_0x_hex() for _address, topic in by_topic})

        def ask(start: int, end: int) -> Any:
            asked: Any = {"fromBlock": start, "toBlock": end, "address": addresses, "topics": [topics, *indexed]}
            return web3.eth.get_logs(asked)

        for logs in self._walk(ask, "events", first, last, patient=patient):
            for log in logs:
                known = by_topic.get(_kind_of(log))
                if known:
                    yield _decoded(*known, log)

    def newest(
        self, contract: Contract, name: str, first: int, last: int, filters: dict[str, Any] | None = None
    ) -> Event | None:
        """The newest event `name` in [first, last], or None. Looks from the end: what is asked for is recent."""
        event = contract.events[name]

        def ask(start: int, end: int) -> Any:
            return event.get_logs(from_block=start, to_block=end, argument_filters=filters or {})

        for logs in self._walk(ask, f"{name} events", first, last, backwards=True):
            if logs:
                return _event(contract, name, logs[-1])
        return None

    def _walk(
        self,
        ask: Callable[[int, int], Any],
        what: str,
        first: int,
        last: int,
        *,
        backwards: bool = False,
        patient: bool = True,
    ) -> Iterator[Any]:
        refused = 0
        while first <= last:
            width = min(self._width, last - first + 1)
            start, end = (last - width + 1, last) if backwards else (first, first + width - 1)
            try:
                logs = ask(start, end)
            except Exception as error:  # noqa: BLE001  (an endpoint may answer anything; what it is, `refusal_of` says)
                refused += self._learn(error, what, start, end, refused if patient else len(PAUSES_SECONDS))
                continue
            refused = 0
            self._grow(width)
            yield logs
            first, last = (first, start - 1) if backwards else (end + 1, last)

    def _learn(self, error: Exception, what: str, start: int, end: int, refused: int) -> bool:
        """Asks for less, or later; whether it was later. Raises when there is no less, or no later."""
        refusal, width = refusal_of(error), end - start + 1
        self._good = 0
        said = without_secrets(str(error), self._rpc_url)[:300]
        if refusal is Refusal.FINAL or (refusal is Refusal.LARGE and width == 1):
            raise ChainError(f"the RPC endpoint gives no {what} of blocks {start} to {end}: {said}") from None
        if refusal in (Refusal.LARGE, Refusal.UNCLEAR):
            self._width = max(1, width // 2)
        if refusal is Refusal.LARGE:
            return False
        if refused >= len(PAUSES_SECONDS):
            raise ChainUnreachable(f"the RPC endpoint gives no {what} of blocks {start} to {end}: {said}") from None
        self._sleep(max(PAUSES_SECONDS[refused], _retry_after(error)))
        return True

    def _grow(self, width: int) -> None:
        """Only where the width was the limit: a short range says nothing of a longer one."""
        if width < self._width:
            return
        self._good += 1
        if self._good >= GROW_AFTER:
            self._good, self._width = 0, min(2 * self._width, MAX_RANGE)


def _status_of(error: Exception) -> int | None:
    """HTTP's, where that was the answer."""
    if isinstance(error, EndpointFailed):
        return error.status
    response = error.response if isinstance(error, requests.exceptions.HTTPError) else None
    return response.status_code if response is not None else None


def _retry_after(error: Exception) -> float:
    if isinstance(error, EndpointFailed):
        return error.retry_after
    response = getattr(error, "response", None)
    said = response.headers.get("retry-after", "") if response is not None else ""
    return min(float(said), MAX_RETRY_AFTER_SECONDS) if said.isascii() and said.isdigit() else 0.0


def _kind_of(log: Any) -> tuple[str, HexBytes]:
    try:
        return str(log["address"]), HexBytes(log["topics"][0])
    except (LookupError, TypeError, ValueError) as error:
        raise ChainError(f"the RPC endpoint gives a malformed event ({type(error).__name__})") from None


def _decoded(contract: Contract, name: str, log: Any) -> Event:
    try:
        return _event(contract, name, contract.events[name].process_log(log))
    except Exception as error:  # noqa: BLE001  (an endpoint may answer anything)
        raise ChainError(f"the RPC endpoint gives a malformed {name} event ({type(error).__name__})") from None


def _event(contract: Contract, name: str, log: Any) -> Event:
    return Event(
        contract=str(contract.address),
        name=name,
        args=dict(log["args"]),
        block=int(log["blockNumber"]),
        log_index=int(log["logIndex"]),
        transaction=bytes(log["transactionHash"]),
        block_hash=bytes(log.get("blockHash") or b""),
    )
