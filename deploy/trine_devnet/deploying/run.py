"""A deployment from plan to file: looks, sends through Ignition, goes on after a crash, checks, writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from trine.chain.deployment import Deployment
from trine.errors import InvalidInput, NotReady, TrineError
from trine_devnet.deploying.endpoint import SigningEndpoint
from trine_devnet.deploying.facts import Endpoint, Facts, gather
from trine_devnet.deploying.fitness import Finding, findings
from trine_devnet.deploying.ignition import Ignition
from trine_devnet.deploying.outcome import problems, taken
from trine_devnet.deploying.plan import Plan
from trine_devnet.deploying.record import Record
from trine_devnet.deploying.signing import Signer

GAS = 55_000_000
"""All of a deployment takes less; what is left stays with the deployer."""
CONFIRMATIONS = 5
"""Ignition's."""
CONFIRM_SECONDS = 600.0
LOOK_SECONDS = 1.0

Told = Callable[[str], None]


class Unfit(InvalidInput):
    """The chain lacks something; nothing was sent."""

    def __init__(self, found: list[Finding]) -> None:
        self.found = found
        missing = ", ".join(finding.name for finding in found if not finding.holds)
        super().__init__(f"this chain is not fit for Trine: {missing}. Nothing was sent")


class Deploying:
    """One plan, one endpoint, one folder `home` that a later start finds again."""

    def __init__(self, plan: Plan, endpoint: Endpoint, home: Path) -> None:
        self.plan = plan
        self.endpoint = endpoint
        self.home = home
        self.ignition = Ignition(plan, home)

    @property
    def plan_file(self) -> Path:
        return self.home / "plan.json"

    @property
    def deployment_file(self) -> Path:
        return self.home / "deployment.json"

    @property
    def has_begun(self) -> bool:
        return self.plan_file.exists()

    def look(self) -> tuple[Facts, list[Finding]]:
        """What the chain shows, judged. Sends nothing."""
        return look(self.endpoint, self.plan)

    def require_fit(self, facts: Facts, found: list[Finding], max_fee_wei: int) -> None:
        """Raises InvalidInput for what must stop a deployment before it begins."""
        if facts.chain_id != self.plan.chain_id:
            raise InvalidInput(
                f"the RPC endpoint {self.endpoint.origin} serves chain {facts.chain_id}, not {self.plan.chain_id}"
            )
        if not all(finding.holds for finding in found):
            raise Unfit(found)
        if self.has_begun:
            self.plan.require_same(Plan.load(self.plan_file))
            return
        if there := taken(self.endpoint, self.plan):
            raise InvalidInput(
                f"{there[0]} stands at {self.plan.addresses[there[0]]} already: this deployer has deployed the release "
                f"{self.plan.release!r} on chain {facts.chain_id}, and this folder has not begun it; name the folder "
                "that has (--home), or use another account"
            )
        if facts.gas_price_wei > max_fee_wei:
            raise InvalidInput(
                f"gas costs {facts.gas_price_wei / 1e9:g} gwei now, the limit is {max_fee_wei / 1e9:g}: wait, or raise "
                "--max-fee-gwei"
            )
        needed, held = GAS * facts.gas_price_wei, self.endpoint.number("eth_getBalance", self.plan.deployer, "latest")
        if held < needed:
            raise InvalidInput(
                f"the deployer {self.plan.deployer} has {held / 1e18:.6f} of the chain's coin; at the gas price of now "
                f"the deployment may take {needed / 1e18:.6f}"
            )

    def run(self, signer: Signer, max_fee_wei: int, told: Told) -> Deployment:
        """Sends what is not sent yet, waits, checks, writes the deployment file. Raises TrineError."""
        self.ignition.require_ready()
        self.plan.save(self.plan_file)
        record = Record(self.home / "sent.jsonl")
        rules = {
            "deployer": signer.address,
            "factory": self.plan.factory,
            "chain_id": self.plan.chain_id,
            "max_fee_wei": max_fee_wei,
        }
        with SigningEndpoint(self.endpoint, signer, record, rules, told) as signing:
            self._go_on(signing, record, told)
            try:
                self.ignition.run(signing.url)
            except NotReady as error:
                if signing.refusals:
                    raise InvalidInput(f"{signing.refusals[-1]}; start again to go on where it was") from None
                raise NotReady(f"{error}\nstart again to go on where it was") from None
        return self.finish()

    def finish(self) -> Deployment:
        """Checks what stands there and writes the file. Raises TrineError naming what is not as planned."""
        if wrong := problems(self.endpoint, self.plan):
            raise TrineError("the deployment is not as planned: " + "; ".join(wrong))
        block = self.ignition.first_block()
        if block is None:
            raise NotReady(f"Ignition's journal in {self.ignition.folder} confirms no transaction")
        deployment = self.plan.deployment(block)
        draft = self.deployment_file.with_suffix(".new")
        deployment.save(draft)
        draft.replace(self.deployment_file)
        return deployment

    def _go_on(self, signing: SigningEndpoint, record: Record, told: Told) -> None:
        """After a crash: what was signed is handed over again, what Ignition has not noted it is told."""
        if not record.all:
            return
        told("going on with what was begun")
        self.ignition.mend()
        confirmed = self.endpoint.number("eth_getTransactionCount", self.plan.deployer, "latest")
        for nonce in sorted({sent.nonce for sent in record.all if sent.nonce >= confirmed}):
            signing.hand_over(record.of(nonce)[-1])
        self._wait_until_confirmed(told)
        for prepared in self.ignition.prepared():
            for sent in reversed(record.of(prepared.nonce)):
                if self.endpoint.ask("eth_getTransactionReceipt", sent.hash) is not None:
                    told(f"{sent.contract} was sent just before the end: {sent.hash}")
                    self.ignition.track(signing.url, sent.hash)
                    break

    def _wait_until_confirmed(self, told: Told) -> None:
        """Ignition goes on only above the confirmed: raises NotReady when that does not come."""
        deadline = time.monotonic() + CONFIRM_SECONDS
        said = False
        while True:
            pending = self.endpoint.number("eth_getTransactionCount", self.plan.deployer, "pending")
            head = self.endpoint.number("eth_blockNumber")
            block = hex(max(0, head - CONFIRMATIONS + 1))
            if self.endpoint.number("eth_getTransactionCount", self.plan.deployer, block) >= pending:
                return
            if time.monotonic() > deadline:
                raise NotReady(
                    f"transactions of {self.plan.deployer} are not confirmed in {CONFIRM_SECONDS:.0f} s: start again "
                    "later"
                )
            if not said:
                told(f"waiting until what was sent has {CONFIRMATIONS} confirmations")
                said = True
            time.sleep(LOOK_SECONDS)


def look(endpoint: Endpoint, plan: Plan) -> tuple[Facts, list[Finding]]:
    """Facts and findings for a plan's seeds and parameters. Raises ChainError."""
    facts = gather(endpoint, plan.seeds, plan.creation_of("Seeds"), plan.deployer)
    return facts, findings(facts, plan.seeds, plan.numbers)
