"""What verifiers have ever asked an RPC endpoint to send about a seat: whether one has said two things. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from eth_abi.abi import decode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes

from trine.chain import Header
from trine.chain.deployment import abi
from trine.protocol.header import batch_id

Seat = tuple[str, bytes]
"""A verifier on a batch."""


@dataclass(slots=True)
class Said:
    """All different commitments and votes of one seat. One of each for every round is right."""

    commitments: set[bytes] = field(default_factory=set)
    votes: set[tuple[int, int]] = field(default_factory=set)


def said_by_seat(transactions: Iterable[bytes], chain_id: int, batches: str) -> dict[Seat, Said]:
    """From raw transactions, mined or not: commitments, revealed votes, signed results. `batches`: the contract's
    address. What is none of it is passed over."""
    found: dict[Seat, Said] = defaultdict(Said)
    for raw in transactions:
        try:
            filled = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
            data = bytes(cast(Any, filled["data"]))
            if to_checksum_address(bytes(cast(Any, filled["to"]))) != batches:
                continue
            verifier = str(Account.recover_transaction(raw))
            if data[:4] == _selector("commit"):
                batch, _seats, _seat, commitment = decode(_types("commit"), data[4:])
                found[verifier, batch].commitments.add(commitment)
            elif data[:4] == _selector("reveal"):
                header, _seats, _seat, accepts, rejects, _distance, _salt = decode(_types("reveal"), data[4:])
                name = batch_id(chain_id, batches, Header(to_checksum_address(header[0]), *header[1:]))
                found[verifier, name].votes.add((accepts, rejects))
            elif data[:4] == _selector("settleSigned"):
                header, seats, _epoch, accepts, rejects, _keys, _signature = decode(_types("settleSigned"), data[4:])
                name = batch_id(chain_id, batches, Header(to_checksum_address(header[0]), *header[1:]))
                for signer, _locked in seats:  # each of them has signed just this
                    found[to_checksum_address(signer), name].votes.add((accepts, rejects))
        except Exception:  # noqa: BLE001, S112  (anything may be sent, and eth-account lets errors of RLP through)
            continue
    return found


def said_twice(said: Mapping[Seat, Said], redraws: Mapping[bytes, int]) -> list[str]:
    """Seats with more commitments or votes than rounds, for people. `redraws`: of each batch that had any."""
    faults = []
    for (verifier, batch), each in said.items():
        rounds = 1 + redraws.get(batch, 0)
        for what, count in (("commitments", len(each.commitments)), ("votes", len(each.votes))):
            if count > rounds:
                faults.append(
                    f"{verifier} sent {count} different {what} on batch 0x{batch.hex()[:12]}, {rounds} rounds"
                )
    return faults


@cache
def _function(name: str) -> Any:
    (found,) = (entry for entry in abi("Batches") if entry["type"] == "function" and entry["name"] == name)
    return found


def _selector(name: str) -> bytes:
    return function_abi_to_4byte_selector(_function(name))


def _types(name: str) -> list[str]:
    return get_abi_input_types(_function(name))
