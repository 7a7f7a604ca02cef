"""`trine-study …`: one command a study. Each imports what it needs when it is called: the packages are heavy."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure what verdicts rest on: thresholds, majorities, collisions.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps single commands subcommands."""


def main() -> None:
    app()
