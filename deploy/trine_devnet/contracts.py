"""Puts the contracts on a devnet's chain: the code that ships with `trine`, in one round of transactions.

Same code at the same addresses as the Ignition module, which is for networks that last: both read `deployment.json`
for what constructors take. Here the chain belongs to us: the factory is simply there, the deployer's account open.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from eth_abi.abi import encode
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types
from eth_utils.address import is_address

from trine.chain import Deployment
from trine.chain.deployment import CONTRACTS, FACTORY, abi, bytecode
from trine.errors import InvalidInput, NotReady, TrineError
from trine_devnet.addresses import DEVNET_CHAIN_ID, DEVNET_DEPLOYER, factory_address, salt_of
from trine_devnet.rpc import Rpc
from trine_devnet.specification import specification

NOBODY = "0x" + "00" * 20
GAS = 12_000_000
"""More than any contract takes; the chain charges what is used."""
BYTES = re.compile("0x([0-9a-f]{2}){33,512}")
"""Longer than a word: a key."""
LOOK_SECONDS = 0.05
MINING_LOOKS = 2400
LOST_LOOKS = 20
"""After which it is looked whether the pool has lost what is not mined."""


def deploy(rpc: Rpc, parameters: Mapping[str, int | str]) -> Deployment:
    """Deploys everything, checks the code that stands there. Raises InvalidInput for parameters that nobody takes, and
    for another chain than a devnet's: governance here is the deployer's, and waits for nothing."""
    chain_id = int(rpc.call("eth_chainId"), 16)
    if chain_id != DEVNET_CHAIN_ID:
        raise InvalidInput(f"a devnet's chain has id {DEVNET_CHAIN_ID}, this one has {chain_id}: deploy with Ignition")
    known = Deployment.bundled(DEVNET_CHAIN_ID)
    factory = factory_address(bytecode(FACTORY).creation)
    words = words_of(parameters, known.contracts)
    nonce = next_nonce(rpc)
    # Numbered, because the calls of one request may be taken side by side.
    calls = [
        {
            "from": DEVNET_DEPLOYER,
            "to": factory,
            "nonce": hex(nonce + number),
            "gas": hex(GAS),
            "data": "0x" + _deployment_of(name, words).hex(),
        }
        for number, name in enumerate(specification()["constructors"])
    ]
    rpc.call("anvil_setCode", factory, "0x" + bytecode(FACTORY).deployed.hex())
    for name, receipt in zip(specification()["constructors"], sent(rpc, calls), strict=True):
        if int(receipt["status"], 16) != 1:
            raise TrineError(f"the chain did not take {name}'s constructor: a parameter may be out of its range")
    check_code(rpc, known)
    return known


def next_nonce(rpc: Rpc) -> int:
    """Of the deployer, who waits for what it has sent. By the newest block: for a moment the pool counts what was just
    mined once more, and a nonce too high would wait for ever."""
    return int(rpc.call("eth_getTransactionCount", DEVNET_DEPLOYER, "latest"), 16)


def sent(rpc: Rpc, calls: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Receipts of numbered transactions, once all are mined, which the chain does beside answering. Raises NotReady.

    Nobody else may have transactions on their way.
    """
    hashes = rpc.batch("eth_sendTransaction", [(call,) for call in calls])
    mined = 0
    for look in range(1, MINING_LOOKS + 1):
        receipts = rpc.batch("eth_getTransactionReceipt", [(number,) for number in hashes])
        if all(receipts):
            return receipts
        rpc.call("anvil_mine")  # what came before the one that it follows waits for a block
        time.sleep(LOOK_SECONDS)
        if look % LOST_LOOKS == 0:
            now = sum(map(bool, receipts))
            if now == mined:
                hashes = _again(rpc, calls, hashes)
            mined = now
    raise NotReady(f"the devnet's chain has not mined the contracts in {MINING_LOOKS * LOOK_SECONDS:.0f} s")


def _again(rpc: Rpc, calls: Sequence[Mapping[str, str]], hashes: Sequence[str]) -> list[str]:
    """Sends what is not mined anew. A block that is mined meanwhile can have the chain lose one that it has taken, and
    those behind it then wait in its pool for ever."""
    rpc.call("anvil_dropAllTransactions")  # from here on nothing is mined
    receipts = rpc.batch("eth_getTransactionReceipt", [(number,) for number in hashes])
    lost = [number for number, receipt in enumerate(receipts) if not receipt]
    again = dict(zip(lost, rpc.batch("eth_sendTransaction", [(calls[number],) for number in lost]), strict=True))
    return [again.get(number, old) for number, old in enumerate(hashes)]


def check_code(rpc: Rpc, deployment: Deployment) -> None:
    """Raises TrineError when the code of a contract, but for immutables, is not what ships with `trine`."""
    codes = rpc.batch("eth_getCode", [(deployment.address(name), "latest") for name in CONTRACTS])
    for name, code in zip(CONTRACTS, codes, strict=True):
        expected, found = bytecode(compiled_of(name)), bytearray.fromhex(code[2:])
        for part in expected.immutables:
            found[part] = bytes(len(found[part]))
        if found != expected.deployed:
            raise TrineError(f"{name}: the code at {deployment.address(name)} is not what ships with trine")


def compiled_of(name: str, seeds: str | None = None) -> str:
    """What stands at a contract's address: for `Seeds`, one of its sources. A devnet's blocks have a RANDAO."""
    return str(specification()["sources"][seeds or specification()["seeds"]]) if name == "Seeds" else name


def words_of(
    parameters: Mapping[str, int | str], addresses: Mapping[str, str], deployer: str | None = None
) -> dict[str, int | str]:
    """Every word's value; with a deployer those of a network that lasts, without one a devnet's.

    Raises InvalidInput for a parameter that does not exist, is neither number nor address, or is missing.
    """
    defaults: dict[str, int | str] = {**specification()["parameters"], **({} if deployer else _development())}
    if unknown := sorted(set(parameters) - set(defaults)):
        raise InvalidInput(f"no constructor takes {', '.join(unknown)}; parameters are {', '.join(sorted(defaults))}")
    given = {**defaults, **parameters}
    if missing := sorted(name for name, value in given.items() if value is None):
        raise InvalidInput(f"{', '.join(missing)} must be given: there is no default on a network that lasts")
    fixed: dict[str, int | str] = {**addresses, "deployer": deployer or DEVNET_DEPLOYER, "nobody": NOBODY}
    return fixed | {name: _value(name, value, fixed) for name, value in given.items()}


def _development() -> dict[str, int | str]:
    return dict(specification()["development"])


def _value(name: str, given: int | str, fixed: Mapping[str, int | str]) -> int | str:
    if isinstance(given, int) or given in fixed:
        return fixed[given] if isinstance(given, str) else given
    if is_address(given):
        return given
    if given.isdecimal():
        return int(given)
    if BYTES.fullmatch(given):
        return given
    raise InvalidInput(f"parameter {name}: {given!r} is neither a number nor an address nor bytes")


def _deployment_of(name: str, words: Mapping[str, int | str]) -> bytes:
    """Call data of the factory's `deploy`."""
    (deploy_,) = (entry for entry in abi(FACTORY) if entry.get("name") == "deploy")
    code = creation_of(name, words)
    return function_abi_to_4byte_selector(cast(Any, deploy_)) + encode(["bytes32", "bytes"], [salt_of(name), code])


def creation_of(name: str, words: Mapping[str, int | str], seeds: str | None = None) -> bytes:
    """A contract's init code with its constructor's arguments."""
    types = get_abi_input_types(cast(Any, _constructor(name, seeds)))
    return bytecode(compiled_of(name, seeds)).creation + encode(types, arguments_of(name, words, seeds))


def arguments_of(name: str, words: Mapping[str, int | str], seeds: str | None = None) -> list[Any]:
    """Of a contract's constructor, in its order; structs are tuples."""
    given: dict[str, Any] = dict(specification()["constructors"][name])
    values = [_argument(name, entry, given, words) for entry in _constructor(name, seeds)["inputs"]]
    if given:
        raise TrineError(f"{name}'s constructor does not take {', '.join(given)}: correct deployment.json")
    return values


def _constructor(name: str, seeds: str | None) -> dict[str, Any]:
    nothing: dict[str, Any] = {"type": "constructor", "inputs": []}
    return next((entry for entry in abi(compiled_of(name, seeds)) if entry["type"] == "constructor"), nothing)


def _argument(contract: str, entry: Mapping[str, Any], given: dict[str, Any], words: Mapping[str, int | str]) -> Any:
    if "components" in entry:
        return tuple(_argument(contract, component, given, words) for component in entry["components"])
    name = entry["name"]
    counterpart = specification()["counterparts"].get(name.removesuffix("_")) if entry["type"] == "address" else None
    word = given.pop(name, None) or counterpart or name
    try:
        value = [words[one] for one in word] if isinstance(word, list) else words[word]
    except KeyError as missing:
        raise TrineError(
            f"{contract}'s constructor takes {entry['type']} {name}, and nothing is called {missing}: add it to "
            "deployment.json"
        ) from None
    return bytes.fromhex(str(value).removeprefix("0x")) if entry["type"] == "bytes" else value
