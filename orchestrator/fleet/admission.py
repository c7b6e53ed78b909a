"""How an agent comes to belong: it asks with its public keys, a person admits it and says where it is.

The same bytes travel by network or by USB stick: a request file one way, an admission file back. The agent's private keys never
leave it, and its zone and site are what the person said, kept at the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sync.bundle.snapshot import Agent, Site
from sync.crypto import sealing, signing
from sync.kit import errors, ids
from sync.kit.ids import AgentId, SiteId
from sync.wire import enrolment
from sync.wire.levels import Zone


@dataclass(frozen=True, slots=True)
class Admitted:
    """An agent's record, and its password at the broker."""

    agent: Agent
    password: str


class AgentStore(Protocol):
    """Where admitted agents are kept. All raise StoreUnavailable."""

    async def add(self, admitted: Admitted, *, at: float) -> None:
        """Raises Misconfigured where an agent of this name with other keys is there already."""
        ...

    async def remove(self, agent: AgentId, *, at: float) -> bool:
        """Whether there was such an agent."""
        ...

    async def agents(self) -> list[Admitted]: ...


def admit(request: enrolment.Request, *, zone: str, site: SiteId, known_sites: dict[SiteId, Site], password: str) -> Admitted:
    """The record of a new agent. Raises Misconfigured where the name, zone or site is none."""
    if not ids.is_name(request.name):
        raise errors.Misconfigured(f"'{request.name[:80]}' cannot name an agent.", code="bad_name")
    if zone not in list(Zone):
        raise errors.Misconfigured(f"The zone '{zone}' does not exist: use {', '.join(Zone)}.", code="bad_zone")
    if site not in known_sites:
        names = ", ".join(sorted(known_sites)) or "none yet: apply a configuration first"
        raise errors.Misconfigured(f"The site '{site}' is not configured; there are: {names}.", code="bad_site")
    agent = Agent(AgentId(request.name), site, Zone(zone), request.signing_key, request.sealing_key)
    return Admitted(agent, password)


def answer(admitted: Admitted, hub: signing.Signer, broker_url: str) -> bytes:
    """The admission file for the agent: signed by the hub, and sealed to the agent, since it holds a password."""
    return enrolment.seal_admission(
        enrolment.Admission(
            name=admitted.agent.id,
            hub_key=hub.public_key,
            broker_url=broker_url,
            broker_password=admitted.password,
            site=admitted.agent.site,
            zone=admitted.agent.zone,
        ),
        sealing.SealingKey(admitted.agent.sealing_key),
    )
