"""What is known of networks beforehand: chain ids, where seeds come from there, parameters that differ from defaults.

Parameters follow docs/randomness.md. A preset decides nothing by itself: the chain is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trine.errors import InvalidInput

DEVELOPMENT_CHAINS = (31_337, 1337)
"""`Chains.isDevelopment` is the twin: one key may do everything there."""


@dataclass(frozen=True, slots=True)
class Network:
    """A preset of `--network`."""

    name: str
    chain_id: int
    seeds: str
    parameters: Mapping[str, int | str] = field(default_factory=dict)


_OP_STACK: dict[str, int | str] = {
    "drawDelayBlocks": 2,
    "seedDelayBlocks": 2,
    "beaconMarginSeconds": 60,
    "epochBlocks": 256,
}
"""Blocks of 2 s, and a beacon that nobody on the chain takes part in."""

NETWORKS = {
    network.name: network
    for network in (
        Network("sepolia", 11_155_111, "randao"),
        Network("base-sepolia", 84_532, "drand", _OP_STACK),
        Network("base", 8453, "drand", _OP_STACK),
        Network("mainnet", 1, "randao"),
    )
}


def known_network(name: str) -> Network:
    """Raises InvalidInput for one without a preset."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise InvalidInput(
            f"no preset for a network {name!r}: choose from {', '.join(NETWORKS)}, or give --chain-id and --seeds"
        ) from None
