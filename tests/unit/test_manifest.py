"""A manifest has one byte form, names exactly the files of a model, and what renders its text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.inputs import Input, chat_input, text_input
from trine.protocol.manifest import MAX_BYTES, ROLES, File, Manifest, model_id
from trine.protocol.rendering import MAX_VECTORS, SPELLED_IDS, Library, Rendering, Tokens, Vector

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}", fullmatch=True)
files = st.builds(
    File,
    name=names,
    role=st.sampled_from(ROLES),
    size=st.integers(0, 2**53 - 1),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
messages = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": text})
asked = st.lists(messages, min_size=1, max_size=3).map(chat_input) | text.filter(bool).map(text_input)
ids = st.lists(st.integers(0, 2**32 - 1), max_size=SPELLED_IDS + 2)
vectors = st.builds(
    Vector,
    name=st.from_regex(r"[a-z0-9]([a-z0-9 -]{0,10}[a-z0-9])?", fullmatch=True),
    asked=asked,
    tokens=st.none() | ids.map(Tokens.of),
)
libraries = st.builds(
    Library,
    name=st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True),
    since=st.from_regex(r"[0-9]\.[0-9]", fullmatch=True),
    below=st.from_regex(r"[1-9][0-9](\.[0-9]){0,3}", fullmatch=True),
)
renderings = st.builds(
    Rendering,
    libraries=st.lists(libraries, min_size=1, max_size=3, unique_by=lambda one: one.name).map(
        lambda found: tuple(sorted(found))
    ),
    vectors=st.lists(vectors, min_size=1, max_size=3, unique_by=lambda one: one.name).map(tuple),
)
manifests = st.builds(
    lambda found, rendering: Manifest(tuple(sorted(found)), rendering),
    st.lists(files, min_size=1, max_size=8, unique_by=lambda file: file.name),
    st.none() | renderings,
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
        b'{"files":[],"rendering":null,"version":2}',
        b'{"files":[{"name":"a","role":"config","sha256":"'
        + b"0" * 64
        + b'","size":1e999}],"rendering":null,"version":2}',
        b'{"files":[{"name":"\\ud800","role":"config","sha256":"'
        + b"0" * 64
        + b'","size":1}],"rendering":null,"version":2}',
        b'{"files":[{"name":["a"],"role":"config","sha256":"'
        + b"0" * 64
        + b'","size":1}],"rendering":null,"version":2}',
        b'{"files":[{"name":"../a","role":"config","sha256":"'
        + b"0" * 64
        + b'","size":1}],"rendering":null,"version":2}',
        b'{"files":[{"name":"a","role":"config","sha256":"' + b"0" * 64 + b'","size":1}],"rendering":null,"version":3}',
        b" " * (MAX_BYTES + 1),
    ],
    ids=["deep", "empty", "infinite", "surrogate", "list", "path", "version", "huge"],
)
def test_hostile_documents_are_refused(document: bytes) -> None:
    with pytest.raises(InvalidInput):
        Manifest.from_bytes(document)


@given(manifests, manifests)
def test_different_manifests_have_different_hashes(one: Manifest, other: Manifest) -> None:
    assert (one == other) == (one.content_hash() == other.content_hash())


PINNED = Manifest(
    (File("a", "config", 1, "0" * 64),),
    Rendering(
        (Library("jinja2", "3.1", "4"),),
        (
            Vector("chat", chat_input([{"role": "user", "content": "Hi"}]), Tokens.of([7, 8])),
            Vector("refused", text_input("Hi"), None),
            Vector("long", text_input("Hi " * 200), Tokens.of(range(SPELLED_IDS + 1))),
        ),
    ),
)


def changed(path: tuple[str | int, ...], value: object) -> bytes:
    """PINNED with one value of its rendering replaced, or removed if `value` is `...`."""
    document = json.loads(PINNED.to_bytes())
    place = document["rendering"]
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("libraries",), ..., "exactly libraries, vectors"),
        (("libraries",), [], "0 libraries"),
        (("libraries",), [{"name": "jinja2", "since": "3", "below": "4"}] * 2, "sorted by name"),
        (("libraries",), {}, "must be a list"),
        (("libraries", 0), "jinja2", "a library must be an object"),
        (("libraries", 0, "name"), "Jinja2", "no name of a library"),
        (("libraries", 0, "name"), 7, "no name of a library"),
        (("libraries", 0, "since"), "4", "no release is from 4 on and before 4"),
        (("libraries", 0, "since"), "4.0.0", "no release is from"),
        (("libraries", 0, "since"), "3.1rc1", "no release such as"),
        (("libraries", 0, "below"), None, "no release such as"),
        (("libraries", 0, "below"), "4" * 10_000, "no release such as"),
        (("vectors",), [], "0 golden vectors"),
        (("vectors",), [{}] * (MAX_VECTORS + 1), "at most 64"),
        (("vectors", 0), None, "a vector must be an object"),
        (("vectors", 0, "name"), "refused", "one name"),
        (("vectors", 0, "name"), "Über", "no name of a vector"),
        (("vectors", 0, "messages"), "Hi", "list of objects"),
        (("vectors", 0, "messages"), [], "messages is empty"),
        (("vectors", 0, "messages", 0, "role"), "root", "role is 'root'"),
        (("vectors", 0, "messages", 0, "content"), None, "must be a string"),
        (("vectors", 0, "prompt"), "Hi", "exactly name, prompt, tokens"),
        (("vectors", 1, "prompt"), "", "non-empty string"),
        (("vectors", 0, "tokens"), [7, 8], "exactly count, hash"),
        (("vectors", 0, "tokens", "count"), True, "no number of tokens"),
        (("vectors", 0, "tokens", "count"), -1, "no number of tokens"),
        (("vectors", 0, "tokens", "count"), 3, "another number or hash"),
        (("vectors", 0, "tokens", "hash"), "0x" + "0" * 64, "another number or hash"),
        (("vectors", 0, "tokens", "hash"), "0" * 64, "32 bytes"),
        (("vectors", 0, "tokens", "ids"), [7, 9], "another number or hash"),
        (("vectors", 0, "tokens", "ids"), ["7", 8], "whole numbers"),
        (("vectors", 0, "tokens", "ids"), [7, 2**32], "outside"),
        (("vectors", 0, "tokens", "ids"), ..., "spelled out exactly"),
        (("vectors", 2, "tokens", "ids"), [1], "spelled out exactly"),
        (("vectors", 2, "tokens", "ids"), [1] * 999, "at most 128"),
    ],
)
def test_a_malformed_renderer_is_refused_with_what_is_wrong(path, value, said) -> None:
    with pytest.raises(InvalidInput, match=said):
        Manifest.from_bytes(changed(path, value))


@given(
    st.sampled_from([(), ("libraries",), ("libraries", 0), ("vectors", 0), ("vectors", 0, "tokens"), ("vectors", 1)]),
    st.sampled_from(["libraries", "vectors", "name", "since", "below", "prompt", "messages", "tokens", "hash", "ids"]),
    json_values,
)
def test_any_other_value_in_a_renderer_is_refused_or_read_as_it_is(path, name, value) -> None:
    try:
        document = changed((*path, name if path != ("libraries",) else 0), value)
        parsed = Manifest.from_bytes(document)
    except (InvalidInput, UnicodeEncodeError):
        return
    assert parsed.to_bytes() == document


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        ("3.1", True),
        ("3.1.0", True),
        ("3.1.6", True),
        ("3.99.1.2", True),
        ("3.1.6.post1", True),
        ("3.1.6+cpu", True),
        ("3", False),
        ("3.0.9", False),
        ("4", False),
        ("4.0.0", False),
        ("4.0.0rc1", False),
        ("3.2.0rc1", False),  # may differ from 3.2.0
        ("3.2.0.dev0", False),
        ("", False),
        ("unknown", False),
        ("3.1." + "1" * 5_000, False),
    ],
)
def test_a_range_takes_releases(installed: str, taken: bool) -> None:
    assert Library("jinja2", "3.1", "4").takes(installed) is taken


def test_what_a_renderer_gives_otherwise_is_shown() -> None:
    chat, refused, long = PINNED.rendering.vectors if PINNED.rendering else ()
    assert chat.fault(Tokens.of([7, 8])) is None
    assert refused.fault(None) is None
    assert chat.fault(Tokens.of([7, 9])) == "id 1 is 9, expected 8"
    assert chat.fault(Tokens.of([7, 8, 9])) == "3 ids, expected 2"
    assert chat.fault(None) == "it is refused"
    assert refused.fault(Tokens.of([7])) == "it must be refused, and is not"
    assert "expected 0x" in str(long.fault(Tokens.of([0] * (SPELLED_IDS + 1))))


def test_a_vector_asks_without_stop_strings() -> None:
    with pytest.raises(InvalidInput, match="end its answer"):
        Vector("stop", Input(text="Hi", stop=("x",)), None)


def test_a_manifest_of_the_first_version_says_how_to_make_another() -> None:
    with pytest.raises(InvalidInput, match=r"version 1 is not read here.*trine model describe"):
        Manifest.from_bytes(b'{"files":[],"version":1}')


def test_a_text_model_must_name_its_renderer() -> None:
    assert PINNED.pinned_rendering("m") is PINNED.rendering
    with pytest.raises(InvalidInput, match="m: its manifest names no renderer"):
        Manifest(PINNED.files).pinned_rendering("m")


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
