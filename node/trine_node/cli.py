"""`trine node …`: check and serve."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly
from trine_operator.protection_cli import protection_group

if TYPE_CHECKING:
    from trine_node.settings import NodeSettings

app = group("Serve a model and be paid for verified answers.")


def _settings(config: Path | None) -> NodeSettings:
    from trine_node.settings import NodeSettings

    return NodeSettings.load(config)


app.add_typer(protection_group(_settings), name="protection")

Config = Annotated[
    Path | None,
    typer.Option(help="TOML file with the settings; see docs/operators.md.", exists=True, dir_okay=False),
]


@app.command()
@fail_cleanly
def serve(
    config: Config = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
    calibrate: Annotated[bool | None, typer.Option(help="Take a challenge if the chain holds no valid one.")] = None,
) -> None:
    """Serves the model until stopped; calibrates first if the chain holds no valid calibration."""
    from trine_node.run import run_node
    from trine_node.settings import NodeSettings
    from trine_operator.logs import configure_logs

    configure_logs()
    run_node(NodeSettings.load(config, port=port, dtype=dtype, calibrate=calibrate))


@app.command()
@fail_cleanly
def check(config: Config = None) -> None:
    """Says what is ready and what is missing, with the next command. Sends and serves nothing."""
    from trine.chain import Role
    from trine_node.examination import examine, examine_x402, report
    from trine_node.settings import NodeSettings
    from trine_operator.logs import configure_logs

    configure_logs("warning")
    settings = NodeSettings.load(config)
    findings = examine(settings, Role.NODE, "trine node serve", settings.batch_max_leaves)
    report(chain(findings, examine_x402(settings)), "the node can serve")
