"""Set-up: uv is told what pip is told, and what goes wrong is said in a sentence with its remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from setup_support import SCRIPTS, script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def install() -> ModuleType:
    return script("install")


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but a test's own, wherever pip and uv look for them."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))


def test_uv_is_told_what_pip_is_told(install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.invalid/simple\n"
        f"find-links =\n  {tmp_path}/wheels\n  {tmp_path}/none-here\n"
        "[install]\ntrusted-host = mirror.invalid\n"
    )
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file://{tmp_path}/absent https://other.invalid/simple")
    told = install.uv_environment()
    assert told["UV_DEFAULT_INDEX"] == "https://mirror.invalid/simple"
    assert told["UV_FIND_LINKS"] == f"{tmp_path}/wheels"
    assert told["UV_INSECURE_HOST"] == "mirror.invalid"
    assert told["UV_INDEX"] == "https://other.invalid/simple"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_what_uv_itself_is_told_goes_first(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.invalid/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://another.invalid/simple")
    assert install.uv_environment()["UV_DEFAULT_INDEX"] == "https://another.invalid/simple"


def test_without_settings_nothing_is_passed_on(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"} & install.uv_environment().keys()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("error: failed to write\n  cause: No space left on device (os error 28)", "the disk is full"),
        ("error: Failed to fetch\n  cause: dns error", "check the network"),
        (
            "error: error sending request\n  cause: invalid peer certificate",
            "pip config set global.cert",
        ),
        ("error: Hash mismatch for `numpy`", "check the mirror"),
        ("error: No solution found when resolving dependencies", "for this Python and machine"),
    ],
)
def test_a_failure_is_a_sentence_with_its_remedy(install: ModuleType, said: str, remedy: str) -> None:
    sentence, *words = install.explained("packages could not be installed", said).splitlines()
    assert sentence.startswith("packages could not be installed: ")
    assert remedy in sentence
    assert 1 <= len(words) <= 2


def set_up(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPTS / "setup-python.sh", "runtime"],
        cwd=ROOT,
        env=os.environ | {"VENV": str(folder), "TORCH_INDEX": ""} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_python_that_is_missing_is_named(tmp_path: Path) -> None:
    done = set_up(tmp_path / "venv", PYTHON="python-of-another-world")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no python-of-another-world: ")
    assert not (tmp_path / "venv").exists()


def other_python(folder: Path, version: str) -> str:
    """Answers as a Python of another version does to the questions that set-up asks."""
    shim = folder / "python-other"
    minor = version.rpartition(".")[0]
    shim.write_text(
        f'#!/bin/sh\ncase "$*" in --version) echo Python {version};; *print*) echo {minor};; '
        f"*) exec {sys.executable} -c 'import sys; sys.version_info = ({minor.replace('.', ', ')}, 0); '\"$2\";; esac\n"
    )
    shim.chmod(0o755)
    return str(shim)


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    done = set_up(tmp_path / "venv", PYTHON=other_python(tmp_path, "3.10.13"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: Python 3.10.13 is too old: ")
    assert not (tmp_path / "venv").exists()


def test_an_environment_of_another_python_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    done = set_up(tmp_path / "venv", PYTHON=other_python(tmp_path, "3.99.1"))
    assert done.returncode == 1
    assert "3.99" in done.stderr
    assert "rm -r" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_environment_whose_python_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(tmp_path / "gone")
    done = set_up(tmp_path / "venv")
    assert done.returncode == 1
    assert "does not run any more" in done.stderr


def test_a_certificate_that_pip_trusts_is_trusted(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/company.pem")
    assert install.uv_environment()["SSL_CERT_FILE"] == "/etc/company.pem"


@pytest.mark.parametrize("answers", [True, False])
def test_an_index_that_is_slow_keeps_nobody_from_another(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """The configured one times out; PyTorch's own has the wheel, or times out as well."""
    asked: list[tuple[str, ...]] = []

    def problem_with(torch: object, *, hurried: bool = True) -> str:
        asked.append(torch.options)  # type: ignore[attr-defined]
        return "" if answers and len(asked) == 2 else "error: Failed to fetch\n  cause: operation timed out"

    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(install, "installed", lambda _: None)
    monkeypatch.setattr(install.shutil, "which", lambda _: None)
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.setattr(install, "problem_with", problem_with)
    if answers:
        assert install.choose_torch().options == ("--torch-backend", "cpu")
    else:
        with pytest.raises(install.SetupFailed, match="nothing can be downloaded"):
            install.choose_torch()
        assert asked == [(), ("--torch-backend", "cpu"), ()]


def test_without_a_network_a_sentence_says_so(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is a port where nothing listens; uv's cache is empty."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(install.SetupFailed, match=r"^packages could not be installed: no package index can be reached"):
        install.install("-r", str(install.LOCKS / "uv.txt"), "--target", str(tmp_path / "target"))
