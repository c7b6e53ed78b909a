"""Bundles and tickets with everything that a test does not care about filled in."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from sync.bundle import snapshot
from sync.bundle.snapshot import Snapshot
from sync.kit.ids import AgentId, DecisionId, ModelName, PrincipalId, Region, RequestId, SiteId, TenantId
from sync.policy import api_key
from sync.wire import codec, types
from sync.wire.levels import CacheScope, Level, Zone
from sync.wire.messages import Run, Ticket

V = TypeVar("V")


def replaced(value: V, **changes: Any) -> V:
    """Return a value, of the wire or a dataclass, with other fields."""
    if isinstance(value, types.Closed):
        return types.replace(value, **changes)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


SITES = (
    snapshot.Site(SiteId("frankfurt"), Region("eu-central-1"), "eu"),
    snapshot.Site(SiteId("dublin"), Region("eu-west-1"), "eu"),
    snapshot.Site(SiteId("virginia"), Region("us-east-1"), "us"),
)
ROUTES = (
    snapshot.Route(Level.PUBLIC, (Zone.PUBLIC_CLOUD, Zone.PRIVATE_CLOUD, Zone.ON_PREMISE), ()),
    snapshot.Route(Level.INTERNAL, (Zone.PRIVATE_CLOUD, Zone.ON_PREMISE), ("eu",)),
    snapshot.Route(Level.CONFIDENTIAL, (Zone.PRIVATE_CLOUD, Zone.ON_PREMISE), ("eu",)),
    snapshot.Route(Level.RESTRICTED, (Zone.ON_PREMISE,), ("eu",)),
)


def tenant(name: str = "acme", **fields: object) -> snapshot.Tenant:
    known = {
        "id": TenantId(name), "name": name, "allowed_models": (ModelName("guide"),), "floor": Level.PUBLIC,
        "limits": snapshot.Limits(600, 100_000, 8, 256), "routes": ROUTES, "rules": (), "jurisdictions": (), "industry": "",
        "compliance": (), "cache_ttl_s": 60, "grace_s": 3600, "sites": (),
    }  # fmt: skip
    return snapshot.Tenant(**{**known, **fields})  # type: ignore[arg-type]


def rule(**fields: object) -> snapshot.Rule:
    known = {
        "id": "a-rule", "why": "because", "deny": False, "at_least": Level.PUBLIC, "categories": (), "models": (), "roles": (),
        "zones": (), "jurisdictions": (),
    }  # fmt: skip
    return snapshot.Rule(**{**known, **fields})  # type: ignore[arg-type]


def agent(name: str, site: str, zone: Zone, keys: object | None = None) -> snapshot.Agent:
    signing = keys.signer.public_key if keys else bytes(32)  # type: ignore[attr-defined]
    sealing = keys.opener.public_key if keys else bytes(32)  # type: ignore[attr-defined]
    return snapshot.Agent(id=AgentId(name), site=SiteId(site), zone=zone, signing_key=signing, sealing_key=sealing)


AGENTS = (
    agent("onprem", "frankfurt", Zone.ON_PREMISE),
    agent("private", "dublin", Zone.PRIVATE_CLOUD),
    agent("public", "virginia", Zone.PUBLIC_CLOUD),
)


def model(name: str = "guide", task: str = "generate", zones: tuple[Zone, ...] = tuple(Zone)) -> snapshot.Model:
    return snapshot.Model(ModelName(name), task, (snapshot.Deployment(name, zones),))


def bundle(**fields: object) -> snapshot.Bundle:
    known = {
        "serial": 1,
        "issued": 1_700_000_000.0,
        "tenants": (tenant(),),
        "keys": (),
        "models": (model(),),
        "sites": SITES,
        "agents": AGENTS,
    }
    return snapshot.Bundle(**{**known, **fields})  # type: ignore[arg-type]


def snap(**fields: object) -> Snapshot:
    return Snapshot(bundle(**fields))


def key(tenant_name: str = "acme", role: str = "user", expires: float = float("inf")) -> tuple[str, snapshot.Key]:
    text = api_key.mint()
    parsed = api_key.parse(text)
    assert parsed is not None
    return text, snapshot.Key(
        id=parsed.id,
        digest=parsed.digest,
        tenant=TenantId(tenant_name),
        principal=PrincipalId("app"),
        roles=(role,),
        expires=expires,
    )


def ticket(**fields: object) -> Ticket:
    known = {
        "tenant": TenantId("acme"), "principal": PrincipalId("app"), "level": Level.PUBLIC, "decision": DecisionId("dec_1"),
        "zones": tuple(Zone), "regions": tuple(site.region for site in SITES), "bundle_serial": 1, "expires": 1_700_000_100.0,
    }  # fmt: skip
    return Ticket(**{**known, **fields})  # type: ignore[arg-type]


def run(**fields: object) -> Run:
    known = {
        "request": RequestId("req_1"), "ticket": ticket(), "task": "generate", "model": ModelName("guide"), "folder": "guide",
        "payload": codec.pack(payload("hello")), "stream": False, "cache": CacheScope.TENANT, "cache_ttl_s": 60,
        "deadline": 1_700_000_060.0,
    }  # fmt: skip
    return Run(**{**known, **fields})  # type: ignore[arg-type]


def payload(text: str, **fields: object) -> dict[str, object]:
    known = {
        "messages": ({"role": "user", "content": text},),
        "max_tokens": 40,
        "temperature": 0.0,
        "top_p": None,
        "seed": None,
        "stop": (),
    }
    return {**known, **fields}


def later(run_message: Run, **fields: object) -> Run:
    return types.replace(run_message, **fields)
