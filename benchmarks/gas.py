"""Adds up what the Solidity tests measured into docs/gas.json and docs/gas.md, and prints the four main figures.

    make gas

runs the tests that measure, which write snapshots/, then this. Every number is the gas of whole transactions, their
base cost and calldata included; divisions are rounded up.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SNAPSHOTS = ROOT / "snapshots"
DATA = ROOT / "docs" / "gas.json"
PAGE = ROOT / "docs" / "gas.md"

LEAVES = 256
GROUP = 16
"""Batches that one `finalize` takes, so that they share its base cost."""

TARGETS = {
    "answer_full_batch": 2_200,
    "answer_full_batch_aggregated": 1_300,
    "single_answer_batch": 700_000,
    "certificate_check": 250_000,
}
MEANINGS = {
    "answer_full_batch": "an answer in a full batch of 256",
    "answer_full_batch_aggregated": "the same, settled by one aggregate signature",
    "single_answer_batch": "a batch of one answer, in all",
    "certificate_check": "a certificate of three keys checked on another chain",
}

VOTED = ("anchor", "draw", "commit 1", "commit 2", "commit 3", "reveal 1", "reveal 2", "reveal 3")
SIGNED = ("anchor", "settle signed")
PAYOUTS = ("finalize sixteen batches", "finalize one batch")
LIVES = {
    "full batch": VOTED,
    "full batch signed": SIGNED,
    "single answer": VOTED,
    "single answer signed": SIGNED,
}
SENDERS = {
    "anchor": "node",
    "draw": "anyone",
    "settle signed": "anyone",
    "finalize sixteen batches": "anyone",
    "finalize one batch": "anyone",
}

CONTRACTS = (
    "Batches",
    "Finality",
    "Appeals",
    "Canaries",
    "Inclusion",
    "Staking",
    "Calibration",
    "Committees",
    "RandaoSeeds",
    "DrandSeeds",
    "Payments",
    "Requests",
    "VerifierKeys",
    "ModelRegistry",
    "Parameters",
    "Timelock",
    "TrineToken",
    "Erc8004Adapter",
    "Factory",
    "CertificateVerifier",
)
SIZES = ("10", "1,000", "100,000")

Snapshots = Mapping[str, Mapping[str, int]]


def read(folder: Path = SNAPSHOTS) -> dict[str, dict[str, int]]:
    """Group to name to gas."""
    return {
        path.stem: {name: int(value) for name, value in json.loads(path.read_text()).items()}
        for path in sorted(folder.glob("*.json"))
    }


def conditions(root: Path = ROOT) -> dict[str, Any]:
    """What the numbers hold for, out of the project's own settings."""
    config = (root / "hardhat.config.js").read_text()
    packages = json.loads((root / "package.json").read_text())["devDependencies"]
    return {
        "compiler": f"solc {packages['solc']}",
        "via_ir": _setting(config, r"viaIR: (true|false)") == "true",
        "optimizer_runs": int(_setting(config, r"optimizer: {[^}]*runs: (\d+)")),
        "evm_version": _setting(config, r'evmVersion: "(\w+)"'),
        "hardhat": packages["hardhat"],
        "leaves_of_a_full_batch": LEAVES,
        "batches_in_a_finalize": GROUP,
    }


def report(snapshots: Snapshots, held: Mapping[str, Any]) -> dict[str, Any]:
    """All of docs/gas.json."""
    steps = {life: {step: snapshots[life][step] for step in (*names, *PAYOUTS)} for life, names in LIVES.items()}
    figures: dict[str, int] = {}
    figures |= _figures("answer_full_batch", steps["full batch"], VOTED, LEAVES)
    figures |= _figures("answer_full_batch_aggregated", steps["full batch signed"], SIGNED, LEAVES)
    figures |= _figures("single_answer_batch", steps["single answer"], VOTED, 1)
    figures |= _figures("single_answer_batch_aggregated", steps["single answer signed"], SIGNED, 1)
    figures["certificate_check"] = snapshots["certificate"]["check of three keys"]
    return {
        **figures,
        "targets": TARGETS,
        "conditions": dict(held),
        "steps": steps,
        "entry_points": {name: dict(sorted(snapshots[name.lower()].items())) for name in CONTRACTS},
        "certificates": dict(sorted(snapshots["certificate"].items(), key=lambda item: item[1])),
        "sortition": dict(sorted(snapshots["sortition"].items())),
    }


def page(data: Mapping[str, Any]) -> str:
    """All of docs/gas.md."""
    held = data["conditions"]
    ir = " via IR" if held["via_ir"] else ""
    lines = [
        "# Gas",
        *_paragraph(
            """Written by `make gas`, which runs the tests that measure (`Gas.t.sol`, `EntryPoints.t.sol`,
            `SortitionGas.t.sol` and `CertificateVerifier.t.sol` in `tests/contracts/`) and adds up what they leave in
            `snapshots/`. `make test` fails when a number changes. [gas.json](gas.json) has the same for programs."""
        ),
        *_paragraph(
            f"""Measured with {held["compiler"]}{ir}, optimizer with {held["optimizer_runs"]} runs, EVM
            `{held["evm_version"]}`, Hardhat {held["hardhat"]}. Every call is a transaction of its own (`isolate`): its
            base cost of 21,000, its calldata and its refunds are in, storage is cold. All operators have worked
            before, as nearly all have nearly always: their records, credits and rewards exist."""
        ),
        "",
        "## The four figures",
        "",
        *_table(
            ("", "gas", "target", "with the payout", "paid out alone"),
            [
                (
                    MEANINGS[name],
                    _n(data[name]),
                    _n(target),
                    _n(data[f"{name}_with_payout"]) if f"{name}_with_payout" in data else "",
                    _n(data[f"{name}_with_payout_alone"]) if f"{name}_with_payout_alone" in data else "",
                )
                for name, target in TARGETS.items()
            ],
        ),
        *_paragraph(
            f"""In: all transactions from `anchor` to the verdict, whoever sends them, divided by {LEAVES} for a full
            batch. With three votes these are `anchor`, `draw`, three `commit` and three `reveal`, of which the last
            settles; with one signature, `anchor` and `settleSigned`, which draws by itself. The certificate's figure
            is the transaction of a contract that checks a certificate and emits an event."""
        ),
        *_paragraph(
            f"""Not in: `finalize`, which pays the verifiers and frees the stake after the time to appeal, and which no
            verdict waits for. One call takes many batches: "with the payout" adds a batch's share of a call for
            {GROUP}, "paid out alone" a call for this batch only. Also not in: what happens once (stake, calibration,
            keys), what happens off the regular way (silence, appeals, opened canaries, refunds), the record of a seed, which
            all batches of its block or of its beacon's period share (`RandaoSeeds`, `DrandSeeds`), clients' deposits
            and vouchers, and what a rollup charges for data. All three seats accept all answers; a rejection costs more,
            see `Batches` and `Finality` below."""
        ),
        "",
        "## Life of a batch",
        "",
        *_lives(data["steps"]),
        *_paragraph("The last reveal settles. The commitment to canaries is in `anchor`."),
        "",
        "## Sortition",
        *_paragraph(
            """By the number of members of a pool: a tree of seven branches a level, so costs grow with the logarithm.
            Picks and updates of the tree alone, without a transaction's base cost:"""
        ),
        "",
        *_table(("", *(f"{size} members" for size in SIZES)), _sortition(data["sortition"])),
        *_paragraph("Whole calls, with members' addresses, classes and stake:"),
        "",
        *_table(
            ("", "gas"),
            [(what, _n(gas)) for what, gas in data["sortition"].items() if " members, " not in what],
        ),
        "",
        "## Certificates on another chain",
        "",
        *_table(("transaction", "gas"), [(what, _n(gas)) for what, gas in data["certificates"].items()]),
        "",
        "## Every function",
        *_paragraph(
            """All that an account may send a transaction to. Functions that only Trine's contracts may call are in the
            costs of those who call them. What was there before is as usual: who stakes has staked before; "for the
            first time" says where it has not."""
        ),
    ]
    for contract, entries in data["entry_points"].items():
        rows = [(what, _n(gas)) for what, gas in entries.items()]
        lines += ["", f"### {contract}", "", *_table(("transaction", "gas"), rows)]
    return "\n".join(lines) + "\n"


def headlines(data: Mapping[str, Any]) -> str:
    """The four figures, one a line."""
    return "\n".join(
        f"{data[name]:>9,} gas {MEANINGS[name]}: target {target:,} {'met' if data[name] <= target else 'MISSED'}"
        for name, target in TARGETS.items()
    )


def render(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1) + "\n"


def _figures(name: str, steps: Mapping[str, int], names: tuple[str, ...], answers: int) -> dict[str, int]:
    verdict = sum(steps[step] for step in names)
    together, alone = (steps[step] for step in PAYOUTS)
    return {
        name: _up(verdict, answers),
        f"{name}_with_payout": _up(verdict + _up(together, GROUP), answers),
        f"{name}_with_payout_alone": _up(verdict + alone, answers),
    }


def _lives(steps: Mapping[str, Mapping[str, int]]) -> list[str]:
    names = [*VOTED, "settle signed", *PAYOUTS]
    rows = [
        (
            name,
            SENDERS.get(name, "verifier"),
            *(_n(steps[life][name]) if name in steps[life] else "" for life in LIVES),
        )
        for name in names
    ]
    to_the_verdict = [sum(steps[life][name] for name in LIVES[life]) for life in LIVES]
    rows.append(("all to the verdict", "", *map(_n, to_the_verdict)))
    return _table(("transaction", "by", *LIVES), rows)


def _sortition(measured: Mapping[str, int]) -> list[tuple[str, ...]]:
    first = f"{SIZES[0]} members, "
    return [
        (what, *(_n(measured[f"{size} members, {what}"]) for size in SIZES))
        for what in (name.removeprefix(first) for name in measured if name.startswith(first))
    ]


def _paragraph(text: str) -> list[str]:
    return ["", *textwrap.wrap(" ".join(text.split()), 120, break_on_hyphens=False)]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Text to the left, numbers to the right."""
    marks = ["---" if any(not _is_number(row[i]) for row in rows) else "---:" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, tuple(marks), *rows)]


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").isdigit() or not cell


def _n(gas: int) -> str:
    return f"{gas:,}"


def _up(total: int, parts: int) -> int:
    return -(-total // parts)


def _setting(config: str, pattern: str) -> str:
    found = re.search(pattern, config)
    if not found:
        raise LookupError(f"hardhat.config.js has nothing like {pattern}")
    return found[1]


def main() -> int:
    data = report(read(), conditions())
    DATA.write_text(render(data))
    PAGE.write_text(page(data))
    print(headlines(data))
    return 0 if all(data[name] <= target for name, target in TARGETS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
