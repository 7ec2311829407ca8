"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from edgekit.serving.models import Models, ServedModel

_LABELS = ("model", "version")
_SECONDS = (*(base * 10.0**power for power in range(-4, 1) for base in (1, 2, 5)), 10.0)  # from 0.1 ms to 10 s


@dataclass(frozen=True)
class Page:
    """One reading."""

    content: bytes
    media_type: str


class Metrics:
    """Counters of one server."""

    def __init__(self, models: Models) -> None:
        """Of these models."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "edgekit_requests", "Inference requests by HTTP status.", (*_LABELS, "code"), registry=self._registry
        )
        self._request_seconds = Histogram(
            "edgekit_request_seconds", "Of answered requests, from their headers to the answer.", _LABELS,
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._inference_seconds = Histogram(
            "edgekit_inference_seconds", "Of the model alone.", _LABELS, buckets=_SECONDS, registry=self._registry
        )
        in_flight = Gauge("edgekit_requests_in_flight", "Running and waiting.", _LABELS, registry=self._registry)
        info = Gauge(
            "edgekit_model_info", "What runs.", (*_LABELS, "variant", "engine", "accelerator"), registry=self._registry
        )
        for model in models.all:
            in_flight.labels(*_of(model)).set_function(partial(getattr, model, "in_flight"))
            choice = model.choice
            info.labels(*_of(model), choice.variant, choice.engine, choice.accelerator).set(1)
        ProcessCollector(registry=self._registry)

    def answered(self, model: ServedModel, code: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(*_of(model), str(code)).inc()
        self._request_seconds.labels(*_of(model)).observe(seconds)

    @contextmanager
    def inference(self, model: ServedModel) -> Iterator[None]:
        """Time the model alone; from any thread."""
        start = perf_counter()
        yield
        self._inference_seconds.labels(*_of(model)).observe(perf_counter() - start)

    def page(self) -> Page:
        """The text format."""
        return Page(generate_latest(self._registry), CONTENT_TYPE_LATEST)


def _of(model: ServedModel) -> tuple[str, str]:
    return model.manifest.name, model.manifest.version
