"""deploy/requirements is in step with the pyproject.toml files, and everything in it is pinned."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = {file.stem: file.read_text() for file in (ROOT / "deploy" / "requirements").glob("*.txt")}
FOLDERS = {
    "trine": "client_sdk",
    "trine-operator": "operators",
    "trine-gateway": "gateway",
    "trine-node": "node",
    "trine-verifier": "verifier",
    "trine-devnet": "deploy",
}
LINE = re.compile(r"^(\S+)==(\S+)(?: ; .+)? \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?$)+)", re.MULTILINE)


def document(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


PROJECTS = {name: document(folder)["project"] for name, folder in FOLDERS.items()}


def versions(lock: str) -> dict[str, Version]:
    return {canonicalize_name(name): Version(version) for name, version, _ in LINE.findall(LOCKS[lock])}


def wanted(project: dict[str, Any], *extras: str) -> Iterator[Requirement]:
    """What a distribution asks for, with extras; not what it asks of the others."""
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    for text in texts:
        requirement = Requirement(text)
        if requirement.name not in FOLDERS:
            yield requirement


def group(name: str) -> Iterator[Requirement]:
    for entry in document(".")["dependency-groups"][name]:
        if isinstance(entry, str):
            yield Requirement(entry)
        else:
            yield from group(entry["include-group"])


def assert_locked(requirements: Iterator[Requirement], *locks: str) -> None:
    found = {name: version for lock in locks for name, version in versions(lock).items()}
    for requirement in requirements:
        version = found.get(canonicalize_name(requirement.name))
        assert version, f"{requirement} is not in {locks}: make lock"
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is locked: make lock"


@pytest.mark.parametrize("name", FOLDERS)
def test_the_demo_installs_what_the_distributions_ask_for(name: str) -> None:
    assert_locked(wanted(PROJECTS[name]), "runtime", "torch-cuda")


def test_other_locks_hold_what_they_are_for() -> None:
    assert_locked(wanted(PROJECTS["trine"]), "sdk")
    assert_locked(wanted(PROJECTS["trine-operator"], "postgres"), "operator")
    assert_locked(wanted(PROJECTS["trine-node"], "postgres", "x402"), "operator", "torch-cuda")
    assert_locked(wanted(PROJECTS["trine-verifier"], "study"), "development", "torch-cuda")
    assert_locked(group("build"), "runtime")
    assert_locked(group("development"), "development")


@pytest.mark.parametrize("lock", ["runtime", "operator", "sdk"])
def test_whoever_tests_runs_what_others_run(lock: str) -> None:
    everything = versions("development")
    assert versions(lock).items() <= everything.items()
    assert everything["triton"] == versions("torch-cuda")["triton"]


def test_the_two_builds_of_torch_are_of_one_version() -> None:
    assert versions("torch-cpu")["torch"].public == str(versions("torch-cuda")["torch"])
    assert not any("torch" in versions(lock) for lock in ("runtime", "development", "operator", "sdk"))


def test_the_demo_installs_nothing_that_only_tests_and_studies_need() -> None:
    for_tests = {"diffusers", "faiss-cpu", "matplotlib", "mypy", "pytest", "ruff", "scikit-image", "scipy", "triton"}
    assert not versions("runtime").keys() & for_tests
    assert not versions("sdk").keys() & {"fastapi", "numba", "sqlalchemy", "transformers"}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_with_hashes_and_names_no_host(lock: str) -> None:
    rest = LINE.sub("", LOCKS[lock])
    assert not [line for line in rest.splitlines() if line and not line.startswith("#")]
    assert "://" not in LOCKS[lock]


def test_all_have_one_version_and_ask_for_one_another_in_it() -> None:
    (version,) = {project["version"] for project in PROJECTS.values()}
    for project in PROJECTS.values():
        for text in project["dependencies"]:
            requirement = Requirement(text)
            if requirement.name in FOLDERS:
                assert str(requirement.specifier) == f"=={version}"
