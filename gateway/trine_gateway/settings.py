"""All settings of a gateway, once. Environment variables begin with TRINE_GATEWAY_."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from trine._choosing import Preference
from trine_operator.service.browsers import Origin
from trine_operator.settings import Endpoints, FileSettings


class Limits(BaseModel):
    """Bounds on what clients can ask of the gateway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_body_bytes: int = Field(2 << 20, ge=1024, le=64 << 20)
    default_max_tokens: int = Field(256, ge=1, le=1 << 17)
    max_tokens: int = Field(2048, ge=1, le=1 << 17)
    max_running: int = Field(256, ge=1, le=10_000, description="answers on their way at once")
    max_running_per_key: int = Field(64, ge=1, le=10_000)
    request_timeout_seconds: float = Field(600, gt=0, le=86_400)
    max_wait_seconds: float = Field(300, gt=0, le=86_400, description="longest wait for a verdict within a request")


class GatewaySettings(FileSettings):
    """Everything a gateway can be told."""

    model_config = SettingsConfigDict(
        env_prefix="TRINE_GATEWAY_", env_nested_delimiter="__", extra="forbid", frozen=True
    )
    GUIDE: ClassVar[str] = "docs/gateway.md"

    rpc_url: Endpoints = Field(
        "http://127.0.0.1:8545",
        repr=False,
        description="JSON-RPC endpoints, a list or with commas between; they may hold keys",
    )
    deployment: Path = Field(description="JSON file with the contracts' addresses")
    keystore: Path = Field(description="Web3 Secret Storage file of the account that pays")
    password_file: Path = Field(description="file whose first line opens the keystore")
    node: str | None = Field(
        None, pattern="^https?://", description="endpoint of the only node to ask; default: all that stake"
    )
    prefer: Preference = Field(
        "reputation",
        description="which of the nodes of good reputation is asked first: reputation; speed, as the gateway measured "
        "it; price, where a deposit is already",
    )
    sealed: bool = Field(
        False, description="whether nodes are asked sealed; then only those are asked that show a key for it"
    )
    deposit: Decimal = Field(
        Decimal(0), ge=0, le=10**9, description="whole tokens to deposit with a node whenever an order is not covered"
    )
    store_url: str = Field("sqlite:///gateway.sqlite", repr=False, description="SQLAlchemy URL; may hold a password")
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    cors_origins: list[Origin] = Field(
        default_factory=list, max_length=64, description="websites that browsers may ask from; `*` is any"
    )
    checks_at_once: int = Field(16, ge=1, le=1_024, description="verdicts that are looked for at the same time")
    cut_off_hours: Decimal = Field(
        Decimal(24), ge=0, le=10**5, description="how long a node is asked nothing after an answer was rejected"
    )
    repeat_hours: Decimal = Field(
        Decimal(24), gt=0, le=24 * 30, description="how long an answer can be had again by its Idempotency-Key"
    )
    limits: Limits = Field(default_factory=Limits)

    @property
    def deposit_wei(self) -> int:
        return int(self.deposit * 10**18)

    @property
    def cut_off_seconds(self) -> int:
        return int(self.cut_off_hours * 3600)

    @property
    def repeat_seconds(self) -> int:
        return int(self.repeat_hours * 3600)
