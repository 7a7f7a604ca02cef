"""The day on a GPU, rehearsed without one: all stages on next to nothing, cut off and resumed, carried in pieces."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from test_engine_selftest import small as small_model
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine.models import load_record
from trine_research.study import observations
from trine_research.study.cli import app

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
small = small_model


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


carrying = module("gpu_carrying")


def rehearse(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    command = [sys.executable, str(BENCHMARKS / "gpu_day.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_whole_day_in_reduced_form(small: Path, tmp_path: Path) -> None:
    """And what it observed can be judged on another machine."""
    out, bundle, carried = tmp_path / "day", tmp_path / "day.tar.gz", tmp_path / "cpu-answers.json.gz"
    of_model = ["--threads", "1", "--model", f"file:{small}"]
    made = rehearse("answer", *of_model, "--out", carried, "--prompts", "5", "--tokens", "9")
    assert made.returncode == 0, made.stderr
    options = ["--device", "cpu", "--reduced", *of_model, "--out", out, "--answers", carried]
    first = rehearse("run", *options, "--bundle", bundle)
    states = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    logs = "\n".join(path.read_text()[-1000:] for path in out.glob("*.log"))
    assert first.returncode == 0, f"{first.stdout}\n{first.stderr}\n{logs}"
    assert states.pop("conditions")["reduced"] is True
    assert {state["state"] for state in states.values()} == {"done"}
    assert len(states) == 10
    assert states["promise-bf16"]["found"]["kept"]
    assert states["promise-bf16"]["found"]["prompts"] == states["promise-bf16"]["found"]["same"] == 8
    assert states["speed-7b"]["found"]["check_over_decode"].keys() == {"1", "3"}
    assert states["profile"]["found"]["passes"][0]["launches"] > 0
    assert "refused" not in states["answers"]["found"]
    assert "bf16, torch, eager attention" in states["answers"]["found"]["provers"]
    with tarfile.open(bundle) as archive:
        assert {"summary.txt", "answers.json", "observations.jsonl.gz"} <= set(archive.getnames())

    observed = list(observations.read(out / "observations.jsonl.gz"))
    state = json.loads((out / "answers.json").read_text())
    (out / "answers.json").write_text(json.dumps(state | {"state": "cut off"}))
    (out / "observations.jsonl.gz").unlink()
    observations.append(out / "observations.jsonl.gz", [leaf for leaf in observed if leaf.prover != "fp32"])
    again = rehearse("run", *options, "--only", "answers")
    assert again.returncode == 0, again.stdout
    resumed = list(observations.read(out / "observations.jsonl.gz"))
    assert resumed[-1].prover == "fp32", "what was done is done again"
    assert sorted(map(repr, resumed)) == sorted(map(repr, observed))
    assert json.loads((out / "answers.json").read_text())["found"]["leaves"] == len(observed)

    seen = tmp_path / "seen.jsonl.gz"
    command = ["recheck", f"file:{small}", str(out / "observations.jsonl.gz"), "--out", str(seen)]
    command += ["--prompts", "4", "--tokens", "8", "--dtypes", "fp32,bf16", "--threads", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    own = [leaf for leaf in observations.read(out / "observations.jsonl.gz") if leaf.verifier != "cpu-fp16"]
    assert list(observations.read(seen)) == own, "the same machine sees the same"
    assert {leaf.honest for leaf in own} == {True, False}
    words = {(leaf.prover, leaf.prompt): leaf.claim.words for leaf in own}
    for prompt in range(4):
        assert words["bf16", prompt] == words["cpu, bf16", prompt], "what was carried is what is answered here"
    fewer = ["2" if each == "4" else each.replace("seen", "other") for each in command]
    result = CliRunner().invoke(app, fewer)
    assert result.exit_code != 0
    assert "answers prompt 2; there are 2" in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_run_instead(tmp_path: Path) -> None:
    """At once: before anything is set up, and before anything is written."""
    (tmp_path / "make").symlink_to(shutil.which("make") or "")
    environment = os.environ | {"PATH": f"{tmp_path}:/bin"}
    command = ["make", "gpu", f"VENV={tmp_path / 'venv'}"]
    made = subprocess.run(command, cwd=BENCHMARKS.parent, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    ran = rehearse("run", "--out", tmp_path / "day")
    assert ran.returncode == 1
    for said in (made.stderr, ran.stderr):
        assert "so nothing was begun" in said
        assert "`make gpu GPU_ARGS='--device cpu --reduced'`" in said
    assert not (tmp_path / "day").exists()
    assert not (tmp_path / "venv").exists()


COMPILING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpu_compiling, torch
from triton import knobs
from trine_node.engines.gpu import kernels

def launch():
    x = torch.empty(2, 64, dtype=torch.bfloat16)
    kernels.matmul(x, x)
    kernels.row_sums(x)

gpu_compiling._launch_everything = launch
out = Path(sys.argv[2])
print(gpu_compiling.make(out / "kernels.tar.gz", 90), "kernels")
gpu_compiling.unpack(out / "kernels.tar.gz", out / "moved")
for function in (kernels._product, kernels._sum):
    function.device_caches.clear()
knobs.compilation.listener = lambda cache_hit, **_: print("kept" if cache_hit else "compiled anew")
with gpu_compiling._compiling_only(out / "moved", 90):
    launch()
"""


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton has no wheel for this platform")
def test_compiled_kernels_are_carried(tmp_path: Path) -> None:
    """Triton finds them in another folder than they were made in, and compiles none."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "none")}
    command = [sys.executable, "-c", COMPILING, str(BENCHMARKS), str(tmp_path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines() == ["2 kernels", "kept", "kept"]
    compiling = module("gpu_compiling")
    (tmp_path / "other.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InvalidInput, match="these are no kernels"):
        compiling.unpack(tmp_path / "other.tar.gz", tmp_path / "nowhere")


def test_answers_to_other_questions_are_refused(tmp_path: Path) -> None:
    """Those in the checkout are answers to the policy's prompts by the shipped model."""
    answers = module("gpu_answers")
    record = load_record("smollm2-135m-instruct")
    document = json.loads(gzip.decompress(answers.FILE.read_bytes()))
    assert document["model_id"] == record.model_id.hex()
    assert (len(document["prompts"]), document["tokens"]) == (answers.PROMPTS, answers.TOKENS)
    assert {each["engine_class"] for each in document["provers"] if each["honest"]} >= {"cpu-fp32", "cpu-bf16"}
    assert all(len(each["lengths"]) == answers.PROMPTS for each in document["provers"] if each["honest"])

    prompts = [[1, 2, 3], [4, 5]]
    prover = {
        "prover": "fp32", "honest": True, "engine_class": "cpu-fp32", "lengths": [3, 2], "stopped": [1, 0],
        "output_ids": [5, 6, 2, 7, 7], "words": bytes(range(40)).hex(),
    }  # fmt: skip
    document = {"version": 1, "model_id": "00" * 32, "tokens": 3, "prompts": [], "provers": [prover]}
    document["prompts"] = [answers._hash(prompt) for prompt in prompts]
    file = tmp_path / "cpu-answers.json.gz"

    def read(changed: dict[str, Any], model: bytes = bytes(32), tokens: int = 3, asked: Any = prompts) -> Any:
        file.write_bytes(gzip.compress(json.dumps(document | changed).encode()))
        return answers.read(file, model, asked, tokens)

    first, second = (leaf.claim for leaf in read({}))
    assert (first.output_ids, first.finish_reason.name, first.max_tokens) == ((5, 6, 2), "STOP", 3)
    assert (second.words, second.finish_reason.name) == ((bytes(range(24, 32)), bytes(range(32, 40))), "LENGTH")
    (cut,) = read({}, tokens=2, asked=prompts[:1])
    assert (cut.claim.output_ids, cut.claim.finish_reason.name, cut.claim.max_tokens) == ((5, 6), "LENGTH", 2)
    for wrong in (
        {"changed": {}, "model": bytes([1] * 32)},
        {"changed": {}, "tokens": 4},
        {"changed": {}, "asked": [*prompts, [6]]},
        {"changed": {}, "asked": [[1, 2, 3], [4, 6]]},
        {"changed": {"version": 2}},
    ):
        with pytest.raises(InvalidInput, match=r"answers to other questions; .*gpu_day\.py answer.* makes them anew"):
            read(**wrong)
    for broken in ({"lengths": [3, 3]}, {"words": "00"}, {"words": "no"}, {"stopped": []}, {"output_ids": None}):
        with pytest.raises(InvalidInput, match="these are no answers of CPUs"):
            read({"provers": [prover | broken]})
    file.write_bytes(b"no archive")
    with pytest.raises(InvalidInput, match="these are no answers of CPUs"):
        answers.read(file, bytes(32), prompts, 3)


STAGES = """
import os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dataclasses import dataclass, replace
import gpu_day

@dataclass(frozen=True)
class Day:
    out: Path
    until: float = 0

def quick(day, keep):
    with open(day.out / "quick.count", "a") as file:
        file.write("x")
    return {"prompts": 3, "same": 3}

def hangs(day, keep):
    keep({"prompts": 2, "same": 2})
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (day.out / "helper.pid").write_text(f"{os.getpid()} {helper.pid}")
    while not (day.out / "go").exists():
        time.sleep(0.05)
    return {"prompts": 2, "same": 2}

def breaks(day, keep):
    raise RuntimeError("out of memory")

def dies(day, keep):
    os.abort()

def differs(day, keep):
    return {"prompts": 3, "same": 2, "different": ["row 7"]}

known = {"quick": quick, "hangs": hangs, "breaks": breaks, "dies": dies, "differs": differs}
seconds = float(sys.argv[3])
todo = [gpu_day.Stage(name, seconds, known[name]) for name in sys.argv[4:]]
sys.exit(0 if gpu_day.run(todo, Day(Path(sys.argv[2])), 300) else 1)
"""


def day_of(out: Path, seconds: float, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STAGES, str(BENCHMARKS), str(out), str(seconds), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def state_of(out: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((out / f"{name}.json").read_text()))


def gone(pid: int) -> bool:
    """Within ten seconds; a zombie that nobody has asked for is gone, too."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_stage_that_hangs_is_cut_off_and_the_others_are_run(tmp_path: Path) -> None:
    with day_of(tmp_path, 2, "hangs", "breaks", "dies", "quick", "differs") as running:
        output, _ = running.communicate(timeout=120)
    assert running.returncode == 1
    assert state_of(tmp_path, "hangs")["state"] == "cut off"
    assert state_of(tmp_path, "hangs")["found"] == {"prompts": 2, "same": 2}, "what it had found is lost"
    assert state_of(tmp_path, "breaks")["error"] == "RuntimeError: out of memory"
    assert "ended with -6" in state_of(tmp_path, "dies")["error"]
    assert state_of(tmp_path, "quick")["state"] == "done"
    assert "DIFFERENT BITS: differs: row 7" in output
    assert all(gone(int(pid)) for pid in (tmp_path / "helper.pid").read_text().split())


def test_a_day_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with day_of(tmp_path, 60, "quick", "hangs", "differs") as running:
        while not (tmp_path / "helper.pid").exists() or not (tmp_path / "helper.pid").read_text():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
    stage, helper = map(int, (tmp_path / "helper.pid").read_text().split())
    assert gone(stage), "a stage outlives the day"
    os.kill(helper, signal.SIGKILL)
    (tmp_path / "go").touch()
    with day_of(tmp_path, 60, "quick", "hangs", "differs") as running:
        output, _ = running.communicate(timeout=120)
    assert output.index("differs: at most") < output.index("hangs: at most"), "what was never begun comes first"
    assert state_of(tmp_path, "hangs")["state"] == "done"
    assert (tmp_path / "quick.count").read_text() == "x"
    assert running.returncode == 1, "all stages are done, and bits differ"


def test_weights_travel_in_pieces_and_arrive_as_they_were(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    scale = draw.uniform(0.01, 0.1, (6, 3, 1)).astype(np.float16).astype(np.float32)
    shift = draw.uniform(-0.5, 0, (6, 3, 1)).astype(np.float16).astype(np.float32)
    four = draw.integers(0, 16, (6, 3, 32)).astype(np.float32)
    four[..., 0], four[..., 1] = 0, 15
    eight = draw.integers(-127, 128, (6, 3, 32)).astype(np.float32)
    eight[..., 0] = 127
    tensors = {
        "four": (four * scale + shift).reshape(6, 96),
        "eight": (eight * scale).reshape(6, 96),
        "any": draw.normal(size=(7, 32)).astype(np.float32),
        "odd": draw.normal(size=5).astype(np.float32),
        "zero": np.zeros((2, 32), np.float32),
        "negative zero": -np.zeros((2, 32), np.float32),
        "not finite": np.array([[np.nan, np.inf, -np.inf] + [1.0] * 29], np.float32),
        "half": draw.normal(size=(2, 32)).astype(np.float16),
        "whole": np.arange(64),
    }
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    out, target = tmp_path / "out", tmp_path / "joined"
    index, *pieces = carrying.pack(folder, out, [700, 1000])
    assert [path.stat().st_size for path in pieces][:2] == [700, 1000]
    assert sum(path.stat().st_size for path in pieces) < (folder / "model.safetensors").stat().st_size
    carrying.join(out, target)
    for path in folder.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()
    assert carrying.join(out, target) == target, "it is there already"
    (target / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="is not what was packed"):
        carrying.join(out, target)

    raw = bytearray(pieces[1].read_bytes())
    raw[5] ^= 1
    pieces[1].write_bytes(raw)
    with pytest.raises(InvalidInput, match=r"piece-2 is missing or damaged: carry it again"):
        carrying.join(out, tmp_path / "damaged")
    assert carrying.missing(out) == ["piece-2"]
    assert not (tmp_path / "damaged").exists()
    hostile = json.loads(index.read_text())
    hostile["files"][0]["name"] = "../outside"
    index.write_text(json.dumps(hostile))
    with pytest.raises(InvalidInput, match="names files or sizes"):
        carrying.join(out, tmp_path / "hostile")
