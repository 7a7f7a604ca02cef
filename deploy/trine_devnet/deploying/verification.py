"""Sources of what was deployed, for explorers: hardhat-verify does it, from the build and each contract's arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trine.chain.deployment import CONTRACTS, FACTORY
from trine.errors import TrineError
from trine_devnet.contracts import compiled_of
from trine_devnet.deploying.facts import Endpoint
from trine_devnet.deploying.ignition import Ignition
from trine_devnet.deploying.outcome import problems
from trine_devnet.deploying.plan import Plan


def verify(
    endpoint: Endpoint,
    plan: Plan,
    home: Path,
    explorer: str,
    api_url: str | None,
    api_key: str,
    told: Callable[[str], None],
) -> int:
    """How many contracts were verified, or had been. Raises TrineError where what stands there is not the plan's."""
    if wrong := problems(endpoint, plan):
        raise TrineError("what stands on the chain is not as planned: " + "; ".join(wrong))
    ignition = Ignition(plan, home)
    ignition.require_ready()
    listed = listing(plan)
    file = home / "sources.json"
    file.write_text(json.dumps(listed, indent=2) + "\n")
    variables = {"TRINE_SOURCES": str(file), "TRINE_EXPLORER": explorer}
    if api_url:
        variables["TRINE_SOURCIFY_URL"] = api_url
    if api_key:
        variables["ETHERSCAN_API_KEY"] = api_key  # the child's environment only
    ignition.verify(endpoint.rpc_url, variables, told)
    return len(listed)


def listing(plan: Plan) -> list[dict[str, Any]]:
    """What `verify-sources.js` reads: each contract's name, address and constructor arguments."""
    factory = {"contract": _source(FACTORY, "deployment/"), "address": plan.factory, "arguments": []}
    return [
        factory,
        *(
            {
                "contract": _source(compiled_of(name, plan.seeds)),
                "address": plan.addresses[name],
                "arguments": _as_json(plan.arguments_of(name)),
            }
            for name in CONTRACTS
        ),
    ]


def _source(compiled: str, folder: str = "") -> str:
    return f"contracts/{folder}{compiled}.sol:{compiled}"


def _as_json(value: Any) -> Any:
    """JavaScript's numbers are too small for amounts."""
    if isinstance(value, (list, tuple)):
        return [_as_json(each) for each in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
