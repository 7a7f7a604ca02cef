"""`GET /metrics` of a verifier, for Prometheus: how its batches settle, and what keeps its seats from signing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response

from trine_verifier.signing import Signing

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily


class SigningMetrics:
    """A collector of `prometheus_client`: reads what signing has counted since the process was started."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing

    def collect(self) -> Iterator[CounterMetricFamily]:
        signing = self._signing
        settled = "Batches with a seat of this verifier that were settled, by signatures or by votes"
        voted = "Seats that voted on the chain instead of signing"
        failed = "Exchanges with other seats that failed"
        yield _family("trine_batches_settled", settled, "by", signing.settled)
        yield _family("trine_seats_voted", voted, "why", signing.voted)
        yield _family("trine_exchanges_failed", failed, "reason", signing.failed)


def create_metrics_router(signing: Signing) -> APIRouter:
    """What is told holds no secret: anybody can count the same on the chain."""
    router = APIRouter()

    @router.get("/metrics")
    def metrics() -> Response:
        # Imported by who is asked for it.
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        registry = CollectorRegistry(auto_describe=False)
        registry.register(SigningMetrics(signing))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _family(name: str, what: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, what, labels=[label])
    for value, count in sorted(dict(counts).items()):
        family.add_metric([value], count)
    return family
