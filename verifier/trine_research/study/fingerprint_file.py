"""The file of fingerprints that studies exchange: what is in it, and whether it may be trusted to be that.

Knows nothing of models or of what is measured. `trine-study fingerprints` makes such files; this module reads them.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trine.errors import InvalidInput

WORD_BYTES = 32
"""A row is 256 bits: the words of four tokens in a row."""
MAX_ROWS = 1 << 22
MAX_ENGINES = 64
MAX_NAME = 64
RANDOM = "random words"

Words = NDArray[np.uint8]


@dataclass(frozen=True)
class Fingerprints:
    """Rows of several engines, and which of them stand for the same tokens of the same text."""

    reference: Words
    """[n, 32]: an honest engine's words."""
    claimed: Words
    """[m, 32]: words of the engines that are compared with it."""
    match: NDArray[np.int32]
    """[m]: the row of `reference` made from the same tokens, or -1."""
    engine: NDArray[np.int16]
    """[m]: index into `engines`."""
    engines: tuple[str, ...]
    honest: tuple[bool, ...]

    @property
    def pairs(self) -> int:
        return len(self.reference) * len(self.claimed)

    def digest(self) -> str:
        """SHA-256 of all that a result depends on, in hex."""
        digest = hashlib.sha256(repr((self.reference.shape, self.engines, self.honest)).encode())
        for array in (self.reference, self.claimed, self.match, self.engine):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(path: Path) -> Fingerprints:
    """Raises InvalidInput for whatever is not such a file; nothing in it is executed (no pickles)."""
    try:
        _refuse_huge(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: _array(archive, name, path) for name in _EXPECTED}
    except FileNotFoundError:
        raise InvalidInput(f"{path} does not exist: `trine-study fingerprints` makes such a file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} cannot be read as an .npz file: {error}") from None
    return _checked(arrays, path)


def random_words(n: int, m: int, seed: int) -> Fingerprints:
    """`n` and `m` words of independent fair bits, none of which match: the least that any collision rate can be."""
    for rows in (n, m):
        if not 1 <= rows <= MAX_ROWS:
            raise InvalidInput(f"{rows} random words: 1 to {MAX_ROWS:,} are possible")
    if not 0 <= seed < 1 << 63:
        raise InvalidInput("a seed is 0 to 2^63 - 1")
    rng = np.random.default_rng(seed)
    return Fingerprints(
        reference=rng.integers(0, 256, (n, WORD_BYTES), np.uint8),
        claimed=rng.integers(0, 256, (m, WORD_BYTES), np.uint8),
        match=np.full(m, -1, np.int32),
        engine=np.zeros(m, np.int16),
        engines=(RANDOM,),
        honest=(False,),
    )


_EXPECTED: dict[str, tuple[str, int]] = {
    "reference": ("uint8", 2),
    "claimed": ("uint8", 2),
    "match": ("int32", 1),
    "engine": ("int16", 1),
    "engines": ("unicode", 1),
    "honest": ("bool", 1),
}
"""Name -> type and dimensions. Bits, indices and names only: no value of these types can be a NaN."""

_MAX_BYTES = MAX_ROWS * (2 * WORD_BYTES + 4 + 2) + (1 << 20)


def _refuse_huge(path: Path) -> None:
    """Before anything is unpacked: a small archive may unpack to more than there is memory for."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _MAX_BYTES:
        raise InvalidInput(f"{path} unpacks to {unpacked:,} bytes; at most {_MAX_BYTES:,} are read")


def _array(archive: Any, name: str, path: Path) -> NDArray[Any]:
    kind, dimensions = _EXPECTED[name]
    if name not in archive.files:
        raise InvalidInput(f"{path} has no array `{name}`: it needs {', '.join(_EXPECTED)}")
    array: NDArray[Any] = archive[name]
    found = "unicode" if array.dtype.kind == "U" else array.dtype.name
    if found != kind or array.ndim != dimensions:
        raise InvalidInput(f"{path}: `{name}` is {found} with {array.ndim} dimensions, not {kind} with {dimensions}")
    return array


def _checked(arrays: dict[str, NDArray[Any]], path: Path) -> Fingerprints:
    reference, claimed, match, engine = (arrays[name] for name in ("reference", "claimed", "match", "engine"))
    for name in ("reference", "claimed"):
        rows, width = arrays[name].shape
        if width != WORD_BYTES:
            raise InvalidInput(f"{path}: a row of `{name}` has {width} bytes, not {WORD_BYTES}")
        if not 1 <= rows <= MAX_ROWS:
            raise InvalidInput(f"{path}: `{name}` has {rows:,} rows; 1 to {MAX_ROWS:,} are possible")
    n, m = len(reference), len(claimed)
    if len(match) != m or len(engine) != m:
        raise InvalidInput(f"{path}: `match` and `engine` need one entry for each of {m} claimed rows")
    names = tuple(str(name) for name in arrays["engines"])
    if not 1 <= len(names) <= MAX_ENGINES or len(arrays["honest"]) != len(names):
        raise InvalidInput(f"{path}: 1 to {MAX_ENGINES} engines, and `honest` says of each whether it is")
    if len(set(names)) != len(names) or not all(0 < len(name) <= MAX_NAME and name.isprintable() for name in names):
        raise InvalidInput(f"{path}: engines have different, printable names of at most {MAX_NAME} characters")
    if match.min() < -1 or match.max() >= n:
        raise InvalidInput(f"{path}: `match` names a row of `reference`, -1 to {n - 1}")
    if engine.min() < 0 or engine.max() >= len(names):
        raise InvalidInput(f"{path}: `engine` is an index into `engines`, 0 to {len(names) - 1}")
    return Fingerprints(
        reference=np.ascontiguousarray(reference),
        claimed=np.ascontiguousarray(claimed),
        match=match,
        engine=engine,
        engines=names,
        honest=tuple(bool(flag) for flag in arrays["honest"]),
    )
