"""Metrics in Prometheus' form. The door to prometheus-client."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.002, 0.01, 0.05, 0.2, 1, 5, 20, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Registry:
    """The metrics of one process. Labels are of small, closed sets: never a prompt, a key or a request id."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def counter(self, name: str, what: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, what, labels, registry=self._registry)

    def gauge(self, name: str, what: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, what, labels, registry=self._registry)

    def seconds(self, name: str, what: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(name, what, labels, registry=self._registry, buckets=SECONDS)

    def sizes(self, name: str, what: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(name, what, labels, registry=self._registry, buckets=SIZES)

    def exposition(self) -> bytes:
        """Everything, as Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
