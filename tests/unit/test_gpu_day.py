"""The day on a GPU, rehearsed without one: all stages on next to nothing, cut off and resumed, carried in pieces."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_engine_selftest import small as small_model
from typer.testing import CliRunner

from trine.errors import InvalidInput
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
    out, bundle = tmp_path / "day", tmp_path / "day.tar.gz"
    options = ["--device", "cpu", "--reduced", "--threads", "1", "--model", f"file:{small}", "--out", out]
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
    with tarfile.open(bundle) as archive:
        assert {"summary.txt", "answers.json", "observations.jsonl.gz"} <= set(archive.getnames())

    seen = tmp_path / "seen.jsonl.gz"
    command = ["recheck", f"file:{small}", str(out / "observations.jsonl.gz"), "--out", str(seen)]
    command += ["--prompts", "4", "--tokens", "8", "--dtypes", "fp32,bf16", "--threads", "1"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    own = [leaf for leaf in observations.read(out / "observations.jsonl.gz") if leaf.verifier != "cpu-fp16"]
    assert list(observations.read(seen)) == own, "the same machine sees the same"
    assert {leaf.honest for leaf in own} == {True, False}
    fewer = ["2" if each == "4" else each.replace("seen", "other") for each in command]
    result = CliRunner().invoke(app, fewer)
    assert result.exit_code != 0
    assert "answers prompt 2; there are 2" in result.output


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
