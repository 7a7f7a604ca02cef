"""Reads events in ranges. Public RPC endpoints limit a range by blocks or by results: on refusal it is halved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import requests.exceptions
from hexbytes import HexBytes
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import Web3Exception
from web3.types import EventData

from trine.chain.records import Event
from trine.errors import ChainError

FIRST_RANGE = 10_000


def read(
    contract: Contract, name: str, from_block: int, to_block: int, filters: dict[str, Any] | None = None
) -> Iterator[Event]:
    """Events `name` in [from_block, to_block], oldest first. Raises ChainError when even one block is refused."""
    event = contract.events[name]
    start, width = from_block, FIRST_RANGE
    while start <= to_block:
        end = min(start + width - 1, to_block)
        try:
            found = event.get_logs(from_block=start, to_block=end, argument_filters=filters or {})
        except (Web3Exception, requests.exceptions.RequestException) as error:
            if end == start:
                raise ChainError(f"cannot read {name} events of block {start}: {error}") from None
            width = max(1, (end - start + 1) // 2)
            continue
        for log in found:
            yield _event(contract, name, log)
        start = end + 1


def read_kinds(web3: Web3, kinds: Sequence[tuple[Contract, str]], from_block: int, to_block: int) -> Iterator[Event]:
    """Events of several kinds in [from_block, to_block], oldest first. Raises ChainError as `read` does."""
    by_topic = {
        (str(contract.address), HexBytes(contract.events[name].topic)): (contract, name) for contract, name in kinds
    }
    addresses = sorted({address for address, _topic in by_topic})
    topics = sorted({topic.to_0x_hex() for _address, topic in by_topic})
    start, width = from_block, FIRST_RANGE
    while start <= to_block:
        end = min(start + width - 1, to_block)
        asked: Any = {"fromBlock": start, "toBlock": end, "address": addresses, "topics": [topics]}
        try:
            found = web3.eth.get_logs(asked)
        except (Web3Exception, requests.exceptions.RequestException) as error:
            if end == start:
                raise ChainError(f"cannot read events of block {start}: {error}") from None
            width = max(1, (end - start + 1) // 2)
            continue
        for log in found:
            known = by_topic.get((str(log["address"]), HexBytes(log["topics"][0])))
            if known:
                contract, name = known
                yield _event(contract, name, contract.events[name].process_log(log))
        start = end + 1


def newest(
    contract: Contract, name: str, from_block: int, to_block: int, filters: dict[str, Any] | None = None
) -> Event | None:
    """The newest event `name` in [from_block, to_block], or None. Looks from the end: what is asked for is recent."""
    event = contract.events[name]
    end, width = to_block, FIRST_RANGE
    while end >= from_block:
        start = max(end - width + 1, from_block)
        try:
            found = event.get_logs(from_block=start, to_block=end, argument_filters=filters or {})
        except (Web3Exception, requests.exceptions.RequestException) as error:
            if end == start:
                raise ChainError(f"cannot read {name} events of block {start}: {error}") from None
            width = max(1, (end - start + 1) // 2)
            continue
        if found:
            return _event(contract, name, found[-1])
        end = start - 1
    return None


def _event(contract: Contract, name: str, log: EventData) -> Event:
    return Event(
        contract=str(contract.address),
        name=name,
        args=dict(log["args"]),
        block=int(log["blockNumber"]),
        log_index=int(log["logIndex"]),
        transaction=bytes(log["transactionHash"]),
    )
