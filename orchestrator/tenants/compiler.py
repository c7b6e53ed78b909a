"""From a document, keys and agents to the bundle that decisions are made from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.tenants import document as documents
from sync.bundle import snapshot
from sync.bundle.snapshot import Bundle
from sync.kit.ids import ModelName, Region, SiteId, TenantId
from sync.wire.levels import Level


def compile_bundle(
    document: documents.Document,
    *,
    serial: int,
    issued: float,
    keys: Sequence[snapshot.Key],
    agents: Sequence[snapshot.Agent],
    content_key: Callable[[TenantId], bytes],
    hub_key: bytes,
) -> Bundle:
    """The bundle of everything. Agents at sites, and keys of tenants, that the document no longer has are left out.

    `content_key` gives the public key that a tenant's contents are sealed to; requests to the hub are sealed to `hub_key`.
    """
    tenants = {tenant.id for tenant in document.tenants}
    return Bundle(
        serial=serial,
        issued=issued,
        tenants=tuple(_tenant(tenant, content_key) for tenant in document.tenants),
        keys=tuple(key for key in keys if key.tenant in tenants),
        models=tuple(
            snapshot.Model(
                ModelName(name),
                model.task,
                tuple(snapshot.Deployment(d.folder, tuple(d.zones)) for d in model.deployments),
            )
            for name, model in document.models.items()
        ),
        sites=tuple(snapshot.Site(SiteId(name), Region(site.region), site.jurisdiction) for name, site in document.sites.items()),
        agents=tuple(agent for agent in agents if agent.site in document.sites),
        hub_key=hub_key,
    )


def _tenant(tenant: documents.Tenant, content_key: Callable[[TenantId], bytes]) -> snapshot.Tenant:
    limit = tenant.rate_limit
    routes = tuple(
        snapshot.Route(level, tuple(route.zones), tuple(route.jurisdictions))
        for level in Level
        for route in (getattr(tenant.routing, level.label),)
    )
    return snapshot.Tenant(
        id=TenantId(tenant.id),
        name=tenant.name or tenant.id,
        allowed_models=tuple(ModelName(name) for name in tenant.allowed_models),
        floor=tenant.security_level,
        limits=snapshot.Limits(limit.requests_per_minute, limit.tokens_per_minute, limit.concurrent, tenant.max_tokens_per_request),
        routes=routes,
        rules=tuple(_rule(rule) for rule in tenant.rules),
        jurisdictions=tuple(tenant.jurisdictions),
        industry=tenant.industry,
        compliance=tuple(tenant.compliance),
        cache_ttl_s=tenant.cache_ttl_seconds,
        grace_s=tenant.offline_grace_hours * 3600,
        sites=tuple(SiteId(site) for site in tenant.sites),
        classification=tenant.classification.compiled(),
        redaction=snapshot.Redaction(tenant.redaction.mode.value, tuple(tenant.redaction.zones))
        if tenant.redaction
        else snapshot.Redaction(),
        retention=snapshot.Retention(
            days=tuple(tenant.retention.levels.get(level, tenant.retention.days) for level in Level),
            contents=tenant.retention.content == "encrypted",
            key=content_key(TenantId(tenant.id)),
        ),
        forward_at_most=tenant.forward_at_most,
    )


def _rule(rule: documents.Rule) -> snapshot.Rule:
    return snapshot.Rule(
        id=rule.id,
        why=rule.why,
        deny=rule.deny,
        at_least=rule.at_least,
        categories=tuple(rule.categories),
        models=tuple(ModelName(name) for name in rule.models),
        roles=tuple(rule.roles),
        zones=tuple(rule.zones),
        jurisdictions=tuple(rule.jurisdictions),
    )
