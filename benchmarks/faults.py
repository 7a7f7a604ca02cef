"""A devnet under faults: what was injected, and what came of it. Real processes, a real model, a real chain.

    python benchmarks/faults.py                                  # five minutes of everything
    python benchmarks/faults.py --minutes 60 --kills 200         # a long run
    python benchmarks/faults.py --only kill,reorg --seed 7       # some faults, another schedule
    python benchmarks/faults.py --only endpoint --fault garbage  # one way in which an RPC endpoint can be faulty

Clients ask a node all the while. Processes are killed at random instants and started again, as a supervisor would; the
chain is killed and comes back older; its last blocks are replaced; RPC endpoints are silent, late and faulty; a store's
disk is full; a clock is off; an operator runs twice. In the end, chain, stores and all that operators have ever sent
are read, and what must hold is checked. Exit code 1 if anything does not.

The schedule follows from the seed alone; what the faults meet does not. Committees have long windows here, so that an
outage of a minute is no fault by the protocol's own rules: whoever is away longer than a window is penalised, and must
be. Draws have 256 blocks, four times a devnet's: it mines one for each transaction, too, and 64 of them are over in
half a minute. `--only twin` shows an operator's own mistake: whatever it costs is shown as a slash, and is the
operator's.

`--postgres URL` puts a verifier's store there, into an empty database; `--postgres-restart COMMAND` is what starts that
server anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trine.chain import Role
from trine.errors import InvalidInput, NotReady, TrineError
from trine_devnet.faults.disk import SmallDisk
from trine_devnet.faults.endpoint_faults import FAULTS
from trine_devnet.faults.injecting import Gear, Injected, Injector
from trine_devnet.faults.invariants import Invariant, Verdicts, await_end, judge
from trine_devnet.faults.plan import KINDS, Endpoint, Injection, Targets, counts, kind_of, name_of, plan
from trine_devnet.faults.proxy import RpcProxy
from trine_devnet.faults.traffic import Traffic
from trine_devnet.network import Devnet, Member
from trine_devnet.reporting import Report
from trine_devnet.toolchain import anvil

PARAMETERS: dict[str, int | str] = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "epochBlocks": 256,
    "commitSeconds": 180,
    "revealSeconds": 150,
    "appealWindowSeconds": 20,
}
PATIENCE_SECONDS = 360.0
"""A seat that nobody takes holds a batch up for both windows; what has not moved for longer will not."""
NODE = "node"
WIDTH = 150
REMARKS = 90
DISK_BYTES = 24 << 20
FIRST_ANSWERS = 2
"""So many a client before anything goes wrong: deposits are made, and deep enough in the chain."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run was told."""

    seed: int
    minutes: float
    kills: int | None
    only: tuple[str, ...]
    fault: str | None
    verifiers: int
    clients: int
    max_tokens: int
    pause_seconds: float
    patience_seconds: float
    postgres: str | None
    postgres_restart: tuple[str, ...]


def main() -> None:
    options, json_file, keep = options_of(sys.argv[1:])
    console = Console(width=WIDTH)
    conditions = conditions_of(options)
    for name, value in conditions.items():
        say(console, f"{name}: {value}")
    report = Report(lambda line: say(console, line))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes and mounts are cleaned up all the same
    folder = Path(tempfile.mkdtemp(prefix="trine-faults-"))
    try:
        injector, traffic, verdicts, invariants = run(folder, options, report)
    except TrineError as error:
        sys.exit(f"no result: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: no result")
    finally:
        if keep:
            console.print(f"stores and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    show(console, injector, traffic, verdicts, invariants)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(as_json(conditions, injector, traffic, invariants), indent=2) + "\n")
    sys.exit(0 if all(invariant.holds for invariant in invariants) else 1)


def run(folder: Path, options: Options, report: Report) -> tuple[Injector, Traffic, Verdicts, list[Invariant]]:
    """Raises InvalidInput before anything is started, NotReady when the network does not come up."""
    verifiers = tuple(f"verifier-{number + 1}" for number in range(options.verifiers))
    names = (NODE, *verifiers)
    with_database = verifiers[-1:] if options.postgres else ()
    with ExitStack() as stack:
        disks = small_disks(folder, names[:2], stack, report)
        targets = Targets(names, tuple(disks), with_database if options.postgres_restart else ())
        injections = planned(options, targets)
        report.say(f"{len(injections)} faults planned over {options.minutes:g} minutes")
        net = stack.enter_context(Devnet(folder / "home", report))
        net.start_chain(PARAMETERS)
        proxies = {name: stack.enter_context(RpcProxy(net.rpc_url)) for name in names}
        stack.callback(net.stop)  # before its endpoints: operators finish what they owe
        settings: dict[str, dict[str, Any]] = {name: {"rpc_url": proxies[name].url} for name in names}
        for name, disk in disks.items():
            settings[name]["store_url"] = f"sqlite:///{disk.folder}/{name}.sqlite"
        for name in with_database:
            settings[name]["store_url"] = options.postgres
        settings[NODE]["batch_max_wait_seconds"] = 3.0
        net.add([Member(name, Role.VERIFIER, options=settings[name]) for name in verifiers])
        net.add([Member(NODE, Role.NODE, options=settings[NODE])])
        net.wait_ready()
        traffic = Traffic(net, NODE, options.clients, options.max_tokens, options.pause_seconds)
        injector = Injector(net, Gear(proxies, disks, options.postgres_restart), report, options.seed)
        with traffic:
            traffic.wait_for(FIRST_ANSWERS * options.clients)
            injector.run(injections, 60 * options.minutes)
        report.say(f"all faults are over; {len(traffic.held)} answers are held, {len(traffic.failed)} orders failed")
        verdicts = await_end(net, traffic, injector, report, options.patience_seconds)
        sent = [raw for proxy in proxies.values() for raw in proxy.sent]
        return injector, traffic, verdicts, judge(net, traffic, verdicts, sent, injector.injected)


def planned(options: Options, targets: Targets) -> tuple[Injection, ...]:
    wanted = counts(options.minutes, options.kills, options.only, targets)
    injections = plan(options.seed, options.minutes, wanted, targets)
    if options.fault is None:
        return injections
    chosen = Endpoint(FAULTS[options.fault], options.fault)
    return tuple(replace(each, fault=chosen) if kind_of(each.fault) == "endpoint" else each for each in injections)


def small_disks(folder: Path, names: Sequence[str], stack: ExitStack, report: Report) -> dict[str, SmallDisk]:
    """None where none can be mounted, which is said."""
    disks: dict[str, SmallDisk] = {}
    for name in names:
        try:
            disks[name] = stack.enter_context(SmallDisk(folder / f"disk-{name}", DISK_BYTES))
        except (NotReady, OSError, subprocess.SubprocessError) as error:
            report.say(f"no full disks in this run: {error}")
            return disks
    return disks


def options_of(arguments: Sequence[str]) -> tuple[Options, Path | None, bool]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0, help="during which faults are injected")
    parser.add_argument("--kills", type=int, help="of operators and chain; default: two operators a minute")
    parser.add_argument("--only", default="", help=f"these faults: {', '.join(KINDS)}")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="the one way in which endpoints are faulty")
    parser.add_argument("--verifiers", type=int, default=4, help="four or more: nobody judges himself")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=8)
    parser.add_argument("--pause", type=float, default=2.0, help="of a client after an answer, in seconds")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_SECONDS, help="in the end, with what does not move, in seconds"
    )
    parser.add_argument("--postgres", help="SQLAlchemy URL for the last verifier's store")
    parser.add_argument("--postgres-restart", default="", help="command that starts its server anew")
    parser.add_argument("--json", type=Path, help="also write everything into this file")
    parser.add_argument("--keep", action="store_true", help="leave stores and logs")
    given = parser.parse_args(arguments)
    if given.minutes <= 0 or given.verifiers < 4 or given.clients < 1 or (given.kills or 0) < 0:
        parser.error("minutes and clients must be positive, verifiers at least four, kills no less than zero")
    options = Options(
        seed=given.seed,
        minutes=given.minutes,
        kills=given.kills,
        only=tuple(name for name in given.only.split(",") if name),
        fault=given.fault,
        verifiers=given.verifiers,
        clients=given.clients,
        max_tokens=given.max_tokens,
        pause_seconds=given.pause,
        patience_seconds=given.patience,
        postgres=given.postgres,
        postgres_restart=tuple(shlex.split(given.postgres_restart)),
    )
    try:
        # What needs no network is said before one is started.
        planned(options, Targets((NODE, *(str(number) for number in range(given.verifiers))), (NODE,), (NODE,)))
    except InvalidInput as error:
        parser.error(str(error))
    return options, given.json, given.keep


def conditions_of(options: Options) -> dict[str, Any]:
    version = subprocess.run([anvil(), "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    told = {name: value for name, value in asdict(options).items() if name != "postgres"}  # may hold a password
    return {
        "options": {**told, "postgres": bool(options.postgres)},
        "parameters": PARAMETERS,
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}",
        "versions": f"Python {platform.python_version()}, {version.splitlines()[0]}",
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def show(
    console: Console, injector: Injector, traffic: Traffic, verdicts: Verdicts, invariants: Sequence[Invariant]
) -> None:
    console.print(table_of(injector.injected))
    held = Table("what must hold", "checked", "broken")
    for invariant in invariants:
        held.add_row(invariant.name, str(invariant.checked), str(len(invariant.faults)) if invariant.faults else "no")
    console.print(held)
    console.print(
        f"{len(traffic.held)} answers held, {verdicts.accepted} accepted for good; {len(traffic.failed)} orders failed"
    )
    for error, count in traffic.errors.most_common():
        say(console, f"  {count:4} x {error}")
    for crash in injector.crashes:
        say(console, f"  {crash.name} ended by itself at {crash.at:.0f} s: {crash.last_words}")
    for invariant in invariants:
        for fault in invariant.faults:
            say(console, f"BROKEN: {invariant.name}: {fault}", style="red")


def say(console: Console, line: str, style: str | None = None) -> None:
    """As it is: nobody's error is markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)


def table_of(injected: Sequence[Injected]) -> Table:
    table = Table("injected", "target", "count", "ready again after, s", "never ready", "remarks")
    groups: dict[tuple[str, str], list[Injected]] = defaultdict(list)
    for each in injected:
        role = each.injection.target.partition("-")[0]
        groups[name_of(each.injection.fault), role].append(each)
    for (name, role), group in sorted(groups.items()):
        took = [each.recovery_seconds for each in group if each.recovery_seconds is not None]
        said = f"{statistics.median(took):.1f} (at most {max(took):.1f})" if took else ""
        remarks = "; ".join(dict.fromkeys(each.said for each in group if each.said))
        table.add_row(name, role, str(len(group)), said, str(len(group) - len(took)), remarks[:REMARKS])
    return table


def as_json(
    conditions: dict[str, Any], injector: Injector, traffic: Traffic, invariants: Sequence[Invariant]
) -> dict[str, Any]:
    return {
        "conditions": conditions,
        "injected": [
            {
                "fault": name_of(each.injection.fault),
                "kind": kind_of(each.injection.fault),
                "target": each.injection.target,
                "plannedAt": each.injection.at,
                "seconds": each.injection.seconds,
                "began": each.began,
                "ended": each.ended,
                "recoverySeconds": each.recovery_seconds,
                "said": each.said,
            }
            for each in injector.injected
        ],
        "crashes": [asdict(crash) for crash in injector.crashes],
        "answers": len(traffic.held),
        "errors": dict(traffic.errors),
        "invariants": [
            {"name": invariant.name, "checked": invariant.checked, "broken": list(invariant.faults)}
            for invariant in invariants
        ],
    }


if __name__ == "__main__":
    main()
