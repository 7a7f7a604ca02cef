"""Whether the chain answers, and whether it is still the same one: asked now and then, so that health says soon what
orders would find out.

A development chain that is started again is another chain, at the same address, with the same id and its contracts at
the same addresses: keys' budgets, receipts and verdicts are about a chain that is no more. They are left as they are,
and nothing is asked, paid or judged, until the gateway has its own chain again.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from trine.chain import Chain
from trine.errors import InvalidInput
from trine_gateway.records import ChainMark
from trine_gateway.store import GatewayStore
from trine_operator.refusal import Refusal

log = structlog.get_logger()

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
AWAY = "the chain cannot be asked: the log says why"
REPLACED = (
    "the chain that this gateway's accounts are on was replaced by another one: nothing is asked or paid until "
    "whoever runs the gateway starts it anew"
)
REPLACED_CODE = "chain_replaced"


def difference(chain: Chain, mark: ChainMark) -> str | None:
    """How the chain differs from the one with this mark; None where it is that one, as far as its endpoint shows.

    Raises ChainError.
    """
    shown = chain.block_hashes([mark.block])[0]
    if shown is not None:
        if shown == mark.block_hash:
            return None
        return f"its block {mark.block} is 0x{shown.hex()}, and was 0x{mark.block_hash.hex()}"
    newest = chain.block_number()
    return None if newest >= mark.block else f"it ends at block {newest}, and had more than {mark.block}"


def require_own_chain(store: GatewayStore, chain: Chain) -> None:
    """Remembers the chain with the first start of a gateway. Raises InvalidInput where it is not the one that the store
    is about, or has no contracts; ChainError."""
    here, known = chain.deployment, store.chain_mark()
    contract = here.address("Batches")
    if known is None:
        _require_contracts(chain)
        shown = chain.block_hashes([here.block])[0]
        if shown is not None:  # endpoints may have thrown away what is old
            store.keep_chain_mark(ChainMark(here.chain_id, contract, here.block, shown))
        return
    if (here.chain_id, contract) != (known.chain_id, known.contract):
        found: str | None = (
            f"the deployment file has chain {here.chain_id} and Batches at {contract}, and the store is about chain "
            f"{known.chain_id} and {known.contract}"
        )
    else:
        found = difference(chain, known)
    if found is not None:
        raise InvalidInput(
            f"this is another chain than the one that the gateway's store is about: {found}; keys, budgets and answers "
            "of that chain are left as they are, so let rpc_url and deployment lead there again, or set store_url to "
            "a new store for this chain and add keys to it by `trine gateway keys add`"
        )
    _require_contracts(chain)


def _require_contracts(chain: Chain) -> None:
    """Raises InvalidInput where there are none at the deployment's addresses."""
    if not chain.has_code("Directory"):
        raise InvalidInput(
            f"there are no contracts at the deployment's addresses on chain {chain.deployment.chain_id}: name the file "
            "of this chain's deployment, and the endpoint of the chain that it is of"
        )


class ChainWatch:
    """Used on the event loop only."""

    def __init__(self, chain: Chain, mark: ChainMark | None) -> None:
        """`mark`: the chain to stay on; None: any."""
        self._chain = chain
        self._mark = mark
        self._reason: str | None = None

    def why_not_ready(self) -> str | None:
        """In words for everybody; None while the chain answers."""
        return self._reason

    @property
    def is_replaced(self) -> bool:
        """Whether the chain was another one when it was last looked at."""
        return self._reason == REPLACED

    def require_own_chain(self) -> None:
        """Raises Refusal where the chain was another one when it was last looked at."""
        if self.is_replaced:
            raise Refusal(REPLACED, status=503, code=REPLACED_CODE, headers={"x-should-retry": "false"})

    def is_own_chain(self) -> bool:
        """Looks at it now. Raises ChainError."""
        return self._mark is None or difference(self._chain, self._mark) is None

    async def run(self) -> None:
        """Until it is cancelled."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        try:
            while True:
                looking = asyncio.wrap_future(thread.submit(self._look))
                done, _ = await asyncio.wait([looking], timeout=ANSWER_SECONDS)
                if not done:
                    self._tell(AWAY, f"no answer within {ANSWER_SECONDS:g} s")
                    await asyncio.wait([looking])  # one question at a time
                error = looking.exception()
                if error is not None:
                    self._tell(AWAY, f"{error!r:.300}")
                elif found := looking.result():
                    self._tell(REPLACED, found)
                else:
                    self._tell(None)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> str | None:
        self._chain.timestamp()
        return difference(self._chain, self._mark) if self._mark else None

    def _tell(self, reason: str | None, found: str = "") -> None:
        if reason == AWAY and self._reason == REPLACED:
            return  # what is there when it answers again is looked at before anything is asked
        if reason is not None and reason != self._reason:
            log.error("chain_replaced" if reason == REPLACED else "chain_away", error=found)
        elif reason is None and self._reason is not None:
            log.info("chain_back")
        self._reason = reason
