"""What comes in and goes out beside the body."""

from __future__ import annotations

import re

from aiohttp import web

from orchestrator.dispatch.ask import Decided, Outcome
from orchestrator.dispatch.limits import Left

BEARER = "bearer "
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def api_key(request: web.Request) -> str:
    """The key that the request carries, or an empty text. The one place that looks for it."""
    value = request.headers.get("authorization", "")
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else ""


def trace(request: web.Request) -> str:
    """The caller's traceparent (W3C Trace Context), or an empty text where it sent none or a malformed one."""
    value = request.headers.get("traceparent", "")
    return value if _TRACEPARENT.fullmatch(value) else ""


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
        "x-ratelimit-limit-requests": str(left.limit_requests),
        "x-ratelimit-remaining-requests": str(left.remaining_requests),
        "x-ratelimit-limit-tokens": str(left.limit_tokens),
        "x-ratelimit-remaining-tokens": str(left.remaining_tokens),
    }


def cache_word(decided: Decided, outcome: Outcome) -> str:
    """hit, miss or off."""
    if outcome.cached:
        return "hit"
    return "off" if decided.decision.cache.value == "none" or decided.admitted.ask.no_store else "miss"
