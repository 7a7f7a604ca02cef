"""Models that Trine knows by name: what a deployer registers, shipped with the package."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from trine.errors import InvalidInput
from trine.protocol.calibration import parse_prompt_set
from trine.protocol.manifest import Manifest, model_id
from trine.protocol.messages import engine_class_bytes
from trine.protocol.policy import Policy

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Everything that `ModelRegistry.register` takes."""

    name: str
    source: str
    manifest: bytes
    policy: bytes
    prompts: bytes
    prompt_count: int
    price_per_token_wei: int

    @property
    def classes(self) -> list[bytes]:
        """The policy's engine classes as the registry takes them."""
        return [engine_class_bytes(name) for name in Policy.from_bytes(self.policy).classes]

    @property
    def model_id(self) -> bytes:
        return model_id(self.name, Manifest.from_bytes(self.manifest).content_hash())


def shipped() -> list[str]:
    """Names of the models whose records come with this package."""
    folder = resources.files("trine").joinpath("data", "models")
    return sorted(entry.name for entry in folder.iterdir() if entry.joinpath("model.json").is_file())


def source_of(name: str) -> str:
    """Where a shipped model comes from, whatever its manifest says. Raises InvalidInput as `load_record` does."""
    return str(json.loads(_folder(name).joinpath("model.json").read_text("utf-8"))["source"])


def load_record(name: str) -> ModelRecord:
    """Raises InvalidInput for a name that is not shipped, or a record that is malformed."""
    folder = _folder(name)
    described = json.loads(folder.joinpath("model.json").read_text("utf-8"))
    manifest = folder.joinpath("manifest.json").read_bytes().rstrip()
    policy = folder.joinpath("policy.json").read_bytes().rstrip()
    prompts = folder.joinpath("prompts.json").read_bytes()
    Manifest.from_bytes(manifest).pinned_rendering(name)
    Policy.from_bytes(policy)
    return ModelRecord(
        name=described["name"],
        source=described["source"],
        manifest=manifest,
        policy=policy,
        prompts=prompts,
        prompt_count=len(parse_prompt_set(prompts)),
        price_per_token_wei=int(described["pricePerTokenWei"]),
    )


def _folder(name: str) -> Traversable:
    folder = resources.files("trine").joinpath("data", "models", name)
    if not _NAME.fullmatch(name) or not folder.is_dir():
        raise InvalidInput(f"no record of a model {name!r} is shipped: `trine model list` shows those that are")
    return folder
