"""What a deployment is to be: where, by whom, for whom, with which parameters. Refuses what must not be, before
anything is sent. Pure but for its file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from eth_account import Account
from eth_utils.address import is_address, to_checksum_address

from trine.chain.deployment import CONTRACTS, FACTORY, SOURCES, Deployment, bytecode
from trine.errors import InvalidInput
from trine_devnet.addresses import RELEASE, address_of, factory_address
from trine_devnet.contracts import NOBODY, arguments_of, creation_of, words_of
from trine_devnet.deploying.networks import DEVELOPMENT_CHAINS

MAX_FILE_BYTES = 1 << 16
SAFE_INTEGER = (1 << 53) - 1
"""JavaScript's; Ignition takes larger ones as text that ends with n."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
PUBLIC_MNEMONIC = "test test test test test test test test test test test junk"
PUBLIC_ACCOUNTS = 10
"""Accounts of that mnemonic, which development chains open: everybody has their keys."""


@dataclass(frozen=True)
class Plan:
    """One deployment. `parameters` are those that differ from `deployment.json`'s."""

    name: str
    chain_id: int
    deployer: str
    governor: str
    guardian: str
    holder: str
    seeds: str
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    release: str = RELEASE

    def require_sound(self) -> None:
        """Raises InvalidInput for what no network that lasts may have."""
        if not NAME.fullmatch(self.name):
            raise InvalidInput(f"{self.name!r} is no name of a deployment: letters, digits and dashes, a letter first")
        if self.seeds not in SOURCES:
            raise InvalidInput(f"seeds come from {' or '.join(SOURCES)}, not {self.seeds!r}: docs/randomness.md")
        for role, address in self.accounts.items():
            if not is_address(address) or address == NOBODY:
                raise InvalidInput(f"the {role} must be an address, not {address!r}")
        _ = self.words  # refuses parameters that do not exist
        if self.is_development:
            return
        self._require_separate_keys()

    def _require_separate_keys(self) -> None:
        roles = [("governor", self.governor), ("guardian", self.guardian), ("deployer", self.deployer)]
        for place, (role, address) in enumerate(roles):
            for other, also in roles[place + 1 :]:
                if address == also:
                    raise InvalidInput(
                        f"{role} and {other} are both {address}: outside of development chains each is a key of its "
                        "own, or one that is stolen governs, stops and deploys at once"
                    )
        known = public_accounts()
        for role, address in self.accounts.items():
            if address in known:
                raise InvalidInput(
                    f"the {role} {address} is an account of development chains, whose key is public: on chain "
                    f"{self.chain_id} anybody could use it"
                )

    @property
    def is_development(self) -> bool:
        return self.chain_id in DEVELOPMENT_CHAINS

    @property
    def accounts(self) -> dict[str, str]:
        """By role."""
        return {
            "deployer": self.deployer,
            "governor": self.governor,
            "guardian": self.guardian,
            "holder of the supply": self.holder,
        }

    @cached_property
    def factory(self) -> str:
        return factory_address(bytecode(FACTORY).creation)

    @cached_property
    def addresses(self) -> dict[str, str]:
        """Where everything will be: it follows from the factory's code, the deployer and the names."""
        return {name: address_of(self.factory, self.deployer, name) for name in CONTRACTS}

    @cached_property
    def words(self) -> dict[str, int | str]:
        named = {"governor": self.governor, "guardian": self.guardian, "holder": self.holder}
        if taken := sorted(set(named) & set(self.parameters)):
            raise InvalidInput(f"{', '.join(taken)} is an option of its own, no parameter")
        return words_of({**self.parameters, **named}, self.addresses, self.deployer)

    @property
    def numbers(self) -> dict[str, int]:
        """Parameters that are numbers."""
        return {name: value for name, value in self.words.items() if isinstance(value, int)}

    def creation_of(self, contract: str) -> bytes:
        return creation_of(contract, self.words, self.seeds)

    def arguments_of(self, contract: str) -> list[Any]:
        return arguments_of(contract, self.words, self.seeds)

    def deployment(self, block: int) -> Deployment:
        return Deployment(self.chain_id, block, self.addresses)

    def for_ignition(self) -> dict[str, dict[str, int | str]]:
        """The file that Ignition reads parameters from."""
        named = {"governor": self.governor, "guardian": self.guardian, "holder": self.holder}
        return {"Trine": {name: _for_ignition(self.words[name]) for name in (*self.parameters, *named)}}

    # Its file

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises InvalidInput."""
        document = read_json(path)
        try:
            plan = cls(**document)
        except TypeError as error:
            raise InvalidInput(f"{path} is no plan of a deployment: {error}") from None
        plan.require_sound()
        return plan

    def require_same(self, kept: Plan) -> None:
        """A deployment that was begun goes on as it was begun. Raises InvalidInput naming what differs."""
        now, before = asdict(self), asdict(kept)
        different = [f"{name} was {before[name]}, now {now[name]}" for name in now if now[name] != before[name]]
        if different:
            raise InvalidInput(
                f"the deployment {self.name!r} was begun otherwise ({'; '.join(different)}): give what was given then, "
                "or another --name"
            )


def public_accounts() -> frozenset[str]:
    """Those whose keys everybody has."""
    Account.enable_unaudited_hdwallet_features()
    paths = [f"m/44'/60'/0'/0/{index}" for index in range(PUBLIC_ACCOUNTS)]
    return frozenset(str(Account.from_mnemonic(PUBLIC_MNEMONIC, account_path=path).address) for path in paths)


def read_parameters(path: Path) -> dict[str, int | str]:
    """A JSON object of parameters, or one that holds it under `Trine`, as Ignition's do. Raises InvalidInput."""
    document = read_json(path)
    named = document.get("Trine", document)
    if not isinstance(named, dict) or not all(
        isinstance(name, str) and isinstance(value, (int, str)) and not isinstance(value, bool)
        for name, value in named.items()
    ):
        raise InvalidInput(f'{path} is no object of parameters, like {{"epochBlocks": 64}}')
    return named


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object. Raises InvalidInput."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{path} is too large")
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} holds no JSON object")
    return document


def checksummed(role: str, address: str) -> str:
    """Raises InvalidInput."""
    if not is_address(address):
        raise InvalidInput(f"the {role} must be an address, not {address!r}")
    return str(to_checksum_address(address))


def _for_ignition(value: int | str) -> int | str:
    return f"{value}n" if isinstance(value, int) and value > SAFE_INTEGER else value
