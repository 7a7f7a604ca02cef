"""Whether a chain has what Trine's contracts need. Pure: `facts` in, a finding for each need out, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trine_devnet.deploying.facts import CALL_GAS, LARGEST_CODE, BlockSeen, Facts, Shown
from trine_devnet.deploying.probes import ANSWER, word_of

CREATEX_HASH = bytes.fromhex("bd8a7ea8cfca7b4e5f5041d7d4b17bc317c5ce42cfbc42066a00cf26b43eb53f")
"""Of its code, version 0.1.0, as Hardhat Ignition compares it: https://github.com/pcaversaccio/createx"""
TRANSACTION_GAS = 1 << 24
"""EIP-7825: no transaction may ask for more."""
LEAST_RANDAO = 1 << 128
"""`RandaoSeeds`: what chains without a RANDAO put in its place is smaller."""
FEWEST_BLOCKS = 8
SLOWEST_BLOCK_SECONDS = 15.0
"""`Parameters` allows a minute to vote, which is four blocks of the slowest chain."""
FASTEST_BLOCK_SECONDS = 1.0
"""A draw's window is counted in blocks: docs/randomness.md."""
ROUNDING = 0.9
"""Blocks tell their time in whole seconds."""
LEAST_WINDOW_SECONDS = 48.0
"""For a draw: a slow transaction is replaced after 24 s, so there is time for one."""
AHEAD_SECONDS = 30.0
OLD_BLOCKS = 10
SHORTEST_AGE_SECONDS = 120.0
HASH_BLOCKS = 256
"""Whose hashes the EVM knows."""
SAME_NUMBERS = 1024
PARENT_CHAIN_SECONDS = 12.0
"""Where contracts see the parent chain's block numbers: Ethereum's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One need, and whether the chain has it. `said`: what was seen; of what is missing, also what to do."""

    name: str
    holds: bool
    said: str


def findings(facts: Facts, seeds: str, parameters: Mapping[str, int]) -> list[Finding]:
    """In the order in which a person would look."""
    return [
        *_blocks(facts),
        *_opcodes(facts),
        *_precompiles(facts),
        *_sizes(facts),
        _createx(facts),
        *_seeds(facts, seeds, parameters),
    ]


def _blocks(facts: Facts) -> Iterator[Finding]:
    blocks = facts.blocks
    if len(blocks) < FEWEST_BLOCKS:
        yield Finding("block time", False, f"the chain has {len(blocks)} blocks: wait for {FEWEST_BLOCKS} of them")
        return
    mean = block_seconds(blocks)
    fits = FASTEST_BLOCK_SECONDS * ROUNDING <= mean <= SLOWEST_BLOCK_SECONDS
    why = "" if fits else f": Trine needs {FASTEST_BLOCK_SECONDS:g} to {SLOWEST_BLOCK_SECONDS:g} s"
    yield Finding("block time", fits, f"{mean:.1f} s over {len(blocks)} blocks{why}")
    age = facts.now - blocks[-1].timestamp
    oldest = max(OLD_BLOCKS * mean, SHORTEST_AGE_SECONDS)
    said = f"the newest block is {age:.0f} s old" if age >= 0 else f"the newest block is {-age:.0f} s in the future"
    holds = -AHEAD_SECONDS <= age <= oldest
    more = "" if holds else ": the chain stands still, the endpoint is behind, or this machine's clock is off"
    yield Finding("clock", holds, said + more)


def block_seconds(blocks: Sequence[BlockSeen]) -> float:
    """Mean time between them."""
    return float(blocks[-1].timestamp - blocks[0].timestamp) / (len(blocks) - 1)


def _opcodes(facts: Facts) -> Iterator[Finding]:
    needs = {"PUSH0": "EIP-3855 (PUSH0)", "MCOPY": "EIP-5656 (MCOPY)", "TSTORE": "EIP-1153 (transient storage)"}
    for opcode, name in needs.items():
        returned = facts.programs[opcode]
        holds = not isinstance(returned, str) and word_of(returned) == ANSWER
        yield Finding(name, holds, "there" if holds else f"{_told(returned)}: the contracts use it, so not this chain")


def _precompiles(facts: Facts) -> Iterator[Finding]:
    for name, returned, expected in facts.precompiles:
        holds = returned == expected
        said = "answers as it must" if holds else f"{_told(returned)}: signatures cannot be checked on this chain"
        yield Finding(f"EIP-2537 ({name})", holds, said)


def _sizes(facts: Facts) -> Iterator[Finding]:
    code = facts.code
    holds = not isinstance(code, str) and len(code) == LARGEST_CODE
    yield Finding(
        "EIP-170, EIP-3860 (code size)",
        holds,
        f"takes a contract of {LARGEST_CODE:,} bytes"
        if holds
        else f"the largest has {LARGEST_CODE:,} bytes: {_told(code)}",
    )
    cap = min(min(block.gas_limit for block in facts.blocks), TRANSACTION_GAS)
    needed = facts.creation_gas
    if isinstance(needed, str):
        yield Finding("EIP-7825 (gas of a transaction)", False, f"no estimate for the largest creation: {needed}")
    else:
        fits = needed <= cap
        said = f"the largest creation takes {needed:,} of {cap:,}"
        yield Finding("EIP-7825 (gas of a transaction)", fits, said if fits else f"{said}: it does not fit")
    left = facts.programs["GAS"]
    allowed = word_of(left) if not isinstance(left, str) else None
    # What the call itself costs is gone by then.
    enough = allowed is not None and allowed >= CALL_GAS - 200_000
    said = f"a call may use {CALL_GAS:,}" if enough else f"of {CALL_GAS:,} asked for, a call gets "
    if not enough:
        said += f"{allowed:,}: use an endpoint with a higher cap" if allowed is not None else f"none ({_told(left)})"
    yield Finding("gas of eth_call", enough, said)


def _createx(facts: Facts) -> Finding:
    holds = facts.createx == CREATEX_HASH
    said = "at its address" if holds else (
        "other code stands at its address: this chain cannot have Trine's addresses" if facts.createx else
        "not on this chain: deploy it (https://createx.rocks), it makes Trine's addresses the same everywhere"
    )  # fmt: skip
    return Finding("CreateX", holds, said)


def _seeds(facts: Facts, seeds: str, parameters: Mapping[str, int]) -> Iterator[Finding]:
    number = facts.programs["NUMBER"]
    seen = word_of(number) if not isinstance(number, str) else None
    own = seen is not None and abs(seen - facts.blocks[-1].number) <= SAME_NUMBERS
    seconds = block_seconds(facts.blocks) if own and len(facts.blocks) > 1 else PARENT_CHAIN_SECONDS
    if seeds == "randao":
        yield from _randao(facts, own)
    yield _window(seeds, parameters, seconds)
    returned, size = facts.seeds
    holds = not isinstance(returned, str) and len(returned) == size
    said = "could be created" if holds else f"its constructor refuses: {_told(returned)}"
    yield Finding("contract of seeds", holds, said)


def _randao(facts: Facts, own_numbers: bool) -> Iterator[Finding]:
    instead = "use --seeds drand (docs/randomness.md)"
    if not own_numbers:
        yield Finding("RANDAO", False, f"contracts see another chain's block numbers: {instead}")
        return
    if facts.is_op_stack:
        yield Finding("RANDAO", False, f"an OP Stack chain shows its parent's, known before: {instead}")
        return
    values = [block.mix_hash for block in facts.blocks]
    fails: list[tuple[Callable[[], bool], str]] = [
        (lambda: any(block.difficulty for block in facts.blocks), "blocks have a difficulty"),
        (lambda: min(values) < LEAST_RANDAO, f"prevrandao is {min(values):#x}"),
        (lambda: len(set(values)) < len(values), "prevrandao repeats from block to block"),
        (lambda: (_number(facts.programs["PREVRANDAO"]) or 0) < LEAST_RANDAO, "contracts see no RANDAO"),
    ]
    why = next((said for failed, said in fails if failed()), None)
    yield Finding("RANDAO", why is None, f"{why}: {instead}" if why else f"another in each of {len(values)} blocks")
    parent, shown = facts.parent
    same = not isinstance(parent, str) and parent == shown and any(shown)
    if facts.header or not same:
        told = facts.header or "contracts see another hash of a block than the endpoint shows"
        yield Finding("block headers", False, f"{told}; {instead}")
    else:
        yield Finding("block headers", True, "hash to what contracts see")


def _number(shown: Shown) -> int | None:
    return None if isinstance(shown, str) else word_of(shown)


def _window(seeds: str, parameters: Mapping[str, int], seconds: float) -> Finding:
    """docs/randomness.md: how the blocks of a draw's window, its delays and a beacon's margin must go together."""
    blocks = min(parameters["epochBlocks"], HASH_BLOCKS)
    window = blocks * seconds
    delay = max(parameters["drawDelayBlocks"], parameters["seedDelayBlocks"]) * seconds
    said = f"{blocks} blocks are {window:.0f} s"
    if seeds != "drand":
        fits = window >= LEAST_WINDOW_SECONDS
        return Finding("time to draw", fits, said if fits else f"{said}: raise epochBlocks")
    margin = parameters["beaconMarginSeconds"]
    if margin < delay + AHEAD_SECONDS:
        return Finding(
            "time to draw", False, f"beaconMarginSeconds {margin} is below {AHEAD_SECONDS:.0f} s and the delay"
        )
    if window < 4 * margin:
        return Finding("time to draw", False, f"{said}, less than four times beaconMarginSeconds: raise epochBlocks")
    return Finding("time to draw", True, f"{said}, a round of drand is due after {margin} s")


def _told(shown: Shown) -> str:
    if isinstance(shown, str):
        return shown
    return "no answer" if not shown else f"answers {len(shown)} bytes that are not what they must be"
