"""`trine node …`: check and serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trine.chain import Role
from trine.cli.output import fail_cleanly, say
from trine_node.logs import configure_logs
from trine_node.settings import NodeSettings

app = typer.Typer(help="Serve a model and be paid for verified answers.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option(help="TOML file with the settings.", exists=True, dir_okay=False)]


@app.command()
@fail_cleanly
def serve(
    config: Config = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
) -> None:
    """Serves the model until stopped; calibrates first if the chain holds no valid calibration."""
    from trine_node.run import run_node

    configure_logs()
    run_node(NodeSettings.load(config, port=port, dtype=dtype))


@app.command()
@fail_cleanly
def check(config: Config = None) -> None:
    """Checks keys, chain, stake and every model file, and serves nothing."""
    from trine_node.operator import open_operator

    configure_logs("warning")
    settings = NodeSettings.load(config)
    operator = open_operator(settings, Role.NODE)
    chain, model = operator.chain, operator.model
    calibrated = chain.is_calibrated(chain.address, Role.NODE, model.model_id)
    say(f"account     {chain.address}")
    say(f"stake       {chain.stake_of(chain.address).active} wei")
    say(f"model       {model.name} (every file as registered)")
    say(f"engine      {operator.engine.engine_class}")
    say(f"calibrated  {'yes' if calibrated else 'no: `trine node serve` will ask for a challenge'}")
    operator.store.close()
