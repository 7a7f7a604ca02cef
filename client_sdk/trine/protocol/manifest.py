"""What a model is, byte for byte: its files with role, size and SHA-256, and its renderer, in canonical JSON.

The registry holds keccak256 of the manifest's bytes as the content hash; whoever has the manifest can check every
file, and a mismatch names the file. Of what renders a model's text, see `rendering`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

import rfc8785
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.rendering import Rendering

ROLES = ("chat_template", "config", "generation", "tokenizer", "weights")
MAX_FILES = 4096
MAX_BYTES = 1 << 16
"""What the registry takes."""
VERSION = 2


@dataclass(frozen=True, slots=True, order=True)
class File:
    """One file of a model. `name` is relative to the model's folder, without directories."""

    name: str
    role: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in (self.name, self.role, self.sha256)):
            raise InvalidInput("manifest: name, role and sha256 of a file must be strings")
        if not self.name or len(self.name) > 255 or "/" in self.name or "\\" in self.name or self.name[0] == ".":
            raise InvalidInput(f"manifest: {self.name!r} is no plain file name")
        if self.role not in ROLES:
            raise InvalidInput(f"manifest: {self.name}: role {self.role!r} is none of {', '.join(ROLES)}")
        if type(self.size) is not int or not 0 <= self.size < 1 << 53:
            raise InvalidInput(f"manifest: {self.name}: size {self.size} is out of range")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise InvalidInput(f"manifest: {self.name}: not a SHA-256 in lower-case hexadecimal")


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a model, sorted by name. `rendering` is None for a model that takes no text."""

    files: tuple[File, ...]
    rendering: Rendering | None = None

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        if names != sorted(set(names)):
            raise InvalidInput("manifest: files must be sorted by name, each once")
        if not 0 < len(names) <= MAX_FILES:
            raise InvalidInput(f"manifest: {len(names)} files, expected 1 to {MAX_FILES}")

    def to_bytes(self) -> bytes:
        """RFC 8785 canonical JSON: what is hashed and registered."""
        files: list[Any] = [{"name": f.name, "role": f.role, "sha256": f.sha256, "size": f.size} for f in self.files]
        rendering = self.rendering.to_json() if self.rendering else None
        return rfc8785.dumps({"files": files, "rendering": rendering, "version": VERSION})

    def content_hash(self) -> bytes:
        return bytes(keccak(self.to_bytes()))

    def pinned_rendering(self, model: str) -> Rendering:
        """The renderer that a text model must name. Raises InvalidInput for a manifest that names none."""
        if self.rendering is None:
            raise InvalidInput(
                f"{model}: its manifest names no renderer, so node and verifier could render text differently: "
                "register the manifest that `trine model describe` prints"
            )
        return self.rendering

    @classmethod
    def from_bytes(cls, document: bytes) -> Self:
        """Raises InvalidInput unless `document` is a canonical manifest."""
        if len(document) > MAX_BYTES:
            raise InvalidInput(f"manifest: {len(document)} bytes, at most {MAX_BYTES} are read")
        try:
            manifest = cls(*_read(json.loads(document)))
            canonical = manifest.to_bytes()
        except InvalidInput:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(f"manifest: {error!r}") from None
        if canonical != document:
            raise InvalidInput("manifest: not in canonical form")
        return manifest


def _read(document: Any) -> tuple[tuple[File, ...], Rendering | None]:
    if not isinstance(document, dict) or "version" not in document:
        raise InvalidInput("manifest: not an object with a version")
    if document["version"] != VERSION:
        raise InvalidInput(
            f"manifest: version {str(document['version'])[:32]} is not read here, version {VERSION} is: "
            "make it again with `trine model describe`"
        )
    files = tuple(File(f["name"], f["role"], f["size"], f["sha256"]) for f in document["files"])
    rendering = document["rendering"]
    return files, None if rendering is None else Rendering.from_json(rendering)


def model_id(name: str, content_hash: bytes) -> bytes:
    """keccak256(abi.encode(name, contentHash)): the model's id on every chain."""
    return bytes(keccak(encode(["string", "bytes32"], [name, content_hash])))
