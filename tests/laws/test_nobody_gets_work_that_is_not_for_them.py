"""The law: an agent gets work of a tenant only where the agent is for that tenant and stands at a site of that tenant.

In words: no plan has an agent outside; the agent refuses it too, whatever the ticket says; a site's bundle names a
tenant exactly if an agent of that site without tenants of its own serves it.

Mutations that turn it red:
- sync/policy/serves.py: take out the line of `agent.tenants`, that of `tenant.sites`, or one of the two of the snapshot;
- orchestrator/routing/plan.py: take out `serves.serves` of `plan`;
- sync/policy/admit.py: take out `serves.serves` of `admit`;
- sync/bundle/snapshot.py: have `for_site` give every tenant.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet.presence import Seen
from orchestrator.routing import plan as plans
from sync.bundle import snapshot
from sync.bundle.snapshot import Agent, Bundle, Snapshot, Tenant
from sync.kit.ids import AgentId, Epoch, Region, TenantId
from sync.policy import admit, decide, serves
from sync.wire.levels import Level, Zone
from sync.wire.messages import Beat
from sync.wire.types import replace
from tests.support import builders

NAMES = tuple(TenantId(name) for name in ("acme", "bravo", "evilco"))
SITES = tuple(site.id for site in builders.SITES)
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class World:
    """A bundle of random tenants and agents."""

    bundle: Bundle

    @property
    def at(self) -> Snapshot:
        return Snapshot(self.bundle)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    some_sites = st.lists(st.sampled_from(SITES), unique=True, max_size=3).map(tuple)
    some_tenants = st.lists(st.sampled_from(NAMES), unique=True, max_size=3).map(tuple)
    tenants = tuple(builders.tenant(name, sites=draw(some_sites)) for name in NAMES)
    places = draw(st.lists(st.tuples(st.sampled_from(SITES), st.sampled_from(Zone), some_tenants), min_size=1, max_size=10))
    agents = tuple(replace(builders.agent(f"a{i}", site, zone), tenants=own) for i, (site, zone, own) in enumerate(places))
    return World(builders.bundle(tenants=tenants, agents=agents))


def is_for(agent: Agent, tenant: Tenant) -> bool:
    """The law once more, in sets."""
    for_agent = set(agent.tenants) or set(NAMES)
    for_tenant = set(tenant.sites) or set(SITES)
    return tenant.id in for_agent and agent.site in for_tenant


def beat(agent: AgentId) -> Beat:
    return Beat(
        agent=agent, boot="b", version="0", models=("guide",), running=0, queued=0, capacity=16, latency_ms=1.0, bundle_serial=1,
        journal_epoch=Epoch("e"), journal_next=1, journal_receipted=0, journal_proved=0,
    )  # fmt: skip


def here(at: Snapshot) -> dict[AgentId, Seen]:
    """Every agent of the bundle, up and with the model."""
    return {agent: Seen(beat(agent), 0.0) for agent in at.agents}


@given(worlds())
def test_an_agent_serves_a_tenant_where_both_sides_say_so(world: World) -> None:
    at = world.at
    for agent in world.bundle.agents:
        for tenant in world.bundle.tenants:
            assert serves.serves(at, agent, tenant) == is_for(agent, tenant)


def test_what_the_snapshot_does_not_know_serves_nobody_and_is_not_served() -> None:
    at = builders.snap()
    known, tenant = at.agents[AgentId("onprem")], at.tenants[TenantId("acme")]
    assert serves.serves(at, known, tenant)
    assert not serves.serves(at, builders.agent("revoked", "frankfurt", Zone.ON_PREMISE), tenant)
    assert not serves.serves(at, known, builders.tenant("deleted"))


@given(worlds(), st.sampled_from(NAMES), st.sampled_from(Level), st.integers(0, 99))
def test_no_plan_has_an_agent_outside(world: World, name: TenantId, level: Level, seed: int) -> None:
    at = world.at
    tenant = at.tenants[name]
    decision = decide.decide(at, tenant, decide.Facts(level), builders.model())
    made = plans.plan(at, name, decision, here(at), Region("eu-central-1"), random.Random(seed))
    for choice in made:
        assert is_for(at.agents[choice.agent], tenant), choice
    fit = [
        a for a in at.agents.values()
        if is_for(a, tenant) and a.zone in decision.zones and at.region_of(a) in decision.regions
    ]  # fmt: skip
    assert len(made) == min(len(fit), plans.MAX_TRIES), "nobody who may do it is left out either"


def test_a_tenant_that_the_snapshot_does_not_know_has_no_plan() -> None:
    at = builders.snap()
    decision = decide.decide(at, builders.tenant(), decide.Facts(Level.PUBLIC), builders.model())
    assert plans.plan(at, TenantId("gone"), decision, here(at), Region("eu-central-1"), random.Random(1)) == []


@given(worlds(), st.sampled_from(NAMES))
def test_the_agent_refuses_what_is_not_for_it(world: World, name: TenantId) -> None:
    """By the whole bundle, as a hub that serves its own site has it: a site's own bundle would lack the tenant as well."""
    at = world.at
    for agent in world.bundle.agents:
        ticket = builders.ticket(tenant=name)
        if is_for(agent, at.tenants[name]):
            continue
        with pytest.raises(admit.TicketRefused) as refused:
            admit.admit(at, agent.id, ticket, now=NOW, age_s=0)
        assert refused.value.code == "tenant_unknown"


@given(worlds())
def test_a_sites_bundle_has_a_tenant_exactly_if_an_agent_there_serves_it(world: World) -> None:
    for site in SITES:
        anybody = builders.agent("anybody", site, Zone.ON_PREMISE)
        whole = replace(world.bundle, agents=(*world.bundle.agents, anybody))
        told = {tenant.id for tenant in snapshot.for_site(whole, site).tenants}
        assert told == {tenant.id for tenant in whole.tenants if serves.serves(Snapshot(whole), anybody, tenant)}
