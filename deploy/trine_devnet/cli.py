"""`trine devnet …`: a network on this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.groups import group
from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    AsJson,
    DeploymentFile,
    RpcUrl,
    token_wei,
    typed_address,
)
from trine.cli.output import fail_cleanly, note, print_json, say, tokens
from trine.errors import InvalidInput
from trine_devnet.cheats import NODE_CHEATS, VERIFIER_CHEATS, known_adversary, known_cheat
from trine_devnet.launcher import Launcher, prepare
from trine_devnet.options import ACT_NAMES, CHEATS, DTYPES, MODEL, PARAMETERS, SLOW_ACTS, VERIFIERS, Options
from trine_devnet.processes import STOP_SECONDS

if TYPE_CHECKING:
    from trine_devnet.network import Devnet

app = group("Run a whole network on this machine.")

Home = Annotated[
    Path,
    typer.Option(
        help="Folder for keys, stores and logs. Emptied at start: the network that was there is gone for good."
    ),
]
NodeDtypes = Annotated[list[str] | None, typer.Option("--node-dtype", help="One honest node each; fp32 and bf16.")]
VerifierDtypes = Annotated[list[str] | None, typer.Option("--verifier-dtype", help="One verifier each; four fp32.")]
Cheats = Annotated[
    list[str] | None,
    typer.Option(
        "--cheat",
        help="The cheating node's next answer is by this adversary: 'none' (no cheating node), module:attribute, "
        f"{', '.join(NODE_CHEATS)}.",
    ),
]
CheatingVerifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--cheating-verifier",
        help=f"The first verifier cheats like this, if repeated the second, …: {', '.join(VERIFIER_CHEATS)}.",
    ),
]
MaxTokens = Annotated[int, typer.Option(help="Longest answer.", min=1, max=1024)]
DEFAULT_HOME = Path(".trine/devnet")
LOOK_SECONDS = 2.0
RPC_PORT = 8545
"""Where every command looks for a chain by default."""


@app.command()
@fail_cleanly
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the network up until Ctrl-C.")] = False,
    prompt: Annotated[list[str] | None, typer.Option(help="Ask this as well; may be repeated.")] = None,
    node_dtype: NodeDtypes = None,
    verifier_dtype: VerifierDtypes = None,
    cheat: Cheats = None,
    cheating_verifier: CheatingVerifiers = None,
    max_tokens: MaxTokens = 48,
    every: Annotated[bool, typer.Option("--all", help="Play the acts that take minutes, too.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"This act and no questions; may be repeated: {', '.join(ACT_NAMES)}.", metavar="ACT"),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="File for what was shown, by name, with its transactions.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Answers, verdicts, payments and slashes, on a real chain with a real model. Exit code 0: all as it must be."""
    _end_on_signals()
    options = _options(node_dtype, verifier_dtype, cheat, cheating_verifier, tuple(prompt or ()), max_tokens)
    if unknown := sorted(set(only or ()) - set(ACT_NAMES)):
        raise InvalidInput(f"no act is called {', '.join(unknown)}: choose from {', '.join(ACT_NAMES)}")
    started, launcher = time.monotonic(), _prepared(home)
    from trine.cli.output import err, out
    from trine.protocol.policy import Policy
    from trine_devnet.acts.programme import chosen
    from trine_devnet.acts.telling import document, write
    from trine_devnet.acts.telling import show as show_acts
    from trine_devnet.demo import Demo
    from trine_devnet.network import Devnet
    from trine_devnet.reporting import report_to
    from trine_devnet.tables import bounds, show

    with report_to(err, started) as report, Devnet(home, report, launcher) as net:
        net.start_chain(PARAMETERS, preferred_port=RPC_PORT)
        # Beside verifiers that cheat, nothing is promised of the rest.
        acts = () if options.cheating_verifiers and not (only or every) else chosen(only or (), every)
        demonstration = Demo(net, options, report, acts)
        outcome = demonstration.perform() if only else demonstration.run()
        if not only:
            show(outcome, out, bounds(Policy.from_bytes(net.record.policy), options))
        show_acts(outcome.played, out)
        if json:
            write(json, document(outcome.played, outcome.answers, outcome.failures))
        if outcome.first_certificate_seconds is not None:
            first, last = outcome.first_certificate_seconds, report.seconds
            say(f"first certified answer after {first:.0f} s, all final after {last:.0f} s, set-up not counted")
        for failure in outcome.failures:
            err.print(f"FAILED: {failure}", markup=False, style="red", soft_wrap=True)
        if not outcome.failures and not only:
            say("every honest answer was accepted; every cheat was rejected, slashed and is in the reputation")
            if not every:
                say(f"`{sys.argv[0]} devnet demo --all` also plays {', '.join(SLOW_ACTS)}, which takes minutes")
        if keep:
            if options.cheats:
                say("\nthe cheater has used up its cheats: from here on it answers honestly")
            _stay(net)
        elif not outcome.failures:
            say(f"`{sys.argv[0]} devnet demo --keep` leaves the network up, to ask questions of your own")
    raise typer.Exit(1 if outcome.failures else 0)


@app.command()
@fail_cleanly
def up(
    node_dtype: NodeDtypes = None,
    verifier_dtype: VerifierDtypes = None,
    cheat: Cheats = None,
    cheating_verifier: CheatingVerifiers = None,
    model: Annotated[str, typer.Option(help="What is served: a name that `trine model list` shows.")] = MODEL,
    home: Home = DEFAULT_HOME,
) -> None:
    """Starts a network of your own and keeps it up until Ctrl-C: a chain, two nodes, four verifiers, an account with
    tokens.

    It takes a minute or two, in which operators are calibrated; says what it waits for, prints what to type next when
    it is up. What was asked, paid and settled ends with it: the next one is a new chain with new keys.
    """
    _end_on_signals()
    options = _options(node_dtype, verifier_dtype, cheat or ["none"], cheating_verifier, (), 1)
    _fetched(model)
    started, launcher = time.monotonic(), _prepared(home)
    note("a network of your own: up in a minute or two, on a busy machine later")
    from trine.cli.output import err
    from trine_devnet.demo import Demo
    from trine_devnet.network import Devnet
    from trine_devnet.reporting import report_to

    with report_to(err, started) as report, Devnet(home, report, launcher, model) as net:
        net.start_chain(PARAMETERS, preferred_port=RPC_PORT)
        demo = Demo(net, options, report)
        net.add(demo.members(), options.threads)
        net.create_client()
        net.wait_ready()
        demo.tell_verifiers()
        _stay(net)


@app.command()
@fail_cleanly
def fund(
    address: Annotated[str, typer.Argument(help="Who gets it: an account that `trine keys new` made, for instance.")],
    amount: Annotated[str, typer.Option("--tokens", help="In whole tokens.")] = "1000",
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
) -> None:
    """Gives an account of a devnet that runs gas money and tokens: for an operator, client or examiner of your own."""
    wei = token_wei(amount)
    from trine_devnet.network import give

    account = typed_address(address)
    give(rpc_url, deployment, account, wei)
    say(f"{account} has {amount} tokens more, and gas money")


@app.command()
@fail_cleanly
def dapp(
    question: Annotated[str, typer.Argument(help="What the contract is to ask.")] = "What is the capital of France?",
    fee: Annotated[str, typer.Option(help="Whole tokens that the wallet pays at most.")] = "5",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the contract to be told.", min=1)] = 300.0,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    json: AsJson = False,
) -> None:
    """A contract asks, on a devnet that runs: a new wallet deploys AnswerConsumer.sol, pays, asks, and waits until the
    contract's state has the answer."""
    wei = token_wei(fee)
    if wei == 0:
        raise InvalidInput("--fee 0 pays no node for an answer: `trine request price` says what one must wait for")
    from trine.chain import Deployment
    from trine_devnet.dapp import ask_by_contract
    from trine_devnet.network import give

    known = Deployment.load(deployment)
    from trine.chain import Chain

    model = Chain.connect(known, rpc_url).models()[-1]
    told = ask_by_contract(
        rpc_url,
        known,
        model.model_id,
        question,
        fund=lambda address, amount: give(rpc_url, deployment, address, amount),
        fee_wei=wei,
        seconds=timeout,
        tell=note,
    )
    if json:
        print_json(told.to_json())
        return
    note(f"{tokens(told.paid_wei)} tokens paid, transaction {told.transactions['fulfil']}, {told.seconds:.0f} s in all")
    say(f"answerOf(0x{told.request_id.hex()}) of {told.contract} is now:")
    say(told.answer)


def _prepared(home: Path) -> Launcher:
    """`prepare`, and says what that has cost. Raises InvalidInput."""
    had_network = (home / "deployment.json").exists()
    launcher = prepare(home)
    if had_network:
        note(
            f"the network that was in {home} is gone, with its chain, keys and deposits: what was saved of its answers "
            "cannot be looked up any more. --home FOLDER puts one elsewhere"
        )
    return launcher


def _fetched(model: str) -> None:
    """Prepares a shipped model once, before operators would do it beside one another. Raises InvalidInput."""
    if model == MODEL:
        return  # set-up has done it
    from trine.models import source_of
    from trine_node.models import prepare as prepare_model

    prepare_model(source_of(model), progress=note)


def _options(
    node_dtypes: list[str] | None,
    verifier_dtypes: list[str] | None,
    cheats: list[str] | None,
    cheating_verifiers: list[str] | None,
    prompts: tuple[str, ...],
    max_tokens: int,
) -> Options:
    defaults = Options()
    chosen = tuple(cheats) if cheats else CHEATS
    chosen = () if chosen == ("none",) else tuple(known_adversary(name) for name in chosen)
    dtypes = tuple(verifier_dtypes or defaults.verifier_dtypes)
    dishonest = tuple(known_cheat(name) for name in cheating_verifiers or ())
    for dtype in (*dtypes, *(node_dtypes or ())):
        if dtype not in DTYPES:
            raise InvalidInput(f"no dtype {dtype!r}: choose from {', '.join(DTYPES)}")
    if len(dtypes) < VERIFIERS:
        raise InvalidInput(
            f"{len(dtypes)} verifiers cannot calibrate one another, {VERIFIERS} can: three check the fourth; repeat "
            "--verifier-dtype for each"
        )
    if len(dishonest) > len(dtypes):
        raise InvalidInput(f"{len(dishonest)} cheating verifiers of {len(dtypes)}: add some with --verifier-dtype")
    return Options(
        node_dtypes=tuple(node_dtypes or defaults.node_dtypes),
        verifier_dtypes=dtypes,
        cheats=chosen,
        cheating_verifiers=dishonest,
        prompts=prompts,
        max_tokens=max_tokens,
        threads=max(1, (os.cpu_count() or 2) // 4),
    )


def _stay(net: Devnet) -> None:
    from trine.chain import Role

    say("")
    say(f"the network is up, after {net.report.seconds:.0f} s; in another terminal:")
    say(f"  export TRINE_RPC_URL={net.rpc_url} TRINE_DEPLOYMENT={net.deployment_file}")
    say(f"  export TRINE_KEYSTORE={net.keystore('client')} TRINE_PASSWORD_FILE={net.password_file}")
    say(f'  {sys.argv[0]} ask --deposit 10 "Why is the sea salty?"')
    say(f"OpenAI's clients: {sys.argv[0]} gateway init, gateway keys add NAME, gateway run; docs/gateway.md")
    for name, running in net.operators.items():
        say(f"  {name:<12} {running.account.address}  {running.endpoint}")
    say("an account of your own: trine keys new FILE, then trine devnet fund ADDRESS")
    say("Ctrl-C stops all of it, and ends this chain for good.")
    ended: set[str] = set()
    try:
        while True:
            time.sleep(LOOK_SECONDS)
            for name, running in net.operators.items():
                if name not in ended and not running.child.running:
                    ended.add(name)
                    command = "node serve" if running.member.role is Role.NODE else "verifier run"
                    say(f"{name} has ended, see {running.child.log}; it goes on where it was with")
                    say(f"  {sys.argv[0]} {command} --config {running.config}")
    finally:
        say(f"stopping: the operators finish what they owe, {STOP_SECONDS:.0f} s at most; Ctrl-C again ends them now")


def _end_on_signals() -> None:
    """Ctrl-C's and SIGTERM's way out. Python's own for SIGINT is not there where a shell has started this in the
    background of a script: such jobs inherit that it is ignored."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
