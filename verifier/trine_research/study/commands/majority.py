"""`trine-study majority`."""

from __future__ import annotations

from typing import Annotated

import typer

from trine.cli.output import fail_cleanly
from trine_research.study.commands.options import JsonFile, PlotFile


@fail_cleanly
def majority(
    share: Annotated[
        list[float] | None,
        typer.Option(help="Colluding share of the weight; may be repeated. [default: 0 0.1 0.2 0.33 0.5]"),
    ] = None,
    verifiers: Annotated[
        int | None, typer.Option(help="So many of equal weight, drawn without repetition. Default: very many.")
    ] = None,
    false_accept: Annotated[float, typer.Option(help="An honest verifier accepts a cheating answer.")] = 0.004,
    false_reject: Annotated[float, typer.Option(help="An honest verifier rejects an honest answer.")] = 0.002,
    inconclusive_cheating: Annotated[float, typer.Option(help="It says neither of a cheating answer.")] = 0.025,
    inconclusive_honest: Annotated[float, typer.Option(help="It says neither of an honest answer.")] = 0.002,
    silent: Annotated[float, typer.Option(help="It does not vote.")] = 0.0,
    common: Annotated[
        float, typer.Option(help="Chance that all honest verifiers of a hardware class err, or not, as one.")
    ] = 1.0,
    classes: Annotated[int, typer.Option(help="Hardware classes of honest verifiers.")] = 1,
    rounds: Annotated[int, typer.Option(help="Committees until one must be heard: maxRounds.")] = 3,
    capture: Annotated[
        list[float] | None,
        typer.Option(help="Price an attack that captures a committee with this chance. [default: 0.01 0.1 0.5 0.9]"),
    ] = None,
    honest_stake: Annotated[float, typer.Option(help="Tokens of honest verifiers.")] = 20_000,
    stake_per_leaf: Annotated[float, typer.Option(help="What a node loses by a rejected leaf.")] = 5,
    dissent_fine: Annotated[float, typer.Option(help="What a verifier loses by a wrong vote on a leaf.")] = 0.1,
    overturned_fine: Annotated[float, typer.Option(help="The same where an appeal has turned the verdict.")] = 5,
    wrong_vote_penalty: Annotated[float, typer.Option(help="What a juror loses by a wrong vote.")] = 20,
    newcomer_factor: Annotated[float, typer.Option(help="Weight of a bought token by that of an honest one.")] = 0.25,
    trials: Annotated[int, typer.Option(help="Simulated leaves for each row.")] = 200_000,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Chances of wrong verdicts by committees and appeals, exact and simulated; what an attack costs."""
    from trine_research.study import majority_report, writing
    from trine_research.study.attack import Prices
    from trine_research.study.majority import Model, Rates

    answers = {
        "cheating answer": Rates(false_accept, inconclusive_cheating, silent),
        "honest answer": Rates(false_reject, inconclusive_honest, silent),
    }
    study = majority_report.Study(
        model=Model(answers["cheating answer"], 0, verifiers, common, classes, rounds),
        answers=answers,
        shares=share or [0, 0.1, 0.2, 0.33, 0.5],
        captures=capture or [0.01, 0.1, 0.5, 0.9],
        prices=Prices(
            stake_per_leaf=stake_per_leaf,
            dissent_fine=dissent_fine,
            overturned_fine=overturned_fine,
            wrong_vote_penalty=wrong_vote_penalty,
            honest_stake=honest_stake,
            newcomer_factor=newcomer_factor,
        ),
        trials=trials,
        seed=seed,
    )
    report = majority_report.evaluate(study)
    majority_report.show(report)
    if json_file:
        writing.write_json(report, json_file)
    if plot_file:
        majority_report.plot(report, plot_file)
