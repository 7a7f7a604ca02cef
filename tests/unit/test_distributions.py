"""The distributions as wheels: what is in each, and what each does where nothing else is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup_support import script

from trine.cli.groups import FOLDERS as GROUPS

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "trine": "client_sdk",
    "trine-operator": "operators",
    "trine-gateway": "gateway",
    "trine-node": "node",
    "trine-verifier": "verifier",
    "trine-devnet": "deploy",
}
PACKAGES = {
    "trine": ["trine"],
    "trine-operator": ["trine_operator"],
    "trine-gateway": ["trine_gateway"],
    "trine-node": ["trine_node"],
    "trine-verifier": ["trine_research", "trine_verifier"],
    "trine-devnet": ["trine_devnet"],
}
UV = Path(sys.executable).with_name("uv")
# Halves of other packages, which pin them.
BROUGHT_BY = {"starlette": "fastapi", "pydantic-core": "pydantic", "llvmlite": "numba", "hexbytes": "eth-account"}
# torch's CUDA builds bring it; engines.gpu is imported only where there is one.
OPTIONAL = {"triton"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Built by the hatchling that is installed: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheels")

    def build(name: str) -> Path:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / name)]
        subprocess.run(command, cwd=ROOT / FOLDERS[name], check=True, capture_output=True, timeout=120)
        (wheel,) = (folder / name).glob("*.whl")
        return wheel

    with ThreadPoolExecutor() as pool:
        return dict(zip(FOLDERS, pool.map(build, FOLDERS), strict=True))


def environment(folder: Path) -> Path:
    """A bare one without pip. Returns its Python."""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True, timeout=120)
    return folder / "bin" / "python"


def install(python: Path, *arguments: str | Path) -> None:
    """From uv's cache where it has the packages: set-up has just put them there."""
    command = [UV, "pip", "install", "--quiet", "--python", python, "--no-deps", *arguments]
    as_set_up = script("install").uv_environment()
    done = subprocess.run([*command, "--offline"], env=as_set_up, capture_output=True, timeout=120, check=False)
    if done.returncode:
        subprocess.run(command, env=as_set_up, check=True, timeout=300)


def shown(command: list[str | Path], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRINE"))}
    return subprocess.run(
        command, cwd=folder, env=clean | variables, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_holds_its_package_and_nothing_else(wheels: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(wheels[name]) as wheel:
        held = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}
        (metadata,) = (
            wheel.read(entry).decode() for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA")
        )
        licences = [entry for entry in wheel.namelist() if entry.endswith("/licenses/LICENSE")]
        assert [wheel.read(entry) for entry in licences] == [(ROOT / "LICENSE").read_bytes()]
    folder = ROOT / FOLDERS[name]
    files = [file for package in PACKAGES[name] for file in (folder / package).rglob("*")]
    assert held == {str(f.relative_to(folder)) for f in files if f.is_file() and f.suffix != ".pyc"}
    assert {f"{package}/py.typed" for package in PACKAGES[name]} <= held
    assert "\nLicense-Expression: MIT\n" in metadata


def test_the_sdk_brings_the_contracts_and_the_models_records(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["trine"]) as wheel:
        held = set(wheel.namelist())
    for needed in ("chain/abi/Batches", "chain/bytecode/Batches", "data/models/smollm2-135m-instruct/policy"):
        assert f"trine/{needed}.json" in held


def test_the_sdk_alone_brings_neither_node_nor_verifier_nor_devnet(wheels: dict[str, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, "--require-hashes", "-r", ROOT / "deploy" / "requirements" / "sdk.txt")
    install(python, wheels["trine"])
    find = "from importlib.util import find_spec; print([n for n in {} if find_spec(n)])"
    ours = ["trine_operator", "trine_gateway", "trine_node", "trine_verifier", "trine_research", "trine_devnet"]
    others = [*ours, "torch", "transformers", "fastapi", "sqlalchemy"]
    found = shown([python, "-c", find.format(["trine", *others])], tmp_path)
    assert (found.stdout, found.stderr) == ("['trine']\n", "")
    trine = python.with_name("trine")
    help_text = shown([trine, "--help"], tmp_path, COLUMNS="200")
    assert help_text.returncode == 0
    for group in ("gateway", "node", "verifier", "devnet"):
        said = f"in a checkout of Trine, pip install {' '.join(f'./{folder}' for folder in GROUPS[group])}"
        assert re.search(rf"\b{group}\b.*{re.escape(said)}", " ".join(help_text.stdout.split()))
        refused = shown([trine, group, "--anything", "at-all"], tmp_path)
        assert refused.returncode == 3
        assert said in refused.stderr
    assert shown([python, "-c", "from trine import Client"], tmp_path).stderr == ""


def test_a_group_names_the_folders_of_its_distribution_and_of_all_that_it_stands_on() -> None:
    brought: dict[str, str] = {}
    asked: dict[str, set[str]] = {}
    for name, folder in FOLDERS.items():
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        brought |= dict.fromkeys(project.get("entry-points", {}).get("trine.commands", {}), name)
        ours = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} & FOLDERS.keys()
        asked[name] = {name}.union(*(asked[other] for other in ours))
    assert brought.keys() == GROUPS.keys()
    for group, name in brought.items():
        assert set(GROUPS[group]) == {FOLDERS[each] for each in asked[name]}


def test_attack_nobody_is_told_to_install_a_name_that_no_index_has_of_us() -> None:
    """Whoever registered it there would run code at every reader."""
    places = [ROOT / folder for folder in (*FOLDERS.values(), "docs", "benchmarks")]
    files = [*ROOT.glob("*.md"), *(file for place in places for file in place.rglob("*.*"))]
    texts = [file for file in files if file.suffix in (".md", ".py", ".toml", ".yml", ".yaml", ".sh", ".in")]
    told = [
        str(file) for file in texts if re.search(r"pip install [^\n]*?(?<![\w./-])trine\b", file.read_text("utf-8"))
    ]
    assert told == []


def test_all_work_outside_a_checkout(wheels: dict[str, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    install(python, *wheels.values())
    # What others wrote comes from this environment. Its own .pth files, which lead to the checkout, are not read there.
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    where = "import trine, trine_operator, trine_gateway, trine_node, trine_verifier, trine_research, trine_devnet as d"
    assert shown([python, "-c", where + "; print(d.__file__)"], tmp_path).stdout == f"{site}/trine_devnet/__init__.py\n"
    trine = python.with_name("trine")
    for group, command in {
        "devnet": "demo",
        "gateway": "run",
        "node": "serve",
        "verifier": "run",
        "model": "prepare",
    }.items():
        asked = shown([trine, group, "--help"], tmp_path)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert command in asked.stdout
    assert shown([python.with_name("trine-study"), "--help"], tmp_path).returncode == 0


def test_each_distribution_asks_for_what_it_imports() -> None:
    ours = {package: name for name, packages in PACKAGES.items() for package in packages}
    graph = grimp.build_graph(*ours, include_external_packages=True)
    of_module = {module: {canonicalize_name(n) for n in names} for module, names in packages_distributions().items()}
    available: dict[str, set[str]] = {}
    for name, folder in FOLDERS.items():
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        extras = (text for extra in project.get("optional-dependencies", {}).values() for text in extra)
        asked = {canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *extras]}
        available[name] = asked.union({name}, *(available.get(other, set()) for other in asked))
        imported = {
            target
            for package in PACKAGES[name]
            for module in graph.find_descendants(package) | {package}
            for target in graph.find_modules_directly_imported_by(module)
            if graph.is_module_squashed(target)
        }
        for module in imported - set(sys.stdlib_module_names) - OPTIONAL:
            owners = {BROUGHT_BY.get(owner, owner) for owner in of_module.get(module, {ours.get(module, module)})}
            assert owners & available[name], f"{name} imports {module}, of {owners}, and does not ask for it"
