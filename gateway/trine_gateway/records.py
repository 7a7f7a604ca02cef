"""What a gateway's store keeps, as it is handed over: keys, answers, verdicts, and which chain they are about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChainMark:
    """Where a deployment began: no other chain has a block with this hash."""

    chain_id: int
    contract: str  # the address of `Batches`
    block: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """Who asks, as far as it must be known."""

    key_id: str
    name: str
    hash: str
    is_admin: bool
    budget_wei: int | None
    requests_per_minute: int
    expires_at: int | None
    revoked_at: int | None

    def is_valid(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that is to be kept. `held` is `Answer.held` as JSON."""

    digest: bytes
    model: str
    node: str
    held: str
    fee_wei: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """By what an answer can be had again: hashes of the Idempotency-Key and of the body."""

    name: str
    body: str


@dataclass(frozen=True, slots=True)
class Due:
    """An answer of which more may be known by now."""

    digest: bytes
    key_id: str
    node: str
    held: str
    verdict: str | None
    looks: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer as it is shown to its key."""

    digest: str
    model: str
    node: str
    fee_wei: int
    created_at: int
    verdict: str | None
    is_final: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What a key has had."""

    key: Key
    created_at: int
    spent_wei: int
    reserved_wei: int
    answers: int
    verdicts: dict[str, int]
    recent: tuple[Judged, ...]
