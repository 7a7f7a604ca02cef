"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.", dir_okay=False)]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Draw them into this .png file.", dir_okay=False)]
