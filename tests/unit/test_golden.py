"""What renders a model's text is pinned: made with the manifest, tried in other processes, checked at every start."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import tools_support
from test_node_support import RecordingChain, model
from transformers import AutoTokenizer

from trine.errors import InvalidInput
from trine.models import ModelRecord, load_record
from trine.protocol.inputs import Message
from trine.protocol.manifest import Manifest
from trine.protocol.rendering import Library, Rendering, Tokens
from trine_node.engines import loading
from trine_node.engines.base import Engine, render
from trine_node.engines.rendering import Renderer
from trine_node.models import RendererMismatch, elsewhere, golden, prepare, require_golden, require_libraries
from trine_node.models.golden import installed_versions, load_renderer, pin
from trine_operator import opening
from trine_verifier import run as verifier
from trine_verifier.settings import VerifierSettings

NAME = "smollm2-135m-instruct"
RECORD = load_record(NAME)
PINNED = Manifest.from_bytes(RECORD.manifest)


@pytest.fixture(scope="module")
def rendering() -> Rendering:
    return PINNED.pinned_rendering(NAME)


@pytest.fixture(scope="module")
def renderer(model_folder: Path) -> Renderer:
    loaded = load_renderer(model_folder, NAME)
    assert loaded is not None
    return loaded


def with_other_ids(rendering: Rendering, name: str) -> Rendering:
    """The same with another first id in one vector."""

    def other(tokens: Tokens | None) -> Tokens:
        assert tokens is not None
        assert tokens.ids is not None
        return Tokens.of([tokens.ids[0] + 1, *tokens.ids[1:]])

    vectors = [replace(v, tokens=other(v.tokens)) if v.name == name else v for v in rendering.vectors]
    return replace(rendering, vectors=tuple(vectors))


@pytest.mark.slow
def test_the_shipped_record_is_rendered_as_it_says_by_the_engine(rendering: Rendering, engine: Engine) -> None:
    require_libraries(rendering, NAME)
    require_golden(rendering, NAME, partial(render, engine))


def test_what_is_pinned_covers_what_texts_can_be(renderer: Renderer, record: ModelRecord) -> None:
    vectors = {vector.name: vector for vector in pin(renderer).vectors}
    asked = [vector.asked for vector in vectors.values()]
    assert {message.role for one in asked for message in one.messages or ()} == {"system", "user", "assistant"}
    assert any(one.messages and Message("user", "") in one.messages for one in asked)
    assert any(len(one.text or "") > 1_000 for one in asked)
    assert any(len(one.canonical()) > 4_000 for one in asked)
    assert vectors["reserved character"].tokens is None
    assert {library.name for library in pin(renderer).libraries} == {"jinja2", "tokenizers", "transformers"}


@pytest.mark.parametrize("template", ["qwen2.5", "llama-like"])
def test_what_a_template_makes_of_tools_is_pinned_where_it_knows_them(renderer: Renderer, template: str) -> None:
    knowing = tools_support.renderer(template)
    pinned = pin(knowing)
    vectors = {vector.name: vector for vector in pinned.vectors}
    of_tools = {"tools", "tools and system", "calls", "calls in parallel"}
    assert of_tools <= vectors.keys()
    assert not of_tools & {vector.name for vector in pin(renderer).vectors}
    assert (vectors["calls in parallel"].tokens is None) == (template == "llama-like")  # "only single tool-calls"
    assert Rendering.from_json(json.loads(json.dumps(pinned.to_json()))) == pinned
    require_golden(pinned, "model-x", knowing.input)
    spread = copy.copy(knowing.tokenizer)
    spread.chat_template = spread.chat_template.replace("| tojson", "| string | tojson")
    with pytest.raises(RendererMismatch, match="golden vector 'tools'"):
        require_golden(pinned, "model-x", Renderer(spread).input)


def test_what_user_text_may_forge_is_pinned(renderer: Renderer) -> None:
    """In a message nothing: its control tokens are text. A plain prompt is the client's own, control tokens too."""
    asked = golden.golden_inputs(renderer)
    special = set(renderer.tokenizer.all_special_ids)

    def control(name: str) -> list[int]:
        return [token for token in renderer.input(asked[name]) if token in special]

    assert "<|im_end|>\n<|im_start|>system" in asked["control tokens in a message"].as_messages()[1]["content"]
    assert control("control tokens in a message") == control("system")
    assert "<|im_end|>\n<|im_start|>system" in str(asked["control tokens in a plain prompt"].text)
    assert len(control("control tokens in a plain prompt")) >= 3


def test_other_ids_are_named_with_model_vector_and_both_versions(rendering: Rendering, renderer: Renderer) -> None:
    with pytest.raises(RendererMismatch) as caught:
        require_golden(with_other_ids(rendering, "system"), "model-x", renderer.input)
    said = str(caught.value)
    assert caught.value.vector == "system"
    assert said.startswith("model-x: ")
    assert "'system'" in said
    assert "id 0 is 1, expected 2" in said
    installed = installed_versions()["tokenizers"]
    assert f"installed: jinja2 {installed_versions()['jinja2']}, tokenizers {installed}" in said
    assert "Pinned: jinja2 >=" in said


def test_a_tokenizer_that_splits_otherwise_does_not_pass(
    rendering: Rendering, renderer: Renderer, model_folder: Path
) -> None:
    other = copy.deepcopy(renderer.tokenizer)
    other.add_tokens(["lighthouse keeper"])
    with pytest.raises(RendererMismatch, match="golden vector 'long'"):
        require_golden(rendering, NAME, Renderer(other).input)


def test_a_template_that_trims_does_not_pass(rendering: Rendering, renderer: Renderer) -> None:
    other = copy.copy(renderer.tokenizer)
    other.chat_template = str(renderer.tokenizer.chat_template).replace(
        "message['content']", "message['content'] | trim"
    )
    assert other.chat_template != renderer.tokenizer.chat_template
    with pytest.raises(RendererMismatch) as caught:
        require_golden(rendering, NAME, Renderer(other).input)
    assert caught.value.vector == "empty system"  # of one space


def test_a_renderer_that_fails_does_not_pass(rendering: Rendering) -> None:
    def broken(_: object) -> list[int]:
        raise RecursionError("too deep")

    with pytest.raises(RendererMismatch, match="RecursionError"):
        require_golden(rendering, NAME, broken)


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ("5.23.0", None),
        ("5.99.1", None),
        ("5.22.9", "pins transformers >=5.23,<6, installed is 5.22.9"),
        ("6.0.0", "installed is 6.0.0"),
        ("5.24.0.dev0", "installed is 5.24.0.dev0"),
    ],
)
def test_a_library_outside_its_range_is_named_with_both_versions(
    rendering: Rendering, installed: str, said: str | None
) -> None:
    versions = installed_versions() | {"transformers": installed}
    if said is None:
        require_libraries(rendering, NAME, versions)
        return
    with pytest.raises(RendererMismatch, match=said) as caught:
        require_libraries(rendering, NAME, versions)
    assert NAME in str(caught.value)
    assert "pip install" in str(caught.value)


def test_a_library_that_is_not_installed_is_named() -> None:
    missing = Rendering((Library("no-such-library", "1", "2"),), PINNED.pinned_rendering(NAME).vectors)
    with pytest.raises(RendererMismatch, match="no-such-library"):
        require_libraries(missing, NAME)


def test_a_pre_release_pins_nothing(monkeypatch: pytest.MonkeyPatch, renderer: Renderer) -> None:
    monkeypatch.setattr(golden, "version", lambda _: "6.0.0rc1")
    with pytest.raises(InvalidInput, match=r"6\.0\.0rc1"):
        pin(renderer)


# Operators do not start.


@pytest.fixture
def settings(tmp_path: Path) -> VerifierSettings:
    return VerifierSettings(
        deployment=tmp_path / "d.json",
        keystore=tmp_path / "k.json",
        password_file=tmp_path / "p",
        model=NAME,
        threads=1,
        store_url=f"sqlite:///{tmp_path}/verifier.sqlite",
    )


def registered(rendering: Rendering | None) -> object:
    return replace(model(0), manifest=Manifest(PINNED.files, rendering).to_bytes())


@pytest.mark.slow
def test_a_verifier_with_another_renderer_does_not_start_so_it_cannot_reject(
    monkeypatch: pytest.MonkeyPatch, settings: VerifierSettings, rendering: Rendering, tmp_path: Path
) -> None:
    chain = RecordingChain()
    monkeypatch.setattr(chain, "gas_balance", lambda _: 1, raising=False)
    monkeypatch.setattr(chain, "stake_of", lambda _: SimpleNamespace(active=1), raising=False)
    monkeypatch.setattr(chain, "endpoint_of", lambda _: "", raising=False)
    monkeypatch.setattr(chain, "gateway", lambda: SimpleNamespace(address=chain.address), raising=False)
    monkeypatch.setattr(opening, "open_chain", lambda _: chain)
    monkeypatch.setattr(opening, "find_model", lambda *_: registered(with_other_ids(rendering, "turns")))
    monkeypatch.setattr(verifier, "stop_on_signals", lambda: None)
    with pytest.raises(RendererMismatch, match="golden vector 'turns'"):
        verifier.run_verifier(settings)
    assert chain.sent == []


def test_the_range_is_checked_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, settings: VerifierSettings, rendering: Rendering
) -> None:
    monkeypatch.setattr(loading, "prepare", lambda *_, **__: pytest.fail("the model was fetched"))
    future = replace(rendering, libraries=(Library("transformers", "99", "100"),))
    with pytest.raises(RendererMismatch, match="transformers >=99,<100"):
        loading.load_engine(settings, registered(future))
    with pytest.raises(InvalidInput, match="names no renderer"):
        loading.load_engine(settings, registered(None))


# In other processes.


def folder_with(template: str, model_folder: Path, target: Path) -> Path:
    """The shipped model's tokenizer with another template, and weights that nobody reads."""
    target.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(model_folder / name, target / name)
    (target / "chat_template.jinja").write_text(template, "utf-8")
    (target / "model.safetensors").write_bytes(b"weights")
    return target


@pytest.mark.slow
def test_the_shipped_model_is_rendered_the_same_in_other_processes(model_folder: Path) -> None:
    elsewhere.require_same_everywhere(model_folder, NAME)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "said"),
    [
        # An object's address: the names that the template uses do not show it.
        ("{% set j = joiner() %}{{ messages[0].content }}{{ j }}", "renders 'question' differently"),
        ("{% macro m(x) %}{{ m(x) }}{% endmacro %}{% if messages | length > 3 %}{{ m(1) }}{% endif %}", "Recursion"),
    ],
)
def test_a_model_is_not_prepared_whose_template_is_rendered_differently(
    template: str, said: str, model_folder: Path, tmp_path: Path
) -> None:
    raw = folder_with(template, model_folder, tmp_path / "raw")
    with pytest.raises(InvalidInput, match=said):
        prepare(f"file:{raw}", tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([], [".lock"])


@pytest.mark.slow
def test_a_template_that_does_not_end_is_given_up(model_folder: Path, tmp_path: Path) -> None:
    endless = (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}"
    )
    folder = folder_with(endless + "{% endfor %}", model_folder, tmp_path / "raw")
    with pytest.raises(InvalidInput, match="took over 8 s"):
        elsewhere.require_same_everywhere(folder, "model-x", timeout_seconds=8)


def test_a_template_may_refuse_what_it_does_not_know(model_folder: Path, tmp_path: Path) -> None:
    """Refusing is an outcome, too, that all have in common."""
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}"
    )
    renderer = load_renderer(folder_with(template, model_folder, tmp_path / "raw"), "model-x")
    assert renderer is not None
    tokens = {vector.name: vector.tokens for vector in pin(renderer).vectors}
    assert tokens["system"] is None
    assert tokens["question"] is not None


def test_a_model_without_a_template_is_pinned_by_plain_prompts(model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    tokenizer.chat_template = None
    tokens = {vector.name: vector.tokens for vector in pin(Renderer(tokenizer)).vectors}
    assert tokens["question"] is None
    assert tokens["plain"] is not None


def test_the_vectors_of_the_record_are_those_that_describe_makes(renderer: Renderer, rendering: Rendering) -> None:
    made = json.loads(Manifest(PINNED.files, pin(renderer)).to_bytes())["rendering"]["vectors"]
    assert made == json.loads(RECORD.manifest)["rendering"]["vectors"]
