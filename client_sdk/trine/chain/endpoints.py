"""Several RPC endpoints as one: reads fail over, transactions go to all, and what disagrees with the rest is left.

One endpoint answers until it fails; then the next one does, once it has shown the newest block that was known. So a
read never goes back in time unnoticed. Whoever follows the chain has the endpoints compared now and then (`health`).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trine.chain.health import (
    Fault,
    HeadSeen,
    LogKey,
    common_block,
    faults_of_blocks,
    faults_of_heads,
    missing_logs,
)
from trine.chain.transport import EndpointFailed, Transport

log = logging.getLogger("trine.chain")

MAX_SAID = 200
FAILOVER_SECONDS = 8.0
"""An endpoint is waited for so long where there is another to ask."""
PENALTY_SECONDS = (1.0, 60.0)
"""An endpoint that failed is asked after the others: for the first time, which doubles up to the second."""
PAUSES_SECONDS = (0.125, 0.25, 0.5, 1.0)
"""Between tries of who is patient, when no endpoint answers."""
BEHIND_SECONDS = 60.0
"""For so long nobody is asked who has not got to the newest block that was seen. Then the chain may have shrunk."""
COMPARE_SECONDS = 30.0
LAGGING_LOOKS = 2
"""Comparisons in a row: a block may have come between two endpoints' answers."""
EVENT_BLOCKS = 64
"""How many blocks' events are compared."""
MAX_PROOFS = 4
MAX_BATCH = 32
"""Calls in one request."""
NO_BATCHES_SECONDS = 600.0
"""Between tries with an endpoint that took none."""
BUSY_CODES = (429, -32005)
ELSEWHERE = re.compile(
    r"too many requests|\brate.?limit|throttl|quota|credits|capacity|overload|header not found|unknown block"
    r"|missing trie node|not available|pruned|still syncing",
    re.I,
)
"""Errors that another endpoint may not have, as providers word them."""

Answer = dict[str, Any]
"""A JSON-RPC answer: it has `result` or `error`."""
Call = tuple[str, Sequence[Any]]
"""Method and parameters."""


@dataclass(slots=True)
class _Endpoint:
    """An endpoint and what is known of it; the lock of `Endpoints` guards everything but the transport."""

    transport: Transport
    fault: Fault | None = None
    failures: int = 0
    not_before: float = 0.0
    lagging_looks: int = 0
    no_batches_before: float = 0.0
    said: str = "no answer"  # at its last failure


@dataclass(slots=True)
class _Highest:
    """The newest block that an endpoint has shown, and when."""

    number: int = -1
    at: float = 0.0
    chain_id: int | None = field(default=None)


class Endpoints:
    """Thread-safe."""

    def __init__(
        self,
        addresses: Sequence[str],
        timeout_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._all = [_Endpoint(Transport(address)) for address in addresses]
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._current = self._all[0]
        self._highest = _Highest()
        self._changes = 0

    @property
    def addresses(self) -> str:
        """All of them, with spaces between."""
        return " ".join(endpoint.transport.url for endpoint in self._all)

    @property
    def current(self) -> str:
        """Address of the endpoint that answers now."""
        return self._current.transport.url

    @property
    def changes(self) -> int:
        """How often another endpoint took over: what was read from the one before may not be all."""
        return self._changes

    def expect(self, chain_id: int) -> None:
        """From now on no endpoint is gone over to that serves another chain."""
        self._highest.chain_id = chain_id

    def note_head(self, number: int) -> None:
        """A newest block was shown: whoever is gone over to must have got there."""
        with self._lock:
            if number > self._highest.number or self._clock() - self._highest.at > BEHIND_SECONDS:
                self._highest.number, self._highest.at = number, self._clock()

    # Asking

    def call(self, method: str, parameters: Sequence[Any], *, patient: bool = False) -> Answer:
        """One call's answer, from the first endpoint that has one. Raises EndpointFailed.

        Patient: asks again, after pauses, when none has; it is not for what the asker repeats itself.
        """
        started = self._clock()
        for pause in (*(PAUSES_SECONDS if patient else ()), None):
            try:
                answer: Answer = self._ask_any(lambda e, seconds: _answer(e.transport, method, parameters, seconds))
                return answer
            except EndpointFailed as error:
                hopeless = error.status is not None and error.status not in (408, 425, 429) and error.status < 500
                if pause is None or hopeless or self._clock() - started > self._timeout_seconds:
                    raise
                self._sleep(max(pause, min(error.retry_after, PAUSES_SECONDS[-1])))
        raise AssertionError("unreachable")

    def batch(self, calls: Sequence[Call]) -> list[Answer] | None:
        """The answers to several calls, in their order, in few requests; None where no endpoint takes that."""
        answers: list[Answer] = []
        for start in range(0, len(calls), MAX_BATCH):
            ask = partial(self._answers, calls[start : start + MAX_BATCH])
            try:
                found = self._ask_any(ask)
            except EndpointFailed:
                return None
            if found is None:
                return None
            answers += found
        return answers

    def _answers(self, calls: Sequence[Call], endpoint: _Endpoint, seconds: float) -> list[Answer] | None:
        """None where the endpoint takes no batches: asked one by one, it answers, or fails as it does."""
        if self._clock() < endpoint.no_batches_before:
            return None
        try:
            answers = _answers(endpoint.transport, calls, seconds)
        except EndpointFailed as error:
            if error.silent or error.status == 429 or (error.status or 0) >= 500:
                raise
            answers = None
        if answers is None:
            endpoint.no_batches_before = self._clock() + NO_BATCHES_SECONDS
        return answers

    def broadcast(self, raw_transaction: str) -> Answer:
        """Sends a signed transaction, in hexadecimal, to all endpoints that are well.

        The answer of the one that answers reads, or of another that has taken it where that one has not. Raises
        EndpointFailed when none answers.
        """
        others = [e for e in self._all if e is not self._current and e.fault is None]
        parameters = (raw_transaction,)
        if not others:
            return self.call("eth_sendRawTransaction", parameters, patient=True)
        pool = ThreadPoolExecutor(len(others), thread_name_prefix="broadcast")
        tries = [
            pool.submit(_answer, e.transport, "eth_sendRawTransaction", parameters, FAILOVER_SECONDS) for e in others
        ]
        pool.shutdown(wait=False)
        answer: Answer | None = None
        failed: EndpointFailed | None = None
        try:
            answer = self.call("eth_sendRawTransaction", parameters)
        except EndpointFailed as error:
            failed = error
        if answer and "result" in answer:
            return answer  # the others are told meanwhile, and nobody waits for them
        said = [a for a in (_result_of(each.result) for each in tries) if a is not None]
        taken = next((each for each in said if "result" in each), None)
        if taken or answer:
            return taken or answer or {}
        raise failed or EndpointFailed(f"no answer from {self._names()}")

    def _ask_any(self, ask: Callable[[_Endpoint, float], Any]) -> Any:
        candidates = self._candidates()
        failed, lacking = [], None
        for place, endpoint in enumerate(candidates):
            is_last = place + 1 == len(candidates)
            seconds = self._timeout_seconds if is_last else min(FAILOVER_SECONDS, self._timeout_seconds)
            try:
                if endpoint is not self._current:
                    self._check(endpoint, seconds)
                answer = ask(endpoint, seconds)
            except EndpointFailed as error:
                failed.append(error)
                self._punish(endpoint, error)
                continue
            if not is_last and isinstance(answer, dict) and _is_to_be_had_elsewhere(answer):
                lacking = answer
                continue
            self._take(endpoint)
            return answer
        if lacking is not None:
            return lacking
        raise self._none_answers(failed)

    def _candidates(self) -> list[_Endpoint]:
        """Those to ask, in this order: the current one, those that have not failed lately, those that have."""
        if len(self._all) == 1:
            return self._all
        now = self._clock()
        with self._lock:
            usable = [e for e in self._all if e.fault in (None, Fault.LAGS)]

            def turn(endpoint: _Endpoint) -> tuple[bool, float, bool]:
                rests = max(endpoint.not_before - now, 0.0)
                return endpoint.fault is not None, rests, endpoint is not self._current

            return sorted(usable, key=turn)

    def _check(self, endpoint: _Endpoint, seconds: float) -> None:
        """Before an endpoint takes another's place. Raises EndpointFailed."""
        highest = self._highest
        if highest.chain_id is not None:
            chain_id = _number(_answer(endpoint.transport, "eth_chainId", (), seconds), endpoint)
            if chain_id != highest.chain_id:
                self._leave(endpoint, Fault.WRONG_CHAIN)
                raise EndpointFailed(f"{endpoint.transport.origin} serves chain {chain_id}")
        if highest.number < 0:
            return
        head = _number(_answer(endpoint.transport, "eth_blockNumber", (), seconds), endpoint)
        if head >= highest.number:
            return
        origin = endpoint.transport.origin
        if self._clock() - highest.at < BEHIND_SECONDS:
            raise EndpointFailed(f"{origin} is behind: at block {head}, {highest.number} was seen")
        log.warning("no endpoint shows block %d, which was seen: going on with %s at %d", highest.number, origin, head)
        with self._lock:
            highest.number = head

    def _take(self, endpoint: _Endpoint) -> None:
        if endpoint is self._current and not endpoint.failures:
            return
        with self._lock:
            endpoint.failures, endpoint.not_before = 0, 0.0
            if endpoint is self._current or endpoint.fault not in (None, Fault.LAGS):
                return
            # An answer that was under way when another endpoint took over changes nothing.
            if self._current.failures or self._current.fault is not None:
                self._go_over_to(endpoint)

    def _punish(self, endpoint: _Endpoint, error: EndpointFailed) -> None:
        with self._lock:
            endpoint.said = str(error)[:MAX_SAID]
            pause = min(PENALTY_SECONDS[0] * 2.0 ** min(endpoint.failures, 10), PENALTY_SECONDS[1])
            endpoint.failures += 1
            endpoint.not_before = self._clock() + pause

    def _none_answers(self, failed: Sequence[EndpointFailed]) -> EndpointFailed:
        """One error of all: it says of each endpoint what is wrong."""
        left = [f"{e.transport.origin} is left ({e.fault.value})" for e in self._all if e.fault]
        if len(failed) == 1 and not left:
            return failed[0]
        statuses = {error.status for error in failed}
        return EndpointFailed(
            "; ".join([*map(str, failed), *left]),
            status=statuses.pop() if len(statuses) == 1 else None,
            retry_after=min((error.retry_after for error in failed), default=0.0),
            silent=any(error.silent for error in failed),
        )

    def _names(self) -> str:
        return ", ".join(endpoint.transport.origin for endpoint in self._all)

    # Leaving and taking back

    def leave_current(self, fault: Fault) -> bool:
        """Leaves the endpoint that answers now; whether there is another."""
        self._leave(self._current, fault)
        with self._lock:
            well = [endpoint for endpoint in self._all if endpoint.fault is None]
            if well:
                self._go_over_to(well[0])
            return bool(well)

    def _go_over_to(self, endpoint: _Endpoint) -> None:
        """The lock is held."""
        before, self._current = self._current, endpoint
        self._changes += 1
        why = before.fault.value if before.fault else before.said
        origins = (before.transport.origin, endpoint.transport.origin)
        log.warning("the RPC endpoint %s fails (%s): reading from %s from now on", origins[0], why, origins[1])

    def _leave(self, endpoint: _Endpoint, fault: Fault | None) -> None:
        """Or takes it back, without a fault. Says so."""
        with self._lock:
            before, endpoint.fault = endpoint.fault, fault
        if fault and fault is not before:
            log.warning("the RPC endpoint %s is left: %s", endpoint.transport.origin, fault.value)
        elif before and not fault:
            log.warning("the RPC endpoint %s is well again", endpoint.transport.origin)

    def compare(self, contracts: Sequence[str], first_block: int) -> None:
        """Looks at all endpoints and leaves those that disagree with the rest; goes back to the first that is well.

        `contracts`: addresses whose events are compared, none of which are older than `first_block`.
        """
        chain_id = self._highest.chain_id
        if len(self._all) == 1 or chain_id is None:
            return
        with ThreadPoolExecutor(len(self._all)) as pool:
            heads = list(pool.map(_head_seen, self._all))
            faults = self._patient_with_lag(faults_of_heads(heads, chain_id))
            common = common_block(heads, faults)
            if common is not None:
                well = [i for i, head in enumerate(heads) if head and faults[i] is None]
                hashes = dict(zip(well, pool.map(lambda i: _hash_seen(self._all[i], common), well), strict=True))
                answering = {i: found for i, (found, has_answered) in hashes.items() if has_answered}
                numbers = {i: head.number for i, head in enumerate(heads) if head}
                for i, fault in faults_of_blocks(answering, numbers).items():
                    faults[i] = fault
                start = max(common - EVENT_BLOCKS + 1, first_block)
                rest = [i for i in answering if faults[i] is None]
                logs = pool.map(lambda i: _logs_seen(self._all[i], contracts, start, common), rest)
                shown = {i: seen for i, seen in zip(rest, logs, strict=True) if seen is not None}
                for i, lacking in missing_logs(shown).items():
                    if _has_transactions_of(self._all[i], lacking):
                        faults[i] = Fault.LEAVES_OUT
        self._apply(heads, faults)

    def _patient_with_lag(self, faults: list[Fault | None]) -> list[Fault | None]:
        for place, (endpoint, fault) in enumerate(zip(self._all, faults, strict=True)):
            endpoint.lagging_looks = endpoint.lagging_looks + 1 if fault is Fault.LAGS else 0
            if fault is Fault.LAGS and endpoint.lagging_looks < LAGGING_LOOKS:
                faults[place] = endpoint.fault
        return faults

    def _apply(self, heads: Sequence[HeadSeen | None], faults: Sequence[Fault | None]) -> None:
        for endpoint, head, fault in zip(self._all, heads, faults, strict=True):
            if head is not None:  # who does not answer has not shown that it is well
                self._leave(endpoint, fault)
        well = [
            (endpoint, head.number)
            for endpoint, head in zip(self._all, heads, strict=True)
            if head and endpoint.fault is None
        ]
        with self._lock:
            chosen = self._preferred(well)
            if chosen is not self._current:
                self._go_over_to(chosen)
                chosen.failures, chosen.not_before = 0, 0.0
        if well:
            self.note_head(max(number for _, number in well))

    def _preferred(self, well: Sequence[tuple[_Endpoint, int]]) -> _Endpoint:
        """The one that the setting names first of those that have got to where the chain was. Another than the current
        one only then, or when that is left: two that are a moment apart do not take turns."""
        caught_up = [endpoint for endpoint, number in well if number >= self._highest.number]
        places = {id(endpoint): place for place, endpoint in enumerate(self._all)}
        if self._current.fault is not None:
            return next(iter(caught_up or [endpoint for endpoint, _ in well]), self._current)
        first = next(iter(caught_up), self._current)
        return first if places[id(first)] < places[id(self._current)] else self._current

    def watch(self, contracts: Sequence[str], first_block: int, ended: threading.Event) -> None:
        """Compares now and then, in a thread of its own, until `ended`. Nothing with one endpoint."""
        if len(self._all) == 1:
            return

        def look() -> None:
            while not ended.is_set():
                try:
                    self.compare(contracts, first_block)
                except Exception as error:  # noqa: BLE001  (endpoints may answer anything; the next look may go better)
                    log.warning("the RPC endpoints could not be compared (%s)", type(error).__name__)
                ended.wait(COMPARE_SECONDS)

        threading.Thread(target=look, name="endpoints", daemon=True).start()


def _answer(transport: Transport, method: str, parameters: Sequence[Any], seconds: float) -> Answer:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
    answer = transport.post(asked, seconds)
    if not _is_answer(answer):
        raise EndpointFailed(f"{transport.origin} answers with something that is no JSON-RPC answer")
    return dict(answer)


def _answers(transport: Transport, calls: Sequence[Call], seconds: float) -> list[Answer] | None:
    """Of a JSON-RPC batch, in the order of its calls; None when it was not taken as one."""
    asked = [
        {"jsonrpc": "2.0", "id": place, "method": method, "params": list(parameters)}
        for place, (method, parameters) in enumerate(calls)
    ]
    said = transport.post(asked, seconds)
    if not isinstance(said, list) or len(said) != len(calls):
        return None
    answers = {each["id"]: each for each in said if _is_answer(each) and isinstance(each.get("id"), int)}
    return [answers[place] for place in range(len(calls))] if set(answers) == set(range(len(calls))) else None


def _is_answer(said: Any) -> bool:
    return isinstance(said, dict) and ("result" in said or bool(said.get("error")))


def _is_to_be_had_elsewhere(answer: Answer) -> bool:
    """Whether it is an error of the endpoint's own: it is busy, or has not got what is asked for."""
    error = answer.get("error")
    if not isinstance(error, dict) or error.get("data"):
        return False
    return error.get("code") in BUSY_CODES or bool(ELSEWHERE.search(str(error.get("message", ""))[:1000]))


def _number(answer: Answer, endpoint: _Endpoint) -> int:
    try:
        return int(answer["result"], 16)
    except (KeyError, TypeError, ValueError):
        raise EndpointFailed(f"{endpoint.transport.origin} answers with something that is no number") from None


def _result_of(wait: Callable[[], Answer]) -> Answer | None:
    try:
        return wait()
    except EndpointFailed:
        return None


def _head_seen(endpoint: _Endpoint) -> HeadSeen | None:
    try:
        chain_id = _number(_answer(endpoint.transport, "eth_chainId", (), FAILOVER_SECONDS), endpoint)
        block = _answer(endpoint.transport, "eth_getBlockByNumber", ("latest", False), FAILOVER_SECONDS)["result"]
        return HeadSeen(chain_id, int(block["number"], 16), int(block["timestamp"], 16))
    except (EndpointFailed, KeyError, TypeError, ValueError):
        return None


def _hash_seen(endpoint: _Endpoint, number: int) -> tuple[str | None, bool]:
    """The block's hash, None where it is not shown; and whether there was an answer."""
    try:
        block = _answer(endpoint.transport, "eth_getBlockByNumber", (hex(number), False), FAILOVER_SECONDS)["result"]
        return (None if block is None else str(block["hash"]).lower()), True
    except (EndpointFailed, KeyError, TypeError):
        return None, False


def _logs_seen(endpoint: _Endpoint, contracts: Sequence[str], first: int, last: int) -> frozenset[LogKey] | None:
    """None where it gives no logs: that is no lie."""
    asked = {"address": list(contracts), "fromBlock": hex(first), "toBlock": hex(last)}
    try:
        logs = _answer(endpoint.transport, "eth_getLogs", (asked,), FAILOVER_SECONDS)["result"]
        return frozenset(_key_of(each) for each in logs)
    except (EndpointFailed, KeyError, TypeError, ValueError):
        return None


def _key_of(shown: Any) -> LogKey:
    return str(shown["blockHash"]).lower(), str(shown["transactionHash"]).lower(), int(shown["logIndex"], 16)


def _has_transactions_of(endpoint: _Endpoint, lacking: frozenset[LogKey]) -> bool:
    """Whether it has, by its own showing, the transaction of an event that it does not list.

    What only the others show proves nothing: they may have made it up.
    """
    return any(_has_receipt(endpoint, key) or _has_in_block(endpoint, key) for key in sorted(lacking)[:MAX_PROOFS])


def _has_receipt(endpoint: _Endpoint, key: LogKey) -> bool:
    try:
        receipt = _answer(endpoint.transport, "eth_getTransactionReceipt", (key[1],), FAILOVER_SECONDS)["result"]
        return any(_key_of(each) == key for each in receipt["logs"])
    except (EndpointFailed, KeyError, TypeError, ValueError):
        return False


def _has_in_block(endpoint: _Endpoint, key: LogKey) -> bool:
    block_hash, transaction, _ = key
    try:
        block = _answer(endpoint.transport, "eth_getBlockByHash", (block_hash, False), FAILOVER_SECONDS)["result"]
        return transaction in _lower(block["transactions"])
    except (EndpointFailed, KeyError, TypeError, ValueError):
        return False


def _lower(hashes: Sequence[Any]) -> Iterator[str]:
    return (str(each).lower() for each in hashes)
