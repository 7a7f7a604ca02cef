"""A node that passes its calibration honestly and then cheats: `python -m trine_devnet.cheating_node`.

Everything but the engine, whom it shows its evidence, and what it seals, is the real node, so whatever catches it would
catch any operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from trine.cli.output import fail_cleanly
from trine.errors import InvalidInput
from trine.protocol.decoding import Decoding
from trine_node.engines.base import Engine, Step
from trine_node.settings import NodeSettings
from trine_operator.logs import configure_logs
from trine_operator.service import EvidenceEndpoints
from trine_research.adversaries import Adversary, make_adversary

if TYPE_CHECKING:
    from trine_node.run import Extension
    from trine_operator.opening import Operator
    from trine_operator.store import Store

log = structlog.get_logger()


class ShowsOneSeat(EvidenceEndpoints):
    """Shows prompts and answers to the first seat of a committee, and to no jury."""

    def judges(self, address: str, batch_id: bytes, leaf: int | None) -> bool:
        seats = self.chain.seats(self.chain.batch(batch_id))
        is_first = bool(seats) and seats[0].verifier.lower() == address.lower()
        log.info("evidence_shown" if is_first else "evidence_hidden", batch=batch_id.hex(), to=address)
        return is_first


class ShowsNobody(EvidenceEndpoints):
    """Anchors and keeps it all to itself."""

    def judges(self, address: str, batch_id: bytes, leaf: int | None) -> bool:
        return False


SHOWS: dict[str, type[EvidenceEndpoints]] = {
    "everybody": EvidenceEndpoints,
    "one-seat": ShowsOneSeat,
    "nobody": ShowsNobody,
}


class InTurn(Adversary):
    """Answers the first request with the first cheat, the second with the second, and so on, then honestly."""

    def __init__(self, honest: Engine, cheats: Sequence[str]) -> None:
        super().__init__(honest)
        self._turns = [make_adversary(cheat, honest) for cheat in cheats]

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_tokens: int,
        cancelled: Callable[[], bool] | None = None,
        decoding: Decoding | None = None,
    ) -> Iterator[Step]:
        engine = self._turns.pop(0) if self._turns else self.honest
        return engine.generate(prompt_ids, max_tokens, cancelled, decoding)


@fail_cleanly
def serve(
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    cheat: Annotated[list[str] | None, typer.Option(help="Adversary's name or module:attribute; repeatable.")] = None,
    shows: Annotated[str, typer.Option(help="Who is shown evidence: everybody, one-seat or nobody.")] = "everybody",
    anchors_nothing: Annotated[bool, typer.Option(help="Sells answers and anchors none.")] = False,
) -> None:
    """Serves like `trine node serve`, but cheats after calibration."""
    from trine_node.run import Extension, run_node

    if shows not in SHOWS:
        raise InvalidInput(f"nobody shows evidence to {shows!r}: choose from {', '.join(SHOWS)}")
    configure_logs()

    def extend(operator: Operator[Engine, Store]) -> Extension:
        if anchors_nothing:
            operator.store.waiting = _nothing  # type: ignore[assignment,method-assign]
        return Extension(lambda engine: InTurn(engine, cheat or []))

    run_node(NodeSettings.load(config), evidence=SHOWS[shows], extend=extend)


def _nothing(_limit: int) -> None:
    """Nothing ever waits to be sealed. A calibration's answers are sealed as they come."""


if __name__ == "__main__":
    typer.run(serve)
