"""What the classifier must know of a tenant, worked out once for each bundle; and where it does its work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from classifiers import tenant as tenant_profile
from classifiers.engine import Classifier
from classifiers.profile import Profile
from classifiers.verdict import Assessment
from sync.bundle.snapshot import Snapshot, Tenant
from sync.policy.decide import CACHE_BY_LEVEL
from sync.wire.contexts import Context
from sync.wire.levels import Level

QUICK_CHARACTERS = 4_000
"""Texts up to this long are classified on the event loop where the model need not read them: the patterns take 0.1 ms."""
INLINE_CHARACTERS = 200
"""Texts up to this long are classified on the event loop; longer ones on a thread, as the model takes 10 ms for 2 KB."""


async def assess(
    classifier: Classifier,
    texts: Sequence[str],
    settings: Profile,
    *,
    all_spans: bool = False,
    contexts: Sequence[Context] = (),
) -> Assessment:
    """Return what the classifier finds, without holding up the event loop. contexts: as in Classifier.assess."""
    size = sum(map(len, texts)) + sum(len(context.text) for context in contexts)
    if size <= INLINE_CHARACTERS or (size <= QUICK_CHARACTERS and classifier.is_quick(texts, settings)):
        return classifier.assess(texts, settings, all_spans=all_spans, contexts=contexts)
    return await asyncio.to_thread(classifier.assess, texts, settings, all_spans=all_spans, contexts=contexts)


def of(snapshot: Snapshot, tenant: Tenant) -> Profile:
    """The tenant's profile."""
    known = snapshot.profiles.get(tenant.id) if snapshot.tenants.get(tenant.id) is tenant else None
    if isinstance(known, Profile):
        return known
    made = tenant_profile.of_tenant(tenant.classification, highest_distinguished(tenant))
    if snapshot.tenants.get(tenant.id) is tenant:
        snapshot.profiles[tenant.id] = made
    return made


def highest_distinguished(tenant: Tenant) -> Level:
    """The highest level that the tenant treats otherwise than the next lower one: more than it need not be found."""
    for level in reversed(Level):
        if level is Level.PUBLIC:
            break
        below = Level(level - 1)
        route, lower = tenant.route(level), tenant.route(below)
        if (route.zones, route.jurisdictions) != (lower.zones, lower.jurisdictions):
            return level
        if tenant.cache_ttl_s and CACHE_BY_LEVEL[level] is not CACHE_BY_LEVEL[below]:
            return level
        if any(rule.at_least == level for rule in tenant.rules):
            return level
    return Level.PUBLIC


def needs_all_spans(tenant: Tenant) -> bool:
    """Whether more than the level counts: rules look at categories, or what was found is taken out."""
    return bool(tenant.redaction.mode) or any(rule.categories for rule in tenant.rules)
