"""What is said of acts at the end: a table for people, a document for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trine_devnet.acts.act import Played
from trine_devnet.acts.programme import ACTS

TABLE_WIDTH = 110
"""Columns that the table needs; a narrower terminal gets paragraphs."""
TITLE = "what else was shown"
HASHES = 2
"""Transactions that the table names; the document has all."""


def show(played: Sequence[Played], console: Console) -> None:
    """An act a row, in a narrow terminal a paragraph."""
    if not played:
        return
    if console.is_terminal and console.width < TABLE_WIDTH:
        console.print(Text(f"{TITLE}\n", style="italic"))
        for act in played:
            console.print(_paragraph(act))
        return
    table = Table(title=TITLE, title_justify="left", show_lines=True)
    table.add_column("act", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("what happened", ratio=1)
    table.add_column("transactions", no_wrap=True)
    table.add_column("s", justify="right")
    for act in played:
        named = Text.assemble(act.act.title, "\n", (act.act.name, "dim"))
        table.add_row(named, _verdict(act), Text(act.said), _some(act), f"{act.seconds:.0f}")
    (console if console.is_terminal else Console(file=console.file, width=max(TABLE_WIDTH, console.width))).print(table)


def document(played: Sequence[Played], answers: Mapping[str, int], failures: Sequence[str]) -> dict[str, Any]:
    """Each act by name: true, false, or null if it was not played; then what shows it, and how questions came out."""
    by_name = {act.act.name: act for act in played}
    return {
        **{act.name: by_name[act.name].holds if act.name in by_name else None for act in ACTS},
        "transactions": {name: list(act.transactions) for name, act in by_name.items()},
        "said": {name: act.said for name, act in by_name.items()},
        "seconds": {name: round(act.seconds, 1) for name, act in by_name.items()},
        "answers": dict(answers),
        "failures": list(failures),
    }


def write(path: Path, shown: Mapping[str, Any]) -> None:
    """As a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(json.dumps(shown, indent=2) + "\n")
    draft.replace(path)


def _verdict(act: Played) -> Text:
    return Text("shown", style="green") if act.holds else Text("FAILED", style="red")


def _some(act: Played) -> Text:
    shown = [_short(transaction) for transaction in act.transactions[:HASHES]]
    more = len(act.transactions) - len(shown)
    return Text("\n".join([*shown, *([f"and {more} more"] if more > 0 else [])]), style="dim")


def _short(transaction: str) -> str:
    return f"{transaction[:10]}…{transaction[-4:]}"


def _paragraph(act: Played) -> Padding:
    head = Text.assemble(_verdict(act), f"  {act.act.title} ({act.act.name}, {act.seconds:.0f} s)")
    lines = [head, Text(act.said)]
    if act.transactions:
        lines.append(Text(" ".join(_some(act).plain.split("\n")), style="dim"))
    return Padding(Group(*lines), (0, 0, 1, 0))
