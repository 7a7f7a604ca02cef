"""A devnet: a chain (`anvil`), contracts, keys, funds, a registered model, and the operators' processes."""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
from eth_account import Account
from eth_account.signers.local import LocalAccount

from trine.chain import Chain, Deployment, Role, create_keystore
from trine.chain.bls_keystore import create_bls_keystore
from trine.errors import ChainUnreachable, InvalidInput, NotReady
from trine.models import ModelRecord, load_record
from trine.protocol import bls
from trine_devnet.addresses import DEVNET_CHAIN_ID
from trine_devnet.agents import deploy_registries, register
from trine_devnet.contracts import deploy
from trine_devnet.epochs import Epochs
from trine_devnet.launcher import Launcher, empty
from trine_devnet.options import MODEL
from trine_devnet.orders import Orders
from trine_devnet.processes import Child, free_port, start
from trine_devnet.reporting import Report
from trine_devnet.rpc import Rpc
from trine_devnet.toolchain import anvil
from trine_devnet.waiting import stop_all, wait_until

# Public devnet key: account 0 of the mnemonic that every development chain uses. Worthless anywhere else.
DEPLOYER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SCRYPT_N = 1 << 12
"""Keys that live for one devnet need no slow key derivation."""
TOKEN = 10**18
GAS_MONEY_WEI = 100 * 10**18
HEALTH_SECONDS = 2.0
ANSWERS_CONTRACTS = {
    "answer_requests": True,
    "request_tokens_per_coin": 100,
    "request_turn_seconds": 10,
    "request_margin_seconds": 30,
}
"""A devnet's nodes answer what contracts ask, and wait for one another in its own pace."""
CALIBRATED = "ready, calibrated by a committee"


@dataclass(frozen=True, slots=True)
class Member:
    """An operator to start. `cheats` names adversaries that answer a node's first requests in turn.

    A verifier has one cheat, or `honest`, and may be told another: see `Devnet.tell`. `shows`: to whom a node shows its
    evidence, see `cheating_node`.
    """

    name: str
    role: Role
    dtype: str = "fp32"
    cheats: tuple[str, ...] = ()
    stake: int = 2_000 * TOKEN
    options: dict[str, Any] = field(default_factory=dict)
    shows: str = "everybody"
    anchors: bool = True  # or a node keeps what it has sold out of every batch
    examines: bool = False  # a node that plants canaries; its options name clients
    agent: bool = False  # of ERC-8004; a node publishes the verdicts of all its batches


@dataclass(slots=True)
class Running:
    """A started operator."""

    member: Member
    account: LocalAccount
    endpoint: str
    config: Path
    child: Child


class Devnet:
    """Use as a context manager: leaving it stops every process. Empties its folder `home` at the beginning."""

    def __init__(self, home: Path, report: Report, launcher: Launcher | None = None, model: str = MODEL) -> None:
        """`launcher`: of `launcher.prepare`, if one was started early; it has emptied the folder. `model`: a shipped
        record's name. Raises InvalidInput."""
        self.home = home.absolute()
        if launcher is None:
            empty(self.home)
        descriptor = os.open(self.password_file, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, secrets.token_urlsafe(24).encode())
        os.close(descriptor)
        self.report = report
        self.rpc_url = ""
        self._chain_child: Child | None = None
        self._chain_port = 0
        self.operators: dict[str, Running] = {}
        self.record: ModelRecord = load_record(model)
        self._http = httpx2.Client(timeout=HEALTH_SECONDS, trust_env=False)
        self._rpc: Rpc | None = None
        self._launcher = launcher
        self._admin: Chain | None = None
        self._epochs: Epochs | None = None
        self._ready: set[str] = set()

    def __enter__(self) -> Devnet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Operators first, the chain last, so that they can finish what they owe."""
        if self._epochs:
            self._epochs.stop()
        stop_all([running.child for running in self.operators.values()], self.report)
        if self._launcher:
            self._launcher.stop()
        if self._chain_child:
            self._chain_child.stop()
        if self._rpc:
            self._rpc.close()
        self._http.close()

    # Chain

    def start_chain(self, parameters: dict[str, int | str] | None = None, preferred_port: int = 0) -> None:
        """Starts the chain on a free loopback port, deploys and registers.

        `parameters`: of the contracts, see `specification`. Raises InvalidInput or NotReady.
        """
        self._chain_port = free_port(preferred_port)
        self.rpc_url = f"http://127.0.0.1:{self._chain_port}"
        self._rpc = Rpc(self.rpc_url)
        self._run_chain()
        self.report.say(f"chain: anvil at {self.rpc_url}")
        registries: dict[str, int | str] = {**deploy_registries(self._rpc)}
        deploy(self._rpc, registries | (parameters or {})).save(self.deployment_file)
        self.report.say("contracts: on the chain, their code checked")
        self._register_model()
        self._epochs = Epochs(self.chain(), self._rpc, self.record.model_id, self._are_starting)

    def kill_chain(self) -> None:
        """As a crash would end it; the operators stay."""
        if self._chain_child:
            self._chain_child.kill()

    def restart_chain(self, state: Path) -> None:
        """At the same address, from what `trine_devnet.faults.chain` has kept of it. Raises NotReady."""
        self._run_chain("--load-state", str(state))

    def _run_chain(self, *options: str) -> None:
        # A block a second even without transactions, because draws wait for later blocks.
        command = [
            anvil(), "--host", "127.0.0.1", "--port", str(self._chain_port), "--chain-id", str(DEVNET_CHAIN_ID),
            "--hardfork", "prague", "--block-time", "1", "--mixed-mining", *options,
        ]  # fmt: skip
        self._chain_child = start("chain", command, self.home / "logs" / "chain.log", cwd=self.home)
        wait_until(self._chain_answers, "the chain to start", [self._chain_child], self.report)

    @property
    def rpc(self) -> Rpc:
        """The chain's own methods. Raises NotReady before it is started."""
        if self._rpc is None:
            raise NotReady("the chain is not started")
        return self._rpc

    def _chain_answers(self) -> bool:
        try:
            self.rpc.call("eth_chainId")
        except ChainUnreachable:
            return False
        return True

    def _register_model(self) -> None:
        record = self.record
        self.admin.register_model(
            record.name,
            record.source,
            record.manifest,
            record.policy,
            record.classes,
            record.prompts,
            record.prompt_count,
            record.price_per_token_wei,
        )
        self.report.say(f"model: {record.name} registered, id 0x{record.model_id.hex()[:12]}…")

    @property
    def deployment_file(self) -> Path:
        return self.home / "deployment.json"

    @property
    def password_file(self) -> Path:
        return self.home / "password"

    @property
    def admin(self) -> Chain:
        """The chain through the deployer's account."""
        if self._admin is None:
            self._admin = self.chain(Account.from_key(DEPLOYER_KEY))
        return self._admin

    def pass_time(self, seconds: int) -> None:
        """Moves the chain's clock on. Raises NotReady."""
        self.rpc.call("evm_increaseTime", hex(seconds))
        self.rpc.call("evm_mine")

    def chain(self, account: LocalAccount | None = None) -> Chain:
        return Chain.connect(Deployment.load(self.deployment_file), self.rpc_url, account)

    # Accounts

    def create_account(self, name: str, funds: int) -> LocalAccount:
        """A fresh key in an encrypted keystore, with gas money and tokens."""
        account: LocalAccount = Account.create()
        create_keystore(self.keystore(name), self.password_file.read_text(), bytes(account.key), iterations=SCRYPT_N)
        self.fund(account.address, funds)
        return account

    def fund(self, address: str, funds: int) -> None:
        """Gas money, and tokens in wei."""
        # The chain's own method: no transaction of the deployer's to wait for.
        self.rpc.call("anvil_setBalance", address, hex(GAS_MONEY_WEI))
        self.admin.transfer(address, funds)

    def _create_bls_key(self, name: str) -> dict[str, str]:
        """A fresh BLS key in an encrypted keystore: the settings that name it."""
        path, secret = (
            self.home / "keys" / f"{name}.bls.json",
            bls.SecretKey(1 + secrets.randbelow(bls.GROUP_ORDER - 1)),
        )
        create_bls_keystore(path, self.password_file.read_text(), secret, iterations=SCRYPT_N)
        return {"bls_keystore": str(path), "bls_password_file": str(self.password_file)}

    def keystore(self, name: str) -> Path:
        return self.home / "keys" / f"{name}.json"

    def create_client(self, name: str = "client", funds: int = 2_000 * TOKEN) -> LocalAccount:
        """An account that can pay for answers: it deposits with each node that it asks."""
        return self.create_account(name, funds)

    # Operators

    def add(self, members: list[Member], threads: int = 1) -> None:
        """Funds, stakes and starts operators; does not wait for them."""

        def staked(member: Member) -> LocalAccount:
            account = self.create_account(member.name, member.stake * 2)
            chain = self.chain(account)
            chain.allow("Staking", member.stake)
            chain.stake(member.stake)
            return account

        with ThreadPoolExecutor(4) as pool:
            accounts = list(pool.map(staked, members))
        for member, account in zip(members, accounts, strict=True):
            self._start(member, account, threads)
        if self._epochs:
            self._epochs.watch()
        self.report.say(f"operators: {', '.join(m.name for m in members)} funded, staked and started")

    def tell(self, name: str, cheat: str, league: Iterable[str] = ()) -> None:
        """Which cheat a cheating verifier tries on the batches that it meets from now on, in league with which nodes.

        Raises InvalidInput for a verifier that was started honest, and for an unknown cheat.
        """
        orders = self._orders(name)
        if not orders.exists():
            raise InvalidInput(f"{name} is no cheating verifier: start it with a cheat, which may be 'honest'")
        Orders(cheat, frozenset(str(self.operators[node].account.address) for node in league)).write(orders)

    def restart(self, name: str, clock_seconds: int = 0) -> None:
        """Starts an operator's process again with the same key and store; its clock may be off."""
        running = self.operators[name]
        self._ready.discard(name)
        running.child = self._spawn(running.member, running.config, clock_seconds)
        if self._epochs:
            self._epochs.watch()

    def change(self, name: str, changes: Mapping[str, Any]) -> None:
        """Starts an operator again with other settings."""
        running = self.operators[name]
        running.config.write_text(_toml({**self.settings_of(name), **changes}))
        running.child.stop()
        self.restart(name)

    def start_beside(self, name: str, changes: dict[str, Any]) -> Child:
        """A second process of an operator, with the same key and other settings. To be stopped by who starts it."""
        running = self.operators[name]
        settings = tomllib.loads(running.config.read_text()) | changes
        config = running.config.with_suffix(".beside.toml")
        config.write_text(_toml(settings))
        return self._spawn(replace(running.member, name=f"{name}-beside"), config)

    def settings_of(self, name: str) -> dict[str, Any]:
        """What an operator was told."""
        return tomllib.loads(self.operators[name].config.read_text())

    def state_of(self, name: str) -> str | None:
        """How far an operator is, in its own words; None when it is ready."""
        return _state_of(self.operators[name], self._http)

    def wait_ready(self, names: list[str] | None = None) -> None:
        """Waits until every operator answers `/healthz` with 200, which takes a valid calibration.

        Raises NotReady when one ends, or when nothing moves any more.
        """
        watched = list(self.operators) if names is None else names
        children = [self.operators[name].child for name in watched if name not in self._ready]
        states: dict[str, str] = {}

        def done() -> bool:
            states.clear()
            states.update(self.states(watched))
            return not states

        wait_until(done, "operators to be calibrated", children, self.report, lambda: states)

    def states(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """How far those operators are that are not ready yet. Says it of those that have become ready."""
        states = {}
        for name in list(self.operators) if names is None else names:
            state = None if name in self._ready else _state_of(self.operators[name], self._http)
            if state is not None:
                states[name] = state
            elif name not in self._ready:
                self._note_ready(name)
        return states

    def _note_ready(self, name: str) -> None:
        self._ready.add(name)
        self.report.say(f"{name}: {CALIBRATED} ({self.operators[name].member.dtype})")

    def _are_starting(self) -> bool:
        return len(self._ready) < len(self.operators)

    def _start(self, member: Member, account: LocalAccount, threads: int) -> None:
        port = free_port()
        settings: dict[str, Any] = {
            "rpc_url": self.rpc_url,
            "deployment": str(self.deployment_file),
            "keystore": str(self.keystore(member.name)),
            "password_file": str(self.password_file),
            "model": self.record.name,
            "dtype": member.dtype,
            "threads": threads,
            "store_url": f"sqlite:///{self.home}/{member.name}.sqlite",
            "port": port,
            "poll_seconds": 0.4,
        }
        if member.role is Role.NODE:
            settings |= {"allow_unsigned": True, "batch_max_wait_seconds": 0.5}
            # Who cheats would take the turn of who answers.
            is_honest = member.anchors and not member.cheats and not member.examines and member.shows == "everybody"
            settings |= ANSWERS_CONTRACTS if is_honest else {}
        else:
            settings |= self._create_bls_key(member.name)
        if member.agent:
            settings |= self._register_agent(member, account, port)
        settings |= member.options
        config = self.home / f"{member.name}.toml"
        config.write_text(_toml(settings))
        if member.cheats and member.role is Role.VERIFIER:
            (cheat,) = member.cheats
            Orders(cheat).write(self._orders(member.name))
        child = self._spawn(member, config)
        self.operators[member.name] = Running(member, account, f"http://127.0.0.1:{port}", config, child)

    def _register_agent(self, member: Member, account: LocalAccount, port: int) -> dict[str, Any]:
        """Before its process sends transactions of the account. Returns the settings that belong to it."""
        file = self.home / f"{member.name}.agent.json"
        done = register(self.chain(account), member.name, f"http://127.0.0.1:{port}", file)
        self.report.say(f"{member.name}: agent {done.agent.agent_id} of ERC-8004")
        return {"registration_file": str(file)} | ({"erc8004_publish_every": 1} if member.role is Role.NODE else {})

    def _orders(self, name: str) -> Path:
        return self.home / f"{name}.orders"

    def _spawn(self, member: Member, config: Path, clock_seconds: int = 0) -> Child:
        log = self.home / "logs" / f"{member.name}.log"
        arguments = ["--config", str(config)]
        if member.cheats and member.role is Role.VERIFIER:
            arguments += ["--orders", str(self._orders(member.name))]
            return self._started_launcher().start(member.name, "trine_devnet.cheating_verifier", arguments, log)
        if member.cheats or member.shows != "everybody" or not member.anchors:
            arguments += [argument for cheat in member.cheats for argument in ("--cheat", cheat)]
            arguments += ["--shows", member.shows, *([] if member.anchors else ["--anchors-nothing"])]
            return self._started_launcher().start(member.name, "trine_devnet.cheating_node", arguments, log)
        if member.examines:
            module = "trine_research.examining.cli"
            return self._started_launcher().start(member.name, module, ["serve", *arguments], log)
        group = ["node", "serve"] if member.role is Role.NODE else ["verifier", "run"]
        module, arguments = "trine", [*group, *arguments]
        if clock_seconds:
            module, arguments = "trine_devnet.faults.clock", [str(clock_seconds), module, *arguments]
        return self._started_launcher().start(member.name, module, arguments, log)

    def _started_launcher(self) -> Launcher:
        if self._launcher is None:
            self._launcher = Launcher(self.home)
        return self._launcher


def _toml(settings: Mapping[str, Any]) -> str:
    """Strings, numbers and truth values are written alike in JSON and TOML."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


def _state_of(running: Running, http: httpx2.Client) -> str | None:
    """How far an operator is, in its own words; None when it is ready."""
    try:
        answer = http.get(f"{running.endpoint}/healthz")
        return None if answer.status_code == 200 else str(answer.json()["reason"])
    except (httpx2.HTTPError, ValueError, KeyError):
        return _last_event(running.child)


def _last_event(child: Child) -> str:
    """Before it serves, an operator speaks in its log."""
    for line in reversed(child.tail().splitlines()):
        try:
            event = json.loads(line)
            return str(event.get("step") or event["event"]).replace("_", " ")
        except (ValueError, KeyError, AttributeError):
            continue
    return "starting"


def give(rpc_url: str, deployment: Path, address: str, wei: int) -> None:
    """Gas money and tokens out of nothing and the deployer's. Raises InvalidInput anywhere but on a devnet."""
    known = Deployment.load(deployment)
    if known.chain_id != DEVNET_CHAIN_ID:
        raise InvalidInput(f"tokens are given away on a devnet only, and this is chain {known.chain_id}")
    chain = Chain.connect(known, rpc_url, Account.from_key(DEPLOYER_KEY))
    with Rpc(rpc_url) as rpc:
        rpc.call("anvil_setBalance", address, hex(GAS_MONEY_WEI))
    chain.transfer(address, wei)
