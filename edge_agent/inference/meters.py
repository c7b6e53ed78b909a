"""What is counted of inference, with waiting and computing apart. Labels are model names: a small, closed set."""

from __future__ import annotations

import time

from sync.kit.metrics import Registry

PHASES = ("queue", "prefill", "decode", "encode")


class InferenceMeters:
    """The metrics of all models of an agent."""

    def __init__(self, registry: Registry) -> None:
        label = ("model",)
        self.requests = registry.counter(
            "ringfence_agent_requests_total", "Requests to models, by how they ended.", ("model", "outcome")
        )
        self.queue = registry.seconds("ringfence_agent_queue_seconds", "Seconds that requests waited for their model.", label)
        self.first = registry.seconds("ringfence_agent_first_token_seconds", "Seconds from asking to the first token.", label)
        self.next = registry.seconds("ringfence_agent_next_token_seconds", "Seconds between tokens of one answer.", label)
        self.compute = registry.seconds("ringfence_agent_compute_seconds", "Seconds of one run of a model.", ("model", "phase"))
        self.tokens = registry.counter("ringfence_agent_tokens_total", "Tokens by direction.", ("model", "direction"))
        self.batch = registry.sizes("ringfence_agent_batch_rows", "Rows of one run of a model.", label)
        self.cancels = registry.counter(
            "ringfence_agent_cancels_total", "Requests that were cancelled, by where.", ("model", "phase")
        )
        self.loads = registry.seconds("ringfence_agent_load_seconds", "Seconds that loading and warming a model took.", label)
        self.evictions = registry.counter(
            "ringfence_agent_evictions_total", "Models that were taken out of memory for others.", label
        )
        self.loaded_bytes = registry.gauge("ringfence_agent_model_bytes", "Bytes that a loaded model takes.", label)
        self.held_bytes = registry.gauge("ringfence_agent_kv_bytes", "Bytes of key-value caches of a loaded model.", label)
        self.waiting = registry.gauge("ringfence_agent_running", "Requests at work or waiting at a model.", label)

        self._models: dict[str, ModelMeters] = {}

    def of(self, model: str) -> ModelMeters:
        """One model's: the same each time."""
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = ModelMeters(self, model)
        return known


class ModelMeters:
    """One model's, looked up once: a look-up by label costs as much as the count itself."""

    def __init__(self, meters: InferenceMeters, model: str) -> None:
        self.moved_at = time.monotonic()
        """When something of this model's work was done last, by the monotonic clock: of one that hangs, nothing is."""
        self._queue = meters.queue.labels(model)
        self._first = meters.first.labels(model)
        self._next = meters.next.labels(model)
        self._batch = meters.batch.labels(model)
        self._compute = {phase: meters.compute.labels(model, phase) for phase in PHASES[1:]}
        self._tokens = {way: meters.tokens.labels(model, way) for way in ("prompt", "reused", "completion")}
        self._cancels = {phase: meters.cancels.labels(model, phase) for phase in PHASES}
        self._requests = {outcome: meters.requests.labels(model, outcome) for outcome in ("answered", "failed", "cancelled")}

    def queued(self, seconds: float) -> None:
        self._queue.observe(seconds)

    def first_token(self, seconds: float) -> None:
        self._first.observe(seconds)

    def next_token(self, seconds: float) -> None:
        self._next.observe(seconds)

    def prefilled(self, tokens: int, seconds: float) -> None:
        self.moved_at = time.monotonic()
        self._compute["prefill"].observe(seconds)
        self._tokens["prompt"].inc(tokens)

    def reused(self, tokens: int) -> None:
        self._tokens["reused"].inc(tokens)

    def stepped(self, rows: int, seconds: float) -> None:
        self.moved_at = time.monotonic()
        self._compute["decode"].observe(seconds)
        self._batch.observe(rows)
        self._tokens["completion"].inc(rows)

    def encoded(self, rows: int, tokens: int, seconds: float) -> None:
        self.moved_at = time.monotonic()
        self._compute["encode"].observe(seconds)
        self._batch.observe(rows)
        self._tokens["prompt"].inc(tokens)

    def moved(self) -> None:
        self.moved_at = time.monotonic()

    def cancelled(self, phase: str) -> None:
        self.moved_at = time.monotonic()
        self._cancels[phase].inc()

    def ended(self, outcome: str) -> None:
        self.moved_at = time.monotonic()
        self._requests[outcome].inc()
