"""`trine-study calibrate` as a person runs it: the real model, a policy the protocol reads, a report to look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trine.protocol.policy import Policy
from trine_research.study.cli import app
from trine_research.study.subject import Subject

MODEL = "smollm2-135m-instruct"
BEGINNINGS = (
    "The sea is", "Two and two are", "My sister has", "In the morning", "Once upon a time", "The capital of France is",
    "Bread is made of", "A triangle has", "Snow falls when", "The oldest city", "Birds can", "To open the door,",
    "Nobody knows why", "The first king", "Water boils at", "A good teacher", "Trains are", "If it rains,",
)  # fmt: skip
"""Short, so that there is little to compute."""


def test_a_calibration_writes_a_policy_and_a_report(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([*BEGINNINGS, [{"role": "user", "content": "Hi"}]]))
    command = ["calibrate", MODEL, "--out", str(tmp_path), "--prompts", "20", "--cheat-prompts", "4", "--tokens", "8"]
    command += ["--prompt-file", str(prompts), "--dtypes", "fp32", "--threads", "1"]
    command += ["--adversaries", "int4-weights,other-seed", "--temperatures", "0,0.9"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    policy = Policy.from_bytes((tmp_path / "policy.json").read_bytes().rstrip())
    assert [(prover, verifier) for prover, verifier, _ in policy.pairs] == [("cpu-fp32", "cpu-fp32")]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["honest"]["leaves"] == 80  # twenty answers by each of two honest variants, greedy and at 0.9
    assert report["honest"]["rejected"] == 0
    whole = {row["prover"]: row for row in report["rates"] if row["tokens"] == 0}
    assert whole["int4-weights"]["rejected"] == whole["int4-weights"]["leaves"] == 4
    assert whole["other-seed at 0.9"]["rejected"] >= 3
    assert {name for name in whole if "seed" in name} == {"other-seed at 0.9"}, "greedy, that would be no cheat"
    assert report["policy"] == json.loads(policy.to_bytes())
    for name in ("deviations.png", "roc.png", "margins.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "int4-weights" in (tmp_path / "report.md").read_text()
    again = tmp_path / "again"
    command = ["calibrate", MODEL, "--out", str(again), "--observed", str(tmp_path / "observations.jsonl.gz")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert (again / "policy.json").read_bytes() == (tmp_path / "policy.json").read_bytes()
    assert json.loads((again / "report.json").read_text())["rates"] == report["rates"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no-such-model"], "no record of a model"),
        ([MODEL, "--dtypes", "fp64"], "expected some of"),
        ([MODEL, "--prompts", "0"], "prompts must be"),
        ([MODEL, "--tokens", "1000000"], "choose 8 to"),
        ([MODEL, "--accept-sigmas", "6"], "sigmas"),
        ([MODEL, "--temperatures", "0,3"], "temperatures are"),
        ([MODEL, "--temperatures", "hot"], "no number"),
        ([MODEL, "--margins-of", "no-such-model"], "no record of a model"),
        ([MODEL, "--cheat-dtype", "fp8"], "choose one of"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(options: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["calibrate", *options, "--out", str(tmp_path / "out")])
    assert result.exit_code == 3, result.output
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_prompts_follow_from_the_seed() -> None:
    subject = Subject.find(MODEL)
    assert subject.prompts(200, 1) == subject.prompts(200, 1)
    assert subject.prompts(200, 1) != subject.prompts(200, 2)
    many = subject.prompts(5000, 1)
    assert len({str(prompt) for prompt in many}) == 5000
    assert set(map(str, subject.registered_prompts)) <= set(map(str, many))
