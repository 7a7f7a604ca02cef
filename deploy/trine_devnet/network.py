"""A devnet: `hardhat node`, contracts, keys, funds, a registered model, and the operators' processes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint

from trine.chain import Chain, Deployment, Role, create_keystore
from trine.chain.deployment import CONTRACTS
from trine.errors import InvalidInput, NotReady, TrineError
from trine.models import ModelRecord, load_record
from trine_devnet.cheating_verifier import Orders
from trine_devnet.epochs import Epochs
from trine_devnet.launcher import Launcher
from trine_devnet.processes import Child, free_port, start, wait_until
from trine_devnet.toolchain import hardhat, node_binary, project_root

MODEL = "smollm2-135m-instruct"
# Public devnet key: account 0 of the mnemonic that Hardhat prints at every start. Worthless anywhere else.
DEPLOYER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SCRYPT_N = 1 << 12
"""Keys that live for one devnet need no slow key derivation."""
TOKEN = 10**18
START_TIMEOUT_SECONDS = 300.0
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Member:
    """An operator to start. `cheats` names adversaries that answer a node's first requests in turn.

    A verifier has one cheat, or `honest`, and may be told another: see `Devnet.tell`.
    """

    name: str
    role: Role
    dtype: str = "fp32"
    cheats: tuple[str, ...] = ()
    stake: int = 2_000 * TOKEN
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Running:
    """A started operator."""

    member: Member
    account: LocalAccount
    endpoint: str
    config: Path
    child: Child


class Devnet:
    """Use as a context manager: leaving it stops every process."""

    def __init__(self, home: Path, report: Report = lambda message: None) -> None:
        self.home = home.absolute()
        self.report = report
        self.rpc_url = ""
        self.children: list[Child] = []
        self.operators: dict[str, Running] = {}
        self.record: ModelRecord = load_record(MODEL)
        self._deployment_id = ""
        self._launcher: Launcher | None = None
        self._admin: Chain | None = None
        self._epochs: Epochs | None = None
        self._announced: set[str] = set()

    def __enter__(self) -> Devnet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Operators first, the chain last, so that they can finish what they owe."""
        if self._epochs:
            self._epochs.stop()
        operators = [running.child for running in self.operators.values()]
        with ThreadPoolExecutor(max(1, len(operators))) as pool:
            list(pool.map(Child.stop, operators))
        if self._launcher:
            self._launcher.stop()
        for child in self.children:
            child.stop()
        if self._deployment_id:
            shutil.rmtree(_deployments() / self._deployment_id, ignore_errors=True)

    # Chain

    def start_chain(self, parameters: dict[str, int | str] | None = None) -> None:
        """Starts the chain on a free loopback port and deploys, registers and funds. `parameters` go to Ignition."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self._started_launcher()  # imports its libraries while the chain starts
        port = free_port()
        self.rpc_url = f"http://127.0.0.1:{port}"
        command = hardhat("node", "--hostname", "127.0.0.1", "--port", str(port), "--network", "node")
        chain = start("chain", command, self.home / "logs" / "chain.log", cwd=project_root())
        self.children.append(chain)
        web3 = Web3(HTTPProvider(self.rpc_url, request_kwargs={"timeout": 5}))
        wait_until(web3.is_connected, [chain], 60, "the chain to start")
        self.report(f"chain: hardhat node at {self.rpc_url}")
        self._deploy(port, parameters or {})
        self._register_model()
        self._epochs = Epochs(self.chain(), self.rpc_url, self.record.model_id)
        self._epochs.start()

    def _deploy(self, port: int, parameters: dict[str, int | str]) -> None:
        self._deployment_id = f"devnet-{port}"
        file = self.home / "parameters.json"
        file.write_text(json.dumps({"Trine": parameters}))
        command = hardhat(
            "ignition", "deploy", "deploy/ignition/modules/Trine.js", "--network", "rpc",
            "--deployment-id", self._deployment_id, "--reset", "--parameters", str(file), "--strategy", "create2",
        )  # fmt: skip
        self._run("deployment", command)
        folder = _deployments() / self._deployment_id
        self._run("check of the deployment", [node_binary(), "deploy/scripts/check-deployment.js", str(folder)])
        addresses = json.loads((folder / "deployed_addresses.json").read_text())
        deployment = Deployment.from_json(
            {"chainId": 31337, "block": 0, "contracts": {n: addresses[f"Trine#{n}"] for n in CONTRACTS}}
        )
        if deployment != Deployment.bundled(31337):
            raise TrineError("the contracts are not where trine expects a devnet's: run `make abi`")
        deployment.save(self.deployment_file)
        self.report("contracts: deployed with Ignition, checked")

    def _run(self, what: str, command: list[str]) -> None:
        """Runs a tool of the checkout against the chain; its output goes to the deployment's log."""
        log = self.home / "logs" / "deploy.log"
        result = subprocess.run(  # noqa: S603
            command,
            cwd=project_root(),
            env={**os.environ, "TRINE_RPC_URL": self.rpc_url, "HARDHAT_IGNITION_CONFIRM_DEPLOYMENT": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        with log.open("a") as file:
            file.write(result.stdout + result.stderr)
        if result.returncode != 0:
            raise TrineError(f"{what} failed; {log} ends with:\n" + "\n".join(log.read_text().splitlines()[-12:]))

    def _register_model(self) -> None:
        record = self.record
        self.admin.register_model(
            record.name,
            record.source,
            record.manifest,
            record.policy,
            record.prompts,
            record.prompt_count,
            record.price_per_token_wei,
        )
        self.report(f"model: {record.name} registered, id 0x{record.model_id.hex()[:12]}…")

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
        provider = Web3(HTTPProvider(self.rpc_url)).provider
        for method, arguments in (("evm_increaseTime", [hex(seconds)]), ("evm_mine", [])):
            answer = provider.make_request(RPCEndpoint(method), arguments)
            if "error" in answer:
                raise NotReady(f"{method}: {answer['error']}")

    def chain(self, account: LocalAccount | None = None) -> Chain:
        return Chain.connect(Deployment.load(self.deployment_file), self.rpc_url, account)

    # Accounts

    def create_account(self, name: str, funds: int) -> LocalAccount:
        """A fresh key in an encrypted keystore, with gas money and tokens."""
        if not self.password_file.exists():
            descriptor = os.open(self.password_file, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, secrets.token_urlsafe(24).encode())
            os.close(descriptor)
        account: LocalAccount = Account.create()
        create_keystore(self.keystore(name), self.password_file.read_text(), bytes(account.key), iterations=SCRYPT_N)
        # Hardhat's own method: no transaction of the deployer's to wait for.
        Web3(HTTPProvider(self.rpc_url)).provider.make_request(
            RPCEndpoint("hardhat_setBalance"), [account.address, hex(Web3.to_wei(100, "ether"))]
        )
        self.admin.transfer(account.address, funds)
        return account

    def keystore(self, name: str) -> Path:
        return self.home / "keys" / f"{name}.json"

    def create_client(self, name: str = "client", funds: int = 2_000 * TOKEN) -> LocalAccount:
        """An account that can pay for answers: it deposits with each node that it asks."""
        return self.create_account(name, funds)

    # Operators

    def add(self, members: list[Member], threads: int = 1) -> None:
        """Funds, stakes and starts operators; does not wait for them."""
        accounts = [self.create_account(member.name, member.stake * 2) for member in members]

        def stake(pair: tuple[Member, LocalAccount]) -> None:
            member, account = pair
            chain = self.chain(account)
            chain.approve("Staking", member.stake)
            chain.stake(member.stake)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(stake, zip(members, accounts, strict=True)))
        for member, account in zip(members, accounts, strict=True):
            self._start(member, account, threads)
        self.report(f"operators: {', '.join(m.name for m in members)} funded, staked and started")

    def tell(self, name: str, cheat: str, league: Iterable[str] = ()) -> None:
        """Which cheat a cheating verifier tries on the batches that it meets from now on, in league with which nodes.

        Raises InvalidInput for a verifier that was started honest, and for an unknown cheat.
        """
        orders = self._orders(name)
        if not orders.exists():
            raise InvalidInput(f"{name} is no cheating verifier: start it with a cheat, which may be 'honest'")
        Orders(cheat, frozenset(str(self.operators[node].account.address) for node in league)).write(orders)

    def restart(self, name: str) -> None:
        """Starts an operator's process again with the same key and store."""
        running = self.operators[name]
        running.child = self._spawn(running.member, running.config)

    def wait_ready(self, names: list[str] | None = None, timeout: float = START_TIMEOUT_SECONDS) -> None:
        """Waits until every operator answers `/healthz` with 200, which takes a valid calibration."""
        waiting = dict(self.operators) if names is None else {n: self.operators[n] for n in names}

        def done() -> bool:
            for name, running in list(waiting.items()):
                if _healthy(running.endpoint):
                    if name not in self._announced:
                        self._announced.add(name)
                        self.report(f"ready: {name} ({running.member.dtype}), calibrated by a committee")
                    del waiting[name]
            return not waiting

        wait_until(done, [running.child for running in waiting.values()], timeout, "operators to be calibrated")

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
            "poll_seconds": 0.5,
        }
        if member.role is Role.NODE:
            settings |= {"allow_unsigned": True, "batch_max_wait_seconds": 2.0}
        settings |= member.options
        config = self.home / f"{member.name}.toml"
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        if member.cheats and member.role is Role.VERIFIER:
            (cheat,) = member.cheats
            Orders(cheat).write(self._orders(member.name))
        child = self._spawn(member, config)
        self.operators[member.name] = Running(member, account, f"http://127.0.0.1:{port}", config, child)

    def _orders(self, name: str) -> Path:
        return self.home / f"{name}.orders"

    def _spawn(self, member: Member, config: Path) -> Child:
        log = self.home / "logs" / f"{member.name}.log"
        arguments = ["--config", str(config)]
        if member.cheats and member.role is Role.VERIFIER:
            arguments += ["--orders", str(self._orders(member.name))]
            return self._started_launcher().start(member.name, "trine_devnet.cheating_verifier", arguments, log)
        if member.cheats:
            arguments += [argument for cheat in member.cheats for argument in ("--cheat", cheat)]
            return self._started_launcher().start(member.name, "trine_devnet.cheating_node", arguments, log)
        group = ["node", "serve"] if member.role is Role.NODE else ["verifier", "run"]
        return self._started_launcher().start(member.name, "trine", [*group, *arguments], log)

    def _started_launcher(self) -> Launcher:
        if self._launcher is None:
            quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
            self._launcher = Launcher(self.home / "logs" / "launcher.log", quiet)
        return self._launcher


def _healthy(endpoint: str) -> bool:
    try:
        return httpx2.get(f"{endpoint}/healthz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def _deployments() -> Path:
    return project_root() / "deploy" / "ignition" / "deployments"


def wait_for(done: Callable[[], bool], timeout: float, what: str) -> None:
    """Raises NotReady."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise NotReady(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.2)
