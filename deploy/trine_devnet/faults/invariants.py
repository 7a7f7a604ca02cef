"""What must hold after all faults, read from the chain, the stores and what operators have ever sent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psutil

from trine import Client
from trine.chain import Batch, BatchState, Chain, Event, Role
from trine.errors import NotReady, TrineError
from trine_devnet.faults.injecting import Injected, Injector
from trine_devnet.faults.plan import CHAIN, name_of
from trine_devnet.faults.traffic import Held, Traffic
from trine_devnet.faults.votes import said_by_seat, said_twice
from trine_devnet.network import TOKEN, Devnet
from trine_devnet.reporting import Report
from trine_operator.store import Store
from trine_verifier.store import VerifierStore

T = TypeVar("T")
POLL_SECONDS = 2.0
IDLE_SECONDS = 10.0
IDLE_SHARE = 0.2
"""Of a core, while there is nothing to do: an idle operator needs a tenth of that on a machine with other work."""
SHOWN = 12
PENALTIES = (
    ("Batches", "VerifierPenalized", "verifier"),
    ("Finality", "WrongVotePenalized", "verifier"),
    ("Staking", "Slashed", "operator"),
)
"""Events that tell of a loss, each with the argument that names who lost."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """`faults` is empty where it holds; `checked` says of how many things."""

    name: str
    checked: int
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of the answers that clients hold: those that are accepted for good, and of the others why not."""

    accepted: int
    others: Mapping[bytes, str]


def await_end(net: Devnet, traffic: Traffic, injector: Injector, report: Report, patience_seconds: float) -> Verdicts:
    """Waits until every operator is ready, every answer that a client holds accepted for good, every batch final.

    Or until nothing has changed for so many seconds: then the rest is as it is.
    """
    pending = {held.answer.digest: held for held in traffic.held}
    states: dict[bytes, str] = {}
    seen, moved = None, time.monotonic()
    chain = net.chain()
    clients = {name: traffic.client(name) for name in traffic.accounts}
    try:
        while time.monotonic() - moved < patience_seconds:
            injector.supervise()
            injector.note_ready()
            for digest, held in list(pending.items()):
                states[digest] = _state_of(clients[held.client], held)
                if states[digest] == "accept":
                    del pending[digest], states[digest]
            batches = Counter(batch.state.name.lower() for batch in _tried(partial(anchored, chain), []))
            waiting = {name: state for name in net.operators if (state := net.state_of(name)) is not None}
            now = {**waiting, "answers": f"{len(pending)} of {len(traffic.held)} open", "batches": str(dict(batches))}
            if not pending and not waiting and set(batches) == {"final"} and not _open_in_stores(net):
                break
            if now != seen:
                seen, moved = now, time.monotonic()
            report.progress("answers, batches and operators", now)
            time.sleep(POLL_SECONDS)
    finally:
        report.end_progress()
        for client in clients.values():
            client.close()
    return Verdicts(len(traffic.held) - len(pending), states)


def judge(
    net: Devnet, traffic: Traffic, verdicts: Verdicts, sent: Iterable[bytes], injected: Sequence[Injected]
) -> list[Invariant]:
    """All of them. Raises TrineError when the chain cannot be read."""
    chain = net.chain()
    return [
        Invariant("no accepted answer lost", len(traffic.held), tuple(_lost(verdicts))),
        _no_honest_slash(net, chain, injected),
        _no_double_vote(chain, sent),
        _every_batch_settles(net, chain),
        _earned_fees_are_collected(net, traffic, chain),
        _clients_are_told(traffic),
        _up_and_idle(net),
    ]


def anchored(chain: Chain) -> list[Batch]:
    """Every batch that was anchored, as it stands now."""
    ids = dict.fromkeys(bytes(event.args["batchId"]) for event in chain.events("Batches", "BatchAnchored"))
    return [chain.batch(name) for name in ids]


def _state_of(client: Client, held: Held) -> str:
    """'accept' if that is final, else why not."""
    try:
        return client.certify(held.answer, final=True, timeout=0.0).result
    except NotReady:
        return "not final"
    except TrineError as error:
        return f"{type(error).__name__}: {error}"


def _lost(verdicts: Verdicts) -> list[str]:
    return [f"answer 0x{digest.hex()[:12]}: {state}" for digest, state in verdicts.others.items()]


def _no_honest_slash(net: Devnet, chain: Chain, injected: Sequence[Injected]) -> Invariant:
    names = {str(running.account.address): name for name, running in net.operators.items()}
    faults = []
    for contract, kind, who in PENALTIES:
        for event in chain.events(contract, kind):
            name = names.get(event.args[who], event.args[who])
            faults.append(f"{name}: {kind} {_amount_of(event)}{_before(name, event, chain, injected)}")
    return Invariant("no honest slash", len(names), tuple(faults))


def _amount_of(event: Event) -> str:
    args = event.args
    batch = bytes(args["cause"] if "cause" in args else args["batchId"]).hex()[:12]
    reason = f" (reason {args['reason']})" if "reason" in args else ""
    return f"{int(args['taken'] if 'taken' in args else args['amount']) / TOKEN:g} tokens for 0x{batch}{reason}"


def _before(name: str, event: Event, chain: Chain, injected: Sequence[Injected]) -> str:
    """What had happened to the operator, for who looks for the cause."""
    at = chain.block_timestamp(event.block)
    mine = [each for each in injected if each.injection.target in (name, CHAIN)]
    told = [f"{each.injection.at:.0f} s {name_of(each.injection.fault)}" for each in mine]
    return f", in block {event.block} at {at}; it and the chain had {'; '.join(told[:SHOWN])}" if told else ""


def _no_double_vote(chain: Chain, sent: Iterable[bytes]) -> Invariant:
    redraws = Counter(bytes(event.args["batchId"]) for event in chain.events("Batches", "CommitteeRedrawn"))
    said = said_by_seat(sent, chain.deployment.chain_id, chain.deployment.address("Batches"))
    return Invariant("no double vote", len(said), tuple(said_twice(said, redraws)))


def _every_batch_settles(net: Devnet, chain: Chain) -> Invariant:
    batches = anchored(chain)
    faults = [
        f"batch 0x{batch.batch_id.hex()[:12]}: {batch.progress}" for batch in batches if batch.state != BatchState.FINAL
    ]
    return Invariant("every batch settles, and is final", len(batches), (*faults, *_open_in_stores(net)))


def _open_in_stores(net: Devnet) -> list[str]:
    """Batches and seats that operators still hold to be open."""
    return [fault for name in net.operators for fault in _tried(partial(_open_in_store, net, name), [])]


def _open_in_store(net: Devnet, name: str) -> list[str]:
    found = []
    is_verifier = net.operators[name].member.role is Role.VERIFIER
    store = (VerifierStore if is_verifier else Store)(str(net.settings_of(name)["store_url"]))
    try:
        for batch in (*store.open_batches(), *store.settled_batches()):
            found.append(f"{name}'s store: batch 0x{batch.batch_id.hex()[:12]} is {batch.state}")
        if isinstance(store, VerifierStore):
            for batch_id, round_ in store.duties():
                found.append(f"{name}'s store: its seat on batch 0x{batch_id.hex()[:12]}, round {round_}, is open")
    finally:
        store.close()
    return found


def _earned_fees_are_collected(net: Devnet, traffic: Traffic, chain: Chain) -> Invariant:
    """Each client has paid for at least what it holds, and for exactly what the node's books say was accepted."""
    faults = []
    (node,) = (name for name, running in net.operators.items() if running.member.role is Role.NODE)
    store = Store(str(net.settings_of(node)["store_url"]))
    try:
        for name, account in traffic.accounts.items():
            fees = sum(held.answer.receipt.fee_wei for held in traffic.held if held.client == name)
            earned = store.earned(account.address)
            collected = chain.account(account.address, str(net.operators[node].account.address)).collected
            if collected != earned or earned < fees:
                faults.append(f"{name}: holds answers for {fees} wei; accepted by the books {earned}, paid {collected}")
    finally:
        store.close()
    return Invariant("what is accepted is paid for, once", len(traffic.accounts), tuple(faults))


def _clients_are_told(traffic: Traffic) -> Invariant:
    unforeseen = Counter(failed.error for failed in traffic.failed if not failed.is_foreseen)
    return Invariant(
        "clients get Trine's errors and no others",
        len(traffic.failed),
        tuple(f"{count} times {error}" for error, count in unforeseen.items()),
    )


def _up_and_idle(net: Devnet) -> Invariant:
    faults = [f"{name}: {state}" for name in net.operators if (state := net.state_of(name)) is not None]
    before = _cpu_seconds(net)
    time.sleep(IDLE_SECONDS)
    for name, used in _cpu_seconds(net).items():
        share = (used - before.get(name, 0.0)) / IDLE_SECONDS
        if share > IDLE_SHARE:
            faults.append(f"{name}: used {share:.0%} of a core with nothing to do")
    return Invariant("every process is up and idle", len(net.operators), tuple(faults))


def _cpu_seconds(net: Devnet) -> dict[str, float]:
    used = {}
    for name, running in net.operators.items():
        try:
            times = psutil.Process(running.child.pid).cpu_times()
        except psutil.Error:
            continue
        used[name] = float(times.user + times.system)
    return used


def _tried(ask: Callable[[], list[T]], otherwise: list[T]) -> list[T]:
    """A chain or store that cannot be read just now is asked again at the next look."""
    try:
        return ask()
    except TrineError:
        return otherwise
