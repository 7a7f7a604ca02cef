"""Fills the environment that runs it: `install.py uv`, `node` (that and Node.js), then `runtime` (`make demo`), `ready`
(everything) or `operator` (an image).

Everything comes as wheels, with exact versions and hashes from deploy/requirements; what is there is left alone.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "deploy" / "requirements"
# What is installed, and how much it is to download (without torch).
LOCK_OF = {
    "runtime": ("runtime.txt", "140 MB"),
    "ready": ("development.txt", "540 MB"),
    "operator": ("operator.txt", "140 MB"),
}
FOLDERS = ("client_sdk", "operators", "gateway", "node", "verifier", "deploy")
UV = Path(sys.executable).with_name("uv")

# What pip is told (a company's index, a certificate, wheels on disk), under the name that uv reads it by.
FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}
NO_NETWORK = r"dns error|error sending request|timed out|[Cc]onnection (refused|reset)|ConnectionError|Retrying"
NO_TRUST = r"[Cc]ertificate|CERTIFICATE_VERIFY_FAILED|UnknownIssuer"
REMEDIES = (
    (
        "No space left on device",
        "the disk is full: free some space (2 GB for the demo, 4 GB for the tests), then try again",
    ),
    (
        NO_TRUST,
        "the index's certificate is not trusted; if a company's proxy is in between, name its certificate: "
        "pip config set global.cert <file>",
    ),
    (
        NO_NETWORK,
        "no package index can be reached: check the network, or name a mirror in pip's configuration "
        "(pip config set global.index-url …)",
    ),
    (r"[Hh]ash mismatch|do not match", "a download is not the file that the lock names: check the mirror it came from"),
    (
        r"[Nn]o (matching distribution|wheels|.*compatible wheels)|No solution found|no version of",
        "the index lacks a pinned package for this Python and machine (Linux x86-64, Python 3.11 to 3.14)",
    ),
    ("Permission denied", "the environment cannot be written to: check who owns it"),
)


class SetupFailed(Exception):
    """Its text is what a person reads."""


@dataclass(frozen=True)
class Torch:
    """A build of torch, and where uv shall look for it."""

    title: str
    lock: str
    options: tuple[str, ...] = ()


def main() -> None:
    (what,) = sys.argv[1:]
    started = time.monotonic()
    bootstrap_uv()
    if what == "node":
        print("==> Node.js from PyPI: the machine's is missing or too old (70 MB)", flush=True)
        install("-r", str(LOCKS / "node.txt"))
    if what not in LOCK_OF:
        return
    torch = choose_torch()
    lock, size = LOCK_OF[what]
    locks = [lock]
    count = len(re.findall(r"^\S+==", (LOCKS / lock).read_text(), re.MULTILINE))
    titles = [f"{count} (at most {size})"]
    if torch:
        locks.append(torch.lock)
        titles.append(torch.title)
    print(f"==> Python packages: {', '.join(titles)}", flush=True)
    install(*(part for name in locks for part in ("-r", str(LOCKS / name))), *(torch.options if torch else ()))
    folders = [str(ROOT / folder) for folder in FOLDERS]
    # An image holds copies and no devnet; a checkout is used where it is.
    own = folders[:-1] if what == "operator" else [part for folder in folders for part in ("-e", folder)]
    run_uv("pip", "install", "--no-deps", "--no-build-isolation", "--no-sources", *own)
    print(f"    Python packages: {time.monotonic() - started:.0f} s", flush=True)


def bootstrap_uv() -> None:
    """uv itself, by pip."""
    lock = LOCKS / "uv.txt"
    pinned = lock.read_text().partition("uv==")[2].split()[0]
    if installed("uv") == pinned:
        return
    print(f"==> uv {pinned}, which installs the rest", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupFailed(explained("uv could not be installed", done.stdout + done.stderr))


def choose_torch() -> Torch | None:
    """Without a GPU the CPU build is enough and gigabytes smaller. None where torch is installed already."""
    version = (LOCKS / "torch-cpu.txt").read_text().partition("torch==")[2].partition("+")[0]
    if (installed("torch") or "").partition("+")[0] == version:
        return None
    gpu_build = Torch(f"torch {version} with its GPU libraries (about 2.5 GB)", "torch-cuda.txt")
    if sys.platform != "linux":
        return Torch(f"torch {version}", "torch-cuda.txt")
    if (
        shutil.which("nvidia-smi")
        and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    ):
        return gpu_build
    index = os.environ.get("TORCH_INDEX")
    cpu_build = f"torch {version}'s CPU build (about 200 MB)"
    if index:
        candidate = Torch(cpu_build, "torch-cpu.txt", ("--index", index))
        if problem := problem_with(candidate):
            raise SetupFailed(
                explained(f"TORCH_INDEX={index} does not give torch {version}+cpu", problem, remedies=False)
            )
        return candidate
    # What is configured, then PyTorch's own index, which uv knows.
    candidates = [Torch(cpu_build, "torch-cpu.txt", options) for options in ((), ("--torch-backend", "cpu"))]
    unreachable = 0
    for candidate in candidates:
        problem = problem_with(candidate)
        if not problem:
            return candidate
        unreachable += re.search(NO_NETWORK, problem) is not None
    if unreachable == len(candidates):
        # Perhaps only slow: asked once more, with all the patience there is.
        if problem := problem_with(candidates[0], hurried=False):
            raise SetupFailed(explained("nothing can be downloaded", problem))
        return candidates[0]
    print(f"    no index within reach has torch {version}'s CPU build; name one to save 2 GB: make … TORCH_INDEX=…")
    return gpu_build


def problem_with(torch: Torch, *, hurried: bool = True) -> str:
    """Empty if this place has what is wanted. Hurried: asked without patience, as the next one may answer at once."""
    command = uv_command("pip", "install", "--dry-run", "--require-hashes", "--no-deps", "--no-build")
    hurry = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "15", "UV_HTTP_CONNECT_TIMEOUT": "5"} if hurried else {}
    done = subprocess.run(
        [*command, "-r", str(LOCKS / torch.lock), *torch.options],
        env=uv_environment() | hurry,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


def install(*arguments: str) -> None:
    run_uv("pip", "install", "--require-hashes", "--no-deps", "--no-build", *arguments)


def run_uv(*arguments: str) -> None:
    """Shows how far it is on a terminal, nothing in a log."""
    last: deque[str] = deque(maxlen=200)
    large: dict[str, str] = {}  # what is being downloaded, and how large it is
    show = sys.stderr.isatty()
    with subprocess.Popen(uv_command(*arguments), env=uv_environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            last.append(line)
            doing = "installing" if line.startswith("Prepared") else "unpacking"
            if found := re.match(r"Downloading (\S+) \((\S+)\)", line):
                large[found[1]] = found[2]
            elif found := re.match(r" Downloaded (\S+)", line):
                large.pop(found[1], None)
            elif doing == "unpacking":
                continue
            if show:
                waiting = ", ".join(f"{name} ({size})" for name, size in large.items())
                text = f"downloading {waiting}" if waiting else doing
                print(
                    f"\r\x1b[K    {text[: shutil.get_terminal_size().columns - 5]}", end="", file=sys.stderr, flush=True
                )
    if show:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if process.returncode != 0:
        raise SetupFailed(explained("packages could not be installed", "".join(last)))


def uv_command(*arguments: str) -> list[str]:
    return [str(UV), *arguments, "--no-progress", "--color", "never", "--python", sys.executable]


def uv_environment() -> dict[str, str]:
    """The machine's, with what pip is told; what uv itself is told goes first."""
    environment = dict(os.environ)
    for name, value in pip_settings().items():
        values = value.split()
        if name in ("extra-index-url", "find-links"):
            values = [place for place in values if exists(place)]
        if values and FROM_PIP[name] not in environment:
            environment[FROM_PIP[name]] = ("," if name == "find-links" else " ").join(values)
    # Where pip looks for certificates as well, and uv does not.
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        environment.setdefault("SSL_CERT_FILE", bundle)
    # pip takes the best of all indexes; uv would stop at the first that knows a package.
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return environment


def pip_settings() -> dict[str, str]:
    """pip's own, of its files and PIP_ variables, as far as they say where packages come from."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = {}
    for section in ("global", "install", ":env:"):  # later ones win
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(.+)$", shown, re.MULTILINE):
            if name in FROM_PIP:
                settings[name] = str(ast.literal_eval(value))
    return settings


def exists(place: str) -> bool:
    path = place.removeprefix("file://")
    return "://" in path or Path(path).expanduser().exists()


def installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def explained(what: str, output: str, *, remedies: bool = True) -> str:
    """One sentence with the remedy, and the installer's own last words."""
    remedy = next((remedy for pattern, remedy in REMEDIES if remedies and re.search(pattern, output)), "")
    words = [line.strip() for line in output.splitlines() if re.match(r"\s*(error|ERROR|cause)", line)]
    said = "".join(
        f"\n    {line}" for line in dict.fromkeys([*words[:1], *words[-1:]] or output.strip().splitlines()[-2:])
    )
    return f"{what}: {remedy}{said}" if remedy else f"{what}:{said}"


if __name__ == "__main__":
    try:
        main()
    except SetupFailed as failed:
        sys.exit(f"error: {failed}")
    except KeyboardInterrupt:
        sys.exit(130)
