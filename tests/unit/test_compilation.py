"""Kernels are compiled once a machine: what `compile_kernels` leaves on disk is what engines then find."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from trine_node.engines import compilation
from trine_operator import once

USE = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from trine_node.engines.compilation import entry_points
from trine_node.engines.passes import Segment, Storage
from trine_node.engines.running import Runner

sizes = dict(vocab_size=64, num_hidden_layers=1, hidden_size=32, num_attention_heads=2)
llama = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1, intermediate_size=32))
other = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_layer=1, n_embd=32, n_head=2, n_positions=64))
for model in (llama, other):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        runner = Runner(model.to(dtype).requires_grad_(False).train(False), "invariant", 2)
        runner.states(Storage(2), [Segment([1, 2, 3], 0, [0]), Segment([4] * 17, 0, [0, 1])])
        runner.product(torch.ones(3, 32), torch.ones(8, 32))
for function, _signature in entry_points():
    print(function.__name__, sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def compiled(home: Path) -> list[str]:
    """What two processes that start at once say."""
    command = [sys.executable, "-m", "trine", "engine", "compile"]
    environment = {**os.environ, "TRINE_HOME": str(home)}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=1800)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    return said


def test_of_two_at_once_one_compiles_and_the_other_waits(compiled: list[str]) -> None:
    assert sum("compiling the CPU kernels for this processor (once" in said for said in compiled) == 1
    assert sum(said.startswith("waiting for another process") for said in compiled) <= 1


def test_what_was_compiled_is_all_that_engines_need(home: Path, compiled: list[str]) -> None:
    environment = {**os.environ, "TRINE_HOME": str(home)}
    run = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["decode 1 0", "_whole 1 0", "_whole 1 0"]


def test_who_waits_for_another_process_is_told_so_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "_marker", lambda: tmp_path / "compiled")
    monkeypatch.setattr(compilation, "entry_points", list)
    monkeypatch.setattr(once, "AGAIN_SECONDS", 0.05)
    told: list[str] = []
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / "compiled.lock"):
            held.set()
            done.wait(60)

    def tell(message: str) -> None:
        told.append(message)
        if len(told) == 3:
            done.set()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    assert compilation.compile_kernels(tell)
    holder.join()
    waiting = [message for message in told if message.startswith("waiting")]
    assert waiting[0] == "waiting for another process that is compiling the CPU kernels"
    assert all(message.endswith("s so far)") for message in waiting[1:])
    assert len(waiting) >= 3
    assert told[-1].startswith("compiling the CPU kernels")


def test_long_work_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "AGAIN_SECONDS", 0.01)
    told: list[str] = []
    again = threading.Event()

    def tell(message: str) -> None:
        told.append(message)
        if message.startswith("still"):
            again.set()

    with once.telling("unpacking", tell, "once"):
        assert again.wait(60)
    assert told[0] == "unpacking (once)"
    assert told[1].startswith("still unpacking (")
