"""Which agents get no work, and why, in a file: for `ringfence doctor` and `agents list`, which need no key and no running hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from orchestrator.fleet.presence import LeftOut, Reason
from sync.kit import files
from sync.kit.ids import AgentId

EVERY_S = 5.0
"""Seconds between two writings by a running hub."""
FRESH_S = 20.0
"""Seconds after which the file says nothing any more: the hub has ended, or cannot write."""
ADVICE = {
    Reason.SILENT: "is its machine on and its line up? 'ringfence-agent doctor' there says more",
    Reason.CLOCK: "set its clock, or the hub's, by a time service; then it gets work within a second",
    Reason.BROKEN: "somebody changes its answers, or its keys are not those that were admitted: look at its log",
}


def write(path: Path, left_out: Mapping[AgentId, LeftOut], wall: float) -> None:
    """Write the file. Raises Misconfigured where the folder cannot be written."""
    told = {"at": wall, "left_out": {agent: [found.reason.value, found.why] for agent, found in left_out.items()}}
    files.write_atomically(path, json.dumps(told).encode(), mode=files.PRIVATE)


def read(path: Path, wall: float) -> dict[AgentId, LeftOut] | None:
    """Return the agents that get no work; None where no hub has said so lately."""
    try:
        told = json.loads(path.read_bytes())
        if abs(wall - told["at"]) > FRESH_S:
            return None
        return {AgentId(agent): LeftOut(Reason(reason), str(why)) for agent, (reason, why) in told["left_out"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
