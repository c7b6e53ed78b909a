"""The bundle: what tenants may do, on which models, where; compiled by the hub, signed, and read by hub and agents alike.

Invariants, each with a test of its words:
- bytes are verified under the hub's key before they are parsed;
- a serial never goes back;
- a site's bundle names only the tenants that the site serves.
"""

from __future__ import annotations

import functools
from typing import ClassVar

from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, KeyId, ModelName, PrincipalId, Region, SiteId, TenantId
from sync.wire import codec
from sync.wire.codec import KIB, MIB
from sync.wire.levels import Level, Zone
from sync.wire.types import Bool, Bytes, Closed, Count, Int, Str, always, replace

MAX_BUNDLE = 32 * MIB


class Route(Closed, frozen=True):
    """Where one level may run: zones in the tenant's order of preference; jurisdictions, none meaning any."""

    level: Level
    zones: tuple[Zone, ...]
    jurisdictions: tuple[Str, ...]


class Rule(Closed, frozen=True, kw_only=True):
    """Narrows or denies what it matches. Each empty condition matches all; the filled ones must all hold."""

    id: Str
    why: Str
    deny: Bool
    at_least: Level
    categories: tuple[Str, ...]
    models: tuple[ModelName, ...]
    roles: tuple[Str, ...]
    zones: tuple[Zone, ...]
    jurisdictions: tuple[Str, ...]


class Limits(Closed, frozen=True):
    """What a tenant may use: a minute is a sliding one (token bucket); 0 means none at all."""

    requests_per_minute: Int
    tokens_per_minute: Int
    concurrent: Int
    max_tokens_per_request: Int


class Recognizer(Closed, frozen=True, kw_only=True):
    """A tenant's own kind of finding: a pattern in RE2's syntax, and words of which one must stand near."""

    name: Str
    type: Str
    category: Str
    pattern: Str
    score: float
    context: tuple[Str, ...]
    whole_words: Bool


class WordList(Closed, frozen=True):
    """Words and phrases that are always found, as this category."""

    name: Str
    category: Str
    entries: tuple[Str, ...]


class LevelFor(Closed, frozen=True):
    """The level that a category or an entity type has for a tenant."""

    name: Str
    level: Level


class Classification(Closed, frozen=True, kw_only=True):
    """What a tenant changes of the classifier.

    `budget_words`: words of one request that the model reads; 0 for the classifier's own number.
    `budget_ms` is written for agents of 0.1, which count milliseconds and know no words; nothing here
    reads it.
    """

    recognizers: tuple[Recognizer, ...] = always(())
    deny: tuple[WordList, ...] = always(())
    allow: tuple[Str, ...] = always(())
    phone_regions: tuple[Str, ...] = always(())
    disabled: tuple[Str, ...] = always(())
    categories: tuple[LevelFor, ...] = always(())
    types: tuple[LevelFor, ...] = always(())
    together: Int = always(2)
    many: Int = always(5)
    model: Bool = always(True)
    budget_ms: Int = always(250)
    over_budget: Level = always(Level.RESTRICTED)
    # Not the number itself: an int this small is one object, and only what *is* the default is left out of a frame.
    budget_words: Count = 0


class Redaction(Closed, frozen=True):
    """In these zones what was found is replaced before a request runs there. `mode`: empty for none."""

    mode: Str = always("")
    zones: tuple[Zone, ...] = always(())


class Retention(Closed, frozen=True):
    """How many days records are kept, by level; and the public key that contents are sealed to, where they are retained at all."""

    days: tuple[Int, ...] = always(())
    contents: Bool = always(False)
    key: Bytes = always(b"")

    def keeps(self, level: Level, age_s: float) -> bool:
        """Whether a record of this level and age is still to be kept."""
        return not self.days or age_s < self.days[level] * 86_400


class Tenant(Closed, frozen=True, kw_only=True):
    """A customer organisation, or a unit of one.

    `forward_at_most`: what came to a site and is more sensitive is not sent on over the hub.
    """

    id: TenantId
    name: Str
    allowed_models: tuple[ModelName, ...]
    floor: Level
    limits: Limits
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    jurisdictions: tuple[Str, ...]
    industry: Str
    compliance: tuple[Str, ...]
    cache_ttl_s: Int
    grace_s: Int
    sites: tuple[SiteId, ...]
    classification: Classification = always(Classification())
    redaction: Redaction = always(Redaction())
    retention: Retention = always(Retention())
    forward_at_most: Level = always(Level.RESTRICTED)

    def route(self, level: Level) -> Route:
        """The route of this level. Every compiled tenant has one a level."""
        return self.routes[level]


class Key(Closed, frozen=True, kw_only=True):
    """An API key as its digest: nobody can make the key from it."""

    id: KeyId
    digest: Bytes
    tenant: TenantId
    principal: PrincipalId
    roles: tuple[Str, ...]
    expires: float


class Deployment(Closed, frozen=True):
    """One way to serve a model: a folder of the agents' repositories, in these zones."""

    folder: Str
    zones: tuple[Zone, ...]


class Model(Closed, frozen=True):
    """A name that apps ask for. `task`: generate, embed or classify."""

    name: ModelName
    task: Str
    deployments: tuple[Deployment, ...]


class Site(Closed, frozen=True):
    """One installation in a region."""

    id: SiteId
    region: Region
    jurisdiction: Str


class Agent(Closed, frozen=True, kw_only=True):
    """The hub's record of an agent: its zone and site come from here, never from what it claims."""

    id: AgentId
    site: SiteId
    zone: Zone
    signing_key: Bytes
    sealing_key: Bytes
    tenants: tuple[TenantId, ...] = ()
    """Whose requests it may run; empty for all that its site serves."""


class Bundle(Closed, frozen=True, kw_only=True):
    """All that a decision needs. `issued` is seconds since 1970; `hub_key` is what sites seal requests to the
    hub to; `site` whose bundle it is, empty for the hub's own.
    """

    KIND: ClassVar[str] = "bundle"
    CAP: ClassVar[int] = MAX_BUNDLE
    serial: Int
    issued: float
    tenants: tuple[Tenant, ...]
    keys: tuple[Key, ...]
    models: tuple[Model, ...]
    sites: tuple[Site, ...]
    agents: tuple[Agent, ...]
    hub_key: Bytes = always(b"")
    site: Str = always("")


class Signed(Closed, frozen=True):
    """A bundle's exact bytes and the hub's signature over them."""

    KIND: ClassVar[str] = "signed_bundle"
    CAP: ClassVar[int] = MAX_BUNDLE + 4 * KIB
    bundle: Bytes
    signature: Bytes


class Snapshot:
    """A bundle with its look-up tables, for the hot path."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.serial = bundle.serial
        self.tenants = {tenant.id: tenant for tenant in bundle.tenants}
        self.keys = {key.id: key for key in bundle.keys}
        self.models = {model.name: model for model in bundle.models}
        self.sites = {site.id: site for site in bundle.sites}
        self.agents = {agent.id: agent for agent in bundle.agents}
        self.decided: dict[object, object] = {}
        """What `decide` has worked out for this bundle: it is pure, so the same facts need no second time."""

        self.profiles: dict[TenantId, object] = {}
        """What the classifier has compiled of each tenant's settings."""

        self.principals: dict[bytes, object] = {}
        """Whom `authenticate` has found for the digest of a key."""

    @functools.cached_property
    def regions(self) -> dict[Region, str]:
        """The jurisdiction of each region that has a site."""
        return {site.region: site.jurisdiction for site in self.bundle.sites}

    def region_of(self, agent: Agent) -> Region:
        return self.sites[agent.site].region


EMPTY = Snapshot(Bundle(serial=0, issued=0.0, tenants=(), keys=(), models=(), sites=(), agents=()))


def sign(bundle: Bundle, signer: signing.Signer) -> bytes:
    """The signed frame of a bundle."""
    data = codec.encode(bundle)
    return codec.encode(Signed(data, signer.sign(signing.BUNDLE, data)))


def open_signed(frame: bytes, hub: signing.PublicKey, *, newer_than: int) -> Snapshot:
    """The snapshot in a signed frame. Raises Corrupt where it is forged, damaged, or not newer than the one in use."""
    signed = codec.decode(frame, Signed)
    signing.verify(hub, signing.BUNDLE, signed.bundle, signed.signature)
    bundle = codec.decode(signed.bundle, Bundle)
    if bundle.serial <= newer_than:
        raise errors.Corrupt(
            f"A bundle of serial {bundle.serial} came after {newer_than}: a serial never goes back.",
            code="stale_bundle",
        )
    return Snapshot(bundle)


def serial_of(frame: bytes, hub: signing.PublicKey) -> int:
    """The serial of a bundle that the hub has signed. Raises Corrupt."""
    signed = codec.decode(frame, Signed)
    signing.verify(hub, signing.BUNDLE, signed.bundle, signed.signature)
    return codec.decode(signed.bundle, Bundle).serial


def for_site(bundle: Bundle, site: SiteId) -> Bundle:
    """What one site needs to know: the tenants that it serves, with its share of their limits, their keys, and its own agents."""
    tenants = tuple(_shared(t, len(bundle.sites)) for t in bundle.tenants if not t.sites or site in t.sites)
    served = {t.id for t in tenants}
    used = {name for t in tenants for name in t.allowed_models}
    return replace(
        bundle,
        site=site,
        tenants=tenants,
        keys=tuple(k for k in bundle.keys if k.tenant in served),
        models=tuple(m for m in bundle.models if m.name in used),
        agents=tuple(a for a in bundle.agents if a.site == site),
    )


def _shared(tenant: Tenant, all_sites: int) -> Tenant:
    """A tenant whose rates are divided among the sites that serve it: cut off from each other, they use no more together."""
    count = len(tenant.sites) or all_sites
    limits = tenant.limits
    share = replace(
        limits,
        requests_per_minute=-(-limits.requests_per_minute // count),
        tokens_per_minute=-(-limits.tokens_per_minute // count),
    )
    return replace(tenant, limits=share)
