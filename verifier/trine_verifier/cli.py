"""`trine verifier …`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.groups import group
from trine.cli.output import fail_cleanly
from trine_operator.protection_cli import protection_group

if TYPE_CHECKING:
    from trine_verifier.settings import VerifierSettings

app = group("Re-check others' answers and vote on them.")


def _settings(config: Path | None) -> VerifierSettings:
    from trine_verifier.settings import VerifierSettings

    return VerifierSettings.load(config)


app.add_typer(protection_group(_settings), name="protection")


@app.command()
@fail_cleanly
def run(
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with the settings; see docs/operators.md.", exists=True, dir_okay=False),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve calibration evidence on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16.")] = None,
) -> None:
    """Votes until stopped; calibrates first if the chain holds no valid calibration."""
    from trine_operator.logs import configure_logs
    from trine_verifier.run import run_verifier
    from trine_verifier.settings import VerifierSettings

    configure_logs()
    run_verifier(VerifierSettings.load(config, port=port, dtype=dtype))


@app.command()
@fail_cleanly
def check(
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with the settings; see docs/operators.md.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Says what is ready and what is missing, with the next command. Sends and votes on nothing."""
    from itertools import chain

    from trine.chain import Role
    from trine_node.examination import examine, report
    from trine_operator.logs import configure_logs
    from trine_verifier.keys import examine_signing_key
    from trine_verifier.settings import VerifierSettings

    configure_logs("warning")
    settings = VerifierSettings.load(config)
    findings = chain(examine_signing_key(settings), examine(settings, Role.VERIFIER, "trine verifier run", 1))
    report(findings, "the verifier can vote")
