"""What node and verifier can both be told. Precedence: argument > environment > TOML file > default."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from trine.chain.beacons import QUICKNET_URLS, require_urls
from trine.chain.confirmations import Confirmations
from trine.chain.endpoint import addresses_of
from trine.chain.transactions import FeeLimits
from trine.errors import InvalidInput


def _endpoints(given: Any) -> Any:
    if not isinstance(given, (str, list, tuple)):
        return given
    try:
        return ",".join(addresses_of([str(each) for each in given] if not isinstance(given, str) else given))
    except InvalidInput as error:
        raise ValueError(str(error)) from None


Endpoints = Annotated[str, BeforeValidator(_endpoints)]
"""Addresses of one or several JSON-RPC endpoints, with commas between."""


class FileSettings(BaseSettings):
    """Settings that come from arguments, the environment and a TOML file."""

    GUIDE: ClassVar[str] = "docs/operators.md"
    """What has a file to begin with."""

    @classmethod
    def load(cls, file: Path | None = None, **arguments: Any) -> Self:
        """Raises InvalidInput naming every setting that is missing, unknown or out of range."""
        chosen = {name: value for name, value in arguments.items() if value is not None}
        source = {**cls.model_config, "toml_file": file}
        configured = type(cls.__name__, (cls,), {"model_config": source, "__module__": cls.__module__})
        try:
            return configured(**chosen)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise InvalidInput(cls._told(error)) from None
        except (OSError, ValueError) as error:
            raise InvalidInput(f"settings: cannot read {file}: {error}") from None

    @classmethod
    def _told(cls, error: ValidationError) -> str:
        """What is wrong with the settings, and where one gives those that are missing."""
        faults, missing = [], []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            if fault["type"] == "missing":
                field = cls.model_fields.get(name)
                missing.append(f"{name} ({field.description})" if field and field.description else name)
            elif fault["type"] == "extra_forbidden":
                faults.append(f"{name}: there is no such setting")
            else:
                said = fault["msg"].removeprefix("Value error, ")
                faults.append(f"{name}: {said}" if name else said)  # without a name: of several together
        if missing:
            prefix = cls.model_config.get("env_prefix", "")
            example = f"{prefix}{missing[0].partition(' ')[0]}".upper()
            faults.append(
                f"missing: {', '.join(missing)}. Give them in a TOML file by --config, or in the environment as "
                f"{example} and so on; {cls.GUIDE} has a file to begin with"
            )
        return f"settings: {'; '.join(faults)}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


class OperatorSettings(FileSettings):
    """What node and verifier have in common."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    rpc_url: Endpoints = Field(
        "http://127.0.0.1:8545",
        repr=False,
        description="JSON-RPC endpoints, a list or with commas between; they may hold keys",
    )
    confirmations: int | str = Field(
        3, description="blocks on top of one that is taken to stay, or the chain's own word: safe or finalized"
    )
    deployment: Path = Field(description="JSON file with the contracts' addresses")
    keystore: Path = Field(description="Web3 Secret Storage file")
    password_file: Path = Field(description="file whose first line opens the keystore")
    model: str = Field(description="name of a registered model")
    engine: str = Field(
        "transformers", pattern="^(transformers|vllm|sglang|llamacpp)$", description="what computes the model"
    )
    engine_url: str | None = Field(
        None, pattern="^https?://", validate_default=True, description="where the inference server listens"
    )
    engine_model: str | None = Field(None, description="the server's name for the model; default: the one it serves")
    engine_api_key_file: Path | None = Field(None, description="file whose first line is the server's API key")
    engine_timeout_seconds: float = Field(
        120, gt=0, le=3600, description="longest wait for the server's next token, or for its check of an answer"
    )
    engine_start_seconds: float = Field(0, ge=0, le=86_400, description="how long to wait at start for the server")
    dtype: str = Field("fp32", pattern="^(fp32|bf16|fp16)$", description="what the engine computes in")
    device: str = "cpu"
    engine_arithmetic: str | None = Field(
        None,
        pattern="^(invariant|triton|sdpa|eager)$",
        description="kernels of the engine transformers; default: those that promise equal bits",
    )
    engine_rows: int = Field(32, ge=1, le=1024, description="answers computed in one pass, at most")
    engine_prompt_tokens: int = Field(256, ge=1, le=1 << 16, description="tokens of prompts read in one pass, at most")
    engine_cache_tokens: int = Field(
        16_384, ge=16, le=1 << 26, description="room for the tokens of all answers at once; a context at least"
    )
    threads: int | None = Field(None, ge=1, le=1024)
    store_url: str = Field("sqlite:///trine.sqlite", repr=False, description="SQLAlchemy URL; may hold a password")
    keep_evidence_days: float = Field(
        30, ge=1, le=36_500, description="how long prompts and answers are kept once their batch is final"
    )
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    public_url: str | None = Field(
        None, pattern=r"^https?://[^\s/]+", description="what is registered on-chain; default http://host:port"
    )
    calibrate: bool = True
    credit_target: Decimal = Field(
        Decimal(20), ge=0, le=10**9, description="whole tokens of credit for verifiers' fees; topped up at half of it"
    )
    beacon_urls: list[str] = Field(
        default_factory=lambda: list(QUICKNET_URLS),
        max_length=16,
        description="where rounds of drand are asked for, with the network's hash; used on chains that draw by them",
    )
    poll_seconds: float = Field(1.0, gt=0, le=60)
    max_fee_gwei: Decimal = Field(
        Decimal(200), gt=0, le=10**6, description="most that a transaction offers for a unit of gas; above it, it waits"
    )
    max_priority_fee_gwei: Decimal = Field(
        Decimal(20), ge=0, le=10**6, description="most of it that goes to a block's proposer"
    )
    registration_file: Path | None = Field(
        None, description="this operator's registration file of ERC-8004, served below /.well-known/"
    )
    ignore_other_copies: bool = Field(
        False, description="start, and go on, though another copy of this operator seems to run"
    )

    @field_validator("confirmations")
    @classmethod
    def _confirmations_are_known(cls, given: int | str) -> int | str:
        try:
            Confirmations.of(given)
        except InvalidInput as error:
            raise ValueError(str(error).removeprefix("confirmations: ")) from None
        return given

    @field_validator("beacon_urls")
    @classmethod
    def _beacons_have_addresses(cls, given: list[str]) -> list[str]:
        try:
            require_urls(given)
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        return given

    @field_validator("engine_url")
    @classmethod
    def _server_has_address(cls, url: str | None, others: ValidationInfo) -> str | None:
        engine = others.data.get("engine")
        if (engine == "transformers") == (url is not None):
            raise ValueError("needed for the engines vllm, sglang and llamacpp, and only for them")
        return url

    @property
    def engine_api_key(self) -> str | None:
        """Raises InvalidInput when there is a file without a key."""
        if self.engine_api_key_file is None:
            return None
        try:
            key = self.engine_api_key_file.read_text("ascii").partition("\n")[0].strip()
        except (OSError, ValueError):
            key = ""
        if not key.isprintable() or not key:
            raise InvalidInput(
                f"settings: engine_api_key_file: {self.engine_api_key_file} has no key in its first line"
            )
        return key

    @property
    def credit_target_wei(self) -> int:
        return int(self.credit_target * 10**18)

    @property
    def fee_limits(self) -> FeeLimits:
        return FeeLimits(int(self.max_fee_gwei * 10**9), int(self.max_priority_fee_gwei * 10**9))

    @property
    def endpoint(self) -> str:
        """What is registered: where verifiers and clients reach this operator."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        # Registered as it is, it would lead nobody here, and evidence that nobody can fetch is withheld: a slash.
        if self.public_url is None and self.host in ("0.0.0.0", "::", ""):  # noqa: S104
            raise ValueError(f"host {self.host!r} is no address that others can reach: set public_url as well")
        return self
