"""All settings of a node, once. Environment variables begin with TRINE_NODE_."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import SettingsConfigDict

from trine.protocol.messages import MAX_ANCHOR_SECONDS
from trine.protocol.requests import MAX_CALLBACK_GAS
from trine_operator.publishing import Terms
from trine_operator.service.browsers import Origin
from trine_operator.settings import OperatorSettings


class Limits(BaseModel):
    """Bounds on what one client can ask of the service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_body_bytes: int = Field(2 << 20, ge=1024, le=64 << 20)
    default_max_tokens: int = Field(256, ge=1, le=1 << 17)
    max_tokens: int = Field(2048, ge=1, le=1 << 17)
    max_running: int = Field(8, ge=1, le=1024)
    max_waiting: int = Field(32, ge=0, le=10_000)
    request_timeout_seconds: float = Field(600, gt=0, le=86_400)


class X402(BaseModel):
    """Answers for who pays by HTTP 402 and x402; see docs/operators.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asset: str | None = Field(
        None, pattern="^0x[0-9a-fA-F]{40}$", description="token with EIP-3009 to be paid in; default: the deployment's"
    )
    asset_name: str | None = Field(None, min_length=1, max_length=64, description="of its EIP-712 domain")
    asset_version: str | None = Field(None, min_length=1, max_length=16, description="of its EIP-712 domain")
    units_per_million_tokens: int | None = Field(
        None, ge=0, le=10**30, description="price in the asset's smallest unit; default: the model's, in its token"
    )
    min_units: int = Field(0, ge=0, le=10**30, description="least price of an answer: settling one costs gas")
    max_unsettled: int = Field(64, ge=1, le=1_000, description="answers on credit until their verdicts, all payers'")
    max_unsettled_per_payer: int = Field(4, ge=1, le=1_000, description="the same of one payer")

    @model_validator(mode="after")
    def _has_price(self) -> Self:
        if self.asset is not None and self.units_per_million_tokens is None:
            raise ValueError("another asset needs units_per_million_tokens: the model's price is in the deployment's")
        return self


class NodeSettings(OperatorSettings):
    """Everything a node can be told."""

    model_config = SettingsConfigDict(env_prefix="TRINE_NODE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    allow_unsigned: bool = Field(False, description="serve requests without signature and payment, for free")
    batch_max_leaves: int = Field(256, ge=1, le=256)
    batch_max_wait_seconds: float = Field(10.0, ge=0, le=3_600)
    anchor_within_seconds: int = Field(
        3_600,
        ge=600,
        le=MAX_ANCHOR_SECONDS,
        description="receipts promise to be in a batch by then; leave room for waiting, retries and dear gas",
    )
    max_unacknowledged: Decimal = Field(
        Decimal(5), ge=0, le=10**9, description="whole tokens that a client may leave unacknowledged and be served"
    )
    open_after_seconds: int = Field(
        86_400, ge=60, le=30 * 86_400, description="what a client silent for so long owes is collected by opening"
    )
    open_threshold: Decimal = Field(
        Decimal("0.1"), ge=0, le=10**9, description="whole tokens that opening must bring: less is not worth the gas"
    )
    answer_requests: bool = Field(
        False, description="answer what contracts ask on the chain, where it pays; needs request_tokens_per_coin"
    )
    request_tokens_per_coin: Decimal | None = Field(
        None, gt=0, le=10**9, description="whole tokens that one coin of the chain's gas money is worth to you"
    )
    request_least_profit: Decimal = Field(
        Decimal("0.01"), ge=0, le=10**9, description="whole tokens over price and gas that an answer must bring"
    )
    request_max_tokens: int = Field(1_024, ge=1, le=1 << 17, description="longest answer to a contract")
    request_max_callback_gas: int = Field(
        MAX_CALLBACK_GAS, ge=0, le=MAX_CALLBACK_GAS, description="most gas that a contract's callback may have"
    )
    request_queue: int = Field(256, ge=1, le=10_000, description="posted requests that wait; the best paid stay")
    request_turn_seconds: int = Field(
        60, ge=1, le=86_400, description="how long each node that comes first by lot is waited for"
    )
    request_margin_seconds: int = Field(
        600, ge=0, le=30 * 86_400, description="time before a request's deadline that is kept free for delays"
    )
    erc8004_publish_every: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="final batches that are published in ERC-8004's validation registry: 0 none, 1 all, n those whose "
        "id is divisible by n",
    )
    erc8004_max_gas: int = Field(
        600_000, ge=100_000, le=10_000_000, description="most gas that one publication may take: others wrote that code"
    )
    erc8004_max_fee_gwei: Decimal = Field(
        Decimal(20), gt=0, le=10**6, description="most that the chain may ask for a unit of gas: above it, it waits"
    )
    cors_origins: list[Origin] = Field(
        default_factory=list, max_length=64, description="websites that browsers may ask this node from; `*` is any"
    )
    limits: Limits = Field(default_factory=Limits)
    x402: X402 | None = Field(None, description="serve unsigned requests for payment by x402")

    @property
    def request_least_profit_wei(self) -> int:
        return int(self.request_least_profit * 10**18)

    @property
    def request_coin_micro(self) -> int:
        """What a coin is worth in millionths of a token; 1 at least."""
        return max(int((self.request_tokens_per_coin or Decimal(0)) * 10**6), 1)

    @property
    def max_unacknowledged_wei(self) -> int:
        return int(self.max_unacknowledged * 10**18)

    @property
    def open_threshold_wei(self) -> int:
        return int(self.open_threshold * 10**18)

    @property
    def publication_terms(self) -> Terms | None:
        """None where nothing is published."""
        if not self.erc8004_publish_every:
            return None
        max_fee_wei = int(self.erc8004_max_fee_gwei * 10**9)
        return Terms(self.erc8004_publish_every, self.erc8004_max_gas, max_fee_wei)

    @model_validator(mode="after")
    def _unsigned_requests_are_one_thing(self) -> Self:
        if self.allow_unsigned and self.x402 is not None:
            raise ValueError("allow_unsigned and x402: unsigned requests are either free or paid, choose one")
        return self

    @model_validator(mode="after")
    def _gas_has_a_price(self) -> Self:
        if self.answer_requests and self.request_tokens_per_coin is None:
            raise ValueError(
                "answer_requests needs request_tokens_per_coin, what one coin of gas money is worth in tokens: gas is "
                "paid in one and earned in the other"
            )
        return self

    @model_validator(mode="after")
    def _receipts_can_be_kept(self) -> Self:
        if self.anchor_within_seconds < self.batch_max_wait_seconds + 300:
            raise ValueError(
                "anchor_within_seconds must be 300 s more than batch_max_wait_seconds: what is anchored later than "
                "its receipt promises costs stake"
            )
        return self
