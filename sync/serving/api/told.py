"""A decision as a client is told of it, at the hub and at a site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sync.kit.ids import AgentId, DecisionId
from sync.policy.decide import Decision
from sync.serving.limits import Left


def decision(made: Decision, number: DecisionId, categories: Sequence[str], plan: Iterable[AgentId]) -> dict[str, object]:
    """The answer of POST /v1/decisions."""
    return {
        "id": number,
        "allowed": made.allowed,
        "level": made.level.label,
        "categories": categories,
        "zones": made.zones,
        "regions": made.regions,
        "redact": [zone.value for zone in made.redact],
        "cache": made.cache.value,
        "deployments": [{"folder": d.folder, "zones": d.zones} for d in made.deployments],
        "plan": list(plan),
        "reasons": [{"rule": reason.rule, "why": reason.why} for reason in made.reasons],
        "bundle_serial": made.bundle_serial,
    }


def limits(left: Left) -> dict[str, str]:
    """What is left of a tenant's limits, as headers."""
    return {
        "x-ratelimit-limit-requests": str(left.limit_requests),
        "x-ratelimit-remaining-requests": str(left.remaining_requests),
        "x-ratelimit-limit-tokens": str(left.limit_tokens),
        "x-ratelimit-remaining-tokens": str(left.remaining_tokens),
    }
