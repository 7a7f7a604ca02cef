"""A prepared model in a few small files, for a machine without a network: packed here, joined and checked there.

Weights that were 4 or 8 bits before they were prepared take no more here: a tensor of which every block of 32 numbers
is `scale * q + offset` to the last bit travels as that. Everything else travels as it is. Every piece, every file and
the whole have a SHA-256 that `join` insists on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trine.errors import InvalidInput

GROUP = 32
INDEX = "pieces.json"
WEIGHTS = ".safetensors"
MAX_INDEX_BYTES = 1 << 22
MAX_PIECES = 64
MAX_FILES = 256
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def pack(folder: Path, out: Path, piece_bytes: list[int]) -> list[Path]:
    """Writes the files of a prepared folder as pieces into `out` and returns them, the index first.

    Pieces have at most so many bytes each, the last number for all further ones. What was packed is unpacked again
    before it counts. Raises InvalidInput.
    """
    if not piece_bytes or min(piece_bytes) < 1:
        raise InvalidInput("a piece has at least one byte")
    out.mkdir(parents=True, exist_ok=True)
    files, blob = [], bytearray()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        raw = path.read_bytes()
        packed, tensors = _packed_weights(raw) if path.suffix == WEIGHTS else (raw, None)
        if tensors is not None and _unpacked_weights(packed, tensors) != raw:
            raise InvalidInput(f"{path}: it does not come back from its packed form")
        files.append({"name": path.name, "sha256": _hash(raw), "bytes": len(packed), "tensors": tensors})
        blob += packed
    pieces = []
    start = 0
    while start < len(blob):
        size = piece_bytes[min(len(pieces), len(piece_bytes) - 1)]
        part = bytes(blob[start : start + size])
        start += size
        name = f"piece-{len(pieces) + 1}"
        (out / name).write_bytes(part)
        pieces.append({"name": name, "sha256": _hash(part), "bytes": len(part)})
    if len(pieces) > MAX_PIECES:
        raise InvalidInput(f"{len(pieces)} pieces: at most {MAX_PIECES}, so let them be larger")
    index = {"pieces": pieces, "files": files, "sha256": _hash(bytes(blob))}
    (out / INDEX).write_text(json.dumps(index) + "\n", "utf-8")
    return [out / INDEX, *(out / str(piece["name"]) for piece in pieces)]


def missing(folder: Path) -> list[str]:
    """Pieces that are not there yet, or not whole."""
    return [piece["name"] for piece in _index(folder)["pieces"] if not _has(folder / piece["name"], piece["sha256"])]


def join(folder: Path, target: Path) -> Path:
    """The prepared folder at `target`, from the index and all pieces in `folder`. What is there already is checked.

    Raises InvalidInput that says which piece or file is missing or has another hash. Appears only when it is whole.
    """
    index = _index(folder)
    if target.exists():
        for file in index["files"]:
            if not _has(target / file["name"], file["sha256"]):
                raise InvalidInput(f"{target / file['name']} is not what was packed: remove {target}")
        return target
    if away := missing(folder):
        raise InvalidInput(f"{folder}: {', '.join(away)} is missing or damaged: carry it again")
    blob = b"".join((folder / piece["name"]).read_bytes() for piece in index["pieces"])
    if _hash(blob) != index["sha256"]:
        raise InvalidInput(f"{folder}: the pieces do not make the whole that was packed")
    incoming = target.with_name(f"{target.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    start = 0
    for file in index["files"]:
        part = blob[start : start + file["bytes"]]
        start += file["bytes"]
        raw = part if file["tensors"] is None else _unpacked_weights(part, file["tensors"])
        if _hash(raw) != file["sha256"]:
            raise InvalidInput(f"{file['name']} has another SHA-256 than was packed")
        (incoming / file["name"]).write_bytes(raw)
    incoming.rename(target)
    return target


def _index(folder: Path) -> dict[str, Any]:
    """Of what `pack` wrote. Raises InvalidInput for anything else."""
    path = folder / INDEX
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise InvalidInput(f"{path}: over {MAX_INDEX_BYTES} bytes")
        index = json.loads(path.read_bytes())
        names = [entry["name"] for entry in (*index["pieces"], *index["files"])]
        sizes = [entry["bytes"] for entry in (*index["pieces"], *index["files"])]
        sound = all(type(name) is str and name == Path(name).name and name not in ("", "..") for name in names)
        sound = sound and all(type(size) is int and size >= 0 for size in sizes) and type(index["sha256"]) is str
        sound = sound and len(index["pieces"]) <= MAX_PIECES and len(index["files"]) <= MAX_FILES
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path}: this is no index of pieces: {error}") from None
    if not sound:
        raise InvalidInput(f"{path}: it names files or sizes that `pack` does not write")
    return dict(index)


def _packed_weights(raw: bytes) -> tuple[bytes, list[list[Any]]]:
    """(what travels, [form, bytes in the file] of every stretch of it) of a safetensors file, in the file's order."""
    stretches, parts = [], []
    for start, end, is_fp32 in _stretches(raw):
        piece = np.frombuffer(raw, np.uint8)[start:end]
        form, packed = _packed(piece) if is_fp32 else ("raw", piece.tobytes())
        stretches.append([form, end - start, len(packed)])
        parts.append(packed)
    return b"".join(parts), stretches


def _stretches(raw: bytes) -> Iterator[tuple[int, int, bool]]:
    """(from, to, whether it is fp32) of header and tensors, which lie behind one another."""
    header = 8 + int(np.frombuffer(raw[:8], "<u8")[0])
    tensors = json.loads(raw[8:header])
    tensors.pop("__metadata__", None)
    yield 0, header, False
    end = header
    for entry in sorted(tensors.values(), key=lambda entry: entry["data_offsets"][0]):
        start, stop = (header + offset for offset in entry["data_offsets"])
        if start != end:
            raise InvalidInput("the tensors of the file do not lie behind one another")
        yield start, stop, entry["dtype"] == "F32"
        end = stop
    if end != len(raw):
        raise InvalidInput("the file ends behind its last tensor")


def _packed(piece: Bytes) -> tuple[str, bytes]:
    values = piece.view("<f4")
    if values.size == 0 or values.size % GROUP:
        return "raw", piece.tobytes()
    rows = values.reshape(-1, GROUP)
    with np.errstate(all="ignore"):
        low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
        for form, scale, offset, least, most in (
            ("4 bits", (high - low) / 15, low, 0, 15),
            ("8 bits", np.maximum(-low, high) / 127, None, -127, 127),
        ):
            scale = scale.astype(np.float16)
            shift = np.zeros_like(scale) if offset is None else offset.astype(np.float16)
            steps = np.nan_to_num(np.rint((rows - shift) / scale.astype(np.float32))).clip(least, most).astype(np.int8)
            if _values(scale, shift, steps).tobytes() == rows.tobytes():
                halves = [scale.tobytes()] if offset is None else [scale.tobytes(), shift.tobytes()]
                bits = steps.tobytes() if offset is None else _nibbles(steps).tobytes()
                return form, b"".join([*halves, bits])
    return "raw", piece.tobytes()


def _unpacked_weights(packed: bytes, stretches: list[list[Any]]) -> bytes:
    parts, start = [], 0
    for form, size, length in stretches:
        part = packed[start : start + length]
        start += length
        groups = size // 4 // GROUP
        if form == "raw":
            parts.append(part)
        elif form == "4 bits":
            scale, shift = np.frombuffer(part[: 4 * groups], "<f2").reshape(2, groups, 1)
            pairs = np.frombuffer(part[4 * groups :], np.uint8)
            steps = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(groups, GROUP).astype(np.int8)
            parts.append(_values(scale, shift, steps).tobytes())
        elif form == "8 bits":
            scale = np.frombuffer(part[: 2 * groups], "<f2").reshape(groups, 1)
            steps = np.frombuffer(part[2 * groups :], np.int8).reshape(groups, GROUP)
            parts.append(_values(scale, np.zeros_like(scale), steps).tobytes())
        else:
            raise InvalidInput(f"{form!r} is no form of packed numbers")
    return b"".join(parts)


def _values(scale: NDArray[np.float16], shift: NDArray[np.float16], steps: NDArray[np.int8]) -> Floats:
    """As GGUF's dequantisation does it: in fp32, product first."""
    return steps.astype(np.float32) * scale.astype(np.float32) + shift.astype(np.float32)


def _nibbles(steps: NDArray[np.int8]) -> Bytes:
    flat = steps.astype(np.uint8).reshape(-1, 2)
    return np.asarray(flat[:, 0] | flat[:, 1] << 4, dtype=np.uint8)


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and _hash(path.read_bytes()) == sha256


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
