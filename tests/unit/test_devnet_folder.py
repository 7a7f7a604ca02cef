"""A devnet's folder belongs to one process at a time: emptied under a running network, its keys and logs are gone."""

from __future__ import annotations

import multiprocessing

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
