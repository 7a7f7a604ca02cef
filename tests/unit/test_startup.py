"""A command line that answers at once: what is imported, and when. How long it takes, `benchmarks/startup.py` tells."""

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from trine.cli import build, groups

spec = importlib.util.spec_from_file_location("startup", Path(__file__).parents[2] / "benchmarks" / "startup.py")
assert spec
assert spec.loader
startup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(startup)

HEAVY = {
    *("aiohttp", "eth_abi", "eth_account", "eth_keyfile", "eth_keys", "eth_utils", "py_ecc.bls", "requests", "urllib3"),
    *("web3", "httpx2", "pydantic", "rich", "structlog"),
    *("diffusers", "faiss", "fastapi", "gguf", "huggingface_hub", "matplotlib", "numba", "numpy", "openai", "scipy"),
    *("sqlalchemy", "torch", "transformers", "uvicorn"),
}
"""Takes long to import, or is imported by what does."""

RUN = """
import json, runpy, sys
code = None
try:
    sys.argv = json.loads(sys.argv[1])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as ended:
    code = ended.code
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=True)


def loaded_by(statement):
    shown = python("-c", f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))")
    return set(json.loads(shown.stdout))


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(m, p, id=" ".join((startup.program(m), *p))) for m, p in startup.help_pages()]
)
def test_help_is_shown_without_importing_what_the_command_works_with(module, path):
    shown = python("-c", RUN, json.dumps([module, *path, "--help"]))
    ended = json.loads(shown.stderr)
    assert ended["code"] == 0
    assert not HEAVY & set(ended["modules"])
    usage, _, rest = shown.stdout.partition("\n\n")
    assert " ".join(path) in usage
    assert rest.strip().split("\n")[0].strip()  # what it is for
    assert "--help" in rest


def test_every_option_says_what_it_is_for():
    silent = [
        f"{' '.join(path)} {option.name}"
        for path in startup.pages(build())
        for option in _command(path).params
        if not option.help
    ]
    assert not silent


def _command(path):
    command = build()
    for name in path:
        command = command.get_command(None, name)
    return command


def test_importing_the_sdk_imports_nothing_heavy():
    assert not HEAVY & loaded_by("import trine")


def test_names_are_there_when_they_are_used():
    loaded = loaded_by("from trine import Certificate, Client")
    assert {"trine._client", "trine.protocol.certificate"} <= loaded
    assert not {"web3", "eth_account", "py_ecc.bls"} & loaded  # before there is something to sign or to send


def test_a_name_that_is_not_there_is_an_attribute_error():
    import trine

    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = trine.Cleint
    assert set(trine.__all__) <= set(dir(trine))


@pytest.mark.parametrize("statement", ["import trine, web3", "import web3, trine", "import trine, py_ecc.bls"])
def test_the_recursion_limit_stays_whatever_is_imported_when(statement):
    assert python("-c", f"{statement}\nimport sys; print(sys.getrecursionlimit())").stdout == "1000\n"


@pytest.fixture
def without_the_node(monkeypatch):
    """As if the distribution with the node were not installed, and one with a group that does not load were."""
    points = [point for point in entry_points(group="trine.commands") if point.name != "node"]
    broken = type(points[0])("broken", "trine_is_not_here.cli:app", "trine.commands")
    monkeypatch.setattr(groups, "entry_points", lambda group: [*points, broken])


def test_a_group_that_is_not_installed_is_listed_with_what_to_install(without_the_node, capsys):
    build().main(["--help"], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "node (needs more packages: in a checkout of Trine, pip install ./client_sdk ./operators ./node)" in shown
    assert "broken (needs more packages" in shown
    assert "model Fetch, prepare and check models' files." in shown


@pytest.mark.parametrize("arguments", [["node"], ["node", "serve", "--port", "1"], ["broken", "it"]])
def test_a_group_that_is_not_installed_says_so_when_it_is_run(without_the_node, capsys, arguments):
    with pytest.raises(SystemExit, match="3"):
        build().main(arguments)
    assert f"`trine {arguments[0]}` needs" in capsys.readouterr().err


def test_a_command_whose_packages_are_not_installed_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trine_operator.logs", None)
    with pytest.raises(SystemExit, match="3"):
        build().main(["verifier", "run"])
    assert "`trine verifier` needs trine_operator.logs: in a checkout of Trine, pip install" in capsys.readouterr().err


def test_a_mistyped_group_is_guessed(capsys):
    with pytest.raises(SystemExit, match="2"):
        build().main(["verifer", "run"])
    assert "Did you mean 'verifier'" in capsys.readouterr().err
