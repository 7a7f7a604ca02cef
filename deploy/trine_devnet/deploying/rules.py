"""What may be sent in the deployer's name while a deployment runs: pure, and nothing else is ever signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine_devnet.addresses import CREATEX, salt_of
from trine_devnet.deploying.fitness import TRANSACTION_GAS
from trine_devnet.deploying.signing import Transaction

CREATE_FACTORY = keccak(b"deployCreate2(bytes32,bytes)")[:4]
CREATE_CONTRACT = keccak(b"deployWith(bytes32,bytes,bytes)")[:4]
MAX_DATA_BYTES = 1 << 17
"""What nodes take of a transaction (go-ethereum: 128 KiB)."""
MAX_NONCE = 1 << 64


def checked_transaction(asked: Any, *, deployer: str, factory: str, chain_id: int, max_fee_wei: int) -> Transaction:
    """What `eth_sendTransaction` asks for, as it is signed. Raises InvalidInput for anything but a step of a
    deployment: CreateX making the factory, the factory making a contract."""
    if not isinstance(asked, Mapping):
        raise InvalidInput("a transaction is an object")
    sender = asked.get("from")
    if not isinstance(sender, str) or sender.lower() != deployer.lower():
        raise InvalidInput("only the deployer's transactions are signed")
    if not is_address(asked.get("to")):
        raise InvalidInput("a deployment's transactions go to CreateX or the factory, this one to nobody")
    to, data = str(to_checksum_address(asked["to"])), _bytes(asked.get("data", asked.get("input")))
    steps = {CREATEX: CREATE_FACTORY, factory: CREATE_CONTRACT}
    if to not in steps or data[:4] != steps[to]:
        raise InvalidInput("a deployment's transactions make the factory and its contracts, this one does not")
    if _number(asked.get("value", "0x0"), "value") != 0:
        raise InvalidInput("a deployment sends no money")
    if _number(asked.get("chainId", hex(chain_id)), "chainId") != chain_id:
        raise InvalidInput(f"the transaction is for another chain than {chain_id}")
    gas = _number(asked.get("gas"), "gas")
    if gas > TRANSACTION_GAS:
        raise InvalidInput(f"EIP-7825: the transaction asks for {gas:,} gas, {TRANSACTION_GAS:,} is the most")
    legacy = asked.get("gasPrice")
    most = _number(asked.get("maxFeePerGas", legacy), "maxFeePerGas")
    if most > max_fee_wei:
        raise InvalidInput(
            f"gas costs up to {most / 1e9:g} gwei, the limit is {max_fee_wei / 1e9:g}: wait, or raise --max-fee-gwei"
        )
    return {
        "type": 2,
        "chainId": chain_id,
        "nonce": _number(asked.get("nonce"), "nonce", MAX_NONCE),
        "to": to,
        "value": 0,
        "data": "0x" + data.hex(),
        "gas": gas,
        "maxFeePerGas": most,
        "maxPriorityFeePerGas": min(most, _number(asked.get("maxPriorityFeePerGas", legacy), "maxPriorityFeePerGas")),
    }


def contract_of(transaction: Mapping[str, Any]) -> str:
    """Which contract a step makes, by its salt."""
    data = _bytes(transaction["data"])
    if data[:4] == CREATE_FACTORY:
        return "Factory"
    word = data[4:36].rstrip(b"\0").decode("ascii", "replace")
    release = salt_of("").rstrip(b"\0").decode()
    return word.removeprefix(release)


def _number(shown: Any, name: str, limit: int = 1 << 128) -> int:
    try:
        value = int(shown, 16) if isinstance(shown, str) else int(shown)
    except (TypeError, ValueError):
        raise InvalidInput(f"the transaction's {name} is no number") from None
    if not 0 <= value < limit:
        raise InvalidInput(f"the transaction's {name} is out of bounds")
    return value


def _bytes(shown: Any) -> bytes:
    try:
        found = bytes.fromhex(shown.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise InvalidInput("the transaction's data are no bytes") from None
    if len(found) > MAX_DATA_BYTES:
        raise InvalidInput("the transaction's data are too long")
    return found
