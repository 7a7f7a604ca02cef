"""The demo's acts: one that fails is shown as failed and keeps no other from being played; what is told of them."""

from __future__ import annotations

import io
import json
import re
import threading

import pytest
from rich.console import Console
from typer.testing import CliRunner

from trine.errors import NotReady
from trine_devnet.acts.act import Act, NotShown, Played, Shown, Stage, play
from trine_devnet.acts.programme import ACTS, Programme, chosen
from trine_devnet.acts.telling import document, show, write
from trine_devnet.cli import app
from trine_devnet.options import ACT_NAMES, QUICK_ACTS, SLOW_ACTS
from trine_devnet.reporting import Report

HASH = "0x" + "ab" * 32


class Quiet:
    """A network of nobody."""

    def __init__(self):
        self.operators = {}


def an_act(name, title="something", happens=None, **kept):
    def plays(stage):
        stage.state = "under way"
        if isinstance(happens, Exception):
            raise happens
        return happens(stage) if happens else Shown("it happened", (HASH,))

    return Act(name, title, plays, **kept)


def performed(tmp_path, *acts, side_by_side=2):
    said = []
    with Programme(acts, Quiet(), Report(said.append), tmp_path, side_by_side) as programme:
        while not programme.is_over:
            pass
        return programme.played, said


def test_an_act_that_fails_says_why_and_the_others_are_played(tmp_path):
    acts = [
        an_act("first"),
        an_act("second", happens=NotShown("nobody was fined")),
        an_act("third", happens=ZeroDivisionError("by nothing")),
        an_act("fourth", happens=lambda _: Shown("nothing shows it", ())),
        an_act("fifth"),
    ]
    played, said = performed(tmp_path, *acts, side_by_side=1)
    assert [(act.act.name, act.holds) for act in played] == [
        ("first", True), ("second", False), ("third", False), ("fourth", False), ("fifth", True)]  # fmt: skip
    assert [act.said for act in played[1:4]] == [
        "nobody was fined", "ZeroDivisionError: by nothing", "no transaction shows it"]  # fmt: skip
    assert any("second" in line and "FAILED: nobody was fined" in line for line in said)


def test_acts_side_by_side_do_not_wait_for_one_another(tmp_path):
    both = threading.Barrier(2, timeout=20)

    def meets(_):
        both.wait()
        return Shown("met", (HASH,))

    played, _ = performed(tmp_path, an_act("a", happens=meets), an_act("b", happens=meets))
    assert all(act.holds for act in played)


def test_who_leaves_ends_an_act_that_waits(tmp_path):
    stages = []

    def waits(stage):
        stages.append(stage)
        return stage.until(lambda: None, "what never comes")

    with Programme([an_act("a", happens=waits)], Quiet(), Report(lambda _: None), tmp_path) as programme:
        while not stages or not stages[0].state.startswith("waits"):
            pass
        assert programme.states == {"a": "waits for what never comes"}
    (played,) = programme.played
    assert played.said == "stopped while waiting for what never comes"


def test_what_is_waited_for_is_returned(tmp_path):
    stage = Stage(Quiet(), Report(lambda _: None), tmp_path)
    answers = iter([None, [], [3]])
    assert stage.until(lambda: next(answers), "three") == [3]
    stage.given_up.set()
    with pytest.raises(NotReady):
        stage.until(lambda: None, "anything")


def test_quick_acts_are_played_by_default_all_of_them_or_those_that_are_named():
    assert [act.name for act in ACTS] == list(ACT_NAMES)
    assert [act.name for act in chosen((), every=False)] == list(QUICK_ACTS)
    assert chosen((), every=True) == ACTS
    assert [act.name for act in chosen(["canary_caught"], every=False)] == ["canary_caught"]
    assert {act.name for act in ACTS if not act.is_quick} == set(SLOW_ACTS)


def test_an_act_of_another_name_is_refused_before_anything_starts(tmp_path):
    home = tmp_path / "home"
    done = CliRunner().invoke(app, ["demo", "--only", "miracle", "--home", str(home)])
    assert done.exit_code == 3
    assert "no act is called miracle: choose from" in done.output
    assert not home.exists()


def played():
    words = "two of three passed a cheat; verifier-3 appealed by itself, seven others rejected it, and the two lost 10"
    return [
        play(an_act("canary_caught", "a planted canary"), Stage(Quiet(), Report(print), None)),
        Played(an_act("appeal_overturned", "an appeal"), True, words, tuple(f"0x{n:064x}" for n in range(5)), 92.4),
        Played(an_act("x", "one that fails"), False, "nothing has moved for 121 s while waiting for it", (), 121.0),
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_shown_fits_the_terminal(columns):
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    show(played(), console)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    assert max(map(len, shown.splitlines())) <= columns
    for word in ("a planted canary", "shown", "FAILED", "seven others", "and 3 more", "0x00000000…0001"):
        assert word in shown.replace("\n", " ")


def test_the_document_names_every_act(tmp_path):
    shown = document(played()[:2], {"accept": 5, "reject": 3}, ["something"])
    assert {name: shown[name] for name in ACT_NAMES} == {
        name: True if name in ("canary_caught", "appeal_overturned") else None for name in ACT_NAMES
    }
    assert shown["transactions"]["canary_caught"] == [HASH]
    assert len(shown["transactions"]["appeal_overturned"]) == 5
    failed = Played(ACTS[0], False, "why", (), 1.0)
    assert document([failed], {}, [])[ACTS[0].name] is False
    write(tmp_path / "deep" / "shown.json", shown)
    assert json.loads((tmp_path / "deep" / "shown.json").read_text()) == shown
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["shown.json"]
