"""The demo's summary: every question and account, in a wide terminal and in a narrow one."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from trine_devnet.outcomes import HOT, Outcome, Seen, Standing
from trine_devnet.tables import TABLE_WIDTH, show

BEFORE = Standing(2_000 * 10**18, 2_000 * 10**18, 0, 0, 0.0, 0.0)
AFTER = Standing(1_999 * 10**18, 1_985 * 10**18, 0, 1_304, 3.0, 1.0)


@pytest.fixture
def outcome():
    refused = Seen("Is [red]this[/red] text, too?", HOT, "node-fp32", refused="send temperature 0 " * 9)
    faulty = Seen("Where?", "sdk", "cheater", "int8-weights", fault="NodeError: gone", votes=["v1 reject d=2.5 m=1.0"])
    return Outcome([refused, faulty], {"cheater": BEFORE}, {"cheater": AFTER}, 1.0, [])


def shown(outcome, width, *, terminal):
    file = io.StringIO()
    show(outcome, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


@pytest.mark.parametrize("width", [40, 80, TABLE_WIDTH, 200])
def test_everything_is_there_and_fits(outcome, width):
    text = shown(outcome, width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(re.sub(r"[^\w.,:/\[\]() ->%=]", " ", text).split())
    for expected in ("[red]this[/red]", "refused", "v1 reject d=2.5 m=1.0", "1,985", "13.04 %", "(int8-weights)"):
        assert expected in words, expected


def test_a_file_gets_the_tables_whatever_its_width(outcome):
    assert "three votes" in shown(outcome, 40, terminal=False)
