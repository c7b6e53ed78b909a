"""How an agent comes to belong: by an invitation that it shows, or by a person who approves its request.

The same request and the same answer travel by network or by USB stick. The agent's private keys never leave it; its name, zone,
site and tenants are the invitation's or the person's, kept at the hub, and nothing of what it says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.fleet.invitations import Invitation
from sync.bundle.snapshot import Agent, Site
from sync.kit import errors, ids
from sync.kit.ids import AgentId, Region, SiteId, TenantId
from sync.wire import enrolment
from sync.wire.levels import Zone


@dataclass(frozen=True, slots=True)
class Certified:
    """An agent's last certificate: the digest of its key and of the one before, and when it was issued and ends."""

    key: bytes
    before: bytes
    issued: float
    expires: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """An agent's record. `locked`: why it is kept out for now, or empty."""

    agent: Agent
    certified: Certified
    locked: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an agent is to stand, and whose requests it is for; no tenants means all of its site's."""

    site: SiteId
    zone: Zone
    region: Region
    tenants: tuple[TenantId, ...]


class AgentStore(Protocol):
    """Where admitted agents are kept. All raise StoreUnavailable."""

    async def add(self, admitted: Admitted, *, at: float, replace: bool = False) -> None:
        """Raises Misconfigured where an agent of this name with other keys is there already, and is not to be replaced."""
        ...

    async def find(self, agent: AgentId) -> Admitted | None:
        """The agent, locked or not; None where it is not known, or revoked."""
        ...

    async def certify(self, agent: AgentId, was: bytes, now: Certified) -> bool:
        """Keeps a new certificate in place of the one with the key `was`; whether that was still the last one."""
        ...

    async def lock(self, agent: AgentId, why: str, *, at: float) -> bool:
        """Keeps an agent out: it gets no work, and the broker cuts it off."""
        ...

    async def unlock(self, agent: AgentId, *, at: float) -> bool: ...

    async def revoke(self, agent: AgentId, *, at: float) -> bool:
        """Whether there was such an agent."""
        ...

    async def find_revoked(self, agent: AgentId) -> Admitted | None:
        """The record of an agent that is revoked."""
        ...

    async def agents(self) -> list[Admitted]:
        """Those that are neither revoked nor locked."""
        ...


class InvitationStore(Protocol):
    """Where invitations are kept. All raise StoreUnavailable."""

    async def add(self, invitation: Invitation) -> None: ...

    async def find(self, invitation: str) -> Invitation | None: ...

    async def open(self, now: float) -> list[Invitation]:
        """Those that can still be used."""
        ...

    async def withdraw(self, agent: AgentId, *, at: float) -> bool:
        """Ends the open invitations of an agent that has not come; whether there was one."""
        ...

    async def use(self, invitation: str, admitted: Admitted, *, at: float) -> bool:
        """Takes the invitation and keeps the agent, both or neither; whether nobody had taken it before."""
        ...


def place(
    *, site: str, zone: str, region: str, tenants: Sequence[str], sites: dict[SiteId, Site], known: Sequence[TenantId]
) -> Place:
    """Where a person says that an agent is to stand. Raises Misconfigured naming what does not exist."""
    if zone not in list(Zone):
        raise errors.Misconfigured(f"The zone '{zone}' does not exist: use {', '.join(Zone)}.", code="bad_zone")
    found = sites.get(SiteId(site))
    if found is None:
        names = ", ".join(sorted(sites)) or "none yet: apply a configuration first"
        raise errors.Misconfigured(f"The site '{site}' is not configured; there are: {names}.", code="bad_site")
    if region and region != found.region:
        raise errors.Misconfigured(f"The site '{site}' is in {found.region}, and not in {region}.", code="bad_region")
    for tenant in tenants:
        if tenant not in known:
            raise errors.Misconfigured(f"There is no tenant '{tenant}': there are {', '.join(known)}.", code="no_tenant")
    return Place(found.id, Zone(zone), found.region, tuple(map(TenantId, tenants)))


def named(text: str) -> AgentId:
    """The id of an agent. Raises Misconfigured where the text cannot be one."""
    if not ids.is_name(text):
        raise errors.Misconfigured(
            f"'{text[:80]}' cannot name an agent: use lower-case letters, digits, '-' and '_', at most 63.", code="bad_name"
        )
    return AgentId(text)


def agent_of(request: enrolment.Request, name: AgentId, at: Place) -> Agent:
    """The record of a new agent."""
    return Agent(
        id=name, site=at.site, zone=at.zone, signing_key=request.signing_key, sealing_key=request.sealing_key, tenants=at.tenants
    )
