"""The metrics of the fleet: how many agents get work, and how many do not, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from orchestrator.fleet.presence import LeftOut, Reason
from sync.kit.ids import AgentId
from sync.kit.metrics import Registry


class FleetMeters:
    """Two gauges of one hub."""

    def __init__(self, registry: Registry) -> None:
        self._up = registry.gauge("ringfence_agents_up", "Agents that get work now.")
        left_out = registry.gauge("ringfence_agents_left_out", "Agents of the bundle that get no work now, by reason.", ("reason",))
        # Every reason from the start: a gauge that is not there is no zero for an alert.
        self._left_out = {reason: left_out.labels(reason.value) for reason in Reason}

    def show(self, admitted: int, left_out: Mapping[AgentId, LeftOut]) -> None:
        """Set both from the agents of the bundle, and those of them that get no work."""
        self._up.set(admitted - len(left_out))
        count = Counter(found.reason for found in left_out.values())
        for reason, gauge in self._left_out.items():
            gauge.set(count[reason])
