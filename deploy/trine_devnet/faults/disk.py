"""A small file system of its own for one operator's store, which can be filled and freed. Linux, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from trine.errors import NotReady

BALLAST = "ballast"
CHUNK_BYTES = 1 << 16
MOUNT_SECONDS = 20.0


class SmallDisk:
    """Use as a context manager: leaving it takes the file system away, whoever still uses it."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._size_bytes = size_bytes

    def __enter__(self) -> Self:
        """Raises NotReady where nothing can be mounted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mount = shutil.which("mount")
        if mount is None:
            raise NotReady("a small disk needs the program mount")
        self._run([mount, "-t", "tmpfs", "-o", f"size={self._size_bytes},mode=700", "tmpfs", str(self.folder)])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run([shutil.which("umount") or "umount", "--lazy", str(self.folder)])

    def fill(self) -> int:
        """Leaves no byte free; returns how many were."""
        written = 0
        with (self.folder / BALLAST).open("ab", buffering=0) as ballast:
            for size in (CHUNK_BYTES, 512, 1):
                try:
                    while True:
                        written += os.write(ballast.fileno(), bytes(size))
                except OSError:
                    continue  # less may still fit
        return written

    def free(self) -> None:
        (self.folder / BALLAST).unlink(missing_ok=True)

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_SECONDS, check=False)  # noqa: S603
        if done.returncode:
            raise NotReady(f"no small disk at {self.folder}: {done.stderr.strip()}")
