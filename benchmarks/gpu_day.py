"""Everything that is to be measured on a GPU, in a quarter of an hour: `make gpu`; docs/gpu-day.md has the whole plan.

    python benchmarks/gpu_day.py answer                       here: CPUs' answers anew, for another model or prompts
    python benchmarks/gpu_day.py pack --out build/carried     here: the model in pieces, for a machine without network
    python benchmarks/gpu_day.py compile                      here: the kernels, by the versions that are there
    python benchmarks/gpu_day.py join build/carried           there: the model again, checked
    python benchmarks/gpu_day.py run --device cuda            there: all stages
    python benchmarks/gpu_day.py show build/gpu-day           anywhere: what was found

A stage is a process with a bound in seconds, and a file of its own. `run` again goes on where it was cut off: what is
done stays, what was never begun comes before what was cut off. Exit code 0 means that every stage is done and that no
bit differed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import signal
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_stage import Day

DEFAULT_MODEL = "smollm2-135m-instruct"
CLOSING_SECONDS = 5
"""Left at the end for the summary and the bundle."""
LEAST_SECONDS = 15
"""A stage is not begun with less."""
POLL_SECONDS = 0.05
PIECE_BYTES = (52 << 20, 64 << 20)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """`work` takes the day and a function that writes what is found so far, and returns all that was found."""

    name: str
    seconds: float
    work: Callable[[Any, Callable[[Mapping[str, Any]], None]], dict[str, Any]]


def stages() -> list[Stage]:
    """The most important first. Imports torch and transformers, which every stage then has: they are forked."""
    import gpu_bits
    import gpu_speed

    return [
        Stage("shapes", 60, gpu_bits.shapes),
        Stage("promise-bf16", 150, partial(gpu_bits.promise, "bf16")),
        Stage("answers", 150, gpu_bits.answers),
        Stage("speed-7b", 100, partial(gpu_speed.speed, "random-7b", "bf16")),
        Stage("speed-real", 80, partial(gpu_speed.speed, "real", "bf16")),
        Stage("profile", 70, gpu_speed.profile),
        Stage("promise-fp16", 60, partial(gpu_bits.promise, "fp16")),
        Stage("promise-fp32", 60, partial(gpu_bits.promise, "fp32")),
        Stage("at-once", 50, gpu_speed.at_once),
        Stage("speed-1b", 60, partial(gpu_speed.speed, "random-1b", "bf16")),
    ]


def run(todo: Sequence[Stage], day: Day, total_seconds: float, bundle: Path | None = None) -> bool:
    """Runs what is not done yet; whether all of it is done in the end and no bit differs."""
    deadline = time.monotonic() + total_seconds
    day.out.mkdir(parents=True, exist_ok=True)
    before = {stage.name: _read(day.out, stage.name) for stage in todo}
    waiting = [stage for stage in todo if before[stage.name].get("state") != "done"]
    for stage in sorted(waiting, key=lambda stage: int(before[stage.name].get("begun", 0))):
        left = deadline - time.monotonic() - CLOSING_SECONDS
        bound = min(stage.seconds, left)
        if bound < min(LEAST_SECONDS, stage.seconds):
            print(f"{stage.name}: not begun, {max(left, 0):.0f} s are left", flush=True)
            continue
        begun = int(before[stage.name].get("begun", 0)) + 1
        print(f"{stage.name}: at most {bound:.0f} s", flush=True)
        state = _bounded(stage, day, bound, begun)
        print(f"{stage.name}: {state}", flush=True)
        _bundle(day.out, bundle)
    found = {stage.name: _read(day.out, stage.name) for stage in todo}
    for line in summary(found):
        print(line, flush=True)
    (day.out / "summary.txt").write_text("\n".join(summary(found)) + "\n", "utf-8")
    _bundle(day.out, bundle)
    return _is_complete(found)


def _is_complete(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Every stage is done, no bit differed, and what was carried could be judged."""
    refused = any(each.get("found", {}).get("refused") for each in found.values())
    return all(each.get("state") == "done" for each in found.values()) and not differences(found) and not refused


def _bounded(stage: Stage, day: Day, bound: float, begun: int) -> str:
    """One stage in a process group of its own, which is killed when its time is over. Returns its state."""
    _write(day.out, stage.name, {"state": "running", "begun": begun, "found": {}})
    started = time.monotonic()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _in_child(stage, replace(day, until=started + bound), begun, parent)
            code = 0
        finally:
            os._exit(code)
    status: int | None = None
    while status is None and time.monotonic() < started + bound:
        done, ended = os.waitpid(child, os.WNOHANG)
        status = ended if done else None
        time.sleep(POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has started goes with it, also when it has ended by itself
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    left = _read(day.out, stage.name)
    left["seconds"] = round(time.monotonic() - started, 1)
    if status is None:
        left["state"] = "cut off"
    elif left.get("state") == "running":
        code = os.waitstatus_to_exitcode(status)
        left |= {"state": "failed", "error": f"the process ended with {code}; see {stage.name}.log"}
    _write(day.out, stage.name, left)
    return str(left["state"]) + (f": {str(left['error']).splitlines()[-1]}" if left.get("error") else "")


def _in_child(stage: Stage, day: Day, begun: int, parent: int) -> None:
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # who started it was gone before it could ask to go with it
    log = os.open(day.out / f"{stage.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def keep(found: Mapping[str, Any]) -> None:
        _write(day.out, stage.name, {"state": "running", "begun": begun, "found": dict(found)})

    try:
        found = stage.work(day, keep)
    except BaseException as error:  # noqa: BLE001 - written down, whatever it is
        traceback.print_exc()
        sys.stderr.flush()
        left = _read(day.out, stage.name)
        text = f"{type(error).__name__}: {str(error)[-2000:]}"
        _write(day.out, stage.name, left | {"state": "failed", "error": text})
    else:
        _write(day.out, stage.name, {"state": "done", "begun": begun, "found": dict(found)})


def differences(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Everything that should have had the same bits and had not."""
    result = []
    for name, stage in found.items():
        of = stage.get("found", {})
        result += [f"{name}: {each}" for each in of.get("different", [])]
        result += [f"{name}: {each['what']}" for each in of.get("findings", []) if not each["same"]]
        if of.get("same", 0) < of.get("prompts", 0):
            result.append(f"{name}: {of['prompts'] - of['same']} of {of['prompts']} prompts alone and together")
    return result


def summary(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is asked of the day beside what was found."""
    lines = [
        f"{name:<14}{each.get('state', 'not begun'):<10}{each.get('seconds', 0):>7} s" for name, each in found.items()
    ]
    for name, stage in found.items():
        of = stage.get("found", {})
        if "prompts" in of:
            lines.append(f"{name}: {of['same']} of {of['prompts']} prompts the same alone and together; asked: 1000")
        if "compared" in of:
            lines.append(f"{name}: {len(of['different'])} of {of['compared']} comparisons differ; asked: 0")
        if of.get("refused"):
            lines.append(f"{name}: NOT JUDGED: {of['refused']}")
        if "leaves" in of:
            lines.append(f"{name}: {of['leaves']} leaves of {len(of['provers'])} provers in {of['file']}")
        if of.get("decode_1") and name.startswith("speed"):
            lines += _speeds(name, of)
    return lines + [f"DIFFERENT BITS: {each}" for each in differences(found)[:20]]


def _speeds(name: str, of: Mapping[str, Any]) -> list[str]:
    lines = [f"{name}: {of['decode_1']:.1f} tokens/s alone"]
    if "bandwidth_share" in of:
        asked = "; asked of 7B: 60 %" if "7b" in name else ""
        lines.append(f"{name}: {of['bandwidth_share']:.0%} of the bandwidth of a copy{asked}")
        checks = ", ".join(f"{n} at once {times:.1f}" for n, times in of["check_over_decode"].items())
        lines.append(f"{name}: checking over decoding: {checks}; asked: 50")
    for other, asked in (("unpromised", 0.9), ("transformers", 2)):
        if of.get(f"{other}_1"):
            lines.append(f"{name}: {of['decode_1'] / of[f'{other}_1']:.2f} times {other}; asked: {asked}")
    return lines


def conditions(day: Day) -> dict[str, Any]:
    """What every figure depends on."""
    import torch
    import transformers

    try:
        import triton
    except ImportError:
        version = "none"
    else:
        version = triton.__version__
    return {
        "model": day.model,
        "device": day.device,
        "reduced": day.reduced,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "triton": version,
        "cores": os.cpu_count(),
        "begun": int(time.time()),
    }


def gpu_name() -> str | None:
    """Name and compute capability of the GPU, None where torch finds none.

    Asked in a process of its own: once a process has asked, those that it forks may not use the GPU.
    """
    import torch

    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if torch.cuda.is_available():
                capability = ".".join(map(str, torch.cuda.get_device_capability()))
                os.write(into, f"{torch.cuda.get_device_name()}, {capability}".encode())
        finally:
            os._exit(0)
    os.close(into)
    with open(out, encoding="utf-8") as answer:
        name = answer.read()
    os.waitpid(child, 0)
    return name or None


def _read(out: Path, name: str) -> dict[str, Any]:
    """What the stage's file says; nothing where there is none, or none that is whole."""
    try:
        document = json.loads((out / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _write(out: Path, name: str, document: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    incoming = out / f"{name}.incoming"
    incoming.write_text(json.dumps({"stage": name, **document}, indent=1) + "\n", "utf-8")
    incoming.replace(out / f"{name}.json")


def _bundle(out: Path, bundle: Path | None) -> None:
    """Everything in one file: some machines bring few files back."""
    if bundle is None:
        return
    incoming = bundle.with_name(f"{bundle.name}.incoming")
    with tarfile.open(incoming, "w:gz") as archive:
        for path in sorted(out.iterdir()):
            if path.is_file() and path.suffix != ".incoming":
                archive.add(path, path.name)
    incoming.replace(bundle)


def answer(given: argparse.Namespace) -> bool:
    import gpu_answers

    out = given.out or gpu_answers.FILE
    gpu_answers.make(given.model, out, given.threads, partial(print, flush=True), given.prompts, given.tokens)
    print(f"{out}: {out.stat().st_size} bytes")
    return True


def pack(given: argparse.Namespace) -> bool:
    from gpu_carrying import pack as packed

    from trine_node.engines.cli import folder_of

    if given.model == DEFAULT_MODEL:
        import gpu_answers

        gpu_answers.check(gpu_answers.FILE, given.model)
    for path in packed(folder_of(given.model), given.out, given.piece_bytes):
        print(f"{path}: {path.stat().st_size} bytes")
    return True


def join(given: argparse.Namespace) -> bool:
    from gpu_carrying import join as joined

    from trine.models import load_record
    from trine.protocol.manifest import Manifest
    from trine_node.models import verify_once
    from trine_node.models.preparation import place_of

    record = load_record(given.model)
    folder = joined(given.folder, place_of(record.source))
    verify_once(folder, Manifest.from_bytes(record.manifest))
    print(f"{given.model}: every file as registered, in {folder}")
    import gpu_compiling

    if (archive := given.folder / gpu_compiling.FILE).exists():
        kernels = given.folder / "kernels"
        print(f"{gpu_compiling.unpack(archive, kernels)} files of compiled kernels in {kernels}")
    return True


def compile_kernels(given: argparse.Namespace) -> bool:
    import gpu_compiling

    kernels = gpu_compiling.make(given.out, given.capability)
    print(f"{given.out}: {kernels} kernels for compute capability {given.capability / 10}")
    return kernels > 0


def run_command(given: argparse.Namespace) -> bool:
    if given.kernels:
        os.environ["TRITON_CACHE_DIR"] = str(given.kernels.resolve())  # before Triton is imported
    name = gpu_name() if given.device.startswith("cuda") else "none"
    if name is None:
        sys.exit(
            "error: torch finds no GPU here, so nothing was begun; the rehearsal on a CPU is "
            "`make gpu GPU_ARGS='--device cpu --reduced'`, and docs/gpu-day.md says how a machine with one is used"
        )
    todo = stages()
    from gpu_stage import Day

    if given.only:
        known = {stage.name: stage for stage in todo}
        if unknown := set(given.only) - set(known):
            sys.exit(f"error: no stage {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
        todo = [stage for stage in todo if stage.name in given.only]
    if given.reduced:  # a rehearsal is no measurement: the machine may be busy
        todo = [replace(stage, seconds=stage.seconds * 10) for stage in todo]
    from gpu_answers import FILE

    answers = given.answers or (FILE if given.model == DEFAULT_MODEL else None)
    day = Day(given.device, given.model, given.out, answers, given.reduced, given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    _write(given.out, "conditions", conditions(day) | {"gpu": name})
    return run(todo, day, given.seconds, given.bundle)


def show(given: argparse.Namespace) -> bool:
    names = [path.stem for path in sorted(given.folder.glob("*.json")) if path.stem != "conditions"]
    found = {name: _read(given.folder, name) for name in names}
    print("\n".join(summary(found)))
    return bool(found) and _is_complete(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    answering = commands.add_parser("answer", help="answers of this CPU to the policy's prompts, for a GPU to judge")
    answering.add_argument("--model", default=DEFAULT_MODEL)
    answering.add_argument("--out", type=Path, help="benchmarks/data/cpu-answers.json.gz by default")
    answering.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    answering.add_argument("--prompts", type=int, default=112)
    answering.add_argument("--tokens", type=int, default=68)
    answering.set_defaults(command=answer)
    packing = commands.add_parser("pack", help="the prepared model in pieces")
    packing.add_argument("--model", default=DEFAULT_MODEL)
    packing.add_argument("--out", type=Path, default=Path("build/carried"))
    packing.add_argument("--piece-bytes", type=int, nargs="+", default=list(PIECE_BYTES), help="of each, at most")
    packing.set_defaults(command=pack)
    compiling = commands.add_parser("compile", help="the kernels for a GPU that is not here")
    compiling.add_argument("--out", type=Path, default=Path("build/carried/kernels.tar.gz"))
    compiling.add_argument("--capability", type=int, default=90, help="90 is Hopper: H100, H200")
    compiling.set_defaults(command=compile_kernels)
    joining = commands.add_parser("join", help="the prepared model again, where Trine looks for it")
    joining.add_argument("folder", type=Path)
    joining.add_argument("--model", default=DEFAULT_MODEL, help="name of a shipped record")
    joining.set_defaults(command=join)
    running = commands.add_parser("run", help="all stages that are not done yet")
    running.add_argument("--device", default="cuda")
    running.add_argument("--model", default=DEFAULT_MODEL)
    running.add_argument("--out", type=Path, default=Path("build/gpu-day"))
    running.add_argument("--bundle", type=Path, help="a .tar.gz of all that is in --out, after every stage")
    running.add_argument("--answers", type=Path, help="CPUs' answers to judge, instead of the checkout's")
    running.add_argument("--kernels", type=Path, help="where compiled kernels are, and where new ones are kept")
    running.add_argument("--seconds", type=float, default=560.0, help="for everything together")
    running.add_argument("--only", nargs="+", help="names of stages")
    running.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    running.add_argument("--reduced", action="store_true", help="the rehearsal, on next to nothing: also on a CPU")
    running.set_defaults(command=run_command)
    showing = commands.add_parser("show", help="the summary of a folder of results")
    showing.add_argument("folder", type=Path)
    showing.set_defaults(command=show)
    given = parser.parse_args(arguments)
    from trine.errors import TrineError

    try:
        return 0 if given.command(given) else 1
    except TrineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
