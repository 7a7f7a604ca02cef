"""`trine-study tournament`."""

from __future__ import annotations

from typing import Annotated

import typer

from trine.cli.output import fail_cleanly
from trine_research.study.commands.options import JsonFile, PlotFile, exact


@fail_cleanly
def tournament(
    tokens: Annotated[int, typer.Option(help="Of a leaf, prompt and answer.")] = 256,
    price: Annotated[float, typer.Option(help="Of a token, for its client, in tokens of stake.", min=0)] = 0.0004,
    compute: Annotated[float, typer.Option(help="What a token costs an honest node.", min=0)] = 0.0001,
    check: Annotated[float, typer.Option(help="What checking a token costs a verifier.", min=0)] = 0.00001953125,
    cheats: Annotated[float, typer.Option(help="Share of the leaves that other nodes cheat on.")] = 0.0,
    canaries: Annotated[float, typer.Option(help="Share of the leaves that are canaries.")] = 0.001,
    canary_appealed: Annotated[float, typer.Option(help="Chance that an accepted canary is appealed.")] = 1.0,
    appealed: Annotated[float, typer.Option(help="Chance that a client appeals a wrong verdict.")] = 0.01,
    dissents: Annotated[float, typer.Option(help="Chance that a seat that saw a cheat accepted appeals.")] = 1.0,
    blind: Annotated[float, typer.Option(help="The same of a seat that was shown nothing.")] = 0.0,
    claimed: Annotated[float, typer.Option(help="Chance that an answer that is in no batch is claimed.")] = 0.5,
    common: Annotated[float, typer.Option(help="Chance that all honest checks of a leaf err as one.")] = 0.0,
    pool: Annotated[int | None, typer.Option(help="So many equal verifiers. Default: very many.")] = None,
    share: Annotated[
        list[float] | None,
        typer.Option(help="Of the stake, a coalition's; may be repeated. [default: 0.05 0.1 0.2 1/3]"),
    ] = None,
    sweeps: Annotated[
        bool, typer.Option(help="Vary each of these by itself, too, and a leaf's length: a minute.")
    ] = True,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
) -> None:
    """Every role's strategies against an honest rest, under the shipped parameters: who gains by what, and where."""
    from trine_research.study import writing
    from trine_research.study.incentives import ETHER
    from trine_research.study.tournament import matrix, report
    from trine_research.study.tournament.world import World

    world = World(
        tokens=tokens,
        price_per_token=int(exact(price) * ETHER),
        compute_per_token=int(exact(compute) * ETHER),
        check_per_token=int(exact(check) * ETHER),
        cheats=exact(cheats),
        canaries=exact(canaries),
        canary_appealed=exact(canary_appealed),
        appealed=exact(appealed),
        dissents=exact(dissents),
        blind=exact(blind),
        claimed=exact(claimed),
        common=exact(common),
        pool=pool,
    )
    study = matrix.Study(
        world,
        shares=[exact(part) for part in share] if share else matrix.SHARES,
        sweeps=matrix.SWEEPS if sweeps else {},
        lengths=matrix.LENGTHS if sweeps else (),
    )
    found = matrix.evaluate(study)
    report.show(found)
    if json_file:
        writing.write_json(found, json_file)
    if plot_file:
        report.plot(found, plot_file)
