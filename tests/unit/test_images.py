"""Image mode: the same request gives the same picture, the same picture the same hash, and the verdict follows."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import struct
import zlib
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine.protocol.verdict import Outcome, Reason
from trine_research.images import adversaries, latents, photographs
from trine_research.images.files import MAX_BYTES, from_file, to_jpeg, to_png
from trine_research.images.hashes import HashKind, ImageHash, distances, hash_of
from trine_research.images.noise import GRID, initial_noise
from trine_research.images.pipeline import ImageRequest, PinnedPipeline, id_of
from trine_research.images.training import Recipe, folder_of, train, train_once
from trine_research.images.verdict import BINDING_SLACK_BITS, ImageBounds, decide, majority
from trine_research.study import image_report
from trine_research.study import images as study
from trine_research.study.cli import app

MODEL = bytes(range(32))
TINY = Recipe(seed=5, steps=3, batch=2, side=16, channels=(16, 16))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipeline() -> PinnedPipeline:
    return train(TINY)


def requests(*seeds: int, label: str = "cat") -> list[ImageRequest]:
    return [ImageRequest(MODEL, label, seed) for seed in seeds]


def picture(seed: int, side: int = 32) -> NDArray[np.uint8]:
    """Smooth, as pictures are: a few cosines."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


# Noise


def test_noise_is_the_same_everywhere() -> None:
    noise = initial_noise(MODEL, "cat", 7, (12, 16, 16))
    assert hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest() == GOLDEN_NOISE


GOLDEN_NOISE = "e617a2093dfef65ca9524af550f834626cbebde276422ad5031553f0ca93d5fa"


def test_noise_follows_its_definition_with_another_normal_distribution() -> None:
    stream = hashlib.shake_256(b"trine/image-noise/1" + MODEL + b"\0\0\0\3cat" + (7).to_bytes(8, "big")).digest(2 * 500)
    words = struct.unpack(">500H", stream)
    expected = [round(NormalDist().inv_cdf((word + 0.5) / 65536) * GRID) / GRID for word in words]
    assert initial_noise(MODEL, "cat", 7, (500,)).tolist() == expected


def test_noise_is_normal_and_another_for_every_part_of_the_request() -> None:
    noise = initial_noise(MODEL, "cat", 7, (20_000,))
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    others = [(MODEL[::-1], "cat", 7), (MODEL, "ca", 7), (MODEL, "cat", 8)]
    for other in others:
        assert abs(np.corrcoef(noise, initial_noise(*other, (20_000,)))[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("model_id", "seed", "shape"),
    [(b"short", 0, (4,)), (MODEL, -1, (4,)), (MODEL, 1 << 64, (4,)), (MODEL, 0, (1 << 25,))],
)
def test_noise_refuses(model_id: bytes, seed: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        initial_noise(model_id, "cat", seed, shape)


# Data, training, pipeline


def test_photographs_are_those_that_are_pinned() -> None:
    pictures = photographs.load()
    assert tuple(pictures) == photographs.CLASSES
    assert all(min(each.size) == photographs.SHORT_SIDE and each.mode == "RGB" for each in pictures.values())


def test_a_changed_photograph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "FILES", {"cat": ("chelsea.png", "00" * 32)})
    with pytest.raises(InvalidInput, match="SHA-256"):
        photographs.load()


def test_latents_keep_what_matters_of_a_photograph() -> None:
    generator, pictures = random.Random(1), photographs.load()
    crops = np.stack([photographs.crop(each, generator, 32) for each in pictures.values() for _ in range(20)])
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
    encoded = latents.encode(pixels)
    assert encoded.shape == (len(crops), latents.CHANNELS, 8, 8)
    assert torch.allclose(encoded.square().mean((0, 2, 3)).sqrt(), torch.ones(latents.CHANNELS), atol=0.2)
    assert torch.allclose(latents.encode(latents.decode(encoded)), encoded, atol=1e-4)
    lost = (latents.decode(encoded) - pixels).square().mean() / pixels.square().mean()
    assert lost < 0.02


def test_training_is_deterministic(pipeline: PinnedPipeline) -> None:
    again, other = train(TINY), train(Recipe(seed=6, steps=3, batch=2, side=16, channels=(16, 16)))
    ours, theirs, others = (p.unet.state_dict() for p in (pipeline, again, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not all(torch.equal(ours[name], others[name]) for name in ours)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 5000}, {"side": 18}, {"channels": (20, 20)}, {"learning_rate": 2.0}, {"seed": -1}]
)
def test_recipes_are_bounded(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Recipe(**wrong)


def test_a_request_fixes_its_picture_whoever_it_is_made_with(pipeline: PinnedPipeline) -> None:
    together = pipeline.make(requests(1, 2, 3))
    alone = pipeline.make(requests(2))[0]
    assert together.shape == (3, 16, 16, 3)
    assert np.abs(together[1].astype(int) - alone).max() <= 1
    assert np.array_equal(pipeline.make(requests(1, 2, 3)), together)
    assert not np.array_equal(together[0], together[1])


def test_a_saved_model_makes_the_same_pictures(
    pipeline: PinnedPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRINE_HOME", str(tmp_path))
    folder = train_once(TINY)
    assert folder == folder_of(TINY) == train_once(TINY)
    loaded = PinnedPipeline.load(folder)
    assert np.array_equal(loaded.make(requests(1, 2)), pipeline.make(requests(1, 2)))
    before = id_of(folder, "tiny")
    (folder / "model_index.json").write_text((folder / "model_index.json").read_text().replace("10", "11"))
    assert id_of(folder, "tiny") != before
    assert id_of(folder, "other") != id_of(folder, "tiny")


def test_a_broken_model_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no image model"):
        PinnedPipeline.load(tmp_path)


def test_requests_that_the_model_cannot_serve_are_refused(pipeline: PinnedPipeline) -> None:
    with pytest.raises(InvalidInput, match="no class 'dog'"):
        pipeline.make(requests(1, label="dog"))
    with pytest.raises(InvalidInput, match="batch"):
        pipeline.make([])


MAKERS = {**study.ROUNDINGS, **study.SAME_PRECISION, **study.CHEATS, "bf16 kernels": adversaries.native(torch.bfloat16)}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own call of numpy
@pytest.mark.parametrize("name", MAKERS)
def test_engines_and_cheats_make_pictures_and_leave_the_model_alone(pipeline: PinnedPipeline, name: str) -> None:
    expected = pipeline.make(requests(1, 2))
    made = MAKERS[name](pipeline, requests(1, 2))
    assert made.shape == expected.shape
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= 1 if name in study.SAME_PRECISION else difference.max() > 0
    assert np.array_equal(pipeline.make(requests(1, 2)), expected)


# Hashes


def pattern(height: int, width: int) -> NDArray[np.uint8]:
    y, x, channel = np.ogrid[:height, :width, :3]
    return np.asarray((x * x // (31 + 9 * channel) + y * (channel + 2) + x * y // 53) % 256, dtype=np.uint8)


# Of pdqhash 0.2.8, the binding of Facebook's own code. 1,500 other pictures of 64 to 1,500 pixels gave its bits, too.
PDQ_REFERENCE = {
    (64, 64): "d2f2a59d4b72b68e693192cdadba5245acb1536ad5d62a2594aa5554aaa9ab2a",
    (64, 200): "a5d47dae4554bd55a4c45d54c4523da8e4dcbb9cace81d9c34f8a98a533c6c70",
    (127, 128): "cfba9f80900633ff67005e2ad4dfacd25990d13ebbd486a7556eaa4c55b8a248",
    (129, 300): "0bba84741ffffe7c0000b9ff9fff8c5008eabffe3800707ee1f887c0ef000700",
    (513, 641): "ffffffffffffffc00000f800fe00f8000000c000e000f805e00bfc8ff43bfddf",
}


@pytest.mark.parametrize("shape", PDQ_REFERENCE)
def test_pdq_gives_the_bits_of_the_reference(shape: tuple[int, int]) -> None:
    assert hash_of(pattern(*shape), HashKind.PDQ).bits.hex() == PDQ_REFERENCE[shape]


@pytest.mark.parametrize("kind", HashKind)
def test_a_hash_has_one_encoding(kind: HashKind) -> None:
    hashed = hash_of(picture(1), kind)
    encoded = hashed.to_bytes()
    assert len(encoded) == 2 + kind.bits // 8
    assert ImageHash.from_bytes(encoded) == hashed
    for wrong in (b"", encoded[:-1], encoded + b"\0", b"\2" + encoded[1:], encoded[:1] + b"\7" + encoded[2:]):
        with pytest.raises(InvalidInput):
            ImageHash.from_bytes(wrong)


@pytest.mark.parametrize("kind", HashKind)
def test_noise_turns_few_bits_and_another_picture_many(kind: HashKind) -> None:
    ours = [picture(seed) for seed in range(20)]
    noisy = [
        np.clip(each.astype(int) + np.random.default_rng(1).integers(-2, 3, each.shape), 0, 255).astype(np.uint8)
        for each in ours
    ]
    found = distances([hash_of(each, kind) for each in ours], [hash_of(each, kind) for each in noisy])
    assert np.diag(found).max() < kind.bits * 0.2
    assert found[~np.eye(20, dtype=bool)].min() > kind.bits * 0.2
    assert found[3, 5] == hash_of(ours[3], kind).distance(hash_of(noisy[5], kind))


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=3, max_size=3))
def test_distance_is_a_metric(words: list[bytes]) -> None:
    a, b, c = (ImageHash(HashKind.PHASH, word) for word in words)
    assert a.distance(a) == 0
    assert a.distance(b) == b.distance(a)
    assert a.distance(c) <= a.distance(b) + b.distance(c)


def test_hashes_of_two_kinds_are_not_compared() -> None:
    one, other = hash_of(picture(1), HashKind.PHASH), hash_of(picture(1), HashKind.PDQ)
    with pytest.raises(InvalidInput):
        one.distance(other)
    with pytest.raises(InvalidInput):
        distances([one], [other])
    with pytest.raises(InvalidInput):
        ImageHash(HashKind.PDQ, one.bits)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32, 3), np.float32),
        np.zeros((8, 32, 3), np.uint8),
        np.zeros((16, 5000, 3), np.uint8),
    ],
)
def test_only_pictures_are_hashed(wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        hash_of(wrong, HashKind.PDQ)


# Files


def test_png_keeps_every_pixel() -> None:
    assert np.array_equal(from_file(to_png(picture(1))), picture(1))
    assert np.abs(from_file(to_jpeg(picture(1), 90)).astype(int) - picture(1)).max() > 0


def _png_of_sides(width: int, height: int) -> bytes:
    """A valid start of a PNG that claims these sides; a few bytes that would unpack to width x height x 3."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


def _saved(mode: str, format_: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (32, 32)).save(buffer, format_)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        to_png(picture(1))[:200],
        to_jpeg(picture(1), 90)[:100],
        _png_of_sides(60_000, 60_000),
        _png_of_sides(5_000, 32),
        _png_of_sides(8, 8),
        _png_of_sides(64, 64)[:-20],
        _saved("RGBA", "PNG"),
        _saved("RGB", "GIF"),
        bytes(MAX_BYTES + 1),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "bomb", "wide", "small", "short data", "transparent", "GIF", "long"],
)
def test_files_that_cannot_be_trusted_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        from_file(content)


# Verdict


def _apart(bits: int, kind: HashKind = HashKind.PDQ) -> ImageHash:
    """So many bits away from the hash of zeros."""
    return ImageHash(kind, ((1 << bits) - 1).to_bytes(kind.bits // 8, "big"))


BOUNDS = ImageBounds(HashKind.PDQ, accept=20, reject=30)


@pytest.mark.parametrize(
    ("claimed", "shown", "own", "bounds", "outcome", "reason"),
    [
        (_apart(0), _apart(0), _apart(0), BOUNDS, Outcome.ACCEPT, Reason.HONEST),
        (_apart(0), _apart(0), _apart(20), BOUNDS, Outcome.ACCEPT, Reason.HONEST),
        (_apart(0), _apart(0), _apart(21), BOUNDS, Outcome.INCONCLUSIVE, Reason.BETWEEN),
        (_apart(0), _apart(0), _apart(30), BOUNDS, Outcome.INCONCLUSIVE, Reason.BETWEEN),
        (_apart(0), _apart(0), _apart(31), BOUNDS, Outcome.REJECT, Reason.DEVIATION),
        (_apart(0), _apart(0), _apart(200), None, Outcome.INCONCLUSIVE, Reason.UNCALIBRATED),
        (_apart(0), _apart(BINDING_SLACK_BITS), _apart(0), BOUNDS, Outcome.ACCEPT, Reason.HONEST),
        (_apart(0), _apart(BINDING_SLACK_BITS + 1), _apart(0), BOUNDS, Outcome.REJECT, Reason.BINDING),
        (_apart(0), _apart(128), _apart(0), None, Outcome.REJECT, Reason.BINDING),
        (_apart(0, HashKind.PHASH), _apart(0), _apart(0), BOUNDS, Outcome.REJECT, Reason.STRUCTURE),
    ],
)
def test_the_verdict(
    claimed: ImageHash,
    shown: ImageHash,
    own: ImageHash,
    bounds: ImageBounds | None,
    outcome: Outcome,
    reason: Reason,
) -> None:
    verdict = decide(claimed, shown, own, bounds)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@given(st.integers(0, 256), st.integers(0, 256), st.integers(0, 127), st.integers(0, 127))
@settings(max_examples=200)
def test_a_closer_picture_is_never_judged_harder(near: int, far: int, accept: int, reject: int) -> None:
    near, far, accept, reject = min(near, far), max(near, far), min(accept, reject), max(accept, reject)
    bounds = ImageBounds(HashKind.PDQ, accept, reject)
    severity = [Outcome.ACCEPT, Outcome.INCONCLUSIVE, Outcome.REJECT]
    outcomes = [decide(_apart(0), _apart(0), _apart(bits), bounds).outcome for bits in (near, far)]
    assert severity.index(outcomes[0]) <= severity.index(outcomes[1])


@pytest.mark.parametrize(("accept", "reject"), [(-1, 5), (6, 5), (5, 128)])
def test_bounds_that_mean_nothing_are_refused(accept: int, reject: int) -> None:
    with pytest.raises(InvalidInput):
        ImageBounds(HashKind.PDQ, accept, reject)


def test_a_verifier_that_hashes_with_the_wrong_kind_is_told() -> None:
    with pytest.raises(InvalidInput):
        decide(_apart(0), _apart(0), _apart(0, HashKind.PHASH), BOUNDS)


@given(st.lists(st.sampled_from(Outcome), min_size=3, max_size=3))
def test_two_of_three_decide(outcomes: list[Outcome]) -> None:
    settled = majority(outcomes)
    for outcome in (Outcome.ACCEPT, Outcome.REJECT):
        assert (settled is outcome) == (outcomes.count(outcome) >= 2)


def test_from_training_to_verdict(pipeline: PinnedPipeline) -> None:
    """A node that makes the picture is accepted by three verifiers; one that takes another seed is rejected."""
    own = [
        hash_of(maker(pipeline, requests(1))[0], HashKind.PDQ)
        for maker in (adversaries.honest, *study.ROUNDINGS.values())
    ]
    bounds = ImageBounds(HashKind.PDQ, accept=20, reject=40)
    for seed, expected in ((1, Outcome.ACCEPT), (2, Outcome.REJECT)):
        shown = hash_of(from_file(to_png(adversaries.one_by_one(pipeline, requests(seed))[0])), HashKind.PDQ)
        claimed = ImageHash.from_bytes(shown.to_bytes())
        assert majority([decide(claimed, shown, each, bounds).outcome for each in own]) is expected


# Study


def _collected(blind: str) -> study.Collected:
    """Pictures of two classes: engines differ by a grey level, cheats are other pictures, but for `blind`."""
    pool = np.stack([[picture(1000 * label + seed, 16) for seed in range(16)] for label in range(2)])
    generator = np.random.default_rng(0)

    def engine() -> NDArray[np.uint8]:
        return np.clip(pool[:, :8].astype(int) + generator.integers(0, 2, (2, 8, 16, 16, 3)), 0, 255).astype(np.uint8)

    collected = {study.POOL: pool, study.OTHER_SEED: pool[:, 8:], study.CACHED: pool[::-1, 8:]}
    collected |= {name: engine() for name in (*study.ROUNDINGS, *study.SAME_PRECISION, *study.SLOW)}
    for offset, name in enumerate((*study.CHEATS, study.OTHER_MODEL)):
        collected[name] = np.stack(
            [[picture(50_000 * (offset + 1) + 100 * c + s, 16) for s in range(8)] for c in range(2)]
        )
    collected[blind] = engine()
    return collected


def test_the_study_counts_what_happened() -> None:
    report = study.analyse(_collected("int8 weights"))
    assert set(report["statistics"]) == {"phash", "pdq", "pixels"}
    for found in report["statistics"].values():
        assert found["cheats"]["int8 weights"]["majority"]["rejected"]["events"] == 0
        assert found["cheats"]["int8 weights"]["auc_mixed"] < 0.9
        assert (
            found["cheats"]["other model"]["majority"]["rejected"] == found["cheats"]["5 steps"]["majority"]["rejected"]
        )
        assert found["cheats"]["other model"]["auc_mixed"] == 1
        assert found["headline"]["whole_picture_detection"]["of"] == 4 * 2 * 4
        assert found["headline"]["whole_picture_detection"]["share"] == 1
        assert found["headline"]["any_other_picture_detection"]["of"] == 2 * 4 * (2 * 16 - 1)
        assert found["headline"]["any_other_picture_detection"]["share"] == 1
        assert found["headline"]["all_cheats_detection"]["events"] < found["headline"]["all_cheats_detection"]["of"]
        intra = found["collisions"]["intra_class"]["mixed precision"]
        assert (intra["events"], intra["of"]) == (0, 2 * 16 * 15 // 2)
        assert intra["high"] == pytest.approx(1 - 0.025 ** (1 / 240))


def test_collisions_are_found_where_they_are() -> None:
    collected = _collected("int8 weights")
    collected[study.POOL][0, 12] = collected[study.POOL][0, 3]
    collected[study.POOL][1, 15] = collected[study.POOL][0, 14]
    for found in study.analyse(collected)["statistics"].values():
        missed = found["headline"]["any_other_picture_detection"]
        assert missed["of"] - missed["events"] == 1
        assert found["collisions"]["intra_class"]["mixed precision"]["events"] == 1
        assert found["collisions"]["inter_class"]["mixed precision"]["events"] == 1


def test_pictures_are_judged_again_only_with_their_own_model(tmp_path: Path) -> None:
    collected, path = _collected("int8 weights"), tmp_path / "pictures.npz"
    study.save(collected, MODEL, path)
    assert study.analyse(study.load(path, MODEL)) == study.analyse(collected)
    with pytest.raises(InvalidInput, match="another model"):
        study.load(path, MODEL[::-1])
    path.write_bytes(b"no pictures")
    with pytest.raises(InvalidInput, match="no pictures of a study"):
        study.load(path, MODEL)


@pytest.mark.parametrize(
    "arguments", [["--checked", "3"], ["--seeds", "10"], ["--batch", "0"], ["--plot", "/no/such/a.png"]]
)
def test_the_command_refuses_in_a_sentence(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["image", *arguments])
    assert result.exit_code == 3
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_the_command_trains_makes_judges_and_judges_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(image_report, "Recipe", functools.partial(Recipe, batch=2, side=16, channels=(16, 16)))
    monkeypatch.setattr(study, "CHEATS", {"other class": adversaries.other_class})
    monkeypatch.setattr(study, "SAME_PRECISION", {"fp32, one by one": adversaries.one_by_one})
    monkeypatch.setattr(study, "SLOW", {"fp32, plain attention": adversaries.plain_attention})
    monkeypatch.setattr(study, "DRAWN", (study.OTHER_MODEL,))
    pictures, sheet, plot = (tmp_path / name for name in ("pictures.npz", "sheet.png", "plot.png"))
    common = ["image", "--steps", "3", "--checked", "4", "--seeds", "8", "--slow", "1", "--pictures", str(pictures)]

    made = CliRunner().invoke(app, [*common, "--json"])
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert report["statistics"]["pdq"]["cheats"][study.OTHER_SEED]["majority"]["rejected"]["share"] == 1
    assert report["statistics"]["pdq"]["collisions"]["intra_class"]["mixed precision"]["of"] == 10 * 8 * 7 // 2

    judged = CliRunner().invoke(app, [*common, "--sheet", str(sheet), "--plot", str(plot)])
    assert judged.exit_code == 0, judged.output
    assert "published 99.89%" in judged.stdout
    with Image.open(sheet) as drawn, Image.open(plot) as plotted:
        assert drawn.size == (2 * 16 * 8, 2 * 16 * 10)
        assert min(plotted.size) > 100
