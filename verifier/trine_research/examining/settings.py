"""All settings of an examiner: a node's, and what it plants. Environment variables begin with TRINE_EXAMINER_."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from trine_node.settings import NodeSettings
from trine_research.adversaries import ADVERSARIES, CONSTRAINING, DRAWING

KINDS = ("swapped-token", "inserted-token", "truncated", "other-prompt", "int8-weights")


class ExaminerSettings(NodeSettings):
    """Everything an examiner can be told."""

    model_config = SettingsConfigDict(
        env_prefix="TRINE_EXAMINER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    clients: tuple[Path, ...] = Field(
        min_length=1, description="keystores of the clients that it plays, opened by password_file; one after another"
    )
    deposit: Decimal = Field(Decimal(10), gt=0, le=10**9, description="whole tokens that a client deposits at a time")
    record: Path = Field(Path("planted.jsonl"), description="file that says what was planted; as precious as the store")
    prompts: Path | None = Field(None, description="prompts like clients', a line of JSON each; default: everyday ones")
    order_seconds: float = Field(300, ge=0.1, le=86_400, description="mean time between its own orders")
    canary_rate: float = Field(0.1, ge=0, le=0.25, description="share of its own orders that are answered badly")
    answer_tokens: tuple[int, int] = Field((16, 64), description="shortest and longest limit of its own orders")
    kinds: tuple[str, ...] = Field(KINDS, min_length=1, description="how it cheats, by lot")

    @field_validator("kinds")
    @classmethod
    def _kinds_are_known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for kind in given:
            if kind not in ADVERSARIES and ":" not in kind:
                raise ValueError(f"no cheat {kind!r}: choose from {', '.join(ADVERSARIES)} or give module:attribute")
            if kind in DRAWING or kind in CONSTRAINING:
                raise ValueError(f"the cheat {kind!r} answers greedy orders honestly, and an examiner's are greedy")
        return given

    @field_validator("answer_tokens")
    @classmethod
    def _limits_are_some(cls, given: tuple[int, int]) -> tuple[int, int]:
        if not 8 <= given[0] <= given[1] <= 2048:
            raise ValueError("two limits from 8 to 2048 tokens, the shorter first")
        return given

    @property
    def deposit_wei(self) -> int:
        return int(self.deposit * 10**18)
