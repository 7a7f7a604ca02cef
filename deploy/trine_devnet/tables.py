"""What the demo shows at its end."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from trine.cli.output import tokens
from trine_devnet.demo import Outcome, Seen, Standing

STYLES = {"accept": "green", "reject": "red", "refused": "yellow"}
MIN_WIDTH = 150


def show(outcome: Outcome, console: Console) -> None:
    """Answers with their verdicts, then accounts before and after."""
    wide = Console(file=console.file, width=max(MIN_WIDTH, console.width), force_terminal=console.is_terminal)
    wide.print(_answers(outcome.seen))
    wide.print("d: deviation of the fingerprint, 1 is what rounding to bf16 causes")
    wide.print("m: the worst token's margin, in logits over the noise of its position")
    wide.print("gas: of the whole batch, an answer\n")
    wide.print(_accounts(outcome.before, outcome.after))


def _answers(seen: list[Seen]) -> Table:
    table = Table(title="answers", title_justify="left", show_lines=True)
    for name, options in {
        "prompt": {"ratio": 3},
        "answer": {"ratio": 3},
        "node": {"no_wrap": True},
        "via": {"ratio": 1},
        "tok/s": {"justify": "right"},
        "verdict": {"no_wrap": True},
        "three votes": {"no_wrap": True},
        "gas": {"justify": "right"},
    }.items():
        table.add_column(name, **options)  # type: ignore[arg-type]
    for question in seen:
        answer = question.answer
        style = STYLES.get(question.verdict, "magenta")
        table.add_row(
            question.prompt,
            _first_words(answer.text) if answer else question.refused or question.fault or "",
            question.node + (f"\n({question.cheat})" if question.cheat else ""),
            question.via,
            f"{answer.tokens_per_second:.1f}" if answer else "",
            f"[{style}]{question.verdict}[/]",
            "\n".join(question.votes),
            f"{question.gas:,}" if question.gas else "",
        )
    return table


def _accounts(before: dict[str, Standing], after: dict[str, Standing]) -> Table:
    table = Table(title="accounts, before -> after", title_justify="left")
    for column in ("account", "tokens", "at stake", "deposit", "reputation", "accepted", "rejected"):
        table.add_column(column, justify="left" if column == "account" else "right")
    for name, old in before.items():
        new = after[name]
        table.add_row(
            name,
            _change(tokens(old.balance), tokens(new.balance)),
            _change(tokens(old.stake), tokens(new.stake)),
            _change(tokens(old.deposit), tokens(new.deposit)),
            _change(f"{old.score_bps / 100:.2f} %", f"{new.score_bps / 100:.2f} %"),
            _change(f"{old.accepted:.1f}", f"{new.accepted:.1f}"),
            _change(f"{old.rejected:.1f}", f"{new.rejected:.1f}"),
        )
    return table


def _change(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"


def _first_words(text: str, limit: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1].rsplit(" ", 1)[0] + " …"
