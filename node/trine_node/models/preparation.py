"""Turns a source into a folder that loads in seconds, once.

GGUF files become dense fp32 safetensors; safetensors stay as they are. JSON files are rewritten in one canonical
form without the traces of the library that wrote them, so a source gives the same bytes on every machine. A chat
template that would render differently on another machine is refused here, before anybody sells an answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

from trine.errors import InvalidInput
from trine_node.models.elsewhere import require_same_everywhere
from trine_node.models.golden import load_renderer
from trine_node.models.sources import Source, parse_source
from trine_operator.once import alone, telling

LAYOUT = 1
"""Part of the folder's name: a change of the prepared form prepares anew."""
KEPT_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
TRACES = ("transformers_version", "_name_or_path", "name_or_path", "_from_model_config")


def default_cache_dir() -> Path:
    """`$TRINE_HOME/models`, else the user's cache folder."""
    home = os.environ.get("TRINE_HOME")
    return Path(home) / "models" if home else Path(platformdirs.user_cache_dir("trine")) / "models"


def prepare(source: str, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda message: None) -> Path:
    """Folder of the prepared model, made now or found. Safe to call from several processes at once.

    Raises InvalidInput or FetchFailed.
    """
    parsed = parse_source(source)
    target = place_of(source, cache_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target.with_name(f"{target.name}.lock"), f"preparing {source}", progress):
        if not target.exists():
            _prepare(parsed, target.parent, target, progress)
    return target


def prepared(source: str, cache_dir: Path | None = None) -> bool:
    """Whether `prepare` would find the folder."""
    return place_of(source, cache_dir).exists()


def place_of(source: str, cache_dir: Path | None = None) -> Path:
    """Where `prepare` puts the model, whether it is there or not."""
    return (cache_dir or default_cache_dir()) / hashlib.sha256(f"{LAYOUT}:{source}".encode()).hexdigest()[:16]


def _prepare(source: Source, cache_dir: Path, target: Path, progress: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix="incoming-") as scratch:
        raw_folder, result = Path(scratch) / "raw", Path(scratch) / "prepared"
        raw_folder.mkdir()
        result.mkdir()
        with telling(f"fetching {source.text}", progress):
            raw = source.fetch(raw_folder, progress)
        if raw.is_file():
            with telling(f"unpacking {raw.name} to dense weights", progress, "once, up to a minute"):
                _unpack_gguf(raw, result)
        else:
            _copy_folder(raw, result)
        for path in result.glob("*.json"):
            _canonicalize(path)
        if not any(result.glob("*.safetensors")):
            raise InvalidInput(f"{source.text} holds no safetensors and no GGUF weights")
        if load_renderer(result, source.text):
            with telling("rendering text in two other processes", progress):
                require_same_everywhere(result, source.text)
        # The folder appears under its name only when it is complete.
        result.rename(target)


def _unpack_gguf(path: Path, result: Path) -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of other people's tools, a hundred lines in a log
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if path.suffix != ".gguf":
        raise InvalidInput(f"{path}: a model file must be GGUF")
    folder, file = str(path.parent), path.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(result)
    tokenizer.save_pretrained(result)


def _copy_folder(raw: Path, result: Path) -> None:
    for path in sorted(raw.iterdir()):
        if path.is_file() and path.suffix in KEPT_SUFFIXES:
            shutil.copyfile(path, result / path.name)


def _canonicalize(path: Path) -> None:
    document: Any = json.loads(path.read_text("utf-8"))
    if isinstance(document, dict):
        # At the top only: deeper down these words may be entries of a vocabulary.
        document = {key: value for key, value in document.items() if key not in TRACES}
    path.write_text(json.dumps(document, sort_keys=True, ensure_ascii=False, indent=1) + "\n", "utf-8")
