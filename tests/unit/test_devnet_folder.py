"""A devnet's folder belongs to one process at a time: emptied under a running network, its keys and logs are gone."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys

import pytest

from trine.errors import InvalidInput
from trine_devnet.launcher import empty


def _try(home, results):
    try:
        empty(home)
        results.put("emptied")
    except InvalidInput as error:
        results.put(str(error))


def _in_another_process(home):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_try, args=(home, results))
    process.start()
    said = results.get(timeout=120)
    process.join()
    return said


def test_a_second_devnet_in_a_folder_is_refused_and_touches_nothing(tmp_path):
    home = tmp_path / "devnet"
    empty(home)
    (home / "key").write_text("kept")
    said = _in_another_process(home)
    assert f"another devnet runs in {home}" in said
    assert "--home" in said
    assert (home / "key").read_text() == "kept"
    empty(home)  # its own process may
    assert not (home / "key").exists()


def test_a_folder_whose_process_has_ended_is_free(tmp_path):
    home = tmp_path / "devnet"
    assert _in_another_process(home) == "emptied"
    assert _in_another_process(home) == "emptied"
    with pytest.raises(FileNotFoundError):
        (home / "key").read_text()


def test_a_folder_with_what_no_devnet_has_left_is_not_emptied(tmp_path):
    (tmp_path / "thesis.tex").write_text("kept")
    with pytest.raises(InvalidInput, match="holds what no devnet has made"):
        empty(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "kept"
    (tmp_path / "new").mkdir()
    empty(tmp_path / "new")


@pytest.mark.slow
def test_up_says_that_a_network_is_replaced_and_ends_by_sigint_in_the_background_of_a_script(tmp_path):
    home = tmp_path / "devnet"
    assert _in_another_process(home) == "emptied"
    (home / "deployment.json").write_text("{}")
    command = [sys.executable, "-m", "trine", "devnet", "up", "--home", home]
    said = ""
    with subprocess.Popen(
        command,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a script's shell does for `… &`
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        for line in running.stderr:
            said += line
            if "contracts: on the chain" in line:
                running.send_signal(signal.SIGINT)
    assert running.returncode == 130, said
    assert f"the network that was in {home} is gone" in said
    assert "Traceback" not in said
