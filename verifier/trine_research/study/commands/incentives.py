"""`trine-study incentives`."""

from __future__ import annotations

from typing import Annotated

import typer

from trine.cli.output import fail_cleanly
from trine_research.study.commands.options import JsonFile, exact


@fail_cleanly
def incentives(
    cost: Annotated[float, typer.Option(help="What checking one leaf costs a verifier, in tokens.", min=0)] = 0.005,
    cheats: Annotated[
        list[float] | None, typer.Option(help="Share of leaves that the node cheats on. [default: 0 0.001 0.01 0.1]")
    ] = None,
    canaries: Annotated[
        list[float] | None, typer.Option(help="Share of leaves that are canaries. [default: 0 0.0001 0.0003 0.001]")
    ] = None,
    lazy: Annotated[
        list[float] | None, typer.Option(help="Share of leaves that a lazy verifier checks. [default: 0.5 0.9]")
    ] = None,
    appealed: Annotated[float, typer.Option(help="Chance that a verdict that is not right is put right.")] = 0.01,
    false_accept: Annotated[float, typer.Option(help="An honest verifier accepts a bad answer.")] = 0.004,
    false_reject: Annotated[float, typer.Option(help="An honest verifier rejects a good answer.")] = 0.002,
    inconclusive_bad: Annotated[float, typer.Option(help="It says neither of a bad answer.")] = 0.025,
    inconclusive_good: Annotated[float, typer.Option(help="It says neither of a good answer.")] = 0.002,
    leaves: Annotated[int, typer.Option(help="Answers of the batch.")] = 256,
    tokens: Annotated[int, typer.Option(help="Tokens of all prompts and answers together.")] = 65_536,
    json_file: JsonFile = None,
) -> None:
    """What a verifier gains by checking, by abstaining, by accepting everything, under the shipped parameters."""
    from trine_research.study import incentives_report, writing
    from trine_research.study.incentives import ETHER, Setting

    study = incentives_report.Study(
        setting=Setting(
            cost=int(exact(cost) * ETHER),
            false_accept=exact(false_accept),
            false_reject=exact(false_reject),
            doubt_of_bad=exact(inconclusive_bad),
            doubt_of_good=exact(inconclusive_good),
            appealed=exact(appealed),
            leaves=leaves,
            tokens=tokens,
        ),
        cheats=[exact(rate) for rate in cheats or [0, 0.001, 0.01, 0.1]],
        canaries=[exact(rate) for rate in canaries or [0, 0.0001, 0.0003, 0.001]],
        lazy=[exact(part) for part in lazy or [0.5, 0.9]],
    )
    report = incentives_report.evaluate(study)
    incentives_report.show(report)
    if json_file:
        writing.write_json(report, json_file)
