"""How well perceptual hashes tell an honest picture from a cheat's, and how often two pictures share one.

Pictures are made once (`collect`) and judged afterwards (`analyse`), so that a change of the question costs seconds.
Thresholds are fitted to the honest pictures of even seeds; every rate is of odd seeds only.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import binomtest, rankdata

from trine.errors import InvalidInput
from trine.protocol.verdict import Outcome
from trine_research.images import adversaries
from trine_research.images.adversaries import Maker
from trine_research.images.hashes import HashKind, hash_of
from trine_research.images.pipeline import ImageRequest, Pictures, PinnedPipeline
from trine_research.images.verdict import majority

PUBLISHED_DETECTION = 0.9989
PUBLISHED_COLLISION = 0.000267
"""The headline figures of the published study that this one is compared with (share; share of intra-class pairs)."""

POOL = "fp32"
"""Name of the reference pictures: fp32, in batches."""
ROUNDINGS: Mapping[str, Maker] = {
    "bf16": adversaries.rounded_to(torch.bfloat16),
    "fp16": adversaries.rounded_to(torch.float16),
}
COMMITTEE = (POOL, *ROUNDINGS)
SAME_PRECISION: Mapping[str, Maker] = {
    "fp32, one by one": adversaries.one_by_one,
    "fp32, plain attention": adversaries.plain_attention,
    "fp32, channels last": adversaries.channels_last,
}
SLOW: Mapping[str, Maker] = {
    "fp32, two threads": adversaries.on_threads(2),
    "bf16, CPU kernels": adversaries.native(torch.bfloat16),
}
"""Made of few seeds: two threads crawl on a busy machine, and few CPUs have instructions for bf16."""
CHEATS: Mapping[str, Maker] = {
    "other class": adversaries.other_class,
    "crop of a photograph": adversaries.photograph,
    "low resolution, enlarged": adversaries.low_resolution,
    "middle block pruned": adversaries.pruned,
    "3 steps": adversaries.fewer_steps(3),
    "5 steps": adversaries.fewer_steps(5),
    "8 steps": adversaries.fewer_steps(8),
    "DDPM, fresh noise": adversaries.ancestral,
    "DPM-Solver++, 10 steps": adversaries.dpm_solver(10),
    "DPM-Solver++, 5 steps": adversaries.dpm_solver(5),
    "int4 weights": adversaries.quantized(4),
    "int8 weights": adversaries.quantized(8),
    "10% perturbed weights": adversaries.perturbed(0.10),
    "1% perturbed weights": adversaries.perturbed(0.01),
}
OTHER_SEED, CACHED, OTHER_MODEL = "other seed", "cached, other class", "other model"
RE_ENCODED: Mapping[str, int] = {"JPEG, quality 90": 90, "JPEG, quality 50": 50}
WHOLE_PICTURE = (OTHER_SEED, CACHED, "other class", "crop of a photograph")
"""Cheats that hand out another picture: what the published detection rate is about."""

DRAWN = ("int8 weights", "int4 weights", "5 steps", "DPM-Solver++, 10 steps", OTHER_MODEL)
"""Cheats that the histograms show."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seeds of every class: `pool` in the reference, the first `checked` by everybody, the first `slow` by the slow."""

    pool: int = 150
    checked: int = 20
    slow: int = 2
    batch: int = 32

    def __post_init__(self) -> None:
        if not (4 <= self.checked <= 5_000 and 2 * self.checked <= self.pool <= 10_000):
            raise InvalidInput("study: 4 to 5,000 checked seeds, and a pool of twice as many at least, at most 10,000")
        if not (1 <= self.slow <= self.checked and 1 <= self.batch <= 1024):
            raise InvalidInput("study: slow seeds are 1 to the checked ones, batches hold 1 to 1024 pictures")


Collected = dict[str, Pictures]
"""(classes, seeds, height, width, 3) by who made them."""


def collect(
    pipeline: PinnedPipeline,
    model_id: bytes,
    other: PinnedPipeline,
    sizes: Sizes,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Collected:
    """All pictures, honest and cheating. `progress` gets the maker's name, pictures made and to be made."""
    labels = list(pipeline.config.classes)
    jobs: list[tuple[str, Maker, int]] = [(POOL, adversaries.honest, sizes.pool)]
    makers = {**ROUNDINGS, **SAME_PRECISION, **CHEATS, OTHER_MODEL: adversaries.replaced_by(other)}
    jobs += [(name, maker, sizes.checked) for name, maker in makers.items()]
    jobs += [(name, maker, sizes.slow) for name, maker in SLOW.items()]
    total, done = sum(seeds for _, _, seeds in jobs) * len(labels), 0
    collected: Collected = {}
    for name, maker, seeds in jobs:
        requests = [ImageRequest(model_id, label, seed) for label in labels for seed in range(seeds)]
        parts = []
        for start in range(0, len(requests), sizes.batch):
            progress(name, done, total)
            parts.append(maker(pipeline, requests[start : start + sizes.batch]))
            done += len(parts[-1])
        flat = np.concatenate(parts)
        collected[name] = flat.reshape(len(labels), seeds, *flat.shape[1:])
    progress("done", total, total)
    pool, checked = collected[POOL], sizes.checked
    collected[OTHER_SEED] = pool[:, checked : 2 * checked]
    collected[CACHED] = np.roll(pool, 1, axis=0)[:, checked : 2 * checked]
    for name, quality in RE_ENCODED.items():
        collected[name] = np.stack([adversaries.re_encoded(pictures, quality) for pictures in pool[:, :checked]])
    return collected


def save(collected: Collected, model_id: bytes, path: Path) -> None:
    """One compressed file, so that the same pictures can be judged again."""
    np.savez_compressed(path, allow_pickle=False, model_id=np.frombuffer(model_id, np.uint8), **collected)


def load(path: Path, model_id: bytes) -> Collected:
    """What `save` wrote. Raises InvalidInput for another file, or pictures of another model."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if stored["model_id"].tobytes() != model_id:
                raise InvalidInput(f"{path} holds pictures of another model; give another path")
            collected = {name: np.asarray(stored[name]) for name in stored.files if name != "model_id"}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} holds no pictures of a study: {error}") from None
    if not {POOL, *ROUNDINGS, *SAME_PRECISION, *SLOW, *CHEATS, OTHER_MODEL, OTHER_SEED, CACHED} <= collected.keys():
        raise InvalidInput(f"{path} lacks pictures that this study needs; give another path")
    return collected


# What is compared


@dataclass(frozen=True, slots=True)
class Statistic:
    """A distance between pictures, through features that are computed once a picture."""

    name: str
    features: Callable[[Pictures], NDArray[Any]]
    """(n, side, side, 3) to (n, features)."""
    metric: Literal["hamming", "euclidean"]
    """scipy's name."""
    scale: float
    """Times scipy's distance: bits, or grey levels."""
    unit: float
    """What noise may add that the sample was too small to show."""
    whole: bool
    """Distances are whole numbers."""

    def paired(self, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
        """Distance of each of `ours` from the one of `theirs` in its place."""
        if self.whole:
            return np.asarray((ours != theirs).sum(-1), dtype=np.float64)
        return np.asarray(self.scale * np.sqrt(((ours - theirs) ** 2).sum(-1)), dtype=np.float64)

    def all_pairs(self, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
        """Distance of each of `ours` from each of `theirs`."""
        found = np.asarray(self.scale * cdist(ours, theirs, self.metric), dtype=np.float64)
        return np.rint(found) if self.whole else found


def _hash_statistic(kind: HashKind) -> Statistic:
    def features(pictures: Pictures) -> NDArray[Any]:
        packed = [np.frombuffer(hash_of(picture, kind).bits, np.uint8) for picture in pictures]
        return np.unpackbits(np.stack(packed), axis=1).astype(bool)

    return Statistic(kind.label, features, "hamming", kind.bits, 1.0, True)


def _pixel_statistic() -> Statistic:
    def features(pictures: Pictures) -> NDArray[Any]:
        return pictures.reshape(len(pictures), -1) / math.sqrt(math.prod(pictures.shape[1:]))

    return Statistic("pixels", features, "euclidean", 1.0, 0.1, False)


STATISTICS = (_hash_statistic(HashKind.PHASH), _hash_statistic(HashKind.PDQ), _pixel_statistic())
"""The last is no hash: the root mean square of the pixels' differences, for a verifier who has the picture itself."""


# Judging


def analyse(collected: Collected) -> dict[str, Any]:
    """The report, ready for JSON: one entry a statistic, and the published figures."""
    classes, pool = collected[POOL].shape[:2]
    return {
        "classes": classes,
        "pool_seeds_per_class": pool,
        "checked_seeds_per_class": collected["bf16"].shape[1],
        "published": {"detection": PUBLISHED_DETECTION, "intra_class_collision": PUBLISHED_COLLISION},
        "statistics": {statistic.name: _judge(statistic, collected) for statistic in STATISTICS},
    }


def samples(collected: Collected) -> dict[str, dict[str, NDArray[np.float64]]]:
    """By statistic, the distances that a histogram shows: honest, a few cheats, and pairs of one class."""
    drawn: dict[str, dict[str, NDArray[np.float64]]] = {}
    for statistic in STATISTICS:
        features = {name: _features(statistic, collected[name]) for name in (*COMMITTEE, *DRAWN)}
        checked = features["bf16"].shape[1]
        reference = features[POOL][:, :checked]
        groups = {"honest bf16 and fp16": np.stack([statistic.paired(features[name], reference) for name in ROUNDINGS])}
        groups |= {name: statistic.paired(features[name], reference) for name in DRAWN}
        groups["pairs of one class"] = _pairs_of_one_class(statistic, features[POOL])
        drawn[statistic.name] = {name: values.ravel() for name, values in groups.items()}
    return drawn


def _judge(statistic: Statistic, collected: Collected) -> dict[str, Any]:
    features = {name: _features(statistic, pictures) for name, pictures in collected.items()}
    checked = features["bf16"].shape[1]
    references = {name: features[name][:, :checked] for name in COMMITTEE}

    def against(prover: str, verifier: str) -> NDArray[np.float64]:
        seeds = features[prover].shape[1]
        reference = references[verifier]
        return statistic.paired(features[prover][:, : min(seeds, checked)], reference[:, :seeds])

    same = np.stack([against(name, POOL) for name in SAME_PRECISION])
    mixed = np.stack([against(p, v) for p in COMMITTEE for v in COMMITTEE if p != v])
    bounds = {"fp32 with fp32": _fit(statistic, same), "mixed precision": _fit(statistic, mixed)}
    strict, lax = bounds["fp32 with fp32"], bounds["mixed precision"]

    provers = [name for name in features if name not in (*COMMITTEE, *SAME_PRECISION, *SLOW)]
    cheats = {}
    for name in provers:
        each = {verifier: against(name, verifier) for verifier in COMMITTEE}
        cheats[name] = {
            "distance": _summary(each[POOL]),
            "auc_same": _auc(_tested(same), _tested(each[POOL])),
            "auc_mixed": _auc(_tested(mixed), _tested(each[POOL])),
            "rejected_same": _rate(_tested(each[POOL]) > strict[1]),
            "rejected_mixed": _rate(_tested(each[POOL]) > lax[1]),
            "accepted_mixed": _rate(_tested(each[POOL]) <= lax[0]),
            "majority": _committee_rates(each, lax),
        }
    whole = [name for name in WHOLE_PICTURE if name in features]
    judged = [name for name in provers if name not in RE_ENCODED]
    return {
        "bounds": {name: {"accept": accept, "reject": reject} for name, (accept, reject) in bounds.items()},
        "honest": {
            "fp32 with fp32": {"distance": _summary(same), **_honest_rates(same, strict)},
            "mixed precision": {"distance": _summary(mixed), **_honest_rates(mixed, lax)},
            **{name: {"distance": _summary(against(name, POOL))} for name in (*SAME_PRECISION, *ROUNDINGS, *SLOW)},
            "majority": _committee_rates({v: against("bf16", v) for v in COMMITTEE}, lax),
        },
        "cheats": cheats,
        "headline": {
            "whole_picture_detection": _headline(features, whole, against, lax),
            "any_other_picture_detection": _substituted(statistic, features, lax[1]),
            "all_cheats_detection": _headline(features, judged, against, lax),
        },
        "collisions": _collisions(statistic, features[POOL], lax[0], strict[0]),
    }


def _fit(statistic: Statistic, honest: NDArray[np.float64]) -> tuple[float, float]:
    """(accept, reject) from the honest distances (…, seeds) of even seeds.

    A quarter and a half above the worst, and one unit and two for noise that the sample was too small to show.
    """
    worst = float(honest[..., ::2].max())
    accept, reject = 1.25 * worst + statistic.unit, 1.5 * worst + 2 * statistic.unit
    return (math.ceil(accept), math.ceil(reject)) if statistic.whole else (accept, reject)


def _tested(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Odd seeds, flat: nothing was fitted to them."""
    return distances[..., 1::2].ravel()


def _outcomes(distances: NDArray[np.float64], bounds: tuple[float, float]) -> list[Outcome]:
    accept, reject = bounds
    return [
        Outcome.ACCEPT if d <= accept else Outcome.REJECT if d > reject else Outcome.INCONCLUSIVE for d in distances
    ]


def _majorities(each: Mapping[str, NDArray[np.float64]], bounds: tuple[float, float]) -> list[Outcome]:
    seats = [_outcomes(_tested(each[verifier]), bounds) for verifier in COMMITTEE]
    return [majority(ballots) for ballots in zip(*seats, strict=True)]


def _committee_rates(each: Mapping[str, NDArray[np.float64]], bounds: tuple[float, float]) -> dict[str, Any]:
    settled = _majorities(each, bounds)
    return {
        "rejected": _rate([outcome is Outcome.REJECT for outcome in settled]),
        "accepted": _rate([outcome is Outcome.ACCEPT for outcome in settled]),
    }


def _headline(
    features: Mapping[str, NDArray[Any]],
    provers: Sequence[str],
    against: Callable[[str, str], NDArray[np.float64]],
    bounds: tuple[float, float],
) -> dict[str, Any]:
    """Share that a majority of three rejects, over all pictures of all these cheats together."""
    settled = [o for name in provers for o in _majorities({v: against(name, v) for v in COMMITTEE}, bounds)]
    return {"cheats": list(provers), **_rate([outcome is Outcome.REJECT for outcome in settled])}


def _substituted(statistic: Statistic, features: Mapping[str, NDArray[Any]], reject: float) -> dict[str, Any]:
    """Share that two of three reject when any other picture of the reference is handed out, of every class and seed.

    Every tested request with every other picture: many trials, but of few pictures, so not independent.
    """
    pool = features[POOL].reshape(-1, features[POOL].shape[-1])
    classes, seeds = features[POOL].shape[:2]
    tested = range(1, features["bf16"].shape[1], 2)
    places = [label * seeds + seed for label in range(classes) for seed in tested]
    against_each = np.zeros((len(places), len(pool)), dtype=np.int64)
    for verifier in COMMITTEE:
        own = features[verifier][:, tested].reshape(len(places), -1)
        against_each += statistic.all_pairs(own, pool) > reject
    others = np.ones_like(against_each, dtype=bool)
    others[np.arange(len(places)), places] = False
    return _rate(against_each[others] > len(COMMITTEE) // 2)


def _honest_rates(distances: NDArray[np.float64], bounds: tuple[float, float]) -> dict[str, Any]:
    tested = _tested(distances)
    return {"not_accepted": _rate(tested > bounds[0]), "rejected": _rate(tested > bounds[1])}


def _collisions(statistic: Statistic, pool: NDArray[Any], lax: float, strict: float) -> dict[str, Any]:
    """Pairs of reference pictures that one verdict would take for the same."""
    classes = len(pool)
    intra = _pairs_of_one_class(statistic, pool)
    inter = np.concatenate(
        [statistic.all_pairs(pool[a], pool[b]).ravel() for a in range(classes) for b in range(a + 1, classes)]
    )
    return {
        name: {
            "distance": _summary(pairs),
            "mixed precision": _rate(pairs <= lax),
            "fp32 with fp32": _rate(pairs <= strict),
        }
        for name, pairs in (("intra_class", intra), ("inter_class", inter))
    }


def _pairs_of_one_class(statistic: Statistic, pool: NDArray[Any]) -> NDArray[np.float64]:
    above = np.triu_indices(pool.shape[1], 1)
    return np.concatenate([statistic.all_pairs(each, each)[above] for each in pool])


def _rate(events: Any) -> dict[str, Any]:
    """Events, trials, share and its Clopper-Pearson interval at 95%."""
    flags = np.asarray(events, dtype=bool).ravel()
    count, trials = int(flags.sum()), int(flags.size)
    interval = binomtest(count, trials).proportion_ci(0.95, method="exact")
    return {"events": count, "of": trials, "share": count / trials, "low": interval.low, "high": interval.high}


def _auc(honest: NDArray[np.float64], cheating: NDArray[np.float64]) -> float:
    """Chance that a cheat's distance is over an honest one's; ties count half."""
    ranks = rankdata(np.concatenate([honest, cheating]))[len(honest) :]
    return float((ranks.sum() - len(cheating) * (len(cheating) + 1) / 2) / (len(honest) * len(cheating)))


def _summary(distances: NDArray[np.float64]) -> dict[str, float]:
    least, median, most = np.quantile(distances, [0, 0.5, 1])
    return {"least": float(least), "median": float(median), "most": float(most)}


def _features(statistic: Statistic, pictures: Pictures) -> NDArray[Any]:
    classes, seeds = pictures.shape[:2]
    flat = statistic.features(pictures.reshape(-1, *pictures.shape[2:]))
    return flat.reshape(classes, seeds, -1)
