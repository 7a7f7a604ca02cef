"""Carries key sets to another chain: one step looks at both chains and does what is next. Keeps nothing between steps:
how far it is stands on the other chain, so it may be stopped anywhere, and any number of relayers may run.

A relayer is trusted with nothing. It can be late or absent; it cannot install a set that more than two thirds of the
set before have not signed. See docs/threats.md.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trine.certificates import source_of
from trine.chain.foreign import require_same
from trine.errors import ChainError, InvalidInput, NotReady, TransactionReverted, VerificationFailed
from trine.handovers import assembled, collect, steps_from
from trine.protocol.key_root import MAX_SIGNERS

if TYPE_CHECKING:
    from trine.chain import Chain
    from trine.chain.foreign import ForeignChain
    from trine.protocol.portable import Handover
    from trine.protocol.roster import Roster

log = logging.getLogger("trine.relay")

DEFAULT_MAX_GAS = 10_000_000
POLL_SECONDS = 12.0
PAUSES_SECONDS = (5.0, 300.0)
"""After a step that failed: the first, which doubles up to the second."""
OVERTAKEN = ("CertificateVerifierEpochNotNewer", "CertificateVerifierNotSigned")
"""What `advance` says when another relayer was faster: its set is newer, or is another one than was signed for."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """A hand-over that is on the other chain."""

    since: int
    epoch: int
    signers: int
    gas: int
    transaction: bytes

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"epoch {self.since} handed over to {self.epoch}: {self.signers} signers, {self.gas:,} gas, transaction "
            f"0x{self.transaction.hex()}"
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a hand-over may cost. `every_epoch`: no set is skipped as long as the next one has enough signatures, so
    that certificates of every epoch are taken; otherwise the newest is aimed at."""

    max_gas: int = DEFAULT_MAX_GAS
    max_signers: int = MAX_SIGNERS
    every_epoch: bool = False


class Relay:
    """From a network's chain to one `CertificateVerifier`."""

    def __init__(self, chain: Chain, foreign: ForeignChain, limits: Limits | None = None) -> None:
        self._chain = chain
        self._foreign = foreign
        self._limits = limits or Limits()

    def require_fit(self) -> None:
        """Raises InvalidInput for a contract that is of another network."""
        source = source_of(self._chain)
        self._foreign.require_of(source.chain_id, source.batches)

    def step(self) -> Advanced | None:
        """Advances once; None when there is nothing to do, or another relayer did it meanwhile.

        Raises NotReady where too few verifiers have signed, VerificationFailed where the contract's newest set is not
        the network's, InvalidInput where the limits forbid, ChainError.
        """
        newest = self._foreign.newest_epoch()
        target = self._chain.newest_key_epoch()
        current = self._chain.roster(newest)
        # What was installed before may have been replaced by a re-organisation of either chain.
        require_same(self._foreign.key_set_of(newest), current.key_set)
        if target <= newest:
            return None
        self._require_good(current)
        following, handover = self._handover(current, target)
        return self._install(current, following, handover)

    def catch_up(self) -> Iterator[Advanced]:
        """Steps until the newest set is there. Raises as `step`."""
        while self._foreign.newest_epoch() < self._chain.newest_key_epoch():
            advanced = self.step()
            if advanced:
                yield advanced

    def run(
        self,
        stop: threading.Event,
        poll_seconds: float = POLL_SECONDS,
        tell: Callable[[Advanced], None] = lambda _: None,
    ) -> None:
        """Steps until `stop`. What may pass is logged and tried again. Raises VerificationFailed, and InvalidInput."""
        pause = PAUSES_SECONDS[0]
        while not stop.is_set():
            try:
                advanced = self.step()
            except VerificationFailed:
                raise
            except (NotReady, ChainError) as error:
                log.warning("%s; trying again in %.0f s", error, pause)
                stop.wait(pause)
                pause = min(2 * pause, PAUSES_SECONDS[1])
                continue
            pause = PAUSES_SECONDS[0]
            if advanced:
                tell(advanced)
            else:
                stop.wait(poll_seconds)

    def _handover(self, current: Roster, target: int) -> tuple[Roster, Handover]:
        epochs = steps_from(current.epoch, target)
        if self._limits.every_epoch:
            epochs = [*range(current.epoch + 1, min(current.epoch + 3, target + 1)), *epochs]
        problem: NotReady | InvalidInput = NotReady(f"epoch {target} cannot be reached")
        for epoch in dict.fromkeys(epochs):
            try:
                following = self._chain.roster(epoch)
            except InvalidInput as error:
                problem = NotReady(str(error))
                continue
            try:
                collected = collect(current, following, source_of(self._chain), self._chain.endpoint_of)
                return following, assembled(current, following, collected, self._limits.max_signers)
            except (NotReady, InvalidInput) as error:
                problem = error
        raise problem

    def _install(self, current: Roster, following: Roster, handover: Handover) -> Advanced | None:
        try:
            gas = self._foreign.advance_gas(following.key_set, handover)
            if gas > self._limits.max_gas:
                raise InvalidInput(
                    f"the hand-over to epoch {following.epoch} takes {gas:,} gas with {len(handover.members)} signers, "
                    f"the fewest that are enough, and you allow {self._limits.max_gas:,}: raise --max-gas"
                )
            receipt = self._foreign.advance(following.key_set, handover)
        except TransactionReverted as error:
            if error.reason.startswith(OVERTAKEN) and self._foreign.newest_epoch() != current.epoch:
                return None
            raise
        return Advanced(
            current.epoch,
            following.epoch,
            len(handover.members),
            int(receipt["gasUsed"]),
            bytes(receipt["transactionHash"]),
        )

    def _require_good(self, current: Roster) -> None:
        now = self._foreign.timestamp()
        if now > current.valid_until:
            raise VerificationFailed(
                f"the CertificateVerifier's newest key set, of epoch {current.epoch}, was good until "
                f"{current.valid_until} and it is {now} there (seconds since 1970): nobody handed over in time, and it "
                "stays silent for ever. Deploy a new one with `trine relay deploy`, from a set that you have compared"
            )
