"""`trine examiner …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly

app = group("Plant answers that are known to be bad, and be paid for what verifiers make of them.")


Config = Annotated[
    Path | None,
    typer.Option(help="TOML file with the settings; see docs/examiners.md.", exists=True, dir_okay=False),
]


@app.command()
@fail_cleanly
def check(config: Config = None) -> None:
    """Says what is ready and what is missing, with the next command. Sends and serves nothing."""
    from trine.chain import Role
    from trine_node.examination import examine, report
    from trine_operator.logs import configure_logs
    from trine_research.examining.settings import ExaminerSettings

    configure_logs("warning")
    settings = ExaminerSettings.load(config)
    report(examine(settings, Role.NODE, "trine examiner serve", settings.batch_max_leaves), "the examiner can serve")


@app.command()
@fail_cleanly
def serve(config: Config = None) -> None:
    """Serves as a node, orders from itself, cheats in some of these answers and opens them as canaries."""
    from trine_operator.logs import configure_logs
    from trine_research.examining.run import run_examiner
    from trine_research.examining.settings import ExaminerSettings

    configure_logs()
    run_examiner(ExaminerSettings.load(config))


if __name__ == "__main__":
    app()
