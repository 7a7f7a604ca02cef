"""A node that passes its calibration honestly and then cheats: `python -m trine_devnet.cheating_node`.

Everything but the engine is the real node, so whatever catches it would catch any operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from trine.cli.output import fail_cleanly
from trine_node.engines.base import Engine, Step
from trine_node.settings import NodeSettings
from trine_operator.logs import configure_logs
from trine_research.adversaries import Adversary, make_adversary


class InTurn(Adversary):
    """Answers the first request with the first cheat, the second with the second, and so on, then honestly."""

    def __init__(self, honest: Engine, cheats: Sequence[str]) -> None:
        super().__init__(honest)
        self._turns = [make_adversary(cheat, honest) for cheat in cheats]

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        engine = self._turns.pop(0) if self._turns else self.honest
        return engine.generate(prompt_ids, max_tokens, cancelled)


@fail_cleanly
def serve(
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    cheat: Annotated[list[str], typer.Option(help="Adversary's name or module:attribute; may be repeated.")],
) -> None:
    """Serves like `trine node serve`, but cheats after calibration."""
    from trine_node.run import run_node

    configure_logs()
    run_node(NodeSettings.load(config), lambda engine: InTurn(engine, cheat))


if __name__ == "__main__":
    typer.run(serve)
