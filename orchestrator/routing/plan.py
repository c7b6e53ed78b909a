"""The order in which agents are tried.

First the zone that the tenant prefers, then the nearest region, then the less loaded of two picked at random (the power of two
choices, Mitzenmacher 2001), then the rest by load.

Invariants, each with a test of its words:
- an agent outside the decision's zones or regions is never in the plan;
- an agent that is not there, lacks the model, or is not for the tenant, is never in the plan.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.fleet.presence import Seen
from sync.bundle.snapshot import Snapshot
from sync.kit.ids import AgentId, Region, TenantId
from sync.policy import serves
from sync.policy.decide import Decision
from sync.wire.levels import Zone

MAX_TRIES = 5
"""Agents that one request is tried at."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One agent of a plan, and the folder that serves the model there."""

    agent: AgentId
    folder: str
    zone: Zone
    region: Region


def plan(
    snapshot: Snapshot, tenant: TenantId, decision: Decision, here: Mapping[AgentId, Seen], home: Region, rng: random.Random
) -> list[Choice]:
    """At most MAX_TRIES choices; empty where no admitted agent is there. `home`: the region that the request came from."""
    served = snapshot.tenants.get(tenant)
    if served is None:
        return []
    groups: dict[tuple[int, int], list[tuple[Seen, Choice]]] = {}
    for agent_id, seen in here.items():
        agent = snapshot.agents[agent_id]
        region = snapshot.region_of(agent)
        if region not in decision.regions or not serves.serves(snapshot, agent, served):
            continue
        for preference, deployment in enumerate(decision.deployments):
            if agent.zone in deployment.zones and deployment.folder in seen.beat.models:
                far = distance(snapshot, home, region)
                choice = Choice(agent_id, deployment.folder, agent.zone, region)
                groups.setdefault((preference, far), []).append((seen, choice))
                break
    ordered: list[Choice] = []
    for _, group in sorted(groups.items()):
        ordered += _by_load(group, rng)
        if len(ordered) >= MAX_TRIES:
            break
    return ordered[:MAX_TRIES]


def distance(snapshot: Snapshot, home: Region, region: Region) -> int:
    """0 in the same region, 1 in the same jurisdiction, 2 elsewhere."""
    if home == region:
        return 0
    return 1 if snapshot.regions.get(home) == snapshot.regions[region] else 2


def _by_load(group: list[tuple[Seen, Choice]], rng: random.Random) -> list[Choice]:
    if len(group) > 1:
        first, second = rng.sample(range(len(group)), 2)
        best = min((first, second), key=lambda i: (group[i][0].load, group[i][0].beat.latency_ms))
        head = group.pop(best)
        group.sort(key=lambda row: row[0].load)
        group.insert(0, head)
    return [choice for _, choice in group]
