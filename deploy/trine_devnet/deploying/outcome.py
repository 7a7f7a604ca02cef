"""What stands on the chain when Ignition is done: code, counterparts, parameters, and who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from eth_abi.abi import decode, encode
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types, get_abi_output_types

from trine.chain.deployment import CONTRACTS, abi, bytecode
from trine.errors import ChainError
from trine_devnet.contracts import compiled_of
from trine_devnet.deploying.facts import Endpoint
from trine_devnet.deploying.plan import Plan


def taken(endpoint: Endpoint, plan: Plan) -> list[str]:
    """The contracts of the plan that stand on the chain already."""
    return [name for name in CONTRACTS if endpoint.code(plan.addresses[name])]


def problems(endpoint: Endpoint, plan: Plan) -> list[str]:
    """Everything that is not as planned. Empty: the deployment is whole. Raises ChainUnreachable."""
    wrong = [problem for name in CONTRACTS for problem in _code(endpoint, plan, name)]
    return wrong or [*_privileges(endpoint, plan)]


def _code(endpoint: Endpoint, plan: Plan, name: str) -> Iterator[str]:
    """A contract's code but for its immutables; these must hold every counterpart's address."""
    found = endpoint.code(plan.addresses[name])
    if not found:
        yield f"{name}: no code at {plan.addresses[name]}"
        return
    expected, blank = bytecode(compiled_of(name, plan.seeds)), bytearray(found)
    for part in expected.immutables:
        blank[part] = bytes(len(blank[part]))
    if blank != expected.deployed:
        yield f"{name}: the code at {plan.addresses[name]} is not what ships with trine"
        return
    words = {bytes(found[part])[-20:] for part in expected.immutables}
    for counterpart in _counterparts(plan, name):
        if bytes.fromhex(counterpart[2:]) not in words:
            yield f"{name}: does not know {counterpart}"


def _counterparts(plan: Plan, name: str) -> list[str]:
    """Immutable all; the owner, which may be handed on, is in storage and asked for below."""
    ours = set(plan.addresses.values()) - {plan.addresses["Timelock"]}
    return [value for value in _flat(plan.arguments_of(name)) if isinstance(value, str) and value in ours]


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def _privileges(endpoint: Endpoint, plan: Plan) -> Iterator[str]:
    def asked(contract: str, function: str, *arguments: Any) -> Any:
        return ask(endpoint, plan.addresses[contract], contract, function, *arguments)

    timelock = plan.addresses["Timelock"]
    for contract in ("ModelRegistry", "Payments", "Parameters", "Requests", "Batches", "Examiners"):
        owner = asked(contract, "owner")
        if owner.lower() != timelock.lower():
            yield f"{contract}: its owner is {owner}, not the timelock {timelock}"
    for contract in ("Batches", "Requests"):
        guardian = asked(contract, "guardian")
        if guardian.lower() != plan.guardian.lower():
            yield f"{contract}: its guardian is {guardian}, not {plan.guardian}"
    proposer, admin = (asked("Timelock", role) for role in ("PROPOSER_ROLE", "DEFAULT_ADMIN_ROLE"))
    if not asked("Timelock", "hasRole", proposer, plan.governor):
        yield f"Timelock: {plan.governor} may not propose"
    for role in (proposer, admin):
        if plan.deployer != plan.governor and asked("Timelock", "hasRole", role, plan.deployer):
            yield f"Timelock: the deployer {plan.deployer} still has a role"
    if asked("Timelock", "getMinDelay") != plan.numbers["timelockSeconds"]:
        yield "Timelock: its delay is not the plan's"
    registrar = asked("ModelRegistry", "registrar")
    if registrar.lower() != plan.governor.lower():
        yield f"ModelRegistry: its registrar is {registrar}, not {plan.governor}"
    if asked("TrineToken", "totalSupply") != plan.numbers["supplyWei"]:
        yield "TrineToken: its supply is not the plan's"


def ask(endpoint: Endpoint, address: str, contract: str, function: str, *arguments: Any) -> Any:
    """One view function's answer. Raises ChainError."""
    entry = cast(Any, next(e for e in abi(contract) if e["type"] == "function" and e["name"] == function))
    data = function_abi_to_4byte_selector(entry) + encode(get_abi_input_types(entry), arguments)
    returned = endpoint.call(data, to=address)
    if isinstance(returned, str):
        raise ChainError(f"{contract}.{function}: {returned}")
    try:
        (value,) = decode(get_abi_output_types(entry), returned)
    except Exception as error:  # noqa: BLE001  (an endpoint's bytes; decoders raise whatever they like)
        raise ChainError(f"{contract}.{function}: an answer that makes no sense ({type(error).__name__})") from None
    return value
