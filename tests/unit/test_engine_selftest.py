"""`trine engine selftest`: says what is the same to the last bit, and notices when something is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from trine_node.engines.cli import app
from trine_node.engines.kernels import cache_folder
from trine_node.engines.selftest import Loader, selftest
from trine_node.engines.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights and a tokenizer of bytes, which are loaded at once, again and again."""
    folder: Path = tmp_path_factory.mktemp("small")
    letters = ByteLevel.alphabet()
    vocabulary = {letter: number for number, letter in enumerate(["<end>", *sorted(letters)])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_cpu_promises_the_same_bits(small: Path, dtype: str, tmp_path: Path) -> None:
    report = tmp_path / "found.json"
    command = ["selftest", f"file:{small}", "--dtype", dtype, "--tokens", "6", "--threads", "1", "--json", str(report)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    findings = json.loads(report.read_text())
    assert all(finding["same"] for finding in findings)
    assert {finding["what"] for finding in findings} >= {"in another process", "on 3 threads", "checked one by one"}
    assert f"cpu-{dtype}: token ids, fingerprints, hidden states and logits are the same" in run.output


class Moody(Loader):
    """Loads another model whenever it is asked for other pieces."""

    def __call__(self, **options: Any) -> TransformersEngine:
        engine = super().__call__(**options)
        if "prompt_tokens" in options:
            engine.model.base_model.norm.weight.mul_(-1)
        return engine


def test_a_difference_is_found(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "trine_node.engines.selftest.in_another_process", lambda *_: "the process ended with 1: no memory"
    )
    findings = list(selftest(Moody(small, "fp32", "cpu", 1), 4, lambda message: None))
    assert {finding.what: finding.detail for finding in findings if not finding.same} == {
        "prompts in pieces of 5, three at once": "",
        "prompts in pieces of 64, three at once": "",
        "in another process": "the process ended with 1: no memory",
    }


def test_an_unknown_model_is_a_clear_error() -> None:
    run = CliRunner().invoke(app, ["selftest", "no-such-model"])
    assert run.exit_code != 0
    assert "no-such-model" in run.output
    assert "Traceback" not in run.output


def test_tuning_keeps_what_gives_the_same_bits(small: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/tunings.sqlite"
    command = ["tune", f"file:{small}", "--tokens", "4", "--store-url", store]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "engine_prompt_tokens = " in first.output
    shown = {line.split()[0]: line for line in first.output.splitlines() if line}
    assert all(shown[dtype].rstrip().endswith("together") for dtype in ("bf16", "fp16"))
    others = [line for line in first.output.splitlines() if line.startswith(("arithmetic sdpa", "arithmetic eager"))]
    assert len(others) == 2
    assert all(line.rstrip().endswith("other bits: left out") for line in others)
    assert 'dtype = "fp32"' in first.output
    again = CliRunner().invoke(app, command)
    assert f"begins with what was best for file:{small} (distance 0.0)" in again.output.replace("\n", " ")
    assert "arithmetic invariant" in again.output


def test_kernels_are_kept_beside_the_models_or_where_one_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRINE_HOME", str(tmp_path))
    kept = cache_folder()
    assert kept.is_relative_to(tmp_path)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("TRINE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert cache_folder() == tmp_path / "temporary" / f"trine-{os.getuid()}" / "kernels" / kept.name
