"""Writes what a study found, with a sentence instead of a stack trace where that is impossible."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trine.errors import InvalidInput


def write_json(report: dict[str, Any], path: Path) -> None:
    """Raises InvalidInput where the file cannot be written."""
    write(path, lambda: path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8"))


def write(path: Path, action: Callable[[], object]) -> None:
    """Raises InvalidInput, which names `path`, where `action` fails to write or does not know the file's kind."""
    try:
        action()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be written: {error}") from None
