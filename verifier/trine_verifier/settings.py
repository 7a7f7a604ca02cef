"""All settings of a verifier, once. Environment variables begin with TRINE_VERIFIER_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from trine_operator.settings import OperatorSettings


class VerifierSettings(OperatorSettings):
    """Everything a verifier can be told."""

    model_config = SettingsConfigDict(env_prefix="TRINE_VERIFIER_", extra="forbid", frozen=True)

    keep_votes_days: float = Field(
        30, ge=1, le=36_500, description="how long votes and verdicts are kept once their seat is over"
    )
    pass_on_mb: int = Field(
        1024, ge=0, le=1 << 20, description="how much of others' evidence is kept for who judges it too; 0: none"
    )
    pass_on_batch_mb: int = Field(64, ge=1, le=64, description="how much of it a batch may take")
    port: int = Field(8100, ge=0, le=65_535)
