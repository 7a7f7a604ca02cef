"""`VerifierKeys` and `Committees` as key sets: who may sign in an epoch, read at the epoch's first block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trine.chain.committees import POOL_PAGE, CommitteeCalls
from trine.chain.deployment import Deployment
from trine.errors import ChainError, ChainUnreachable, InvalidInput, NotReady, TransactionReverted
from trine.protocol.key_root import MAX_KEYS
from trine.protocol.roster import Roster

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

MAX_MODELS = 256
"""One page of the directory: a network with more needs a rule of its own."""
KEPT_ROSTERS = 64
Asked = tuple[str, str, tuple[Any, ...]]


class KeySetCalls(CommitteeCalls):
    """Reads key sets. What it gives of an epoch follows from the epoch's first block, whoever reads when."""

    def __init__(
        self, deployment: Deployment, rpc_url: str | Sequence[str], signer: LocalAccount | None = None
    ) -> None:
        super().__init__(deployment, rpc_url, signer)
        self._rosters: dict[tuple[int, bytes], Roster] = {}

    def newest_key_epoch(self) -> int:
        """The newest epoch whose first block is taken to stay."""
        block = self.confirmed_block()
        return self._contracts_number(block) // self.epoch_blocks() if block >= 0 else -1

    def epoch_first_block(self, epoch: int) -> int:
        """The RPC endpoint's number of the first block that contracts count in the epoch. Raises NotReady before it is
        taken to stay, InvalidInput for an epoch before the deployment."""
        if not 0 <= epoch < 2**64:
            raise InvalidInput(f"{epoch} is no epoch")
        newest = self.newest_key_epoch()
        if epoch > newest:
            raise NotReady(f"epoch {epoch} has not begun, or its first block may still change: the newest is {newest}")
        wanted = epoch * self.epoch_blocks()
        first = wanted if self.has_own_numbers else self._first_block_counted(wanted)
        if first < self.deployment.block:
            raise InvalidInput(f"epoch {epoch} began before the contracts were deployed, so it has no key set")
        return first

    def roster(self, epoch: int) -> Roster:
        """The epoch's key set with its operators.

        Asks for the pools of all models and for one key hash an operator, in few requests. Raises InvalidInput for an
        epoch that has none, NotReady for one that has not begun, ChainError where the endpoint has not kept the state
        of the epoch's first block.
        """
        first = self.epoch_first_block(epoch)
        identity = (epoch, self.block_hash(first))
        with self._cache_lock:
            known = self._rosters.get(identity)
        if known:
            return known
        try:
            found = self._roster_at(epoch, first)
        except (ChainUnreachable, TransactionReverted):
            raise
        except ChainError as error:
            raise ChainError(
                f"the RPC endpoint does not show the contracts at block {first}, where the key set of epoch {epoch} is "
                f"read ({error}): use an endpoint that keeps old state (an archive node), or a newer epoch"
            ) from None
        with self._cache_lock:
            self._rosters[identity] = found
            if len(self._rosters) > KEPT_ROSTERS:
                del self._rosters[next(iter(self._rosters))]
        return found

    def _roster_at(self, epoch: int, block: int) -> Roster:
        entries, total = self._read("Directory", "models", 0, MAX_MODELS, block=block)
        if total > MAX_MODELS:
            raise InvalidInput(f"the network has {total} models; key sets are made of at most {MAX_MODELS}")
        models = [bytes(entry[0]) for entry in entries]
        sizes = self._read_all_at(block, [("Committees", "positionsOf", (model, True)) for model in models])
        if sum(sizes) > MAX_KEYS:
            raise ChainError(f"the endpoint shows {sum(sizes)} positions, more than a key set may have")
        pages: list[Asked] = [
            ("Committees", "poolOf", (model, True, epoch, start, POOL_PAGE))
            for model, size in zip(models, sizes, strict=True)
            for start in range(0, size, POOL_PAGE)
        ]
        rows = list(zip(pages, self._read_all_at(block, pages), strict=True))
        pools = [
            [(str(row[0]), int(row[1])) for (_, _, asked), page in rows if asked[0] == model for row in page]
            for model in models
        ]
        operators = sorted({operator for pool in pools for operator, weight in pool if weight})
        asked: list[Asked] = [("VerifierKeys", "keyHashOf", (operator,)) for operator in operators]
        hashes = self._read_all_at(block, asked)
        return Roster.of(
            epoch,
            pools,
            {operator: bytes(key_hash) for operator, key_hash in zip(operators, hashes, strict=True)},
            self.block_timestamp(block),
            int(self._read("Staking", "unbondingDelay", block=block)),
        )

    def _read_all_at(self, block: int, asked: Sequence[Asked]) -> list[Any]:
        """View functions at a block, asked together where the endpoint takes that."""
        questions = [self._question(*each, block) for each in asked]
        answers = self._views.call_all(questions)
        return [
            self._read(contract, function, *arguments, block=block) if answer is None else answer
            for (contract, function, arguments), answer in zip(asked, answers, strict=True)
        ]

    def _contracts_number(self, block: int) -> int:
        """What contracts see as `block.number` in a block of the endpoint."""
        if self.has_own_numbers:
            return block
        head = self._views.block(block)
        if head is None or head.contracts_number is None:
            raise ChainUnreachable(f"the RPC endpoint does not tell which number contracts see in block {block}")
        return head.contracts_number

    def _first_block_counted(self, wanted: int) -> int:
        """By halving: numbers that contracts see never fall."""
        low, high = self.deployment.block, self.confirmed_block()
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._contracts_number(middle) < wanted else (low, middle)
        return low
