"""All settings of a node, once. Environment variables begin with TRINE_NODE_."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

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


class NodeSettings(OperatorSettings):
    """Everything a node can be told."""

    model_config = SettingsConfigDict(env_prefix="TRINE_NODE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    allow_unsigned: bool = Field(False, description="serve requests without signature and payment, for free")
    batch_max_leaves: int = Field(256, ge=1, le=256)
    batch_max_wait_seconds: float = Field(10.0, ge=0, le=86_400)
    limits: Limits = Field(default_factory=Limits)
