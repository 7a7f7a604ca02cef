"""A manifest has one byte form, and names exactly the files of a model."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.manifest import ROLES, File, Manifest, model_id

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}", fullmatch=True)
files = st.builds(
    File,
    name=names,
    role=st.sampled_from(ROLES),
    size=st.integers(0, 2**53 - 1),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
)
manifests = st.lists(files, min_size=1, max_size=8, unique_by=lambda file: file.name).map(
    lambda found: Manifest(tuple(sorted(found)))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(manifests)
def test_bytes_lead_back_to_the_same_manifest(manifest: Manifest) -> None:
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput):
        Manifest.from_bytes(document)


@given(manifests, st.sampled_from(["name", "role", "size", "sha256"]), json_values)
def test_a_field_of_another_type_or_form_is_refused(manifest: Manifest, field: str, value: object) -> None:
    document = json.loads(manifest.to_bytes())
    if document["files"][0][field] == value:
        return
    document["files"][0][field] = value
    try:
        parsed = Manifest.from_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    except InvalidInput:
        return
    assert type(getattr(parsed.files[0], field)) is (int if field == "size" else str)


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 5_000,
        b'{"files":[],"version":1}',
        b'{"files":[{"name":"a","role":"config","sha256":"' + b"0" * 64 + b'","size":1e999}],"version":1}',
        b'{"files":[{"name":"\\ud800","role":"config","sha256":"' + b"0" * 64 + b'","size":1}],"version":1}',
        b'{"files":[{"name":["a"],"role":"config","sha256":"' + b"0" * 64 + b'","size":1}],"version":1}',
        b'{"files":[{"name":"../a","role":"config","sha256":"' + b"0" * 64 + b'","size":1}],"version":1}',
        b'{"files":[{"name":"a","role":"config","sha256":"' + b"0" * 64 + b'","size":1}],"version":2}',
        b" " * (1 << 21),
    ],
    ids=["deep", "empty", "infinite", "surrogate", "list", "path", "version", "huge"],
)
def test_hostile_documents_are_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput):
        Manifest.from_bytes(document)


@given(manifests, manifests)
def test_different_manifests_have_different_hashes(one: Manifest, other: Manifest) -> None:
    assert (one == other) == (one.content_hash() == other.content_hash())


def test_files_are_sorted_and_each_once() -> None:
    a, b = (File(name, "config", 1, "0" * 64) for name in "ab")
    for wrong in ((b, a), (a, a)):
        with pytest.raises(InvalidInput, match="sorted"):
            Manifest(wrong)


def test_the_model_id_covers_name_and_content() -> None:
    ids = {model_id(name, content) for name in ("a", "b") for content in (bytes(32), bytes([1] * 32))}
    assert len(ids) == 4


def test_the_shipped_record_is_whole() -> None:
    record = load_record("smollm2-135m-instruct")
    manifest = Manifest.from_bytes(record.manifest)
    assert {file.role for file in manifest.files} == set(ROLES)
    assert record.prompt_count >= 64
    assert record.price_per_token_wei == 10**15


@pytest.mark.parametrize("name", ["nothing", "../models", ""])
def test_an_unknown_record_is_named(name: str) -> None:
    with pytest.raises(InvalidInput, match="no record"):
        load_record(name)
