"""Gas of an answer in a running network, and what a million verified tokens cost. For `certified.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trine import Answer, AsyncClient, NodeError
from trine.audit import BATCH_EVENTS
from trine.chain import BatchState, Chain, Role
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.options import PARAMETERS

CHAINS = {"ethereum": 1.0, "base": 0.006, "arbitrum": 0.015}
"""Gwei for a unit of gas, of November 2026 by assumption; a rollup's include what its data cost on Ethereum."""
TO_VERDICT = ("BatchAnchored", "CommitteeDrawn", "VoteCommitted", "VoteRevealed", "BatchSettled")
TOKENS = 2
AT_ONCE = 32
BUSY_SECONDS = 0.5
LOOK_SECONDS = 1.0
LOOKS = 1200


@dataclass(frozen=True)
class Prices:
    """In dollars; gas in gwei by chain."""

    eth_dollars: float
    token_dollars: float
    gwei: Mapping[str, float]


def measure_gas(net: Devnet, leaves: Sequence[int]) -> list[dict[str, Any]]:
    """One full batch of each size, settled by signatures, then by votes, with verifiers that are told not to sign."""
    for size in leaves:
        # Sealed when it is full; the wait is for what never comes.
        options = {"batch_max_leaves": size, "batch_max_wait_seconds": 1_800.0}
        net.add([Member(f"node-{size}", Role.NODE, options=options)])
    net.wait_ready()
    measured = []
    for signed in (True, False):
        if not signed:
            for name in [name for name in net.operators if name.startswith("verifier")]:
                net.change(name, {"sign_results": False})
            net.wait_ready()
        measured += [_one(net, size, signed) for size in leaves]
    return measured


def _one(net: Devnet, size: int, signed: bool) -> dict[str, Any]:
    chain = net.chain()
    for _ in range(3):
        batch_id = asyncio.run(_filled(net, size, f"{'signed' if signed else 'voted'}-{size}-{chain.block_number()}"))
        batch = _final(net, chain, batch_id)
        (settled,) = chain.events("Batches", "BatchSettled", batchId=batch_id)
        by_signatures = bool(settled.args["signed"])
        if by_signatures == signed and batch.leaf_count == size:
            break
        net.report.say(f"a batch of {batch.leaf_count} was settled {'signed' if by_signatures else 'by votes'}: again")
    gas = _gas_of(chain, batch_id)
    verdict = sum(used for name, used in gas.items() if name != "LeavesFinalized")
    net.report.say(f"{size} leaves, {'signed' if by_signatures else 'voted'}: {verdict / size:,.0f} gas an answer")
    return {
        "leaves": batch.leaf_count,
        "signed": by_signatures,
        "gas_to_verdict": verdict,
        "gas_to_payout": verdict + gas.get("LeavesFinalized", 0),
        "by_step": gas,
        "answer_to_verdict": round(verdict / size),
        "answer_to_payout": round((verdict + gas.get("LeavesFinalized", 0)) / size),
    }


async def _filled(net: Devnet, size: int, name: str) -> bytes:
    """Asks as many questions as the node's batch holds; the batch that they are in."""
    account = net.create_client(name, funds=200 * TOKEN)
    node = net.operators[f"node-{size}"]
    async with AsyncClient(
        rpc_url=net.rpc_url, deployment=net.deployment_file, account=account, node=node.endpoint,
        deposit_wei=100 * TOKEN,
    ) as client:  # fmt: skip
        room = asyncio.Semaphore(AT_ONCE)

        async def ask(number: int) -> Answer:
            async with room:
                while True:
                    try:
                        return await client.chat(f"Name the number {number}.", max_tokens=TOKENS)
                    except NodeError as busy:
                        if getattr(busy, "status", None) != 429:
                            raise
                        await asyncio.sleep(BUSY_SECONDS)

        answers = await asyncio.gather(*(ask(number) for number in range(size)))
        while (batch_id := await client.batch_of(answers[0])) is None:  # noqa: ASYNC110  (another process's state)
            await asyncio.sleep(LOOK_SECONDS)
        return batch_id


def _final(net: Devnet, chain: Chain, batch_id: bytes) -> Any:
    for _ in range(LOOKS):
        batch = chain.batch(batch_id)
        if batch.state == BatchState.FINAL:
            return batch
        if batch.state == BatchState.SETTLED:
            net.pass_time(int(PARAMETERS["appealWindowSeconds"]) + 1)
        time.sleep(LOOK_SECONDS)
    raise SystemExit(f"batch 0x{batch_id.hex()} is not final")


def _gas_of(chain: Chain, batch_id: bytes) -> dict[str, int]:
    """By the first event that a transaction tells of; each transaction once."""
    start = chain.anchoring(batch_id).block
    seen: dict[bytes, str] = {}
    for contract, name in BATCH_EVENTS:
        for event in chain.events(contract, name, from_block=start, batchId=batch_id):
            seen.setdefault(event.transaction, name)
    gas: dict[str, int] = {}
    for transaction, name in seen.items():
        gas[name] = gas.get(name, 0) + chain.gas_used(transaction)
    return gas


def costs(net: Devnet, measured: Sequence[Mapping[str, Any]], prices: Prices, tokens: int) -> list[dict[str, Any]]:
    """Dollars for a million tokens of prompts and answers, `tokens` an answer: gas by chain, and verifiers' fees."""
    terms = net.chain().parameters()
    rows = []
    for one in measured:
        fee_wei = terms.verifier_fee(one["leaves"], one["leaves"] * tokens) / one["leaves"]
        answers = 1e6 / tokens
        gas = {
            chain: one["answer_to_payout"] * answers * gwei * 1e-9 * prices.eth_dollars
            for chain, gwei in prices.gwei.items()
        }
        rows.append(
            {
                "leaves": one["leaves"],
                "signed": one["signed"],
                "gas_dollars": {chain: round(value, 4) for chain, value in gas.items()},
                "verifiers_fee_dollars": round(fee_wei / TOKEN * answers * prices.token_dollars, 4),
            }
        )
    return rows


def show_costs(
    measured: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], prices: Prices, tokens: int
) -> None:
    print("\nleaves  settled    gas an answer: to the verdict, to the payout")
    for one in measured:
        how = "signed" if one["signed"] else "by votes"
        print(f"{one['leaves']:>6}  {how:<9} {one['answer_to_verdict']:>29,} {one['answer_to_payout']:>15,}")
    print(
        f"\ndollars for a million verified tokens, {tokens} an answer. Assumed: ether at {prices.eth_dollars:,g}, the "
        f"stake token at {prices.token_dollars:g},\na unit of gas at "
        + ", ".join(f"{gwei:g} gwei on {chain}" for chain, gwei in prices.gwei.items())
    )
    print("leaves  settled   " + "".join(f"{chain:>12}" for chain in prices.gwei) + "   and the verifiers' fees")
    for row in rows:
        how = "signed" if row["signed"] else "by votes"
        gas = "".join(f"{row['gas_dollars'][chain]:>12,.2f}" for chain in prices.gwei)
        print(f"{row['leaves']:>6}  {how:<10}{gas}{row['verifiers_fee_dollars']:>26,.2f}")
