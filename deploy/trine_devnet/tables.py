"""What the demo shows at its end: tables where there is room for them, else a paragraph for each of their rows."""

from __future__ import annotations

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trine.cli.output import tokens
from trine.protocol.policy import Policy
from trine_devnet.options import Options
from trine_devnet.outcomes import Outcome, Seen, Standing

STYLES = {"accept": "green", "reject": "red", "refused": "yellow"}
TABLE_WIDTH = 150
"""Columns that the table of answers needs. A file has as many; a terminal may have fewer."""
LEGEND = """accept: it is what the model says, whether true or not
d: deviation of the fingerprint, 1 is what rounding to bf16 causes
m: the worst token's margin, in logits over the noise of its position
gas: of the whole batch, an answer; a full one has 256
"""

PAID = """tokens: a client pays for accepted, final answers; operators pay the verifiers that judge their calibrations
at stake: whoever judged rightly earns a fee, whatever the verdict; a rejected answer costs its node stake
deposit: what is prepaid to nodes; some of it is owed for answers whose verdicts are not final yet
accepted, rejected: a node's answers, and a verifier's seats by the part that was right or wrong; they fade with time
"""


def bounds(policy: Policy, options: Options) -> str:
    """From where on these verifiers reject what these nodes say, a line for each of the nodes' classes."""
    dtypes = sorted({*options.node_dtypes, *(["fp32"] if options.cheats else [])})
    lines = []
    for dtype in dtypes:
        found = [policy.bounds(f"cpu-{dtype}", f"cpu-{verifier}") for verifier in set(options.verifier_dtypes)]
        known = [bound for bound in found if bound]
        if known:
            sigmas = policy.reject_sigmas / 1000
            deviation = max(bound.deviation_bound(options.max_tokens, sigmas) for bound in known)
            margin = max(bound.margin_reject for bound in known) / 1000
            lines.append(f"a node that says it computes in {dtype}: rejected above d={deviation:.2f}, m={margin:.0f}\n")
    return "".join(lines)


def show(outcome: Outcome, console: Console, bounds: str = "") -> None:
    """Answers with their verdicts and what those mean, then accounts before and after."""
    if console.is_terminal and console.width < TABLE_WIDTH:
        for question in outcome.seen:
            console.print(_answer(question))
        console.print(LEGEND + bounds, highlight=False)
        for name, old in outcome.before.items():
            console.print(_account(name, old, outcome.after[name]))
        console.print(PAID, highlight=False)
        return
    wide = Console(file=console.file, width=max(TABLE_WIDTH, console.width), force_terminal=console.is_terminal)
    wide.print(_answers(outcome.seen))
    wide.print(LEGEND + bounds, highlight=False)
    wide.print(_accounts(outcome.before, outcome.after))
    wide.print(PAID, highlight=False)


def _answer(question: Seen) -> Padding:
    """A question as a paragraph."""
    answer = question.answer
    verdict = Text.assemble((question.verdict, STYLES.get(question.verdict, "magenta")), f"  {question.node}")
    verdict.append(f" ({question.cheat})" if question.cheat else "").append(f", {question.via}")
    lines = [verdict, Text(question.prompt, style="bold"), Text(_said(question))]
    if answer:
        lines.append(Text(f"{answer.tokens_per_second:.1f} tokens/s, {question.gas:,} gas", style="dim"))
    return Padding(Group(*lines, *(Text(vote, style="dim") for vote in question.votes)), (0, 0, 1, 0))


def _account(name: str, old: Standing, new: Standing) -> Text:
    """An account as a paragraph: only what there is."""
    values = {
        "tokens": _change(tokens(old.balance), tokens(new.balance)),
        "at stake": _change(tokens(old.stake), tokens(new.stake)),
        "deposit": _change(tokens(old.deposit), tokens(new.deposit)),
        "reputation": _change(f"{old.score_bps / 100:.2f} %", f"{new.score_bps / 100:.2f} %"),
        "rejected": _change(_count(old.rejected), _count(new.rejected)),
    }
    told = [f"{what} {value}" for what, value in values.items() if value not in ("0", "0.00 %")]
    return Text.assemble((name, "cyan"), f": {'; '.join(told)}")


def _said(question: Seen) -> str:
    return _first_words(question.answer.text) if question.answer else question.refused or question.fault or ""


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
        # As text: what a model says is no markup.
        table.add_row(
            Text(question.prompt),
            Text(_said(question)),
            question.node + (f"\n({question.cheat})" if question.cheat else ""),
            question.via,
            f"{answer.tokens_per_second:.1f}" if answer else "",
            Text(question.verdict, style=STYLES.get(question.verdict, "magenta")),
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
            _change(_count(old.accepted), _count(new.accepted)),
            _change(_count(old.rejected), _count(new.rejected)),
        )
    return table


def _count(answers: float) -> str:
    """They fade with time, so there may be a part of one."""
    return f"{answers:.1f}".removesuffix(".0")


def _change(old: str, new: str) -> str:
    return old if old == new else f"{old} -> {new}"


def _first_words(text: str, limit: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1].rsplit(" ", 1)[0] + " …"
