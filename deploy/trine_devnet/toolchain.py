"""Finds what a devnet needs beside Python: the chain's program."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from trine.errors import InvalidInput

MIN_ANVIL = (1, 0)
CPUS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@cache
def project_root() -> Path:
    """The checkout: the working directory or one above it, else where this file lies. Raises InvalidInput."""
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if (folder / "hardhat.config.js").is_file():
                return folder
    raise InvalidInput("this needs Trine's sources: run it inside a checkout")


@cache
def anvil() -> str:
    """Foundry's development chain: the one that npm installed into the checkout, else the one on PATH.

    Raises InvalidInput, saying how to get it.
    """
    for binary in (_from_npm(), shutil.which("anvil")):
        if binary and _version(binary) >= MIN_ANVIL:
            return binary
    wanted = ".".join(map(str, MIN_ANVIL))
    raise InvalidInput(
        f"a devnet's chain is Foundry's anvil {wanted} or newer, and there is none: run `make setup` in a checkout, "
        "`npm install @foundry-rs/anvil`, or install Foundry"
    )


def _from_npm() -> str | None:
    """npm keeps the program in a package of its own for every platform."""
    cpu = CPUS.get(platform.machine().lower(), "")
    package = Path("node_modules", "@foundry-rs", f"anvil-{platform.system().lower()}-{cpu}", "bin", "anvil")
    folders = [Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents]
    found = (folder / package for folder in folders)
    return next((str(binary) for binary in found if os.access(binary, os.X_OK)), None)


def _version(binary: str) -> tuple[int, ...]:
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"Version: (\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else ()
