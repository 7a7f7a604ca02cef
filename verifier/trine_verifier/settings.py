"""All settings of a verifier, once. Environment variables begin with TRINE_VERIFIER_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from trine_operator.settings import OperatorSettings


class VerifierSettings(OperatorSettings):
    """Everything a verifier can be told."""

    model_config = SettingsConfigDict(env_prefix="TRINE_VERIFIER_", extra="forbid", frozen=True)

    port: int = Field(8100, ge=0, le=65_535)
