"""Names of the ways in which a verifier can cheat. What each does is in `cheating_verifier`."""

from __future__ import annotations

from trine.errors import InvalidInput

VERIFIER_CHEATS = ("honest", "always-accept", "colluding", "slandering", "never-reveal", "copying", "waiting")


def known_cheat(name: str) -> str:
    """The name. Raises InvalidInput, naming the cheats that there are, if no verifier cheats like that."""
    if name not in VERIFIER_CHEATS:
        raise InvalidInput(f"no cheating verifier {name!r}: choose from {', '.join(VERIFIER_CHEATS)}")
    return name
