"""A billion pairs: counted exactly, in little memory, and none lost or counted twice when a run dies."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine_research.study import billion, hamming
from trine_research.study.cli import app
from trine_research.study.fingerprint_file import Fingerprints, load, random_words
from trine_research.study.hamming import BINS, blocks, histogram
from trine_research.study.intervals import Proportion

COMMAND = [sys.executable, "-m", "trine_research.study.cli", "billion"]


def naive(claimed: np.ndarray, reference: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(claimed, axis=1)[:, None, :] != np.unpackbits(reference, axis=1)[None, :, :]
    return np.bincount(bits.sum(2).ravel(), minlength=BINS)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """50 reference words; an honest engine that flips 3 bits of each, a dishonest one that flips 40, 20 of no match."""
    rng = np.random.default_rng(7)
    reference = rng.integers(0, 256, (50, 32), np.uint8)
    flips = np.zeros((100, 256), np.uint8)
    for row, count in enumerate([3] * 50 + [40] * 50):
        flips[row, rng.choice(256, count, replace=False)] = 1
    matched = np.concatenate([reference, reference]) ^ np.packbits(flips, axis=1)
    return {
        "reference": reference,
        "claimed": np.concatenate([matched, rng.integers(0, 256, (20, 32), np.uint8)]),
        "match": np.concatenate([np.arange(50), np.arange(50), np.full(20, -1)]).astype(np.int32),
        "engine": np.repeat([0, 1, 0], [50, 50, 20]).astype(np.int16),
        "engines": np.array(["bf16", "int8"]),
        "honest": np.array([True, False]),
    }


def written(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "fingerprints.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def counted(prints: Fingerprints, **options: Any) -> billion.Progress:
    return billion.compare(prints, run=billion.threads_runner(prints, 2), **({"block_pairs": 10_000} | options))


@given(n=st.integers(1, 70), m=st.integers(1, 40), seed=st.integers(0, 99))
def test_every_pair_is_counted_at_its_distance(n: int, m: int, seed: int) -> None:
    prints = random_words(n, m, seed)
    assert histogram(prints.claimed, prints.reference).tolist() == naive(prints.claimed, prints.reference).tolist()


def test_tiles_of_all_shapes_and_both_extremes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "TILE_ROWS", 3)
    monkeypatch.setattr(hamming, "TILE_COLUMNS", 5)
    prints = random_words(23, 11, 1)
    reference = np.concatenate([prints.reference, prints.claimed[:2], ~prints.claimed[:2]])
    counts = histogram(prints.claimed, reference)
    assert counts.tolist() == naive(prints.claimed, reference).tolist()
    assert counts[0] == counts[256] == 2


@given(m=st.integers(1, 500), n=st.integers(1, 500), block_pairs=st.integers(1, 10_000))
def test_blocks_cover_every_row_once_and_stay_small(m: int, n: int, block_pairs: int) -> None:
    rows = [row for start, stop in blocks(m, n, block_pairs) for row in range(start, stop)]
    assert rows == list(range(m))
    assert all((stop - start) * n <= max(block_pairs, n) for start, stop in blocks(m, n, block_pairs))


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    prints = random_words(9_000, 2_000, 0)
    histogram(prints.claimed[:1], prints.reference[:1])  # compiles, where nobody has yet
    tracemalloc.start()
    try:
        progress = counted(prints, block_pairs=1 << 22)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert progress.counts.sum() == prints.pairs
    # Two threads' tiles; all distances would be 72 MB.
    assert peak < 2 * 4 * hamming.TILE_ROWS * hamming.TILE_COLUMNS + (1 << 20)


def test_no_more_tasks_are_under_way_than_the_window_allows() -> None:
    started: list[int] = []
    results = hamming.in_order(
        [(i, i + 1) for i in range(20)],
        lambda block: started.append(block[0]) or block[0],
        lambda task: np.full(1, task),
        4,
    )
    assert [(int(value[0]), len(started) - int(value[0]) <= 4) for value in results] == [(i, True) for i in range(20)]


def test_the_report_tells_who_passes_who_is_detected_and_what_collides(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    prints = load(written(tmp_path, arrays))
    counts = counted(prints).counts
    report = billion.evaluate(prints, counts, [])
    (line,) = report["thresholds"]
    assert line["threshold"] == 3  # the least at which all honest ones pass
    honest, dishonest = line["engines"]
    assert (honest["passed"], honest["of"], honest["high"]) == (50, 50, 1)
    assert (dishonest["detected"], dishonest["of"]) == (50, 50)
    assert dishonest["low"] == pytest.approx(0.025 ** (1 / 50))  # Clopper and Pearson's for all of 50
    assert (line["collisions"]["collided"], line["collisions"]["of"]) == (0, 50 * 120 - 100)
    unmatched = naive(prints.claimed, prints.reference)
    unmatched[3] -= 50
    unmatched[40] -= 50
    assert report["histograms"]["unmatched"] == unmatched.tolist()
    assert report["histograms"]["matched"]["int8"][40] == 50

    middle = int(np.median(np.repeat(np.arange(BINS), unmatched)))
    (line,) = billion.evaluate(prints, counts, [middle])["thresholds"]
    assert line["collisions"]["collided"] == unmatched[: middle + 1].sum()
    assert line["engines"][1]["detected"] == 0


def test_random_words_collide_as_fair_bits_do() -> None:
    prints = random_words(2_000, 2_000, 3)
    for line in billion.evaluate(prints, counted(prints).counts, [])["thresholds"]:
        collisions = line["collisions"]
        assert line["expected_rate"] in Proportion.estimate(collisions["collided"], collisions["of"], 0.9999)


def test_a_finished_state_is_not_compared_again(tmp_path: Path) -> None:
    prints, state = random_words(100, 900, 5), tmp_path / "state.json"
    first = counted(prints, state_file=state)
    again = billion.compare(prints, run=lambda todo: iter([0] * len(todo)), block_pairs=10_000, state_file=state)
    assert again.counts.tolist() == first.counts.tolist() == naive(prints.claimed, prints.reference).tolist()


def test_a_state_of_other_words_or_one_that_does_not_add_up_is_refused(tmp_path: Path) -> None:
    prints, state = random_words(100, 900, 5), tmp_path / "state.json"
    counted(prints, state_file=state)
    with pytest.raises(InvalidInput, match="other fingerprints"):
        counted(random_words(100, 900, 6), state_file=state)
    with pytest.raises(InvalidInput, match="other fingerprints or blocks"):
        counted(prints, state_file=state, block_pairs=20_000)
    document = json.loads(state.read_text())
    document["counts"][128] += 1
    state.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="does not add up"):
        counted(prints, state_file=state)
    for text in ("", "[]", "{}", "nonsense"):
        state.write_text(text)
        with pytest.raises(InvalidInput, match="not a state file"):
            counted(prints, state_file=state)


def test_a_killed_run_goes_on_and_counts_the_same(tmp_path: Path) -> None:
    state, result = tmp_path / "state.json", tmp_path / "result.json"
    command = [*COMMAND, "--random", "1000,40000", "--block-pairs", "100000", "--threads", "1"]
    command += ["--state", str(state), "--json", str(result)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not state.exists() or json.loads(state.read_text())["done"] < 3:
            assert process.poll() is None
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = json.loads(state.read_text())["done"]
    assert 3 <= done < 400
    assert not result.exists()
    subprocess.run(command, check=True, capture_output=True)
    prints = random_words(1_000, 40_000, 0)
    expected = counted(prints, block_pairs=1 << 26).counts
    assert json.loads(result.read_text())["histograms"]["unmatched"] == expected.tolist()
    assert json.loads(state.read_text())["done"] == 400


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='Ray is not installed: pip install "./verifier[cluster]"'
)
def test_a_ray_cluster_counts_the_same(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [*COMMAND, "--random", "300,500", "--block-pairs", "40000", "--ray", "local", "--threads", "1"]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run([*command, "--json", str(result)], capture_output=True, env=environment, text=True)
    assert run.returncode == 0, run.stderr
    report = json.loads(result.read_text())
    prints = random_words(300, 500, 0)
    assert report["histograms"]["unmatched"] == naive(prints.claimed, prints.reference).tolist()
    assert report["ran_on"] == "Ray at local"


def test_without_ray_a_cluster_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInput, match=r"verifier\[cluster\]"):
        billion.ray_runner(random_words(1, 1, 0), "local", 1)


BROKEN: dict[str, tuple[Any, str]] = {
    "reference": (np.zeros((50, 31), np.uint8), "31 bytes"),
    "claimed": (np.zeros((0, 32), np.uint8), "0 rows"),
    "match": (np.full(120, 50, np.int32), "names a row"),
    "engine": (np.full(120, 2, np.int16), "an index into"),
    "engines": (np.array(["same", "same"]), "different, printable names"),
    "honest": (np.array([1.0, np.nan]), "`honest` is float64"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_with_a_broken_array_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], name: str) -> None:
    value, message = BROKEN[name]
    with pytest.raises(InvalidInput, match=message):
        load(written(tmp_path, arrays | {name: value}))
    del arrays[name]
    with pytest.raises(InvalidInput, match=f"no array `{name}`"):
        load(written(tmp_path, arrays))


def test_lengths_that_differ_pickles_and_other_files_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidInput, match="one entry for each"):
        load(written(tmp_path, arrays | {"match": arrays["match"][:-1]}))
    with pytest.raises(InvalidInput, match="says of each whether"):
        load(written(tmp_path, arrays | {"honest": np.array([True])}))
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(written(tmp_path, arrays | {"engines": np.array(["bf16", None], object)}))
    with pytest.raises(InvalidInput, match="does not exist"):
        load(tmp_path / "nowhere.npz")
    path = tmp_path / "text.npz"
    path.write_text("no archive")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(path)
    np.save(tmp_path / "one.npy", arrays["claimed"])
    with pytest.raises(InvalidInput, match="cannot be read"):
        load(tmp_path / "one.npy")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **arrays, other=np.zeros(295_000_000, bool))  # type: ignore[arg-type]
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InvalidInput, match="unpacks to"):
        load(path)


def test_a_threshold_is_needed_where_no_honest_pair_matches(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    prints = dataclasses.replace(load(written(tmp_path, arrays)), honest=(False, False))
    with pytest.raises(InvalidInput, match="--threshold"):
        billion.thresholds_for(prints, [])
    with pytest.raises(InvalidInput, match="0 to 256"):
        billion.thresholds_for(prints, [257])
    assert billion.thresholds_for(prints, [9, 4, 9]) == (4, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "trine-study fingerprints"),
        (["--random", "10"], "two numbers"),
        (["--random", "0,5"], "0 random words"),
        (["--random", "5,5", "--threads", "-1"], "threads"),
        (["--random", "5,5", "--block-pairs", "0"], "a block has"),
        (["--random", "5,5", "--ray", "127.0.0.1:1:2"], "no Ray cluster"),
    ],
)
def test_the_command_refuses_nonsense_in_a_sentence(arguments: list[str], message: str) -> None:
    if "--ray" in arguments:
        pytest.importorskip("ray", reason='Ray is not installed: pip install "./verifier[cluster]"')
    result = CliRunner().invoke(app, ["billion", *arguments])
    assert result.exit_code == 3
    assert message in result.stderr


def test_the_command_writes_figures_and_a_picture(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    picture, figures = tmp_path / "billion.png", tmp_path / "billion.json"
    arguments = ["billion", "--fingerprints", str(written(tmp_path, arrays)), "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(figures), "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "bf16 (honest)" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(figures.read_text())["pairs"] == 50 * 120
