"""What goes out beside the body."""

from __future__ import annotations

from orchestrator.dispatch.ask import Decided, Outcome
from sync.serving.api import told
from sync.serving.limits import Left


def of(decided: Decided, outcome: Outcome, left: Left) -> dict[str, str]:
    """Where the request ran and why, and what is left of the tenant's limits."""
    choice = outcome.choice
    return {
        "x-ringfence-level": decided.decision.level.label,
        "x-ringfence-decision": decided.id,
        "x-ringfence-zone": choice.zone.value if choice else "",
        "x-ringfence-region": choice.region if choice else "",
        "x-ringfence-agent": choice.agent if choice else "",
        "x-ringfence-categories": ",".join(decided.assessment.categories),
        "x-ringfence-cache": cache_word(decided, outcome),
        **told.limits(left),
    }


def cache_word(decided: Decided, outcome: Outcome) -> str:
    """hit, miss or off."""
    if outcome.cached:
        return "hit"
    return "off" if decided.decision.cache.value == "none" or decided.admitted.ask.no_store else "miss"
