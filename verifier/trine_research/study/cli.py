"""`trine-study …`: one command a study. Each imports what it needs when it is called: the packages are heavy."""

from __future__ import annotations

from trine.cli.groups import group
from trine_research.study.commands import image
from trine_research.study.commands.billion import billion
from trine_research.study.commands.calibrate import calibrate
from trine_research.study.commands.fingerprints import fingerprints
from trine_research.study.commands.incentives import incentives
from trine_research.study.commands.majority import majority
from trine_research.study.commands.recheck import recheck
from trine_research.study.commands.text import text
from trine_research.study.commands.tournament import tournament

app = group("Measure what verdicts rest on: thresholds, majorities, incentives, collisions.")
for command in (calibrate, recheck, fingerprints, billion, majority, incentives, tournament, text):
    app.command()(command)
app.add_typer(image.app, name="image")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
