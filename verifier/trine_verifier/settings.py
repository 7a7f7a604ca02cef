"""All settings of a verifier, once. Environment variables begin with TRINE_VERIFIER_."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from trine_operator.settings import OperatorSettings
from trine_verifier.willing import Willing


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
    appeal_dissents: bool = Field(True, description="appeal verdicts against own votes where a gain is to be expected")
    appeal_least_chance: float = Field(
        0.95, gt=0, le=1, description="how sure to be of an own verdict to appeal for it"
    )
    appeal_at_risk: Decimal = Field(
        Decimal(100), ge=0, le=10**9, description="whole tokens of bonds that may be put up at once"
    )
    bls_keystore: Path | None = Field(
        None, description="EIP-2335 file of the key that signs results; without one, results are voted on"
    )
    sign_results: bool = Field(True, description="settle by signatures where all seats do; else by votes on the chain")
    bls_password_file: Path | None = Field(None, description="file whose first line opens the BLS keystore")
    port: int = Field(8100, ge=0, le=65_535)

    @model_validator(mode="after")
    def _key_has_its_password(self) -> Self:
        if (self.bls_keystore is None) != (self.bls_password_file is None):
            raise ValueError("bls_keystore and bls_password_file are given together or not at all")
        return self

    @property
    def willing(self) -> Willing:
        return Willing(self.appeal_dissents, self.appeal_least_chance, int(self.appeal_at_risk * 10**18))
