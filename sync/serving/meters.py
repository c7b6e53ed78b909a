"""The metrics of a request's life, at hub and site alike. Labels are of small, closed sets."""

from __future__ import annotations

import time

from sync.kit.metrics import Registry
from sync.serving.outcome import Outcome
from sync.wire import tasks
from sync.wire.levels import Level

STAGES = ("admit", "prepare", "decide", "run", "deliver")
OUTCOMES = ("answered", "denied", "refused", "failed", "cancelled")
MODEL_STATES = ("ran", "not_needed", "over_budget", "absent")


class Meters:
    """The counters. Children are looked up once: a look-up by label costs as much as the count itself."""

    def __init__(self, registry: Registry) -> None:
        requests = registry.counter("ringfence_requests_total", "Requests by task and outcome.", ("task", "outcome"))
        self._refusals = registry.counter("ringfence_refusals_total", "Requests that were not served, by code.", ("code",))
        tokens = registry.counter("ringfence_tokens_total", "Tokens by direction.", ("direction",))
        levels = registry.counter("ringfence_levels_total", "Requests by the level found.", ("level",))
        stages = registry.seconds("ringfence_stage_seconds", "Seconds by stage.", ("stage",))
        models = registry.counter(
            "ringfence_classifier_model_total", "Requests by whether the classifier's model looked.", ("model",)
        )
        self._cached = registry.counter("ringfence_cache_hits_total", "Requests answered from an agent's cache.")
        self._requests = {(t, o): requests.labels(t, o) for t in tasks.REQUESTS for o in OUTCOMES}
        self._prompt_tokens, self._completion_tokens = tokens.labels("prompt"), tokens.labels("completion")
        self._levels = {level: levels.labels(level.label) for level in Level}
        self._models = {state: models.labels(state) for state in MODEL_STATES}
        self._stages = {name: stages.labels(name) for name in STAGES}

    @staticmethod
    def now() -> float:
        """Return the clock that stages are timed by, in seconds."""
        return time.perf_counter()

    def took(self, stage: str, since: float) -> None:
        """Count a stage that began at `since` (seconds of `now`) and ends now."""
        self._stages[stage].observe(time.perf_counter() - since)

    def decided(self, level: Level, model: str) -> None:
        """Count a decision: its level, and whether the classifier's model looked."""
        self._levels[level].inc()
        self._models[model].inc()

    def ended(self, task: str, word: str, outcome: Outcome) -> None:
        """Count a request that is over, and the tokens that it has used."""
        self._requests[task, word].inc()
        self._prompt_tokens.inc(outcome.prompt_tokens)
        self._completion_tokens.inc(outcome.completion_tokens)
        if outcome.cached:
            self._cached.inc()

    def refused(self, code: str) -> None:
        """Count a request that was answered with an error. `code`: of the table of codes, a closed set."""
        self._refusals.labels(code).inc()
