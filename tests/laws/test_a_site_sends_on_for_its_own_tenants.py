"""The law: a site sends requests on for those tenants alone that it serves, whatever keys it has.

A key of another tenant that a site came by opens nothing there: the hub refuses it before it reads the request.

Mutation that turns it red: in orchestrator/dispatch/forwarding.py, take out `_check_served` of `_serve`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from classifiers import engine
from classifiers.requests import RequestClassifier
from orchestrator.dispatch.executor import Dispatch
from orchestrator.dispatch.forwarding import Forwarding
from orchestrator.fleet.presence import Presence
from sync.audit.journal import Journal
from sync.bundle.snapshot import Tenant
from sync.bus.memory import Exchange, MemoryBus
from sync.crypto import keyring, signing
from sync.crypto.sealing import SealingKey
from sync.kit import ids
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId, Region, SiteId, TenantId
from sync.kit.metrics import Registry
from sync.kit.tasks import TaskGroup
from sync.serving.limits import Limits
from sync.serving.meters import Meters
from sync.serving.record import Digests, Recorder
from sync.serving.stages import Parts
from sync.wire import codec, subjects
from sync.wire.levels import Level, Zone
from sync.wire.messages import Failed, Forward
from sync.wire.session import HubSession, HubSessions
from sync.wire.types import replace
from tests.support import builders

ME, SITE = AgentId("onprem"), SiteId("frankfurt")


class SendingOn:
    """A hub's forwarding with its own stages, no agent that is up, and one agent that sends a request on."""

    def __init__(self, folder: Path, keys: keyring.Keyring, agent_keys: keyring.Keyring, clock: ManualClock) -> None:
        self.keys, self.agent_keys = keys, agent_keys
        self.at = builders.snap()
        exchange = Exchange()
        bus, self.agent_bus = MemoryBus(exchange), MemoryBus(exchange)
        self.journal = Journal(folder / "hub.db", AgentId("_hub"), keys.signer, clock)
        self.journal.open()
        self.tasks = TaskGroup()
        dispatch = Dispatch(
            bus=bus, clock=clock, presence=Presence(), sessions=HubSessions(keys.signer, clock), snapshot=lambda: self.at,
            home=Region("eu-central-1"), rng=random.Random(1),
        )  # fmt: skip
        parts = Parts(
            snapshot=lambda: self.at, classifier=RequestClassifier(engine.load()), limits=Limits(clock), executor=dispatch,
            recorder=Recorder(self.journal, Digests(keys.at_rest), clock), meters=Meters(Registry()), clock=clock, request_s=60.0,
        )  # fmt: skip
        self.forwarding = Forwarding(
            bus=bus, parts=parts, opener=keys.opener, snapshot=lambda: self.at, clock=clock, tasks=self.tasks
        )  # fmt: skip

    async def answer_to(self, tenant: Tenant, own: tuple[TenantId, ...]) -> Failed:
        """The hub's answer to a request of this tenant, sent on by an agent for these tenants."""
        text, key = builders.key()
        agent = replace(builders.agent(ME, SITE, Zone.ON_PREMISE, self.agent_keys), tenants=own)
        self.at = builders.snap(tenants=(tenant,), agents=(agent,), keys=(key,))
        await self.forwarding.listen()
        session = HubSession(ME, SealingKey(self.keys.opener.public_key), self.agent_keys.signer, 0.0, purpose=signing.FORWARD)
        forward = Forward(
            request=ids.request_id(), key=text, task="generate", model="guide", texts=("hello",),
            payload=codec.pack({"messages": [{"role": "user", "content": "hello"}]}), stream=False, max_tokens=9,
            declared=Level.PUBLIC, no_store=False, batch=False, trace="", subject="",
        )  # fmt: skip
        answer = await self.agent_bus.request(subjects.ask(ME), session.seal(forward), timeout_s=30)
        return session.open(answer, Failed)

    async def close(self) -> None:
        await self.tasks.stop(5)
        self.journal.close()


@pytest.fixture
async def hub(tmp_path: Path, keys: keyring.Keyring, clock: ManualClock) -> AsyncIterator[SendingOn]:
    made = SendingOn(tmp_path, keys, keyring.load_or_create(tmp_path / "agent.json"), clock)
    yield made
    await made.close()


SENT_ON = {
    "of a tenant of its site": ({"sites": (SITE,)}, (), False),
    "of a tenant of all sites": ({}, (), False),
    "of a tenant of other sites": ({"sites": (SiteId("dublin"),)}, (), True),
    "of a tenant that the agent is not for": ({}, (TenantId("bravo"),), True),
}


@pytest.mark.parametrize("name", SENT_ON)
async def test_a_site_sends_on_a_request(name: str, hub: SendingOn) -> None:
    tenant, own, refused = SENT_ON[name]
    failed = await hub.answer_to(builders.tenant(**tenant), own)
    assert (failed.code == "tenant_unknown") is refused, failed.sentence
    assert not (refused and failed.retryable)
