"""Checks a model's files against a manifest, and makes the manifest of a prepared folder. Renderers: see `golden`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trine.errors import TrineError
from trine.protocol.manifest import File, Manifest
from trine_node.models.golden import load_renderer, pin

CHUNK_BYTES = 1 << 22


class ModelMismatch(TrineError):
    """A file is not what the registered manifest says. `file` names it."""

    def __init__(self, message: str, *, file: str) -> None:
        super().__init__(message)
        self.file = file


def describe(folder: Path) -> Manifest:
    """Manifest of all files in a prepared folder, with its renderer as it is on this machine.

    Raises InvalidInput for a chat template that cannot be served.
    """
    renderer = load_renderer(folder, folder.name)
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    with ThreadPoolExecutor(2) as pool:
        digests = list(pool.map(_sha256, paths))
    return Manifest(
        tuple(
            File(path.name, _role(path.name), path.stat().st_size, digest)
            for path, digest in zip(paths, digests, strict=True)
        ),
        pin(renderer) if renderer else None,
    )


def verify(folder: Path, manifest: Manifest) -> None:
    """Hashes every file. Raises ModelMismatch naming the first that is missing, unknown or different."""
    expected = {file.name: file for file in manifest.files}
    for name in sorted({path.name for path in folder.iterdir()} - set(expected)):
        raise ModelMismatch(f"{folder / name} is not in the registered manifest", file=name)
    for name, file in expected.items():
        path = folder / name
        if not path.is_file():
            raise ModelMismatch(
                f"{path} is missing; the registered manifest lists it with SHA-256 {file.sha256}", file=name
            )
        if path.stat().st_size != file.size:
            raise ModelMismatch(
                f"{path} has {path.stat().st_size} bytes and SHA-256 {_sha256(path)}, "
                f"the registered manifest says {file.size} bytes and {file.sha256}",
                file=name,
            )
    names = list(expected)
    with ThreadPoolExecutor(2) as pool:
        digests = pool.map(_sha256, [folder / name for name in names])
        for name, digest in zip(names, digests, strict=True):
            if digest != expected[name].sha256:
                raise ModelMismatch(
                    f"{folder / name} has SHA-256 {digest}, the registered manifest says {expected[name].sha256}",
                    file=name,
                )


def verify_once(folder: Path, manifest: Manifest) -> None:
    """`verify`, but for files that were verified on this machine and have not been touched since.

    Several operators of one machine would each read the whole model. What was verified is noted beside the folder.
    """
    note = folder.with_name(f"{folder.name}.verified")
    state = json.dumps(
        [
            hashlib.sha256(manifest.to_bytes()).hexdigest(),
            *([p.name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for p, s in _stated(folder)),
        ]
    )
    try:
        if note.read_text() == state:
            return
    except (OSError, ValueError):
        pass  # none yet, or damaged
    verify(folder, manifest)
    with contextlib.suppress(OSError):  # a read-only cache: verified anew every time
        note.write_text(state)


def _stated(folder: Path) -> list[tuple[Path, os.stat_result]]:
    return [(path, path.stat()) for path in sorted(folder.iterdir())]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _role(name: str) -> str:
    if name.endswith((".safetensors", ".safetensors.index.json")):
        return "weights"
    if name == "config.json":
        return "config"
    if name == "generation_config.json":
        return "generation"
    return "chat_template" if name.startswith("chat_template") else "tokenizer"
