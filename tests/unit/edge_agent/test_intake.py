"""What an agent says to a run while it takes no new work."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.intake import Intake
from edge_agent.release.orders import Orders
from edge_agent.work.cache import AnswerCache
from edge_agent.work.eraser import Eraser
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from sync.audit.journal import Journal
from sync.bundle import snapshot
from sync.bus.memory import Exchange, MemoryBus
from sync.bus.port import Conversation
from sync.crypto import keyring
from sync.crypto.sealing import SealingKey
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, RequestId, SiteId
from sync.kit.tasks import TaskGroup
from sync.wire import subjects
from sync.wire.messages import Accepted, Done, Failed, Reply
from sync.wire.session import AgentSessions, HubSession
from tests.support import builders, modelling

ME = AgentId("onprem")
SLOW = {"words": 3, "every_ms": 100}


class Agent:
    """An agent's intake with its own runner and journal, and the hub's end of the line."""

    def __init__(self, folder: Path, hub: keyring.Keyring, me: keyring.Keyring, clock: ManualClock) -> None:
        guard = Guard(folder, ME, SiteId("frankfurt"), hub.signer.public_key, me.at_rest, clock, lambda *_: None)
        guard.take(snapshot.sign(builders.bundle(), hub.signer))
        models = folder / "models" / "guide" / "1"
        models.mkdir(parents=True)
        told = {"name": "guide", "version": "1", "task": "generate", "backend": "noop", "files": {}, "noop": SLOW}
        (models / "manifest.json").write_text(json.dumps(told))
        self.repository = modelling.repository(folder / "models")
        self.cache = AnswerCache(folder / "cache.db", me.at_rest, clock, max_bytes=1 << 20)
        self.journal = Journal(folder / "journal.db", ME, me.signer, clock)
        self.journal.open()
        runner = Runner(guard=guard, repository=self.repository, cache=self.cache, journal=self.journal, clock=clock)
        exchange = Exchange()
        self.hub_bus, bus = MemoryBus(exchange), MemoryBus(exchange)
        sessions = AgentSessions(ME, me.opener, hub.signer.public_key, clock)
        eraser = Eraser(self.journal, self.cache, ME, me.signer, hub.signer.public_key)
        orders = Orders(folder, None, bus, ME, hub.signer.public_key, TaskGroup())
        self.intake = Intake(bus, ME, sessions, runner, eraser, orders)
        self.session = HubSession(ME, SealingKey(me.opener.public_key), hub.signer, 0.0)

    async def send(self, request: str) -> Conversation:
        run = builders.run(request=RequestId(request))
        return await self.hub_bus.converse(subjects.run(ME), self.session.seal(run))

    async def end_of(self, conversation: Conversation) -> Reply:
        """The last reply."""
        while True:
            frame = await conversation.next(10)
            assert frame is not None, "the agent says nothing"
            message = self.session.open(frame, Accepted, Done, Failed)
            if not isinstance(message, Accepted):
                return message

    async def close(self) -> None:
        self.journal.close()
        self.cache.close()
        await self.repository.close()


@pytest.fixture
async def agent(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> AsyncIterator[Agent]:
    made = Agent(tmp_path, keys, keyring.load_or_create(tmp_path / "agent.json"), clock)
    await made.intake.listen()
    yield made
    await made.close()


async def test_an_agent_that_takes_no_new_work_says_so_at_once(agent: Agent) -> None:
    agent.intake.accepting = False
    failed = await agent.end_of(await agent.send("req_1"))
    assert isinstance(failed, Failed)
    assert (failed.code, failed.retryable, failed.retry_after_s) == ("draining", True, 1.0)
    agent.intake.accepting = True
    assert isinstance(await agent.end_of(await agent.send("req_1")), Done), "what it refused was not remembered as run"


async def test_what_is_at_work_goes_on_however_often_it_is_delivered(agent: Agent) -> None:
    first = await agent.send("req_1")
    agent.intake.accepting = False
    again = await agent.send("req_1")
    assert isinstance(await agent.end_of(first), Done)
    assert await again.next(0.01) is None
