"""What goes out beside an answer, at hub and site alike: headers, the body of an explanation, a model's entry."""

from __future__ import annotations

from collections.abc import Iterable

from sync.bundle.snapshot import Model
from sync.serving.api import headers as incoming
from sync.serving.ask import Ask
from sync.serving.decided import Decided
from sync.serving.exchange import Exchange
from sync.serving.executor import Place
from sync.serving.limits import Left
from sync.serving.outcome import Outcome
from sync.serving.stages import Parts
from sync.wire.levels import CacheScope


def headers(parts: Parts, exchange: Exchange) -> dict[str, str]:
    """Return where the request ran and why, how it was read, and what is left of the tenant's limits."""
    decided, outcome, place = exchange.decided, exchange.outcome, exchange.outcome.place
    found = {
        "x-ringfence-level": (outcome.level or decided.decision.level).label,
        "x-ringfence-decision": outcome.decision or decided.id,
        "x-ringfence-zone": place.zone.value if place and place.zone else "",
        "x-ringfence-region": place.region or "" if place else "",
        "x-ringfence-agent": place.agent if place else "",
        "x-ringfence-categories": ",".join(decided.assessment.categories),
        "x-ringfence-classifier": decided.classifier,
        "x-ringfence-cache": cache_word(decided, outcome),
        **limits(parts.limits.left(decided.principal.tenant)),
    }
    if mode := parts.mode():
        found["x-ringfence-mode"] = mode
    return found | ignored(decided.ask)


def ignored(ask: Ask) -> dict[str, str]:
    """Return the header that names the fields which were taken and change nothing, or none."""
    return {"x-ringfence-ignored": incoming.ignored(ask.ignored)} if ask.ignored else {}


def cache_word(decided: Decided, outcome: Outcome) -> str:
    """Return hit, miss or off."""
    if outcome.cached:
        return "hit"
    return "off" if decided.decision.cache is CacheScope.NONE or decided.ask.no_store else "miss"


def limits(left: Left) -> dict[str, str]:
    """Return what is left of a tenant's limits, as headers."""
    return {
        "x-ratelimit-limit-requests": str(left.limit_requests),
        "x-ratelimit-remaining-requests": str(left.remaining_requests),
        "x-ratelimit-limit-tokens": str(left.limit_tokens),
        "x-ratelimit-remaining-tokens": str(left.remaining_tokens),
    }


def explanation(decided: Decided, plan: Iterable[Place]) -> dict[str, object]:
    """Return what would happen with a request, and why. plan: the places that would be tried.

    `plan` has the agents in their order; `forwarded` says that a site would send it on, and the hub would find them.
    """
    places = tuple(plan)
    made = decided.decision
    return {
        "id": decided.id,
        "allowed": made.allowed,
        "level": made.level.label,
        "categories": decided.assessment.categories,
        "classifier": decided.classifier,
        "zones": made.zones,
        "regions": made.regions,
        "redact": [zone.value for zone in made.redact],
        "cache": made.cache.value,
        "deployments": [{"folder": d.folder, "zones": d.zones} for d in made.deployments],
        "plan": [place.agent for place in places if not place.forwarded],
        "forwarded": any(place.forwarded for place in places),
        "reasons": [{"rule": reason.rule, "why": reason.why} for reason in made.reasons],
        "bundle_serial": made.bundle_serial,
    }


def model(known: Model) -> dict[str, object]:
    """Return a model's entry in OpenAI's list."""
    return {"id": known.name, "object": "model", "created": 0, "owned_by": "ringfence"}
