"""The agent's own check of a ticket, before it runs anything. It holds the hub's word against the agent's own bundle.

Invariants, each with a test of its words:
- a ticket outside the agent's zone or region is refused;
- an expired ticket is refused, with a tolerance for clocks of 60 s;
- a ticket of a tenant that the bundle does not know, or that this agent is not for, is refused;
- a level that the bundle's own policy does not admit here is refused, whatever the ticket says;
- a bundle past the tenant's grace time admits nothing.
"""

from __future__ import annotations

from sync.bundle.snapshot import Agent, Snapshot, Tenant
from sync.kit import errors
from sync.kit.ids import AgentId
from sync.policy import decide, serves
from sync.wire.messages import Ticket

CLOCK_TOLERANCE_S = 60.0
HEARD_WITHIN_S = 10.0


class TicketRefused(errors.Refused):
    """This agent may not run that request."""

    code = "ticket_refused"


def is_stale(tenant: Tenant, age_s: float) -> bool:
    """Whether the hub was last heard longer ago than the tenant's grace time. A hub that is there is heard each second or so."""
    return age_s > tenant.grace_s + HEARD_WITHIN_S


def admit(snapshot: Snapshot, me: AgentId, ticket: Ticket, *, now: float, age_s: float) -> Agent:
    """The agent's own record where the ticket holds here. `age_s`: seconds since the hub was heard. Raises TicketRefused."""
    agent = snapshot.agents.get(me)
    if agent is None:
        raise TicketRefused(f"The bundle does not know the agent '{me}'.", code="agent_unknown")
    if ticket.expires + CLOCK_TOLERANCE_S < now:
        raise TicketRefused("The ticket has expired.", code="ticket_expired")
    tenant = snapshot.tenants.get(ticket.tenant)
    if tenant is None or not serves.serves(snapshot, agent, tenant):
        raise TicketRefused("The tenant is not served by this agent.", code="tenant_unknown")
    if is_stale(tenant, age_s):
        raise TicketRefused("The hub was last heard longer ago than the tenant's grace time.", code="bundle_stale")
    region = snapshot.region_of(agent)
    if agent.zone not in ticket.zones or region not in ticket.regions:
        raise TicketRefused(f"The ticket does not admit {agent.zone} in {region}.", code="outside_ticket")
    own = decide.decide(snapshot, tenant, decide.Facts(ticket.level), None)
    if agent.zone not in own.zones or region not in own.regions:
        raise TicketRefused(f"The policy does not admit {ticket.level.label} in {agent.zone}, {region}.", code="outside_policy")
    return agent
