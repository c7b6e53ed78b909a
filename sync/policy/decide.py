"""What may happen with a request: zones, regions, cache scope and deployments, and the reasons, from the bundle alone.

Invariants, each with a test of its words:
- a higher level never admits more places than a lower one;
- a rule only narrows;
- a decision that is not allowed admits no place, and says why;
- the same bundle and the same facts give the same decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync.bundle.snapshot import Deployment, Model, Rule, Snapshot, Tenant
from sync.kit import errors
from sync.kit.ids import Region
from sync.wire.levels import CacheScope, Level, Zone


class PolicyDenied(errors.Refused):
    """No place may process this request; `reasons` say why."""

    code = "policy_denied"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a policy may look at."""

    level: Level
    categories: frozenset[str] = frozenset()
    roles: tuple[str, ...] = ()
    read_whole: bool = True
    """Whether every text was read to its end: what was not cannot be redacted."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One step of a decision: the rule's id, and a sentence for people."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What may happen. `zones` and `deployments` are in the tenant's order of preference."""

    allowed: bool
    level: Level
    zones: tuple[Zone, ...]
    regions: tuple[Region, ...]
    cache: CacheScope
    deployments: tuple[Deployment, ...]
    reasons: tuple[Reason, ...]
    bundle_serial: int
    redact: tuple[Zone, ...] = ()
    """The zones in which what was found is replaced before the request runs there."""


CACHE_BY_LEVEL = {
    Level.PUBLIC: CacheScope.TENANT,
    Level.INTERNAL: CacheScope.TENANT,
    Level.CONFIDENTIAL: CacheScope.PRINCIPAL,
    Level.RESTRICTED: CacheScope.NONE,
}


REMEMBERED = 10_000
"""Decisions kept for one bundle: there are few tenants × levels × sets of categories × models."""


def decide(snapshot: Snapshot, tenant: Tenant, facts: Facts, model: Model | None) -> Decision:
    """The decision for one request. `model` None: where could any model run?"""
    key = (tenant.id, facts, model.name if model else None)
    known = snapshot.decided.get(key) if snapshot.tenants.get(tenant.id) is tenant else None
    if isinstance(known, Decision):
        return known
    decision = _decide(snapshot, tenant, facts, model)
    if len(snapshot.decided) < REMEMBERED and snapshot.tenants.get(tenant.id) is tenant:
        snapshot.decided[key] = decision
    return decision


def _decide(snapshot: Snapshot, tenant: Tenant, facts: Facts, model: Model | None) -> Decision:
    level = max(facts.level, tenant.floor)
    zones, regions, reasons = _by_route(snapshot, tenant, level)
    if tenant.floor > facts.level:
        reasons.insert(0, Reason("tenant.security_level", f"the tenant's floor raises the level to {level.label}"))
    for rule in tenant.rules:
        if not _matches(rule, level, facts, model):
            continue
        reasons.append(Reason(f"rule.{rule.id}", rule.why))
        if rule.deny:
            return _refused(snapshot, level, reasons)
        if rule.zones:
            zones = [zone for zone in zones if zone in rule.zones]
        if rule.jurisdictions:
            regions = [r for r in regions if snapshot.regions[r] in rule.jurisdictions]
    redact = tuple(zone for zone in zones if tenant.redaction.mode and zone in tenant.redaction.zones)
    if redact and not facts.read_whole:
        zones, redact = [zone for zone in zones if zone not in redact], ()
        reasons.append(Reason("tenant.redaction", _UNREAD))
    deployments = _deployments(model, zones)
    if model is not None and not deployments:
        where = ", ".join(zones) or "no zone"
        reasons.append(Reason("model.deployments", f"{level.label} admits {where}; {model.name} is deployed elsewhere"))
    if not zones or not regions:
        reasons.append(Reason("policy.empty", "no zone or region is left that all of these admit"))
    if not zones or not regions or (model is not None and not deployments):
        return _refused(snapshot, level, reasons)
    if redact:
        reasons.append(Reason("tenant.redaction", f"in {_words(redact)}, what was found is taken out: {tenant.redaction.mode}"))
    return Decision(
        redact=redact,
        allowed=True,
        level=level,
        zones=tuple(zones),
        regions=tuple(regions),
        cache=CACHE_BY_LEVEL[level] if tenant.cache_ttl_s else CacheScope.NONE,
        deployments=deployments,
        reasons=tuple(reasons),
        bundle_serial=snapshot.serial,
    )


_UNREAD = "the text was not read to its end, so nothing can be taken out of it for a zone that redacts"


def _by_route(snapshot: Snapshot, tenant: Tenant, level: Level) -> tuple[list[Zone], list[Region], list[Reason]]:
    """What the routes of this level and of every lower one admit: so a higher level can only admit less."""
    zones = list(tenant.route(level).zones)
    regions = list(snapshot.regions)
    if tenant.jurisdictions:
        regions = [r for r in regions if snapshot.regions[r] in tenant.jurisdictions]
    for lower in Level:
        if lower > level:
            break
        route = tenant.route(lower)
        zones = [zone for zone in zones if zone in route.zones]
        if route.jurisdictions:
            regions = [r for r in regions if snapshot.regions[r] in route.jurisdictions]
    why = f"{level.label} may run in {_words(zones)}"
    places = sorted({snapshot.regions[r] for r in regions})
    if set(regions) != set(snapshot.regions):
        why += f", in jurisdiction {_words(places)}"
    return zones, regions, [Reason(f"routing.{level.label}", why)]


def _matches(rule: Rule, level: Level, facts: Facts, model: Model | None) -> bool:
    return (
        level >= rule.at_least
        and (not rule.categories or not facts.categories.isdisjoint(rule.categories))
        and (not rule.models or (model is not None and model.name in rule.models))
        and (not rule.roles or not set(facts.roles).isdisjoint(rule.roles))
    )


def _deployments(model: Model | None, zones: Iterable[Zone]) -> tuple[Deployment, ...]:
    """The model's deployments in these zones, the preferred zone's first, each narrowed to what is admitted."""
    if model is None:
        return ()
    found = [Deployment(d.folder, (zone,)) for zone in zones for d in model.deployments if zone in d.zones]
    return tuple(found)


def _refused(snapshot: Snapshot, level: Level, reasons: list[Reason]) -> Decision:
    return Decision(False, level, (), (), CacheScope.NONE, (), tuple(reasons), snapshot.serial)


def _words(items: Iterable[str]) -> str:
    return ", ".join(items) or "no place"
