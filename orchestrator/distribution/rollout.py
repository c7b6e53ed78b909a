"""A release to a fleet, wave by wave: the next wave goes only where the last one is healthy, and the first failure stops it.

Invariants, each with a test of its words:
- no more agents than a wave has are on trial at once;
- after a failure no further agent is asked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sync.bus.port import Bus, BusUnavailable, Incoming, NobodyThere
from sync.crypto import signing
from sync.kit import errors
from sync.kit.clock import Clock
from sync.kit.ids import AgentId
from sync.wire import codec, subjects
from sync.wire.messages import Beat, OrderTaken, Upgrade

ANSWER_S = 10.0
LOOK_S = 0.2


class State(StrEnum):
    """How it stands with one agent."""

    UPGRADED = "upgraded"
    ALREADY = "runs it already"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one agent."""

    agent: AgentId
    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an agent's last beat told."""

    boot: str
    version: str
    on_trial: bool
    failed: str


def waves(agents: Sequence[AgentId], share: float) -> list[list[AgentId]]:
    """The agents in waves of this share of them (0 to 1), of one at least."""
    size = max(1, math.floor(len(agents) * share))
    return [list(agents[at : at + size]) for at in range(0, len(agents), size)]


class Rollout:
    """Orders agents to change to `version`, and watches them. `within_s`: how long one may take, its download included."""

    def __init__(self, bus: Bus, signer: signing.Signer, clock: Clock, version: str, within_s: float) -> None:
        self._bus = bus
        self._signer = signer
        self._clock = clock
        self._version = version
        self._within_s = within_s
        self._seen: dict[AgentId, _Seen] = {}

    async def watch(self) -> None:
        """Begins to hear the agents' beats."""
        await self._bus.subscribe(subjects.BEAT_ALL, self._on_beat)

    async def run(self, plan: Sequence[Sequence[AgentId]]) -> AsyncIterator[list[Outcome]]:
        """The outcomes of each wave, as it ends; none after a failure."""
        for wave in plan:
            outcomes = list(await asyncio.gather(*map(self._one, wave)))
            yield outcomes
            if any(outcome.state is State.FAILED for outcome in outcomes):
                return

    async def _one(self, agent: AgentId) -> Outcome:
        seen = self._seen.get(agent)
        if seen is None:
            return Outcome(agent, State.FAILED, "it is not heard: is it on line?")
        if seen.version == self._version and not seen.on_trial:
            return Outcome(agent, State.ALREADY)
        before = seen.boot
        order = Upgrade(agent, self._version, self._signer.sign(signing.UPGRADE, codec.pack((agent, self._version))))
        try:
            answer = await self._bus.request(subjects.control(agent), codec.encode(order), timeout_s=ANSWER_S)
            taken = codec.decode(answer, OrderTaken)
        except (BusUnavailable, NobodyThere, errors.Corrupt) as error:
            return Outcome(agent, State.FAILED, f"it did not take the order: {error}")
        if taken.code:
            return Outcome(agent, State.FAILED, taken.why)
        return await self._await(agent, before)

    async def _await(self, agent: AgentId, before: str) -> Outcome:
        """`before`: its life when it was ordered; a failure that it told then was another's."""
        deadline = self._clock.monotonic() + self._within_s
        while self._clock.monotonic() < deadline:
            seen = self._seen[agent]
            if seen.version == self._version and not seen.on_trial:
                return Outcome(agent, State.UPGRADED)
            if seen.boot != before and seen.failed == self._version:
                return Outcome(agent, State.FAILED, f"it was not healthy, and runs {seen.version} again")
            await asyncio.sleep(LOOK_S)
        return Outcome(agent, State.FAILED, f"it was not done within {self._within_s:.0f} s")

    async def _on_beat(self, incoming: Incoming) -> None:
        try:
            beat = codec.decode(incoming.data, Beat)
        except errors.Corrupt:
            return
        if beat.agent != subjects.owner_of(incoming.subject):
            return
        self._seen[beat.agent] = _Seen(beat.boot, beat.version, beat.on_trial, beat.failed_release)
