"""Options that several commands share."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from trine.errors import InvalidInput

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.", dir_okay=False)]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Draw them into this .png file.", dir_okay=False)]


def exact(value: float | str) -> Fraction:
    """As it was typed, not as a binary number. Raises InvalidInput for what is none."""
    try:
        return Fraction(str(value))
    except ValueError:
        raise InvalidInput(f"{value} is no number") from None
