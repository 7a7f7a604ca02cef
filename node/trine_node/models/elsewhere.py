"""A model's renderer tried in other processes: with another zone, locale and seed of hashes, it must give the same.

What a template does cannot be told from its text alone. So it is run, before it is registered or served, in two
processes that differ in everything that it must not know.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from trine.errors import InvalidInput
from trine_node.models.golden import golden_inputs, load_renderer, outcome

TIMEOUT_SECONDS = 300.0
"""A process takes seconds, most of them to import what renders."""
WORLDS = (
    # 25 hours apart: whatever the hour is, they write different dates.
    {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "PYTHONHASHSEED": "1"},
    {"TZ": "Pacific/Pago_Pago", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "2"},
)


def require_same_everywhere(folder: Path, model: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Raises InvalidInput naming the input that is rendered differently, or cannot be rendered, or not in time."""
    processes = [_start(folder, world) for world in WORLDS]
    try:
        here, there = (_outcomes(process, model, timeout_seconds) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for name, tokens in here.items():
        if tokens != there[name]:
            raise InvalidInput(
                f"{model}: its chat template or tokenizer renders {name!r} differently from one process to the next "
                "(time zone, locale, order of hashes): node and verifier would disagree, so it cannot be served"
            )


def _start(folder: Path, world: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", __name__, str(folder)]
    environment = {**os.environ, **world, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603


def _outcomes(process: subprocess.Popen[bytes], model: str, timeout_seconds: float) -> dict[str, Any]:
    try:
        output, complaint = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        raise InvalidInput(f"{model}: rendering a few inputs took over {timeout_seconds:g} s") from None
    if process.returncode:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise InvalidInput(f"{model}: cannot be rendered: {last[0][:500]}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _render_all(folder: Path) -> dict[str, Any]:
    renderer = load_renderer(folder, folder.name)
    if renderer is None:
        return {}
    tokens = {n: outcome(renderer.input, asked) for n, asked in golden_inputs(renderer).items()}
    return {name: found and found.to_json() for name, found in tokens.items()}


if __name__ == "__main__":
    print(json.dumps(_render_all(Path(sys.argv[1]))))
