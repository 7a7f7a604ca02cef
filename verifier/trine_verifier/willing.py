"""How far an operator goes with appeals of its own. Imports nothing, so that settings can be read at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Willing:
    """How far an operator goes: whether it appeals at all, how sure it must be, how much it has at stake at once."""

    appeals: bool = True
    least_chance: float = 0.95
    at_risk_wei: int = 100 * 10**18
