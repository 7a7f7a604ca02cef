"""`trine deploy …`: the contracts on a network that lasts. On a devnet, `trine devnet` puts them there by itself."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trine.cli.groups import group
from trine.cli.options import AsJson, Keystore, PasswordFile, load_account
from trine.cli.output import fail_cleanly, note, print_json, say
from trine.errors import InvalidInput
from trine_devnet.deploying.networks import NETWORKS, Network, known_network

if TYPE_CHECKING:
    from trine_devnet.deploying.fitness import Finding
    from trine_devnet.deploying.plan import Plan
    from trine_devnet.deploying.signing import Signer

app = group("Put the contracts on a network that lasts: look at the chain, deploy, verify sources.")

Rpc = Annotated[str, typer.Option("--rpc", envvar="TRINE_RPC_URL", help="JSON-RPC endpoint of the chain.")]
Preset = Annotated[str | None, typer.Option("--network", help=f"What is known beforehand of {', '.join(NETWORKS)}.")]
ChainId = Annotated[int | None, typer.Option(help="Of a network without a preset.", min=1)]
Seeds = Annotated[str | None, typer.Option(help="Where seeds come from: randao or drand. Default: the preset's.")]
Parameters = Annotated[
    Path | None, typer.Option(help="JSON file of parameters that differ from the preset and from deployment.json.")
]
Home = Annotated[Path | None, typer.Option(help="Folder of this deployment. Default: .trine/deployments/NAME.")]
Name = Annotated[str | None, typer.Option("--name", help="Of this deployment. Default: the network's and its id.")]
MaxFee = Annotated[float, typer.Option(help="Most that is offered for a unit of gas.", min=0.000001, max=100_000)]

ROOT = Path(".trine/deployments")
PLACEHOLDER = "0x" + "11" * 20


@app.command()
@fail_cleanly
def check(
    rpc: Rpc,
    network: Preset = None,
    chain_id: ChainId = None,
    seeds: Seeds = None,
    parameters: Parameters = None,
    json: AsJson = False,
) -> None:
    """Whether a chain has what the contracts need. Sends nothing, needs no key. Exit code 3: it has not."""
    from trine_devnet.deploying.facts import Endpoint
    from trine_devnet.deploying.plan import Plan
    from trine_devnet.deploying.run import Unfit, look

    endpoint = Endpoint(rpc)
    chosen = _network(network, chain_id or endpoint.number("eth_chainId"), seeds)
    everybody = PLACEHOLDER, PLACEHOLDER, PLACEHOLDER, PLACEHOLDER
    plan = Plan("check", chosen.chain_id, *everybody, chosen.seeds, _parameters(chosen, parameters))
    facts, found = look(endpoint, plan)
    if facts.chain_id != chosen.chain_id:
        raise InvalidInput(f"the RPC endpoint {endpoint.origin} serves chain {facts.chain_id}, not {chosen.chain_id}")
    if json:
        listed = [{"name": each.name, "holds": each.holds, "said": each.said} for each in found]
        print_json({"chainId": facts.chain_id, "seeds": chosen.seeds, "findings": listed})
    else:
        say(f"chain {facts.chain_id}, seeds from {chosen.seeds}")
        _show(found)
    if not all(finding.holds for finding in found):
        raise Unfit(found)


@app.command()
@fail_cleanly
def run(
    rpc: Rpc,
    governor: Annotated[str, typer.Option(help="Announces changes to the timelock: best a contract of many keys.")],
    guardian: Annotated[str, typer.Option(help="Can stop new work, nothing else.")],
    network: Preset = None,
    chain_id: ChainId = None,
    seeds: Seeds = None,
    parameters: Parameters = None,
    holder: Annotated[str | None, typer.Option(help="Gets the whole supply of tokens. Default: the governor.")] = None,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    signer: Annotated[
        str | None, typer.Option(help="External signer (eth_signTransaction), in place of a keystore: its address.")
    ] = None,
    deployer: Annotated[str | None, typer.Option(help="Which account of the signer.")] = None,
    name: Name = None,
    home: Home = None,
    max_fee_gwei: MaxFee = 200.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before sending.")] = False,
) -> None:
    """Looks at the chain, then deploys with Hardhat Ignition; started again, it goes on where it was."""
    from trine_devnet.deploying.facts import Endpoint
    from trine_devnet.deploying.plan import Plan, checksummed
    from trine_devnet.deploying.run import Deploying

    endpoint = Endpoint(rpc)
    chosen = _network(network, chain_id or endpoint.number("eth_chainId"), seeds)
    who = _signer(keystore, password_file, signer, deployer)
    owner = checksummed("governor", governor)
    plan = Plan(
        name or f"{chosen.name}-{chosen.chain_id}",
        chosen.chain_id,
        who.address,
        owner,
        checksummed("guardian", guardian),
        checksummed("holder", holder) if holder else owner,
        chosen.seeds,
        _parameters(chosen, parameters),
    )
    plan.require_sound()
    deploying = Deploying(plan, endpoint, (home or ROOT / plan.name).absolute())
    facts, found = deploying.look()
    _show(found)
    max_fee_wei = int(max_fee_gwei * 10**9)
    deploying.require_fit(facts, found, max_fee_wei)
    deploying.ignition.require_ready()
    _tell(plan)
    signal.signal(signal.SIGTERM, _interrupt)  # so that Ignition ends, too
    if not yes:
        typer.confirm("deploy this?", abort=True, err=True)
    deployed = deploying.run(who, max_fee_wei, note)
    say(f"deployed from block {deployed.block} on; code, counterparts and who may do what were read back")
    say(f"the deployment file: {deploying.deployment_file}")


@app.command()
@fail_cleanly
def verify(
    rpc: Rpc,
    home: Annotated[Path, typer.Option(help="Folder of the deployment.")],
    explorer: Annotated[str, typer.Option(help="sourcify, blockscout or etherscan.")] = "sourcify",
    api_url: Annotated[str | None, typer.Option(help="Of another Sourcify than sourcify.dev.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="File whose first line is Etherscan's API key.")] = None,
) -> None:
    """Has the sources of every deployed contract verified, so that explorers show them."""
    from trine.chain.keystore import read_password
    from trine_devnet.deploying.facts import Endpoint
    from trine_devnet.deploying.plan import Plan
    from trine_devnet.deploying.verification import verify as verify_sources

    if explorer not in ("sourcify", "blockscout", "etherscan"):
        raise InvalidInput(f"no explorer {explorer!r}: choose from sourcify, blockscout, etherscan")
    if explorer == "etherscan" and api_key_file is None:
        raise InvalidInput("Etherscan takes an API key: give --api-key-file")
    plan = Plan.load(home / "plan.json")
    key = read_password(api_key_file) if api_key_file else ""
    verified = verify_sources(Endpoint(rpc), plan, home.absolute(), explorer, api_url, key, note)
    say(f"{verified} contracts verified by {explorer}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _network(preset: str | None, chain_id: int, seeds: str | None) -> Network:
    """Raises InvalidInput when preset and chain contradict one another."""
    known = known_network(preset) if preset else next((n for n in NETWORKS.values() if n.chain_id == chain_id), None)
    if known and known.chain_id != chain_id:
        raise InvalidInput(f"{known.name} is chain {known.chain_id}, and this is chain {chain_id}")
    if known is None and seeds is None:
        raise InvalidInput(f"nothing is known of chain {chain_id}: say where seeds come from, --seeds randao or drand")
    if seeds not in (None, "randao", "drand"):
        raise InvalidInput(f"seeds come from randao or drand, not {seeds!r}: docs/randomness.md")
    if known is None:
        return Network("chain", chain_id, seeds or "")
    return Network(known.name, chain_id, seeds or known.seeds, known.parameters)


def _parameters(network: Network, file: Path | None) -> dict[str, Any]:
    from trine_devnet.deploying.plan import read_parameters

    return {**network.parameters, **(read_parameters(file) if file else {})}


def _signer(keystore: Path | None, password_file: Path | None, url: str | None, address: str | None) -> Signer:
    from trine_devnet.deploying.plan import checksummed
    from trine_devnet.deploying.signing import ExternalSigner, KeystoreSigner

    if url is not None:
        return ExternalSigner(url, checksummed("deployer", address) if address else None)
    if address is not None:
        raise InvalidInput("--deployer names an account of an external signer: give --signer, or leave it out")
    return KeystoreSigner(load_account(keystore, password_file))


def _show(found: list[Finding]) -> None:
    from trine.cli.output import out

    width = max(len(finding.name) for finding in found)
    for finding in found:
        style, word = ("green", "yes") if finding.holds else ("red", "NO")
        said = re.sub(r"\s+", " ", finding.said)
        out.print(f"{word:<4}", style=style, end="")
        out.print(f"{finding.name:<{width}}  {said}", markup=False, highlight=False, soft_wrap=True)


def _tell(plan: Plan) -> None:
    note(f"chain {plan.chain_id}, release {plan.release}, seeds from {plan.seeds}, journal {plan.name}")
    for role, address in plan.accounts.items():
        note(f"  {role:<20} {address}")
    for name, value in plan.parameters.items():
        note(f"  {name:<20} {value}")
    for contract in ("Batches", "Staking", "TrineToken", "Timelock"):
        note(f"  {contract:<20} {plan.addresses[contract]}")
