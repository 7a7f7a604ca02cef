"""Why a chain shows no result of an answer's batch: it is too early, or there will never be one.

A devnet that is started again has the chain id and the addresses of the one before, so these do not tell an answer of
the earlier one from one that is on its way. Time does: a receipt names the chain's time at which it was issued.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trine.chain.records import BatchState
from trine.errors import ChainError, InvalidInput, NotReady

if TYPE_CHECKING:
    from trine.chain import Chain
    from trine.protocol.messages import Receipt


def require_of_this_chain(chain: Chain, receipt: Receipt) -> None:
    """Raises InvalidInput for an answer from before the deployment's first block. Says nothing where the endpoint does
    not show that block any more."""
    try:
        began = chain.block_timestamp(chain.deployment.block)
    except ChainError:
        return
    if receipt.issued_at < began:
        raise InvalidInput(
            f"the answer is of {_date(receipt.issued_at)}, this network began at {_date(began)}: it was given on "
            "another chain and will never be on this one. A devnet that is started again is a new chain: what was "
            "asked before is gone with the old one, ask again"
        )


def require_possible(chain: Chain, batch_id: bytes, receipt: Receipt) -> None:
    """For a batch without a result: returns where it may still get one. Raises InvalidInput or NotReady where the chain
    does not know it and should."""
    if chain.batch_state(batch_id) != BatchState.NONE:
        return
    require_of_this_chain(chain, receipt)
    if chain.timestamp() > receipt.anchor_by:
        raise NotReady(
            f"batch 0x{batch_id.hex()} is not on this chain, though its node had promised to anchor it by "
            f"{_date(receipt.anchor_by)}: compare RPC endpoint and deployment with those that the answer was asked "
            "with; if they are the same, `trine claim` holds the node to its promise"
        )


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
