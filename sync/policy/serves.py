"""Who works for whom: the one answer for the plan, the agent's own check, a site, and what a site sends on.

Invariants, each with a law of its words:
- an agent serves a tenant only where both sides say so: the agent's own list, and the tenant's list of sites;
- what the snapshot does not know serves nobody, and is served by nobody.
"""

from __future__ import annotations

from sync.bundle.snapshot import Agent, Snapshot, Tenant


def serves(snapshot: Snapshot, agent: Agent, tenant: Tenant) -> bool:
    """Return whether this agent may get work of this tenant; an empty list of either means all.

    Being in the snapshot counts too: a caller may hold an agent or a tenant of an earlier one, which
    was revoked or deleted since.
    """
    return (
        agent.id in snapshot.agents
        and tenant.id in snapshot.tenants
        and (not agent.tenants or tenant.id in agent.tenants)
        and (not tenant.sites or agent.site in tenant.sites)
    )
