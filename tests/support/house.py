"""A hub and its agents in this process, over a bus in memory: the real stages, journals, runners and servers, for laws.

What is left out is the broker and TLS, which integration tests have; what is here can be made to fail at a named place.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from classifiers.engine import Classifier
from classifiers.requests import RequestClassifier
from edge_agent.line.link import Mode
from edge_agent.site.executor import SiteExecutor
from edge_agent.site.forwarding import Forwarder
from edge_agent.work.cache import AnswerCache
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from orchestrator.dispatch.executor import Dispatch
from orchestrator.dispatch.forwarding import Forwarding
from orchestrator.fleet.presence import Presence
from sync.audit import chain, kinds
from sync.audit.journal import Journal
from sync.bundle import snapshot
from sync.bundle.snapshot import Snapshot
from sync.bus.memory import Exchange as Broker
from sync.bus.memory import MemoryBus
from sync.bus.port import Incoming
from sync.crypto import keyring
from sync.kit import clock as clocks
from sync.kit import files
from sync.kit.faults import Faults
from sync.kit.ids import AgentId, SiteId
from sync.kit.metrics import Registry
from sync.kit.tasks import TaskGroup
from sync.serving.api.handlers import Surface
from sync.serving.api.server import Server
from sync.serving.limits import Limits
from sync.serving.meters import Meters
from sync.serving.record import Digests, Recorder
from sync.serving.stages import Parts
from sync.wire import codec, subjects
from sync.wire.levels import Zone
from sync.wire.messages import WIRE, Beat, Cancel, Credit, Ping, Pong, Run
from sync.wire.session import AgentSessions, HubSessions
from tests.support import builders, modelling

HUB = AgentId("_hub")
PLACES: Mapping[str, tuple[str, Zone]] = {
    "onprem": ("frankfurt", Zone.ON_PREMISE),
    "private": ("dublin", Zone.PRIVATE_CLOUD),
    "public": ("virginia", Zone.PUBLIC_CLOUD),
}
NOOPS: Mapping[str, Mapping[str, object]] = {
    "guide": {"echo": True},
    "slow": {"words": 200, "every_ms": 5},
    "quick": {},
    "sleepy": {"words": 2, "every_ms": 150},
}


@dataclass
class Node:
    """A process of the house: its journal, its parts, and its HTTP server once it is started."""

    name: str
    bus: MemoryBus
    journal: Journal
    parts: Parts
    recorder: Recorder
    server: Server
    registry: Registry
    url: str = ""
    runner: Runner | None = None
    guard: Guard | None = None
    link: Line | None = None
    accepting: bool = True

    def counted(self, metric: str) -> dict[str, float]:
        """Return the samples of a metric by their labels, without those that are 0."""
        found = {}
        for line in self.registry.exposition().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith(f"{metric}{{") and float(value):
                found[name[len(metric) :]] = float(value)
        return found

    def records(self, kind: str = "") -> list[chain.Entry]:
        """Return the records of its journal, those of a kind or all."""
        found = [chain.decode(data) for data in self.journal.read(0, 100_000)]
        return [entry for entry in found if not kind or entry.kind == kind]


@dataclass
class Line:
    """How a site stands to its hub, as the test says."""

    mode: Mode = Mode.ONLINE
    draining: bool = False
    since: float = 0.0


@dataclass
class House:
    """A hub and three agents, each with a site of its own. `snap`: the bundle that all of them decide by."""

    folder: Path
    tenants: tuple[snapshot.Tenant, ...]
    models: tuple[snapshot.Model, ...]
    manifests: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    roles: tuple[str, ...] = ("user",)
    quiet_s: float = 15.0
    classifier: Classifier = field(default_factory=Classifier)

    async def __aenter__(self) -> House:
        self._stack = AsyncExitStack()
        self.clock = clocks.SystemClock()
        self.broker = Broker()
        self.presence = Presence()
        self.api_keys: dict[str, str] = {}
        self._keys = {name: keyring.load_or_create(self.folder / f"{name}-keys.json") for name in ("hub", *PLACES)}
        self.snap = self._bundle()
        self._make_models()
        self.hub = self._make_hub()
        self.sites = {name: await self._make_site(name) for name in PLACES}
        for node in (self.hub, *self.sites.values()):
            node.url = f"http://127.0.0.1:{await node.server.start('127.0.0.1', 0)}"
        self.beat()
        self.http = await self._stack.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for node in (*self.sites.values(), self.hub):
            await node.server.stop()
            if node.runner is not None:
                await node.runner.stop(1)
            node.journal.close()
        await self.tasks.stop(1)

    def beat(self, *names: str) -> None:
        """Have the hub hear these agents, or all of them."""
        for name in names or PLACES:
            beat = Beat(
                agent=AgentId(name),
                boot="1",
                version="0",
                models=tuple(self._served),
                running=0,
                queued=0,
                capacity=16,
                latency_ms=1.0,
                bundle_serial=self.snap.serial,
                journal_epoch=self.sites[name].journal.epoch,
                journal_next=0,
                journal_receipted=0,
                journal_proved=0,
                clock=self.clock.wall(),
                wire=WIRE,
            )
            self.presence.heard(beat, self.clock.monotonic(), self.clock.wall())

    async def settled(self) -> None:
        """Return when no request is open: outcomes are recorded by tasks of their own, also after a client has left."""
        async with asyncio.timeout(20):
            for node in (self.hub, *self.sites.values()):
                while not _is_settled(node):
                    await asyncio.sleep(0.005)
                await node.recorder.finish(5)

    async def post(
        self, path: str, body: object, *, at: str = "hub", tenant: str = "acme", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a body to a node; return status, headers and the answer's bytes."""
        node = self.hub if at == "hub" else self.sites[at]
        told = {"authorization": f"Bearer {self.api_keys[tenant]}", "content-type": "application/json", **(headers or {})}
        async with self.http.post(node.url + path, data=json.dumps(body).encode(), headers=told) as response:
            return response.status, response.headers, await response.read()

    async def chat(self, text: str, *, at: str = "hub", **options: object) -> tuple[int, Mapping[str, str], bytes]:
        """Ask a question; return as `post`."""
        tenant = str(options.pop("tenant", "acme"))
        body = {"model": "guide", "messages": [{"role": "user", "content": text}], **options}
        return await self.post("/v1/chat/completions", body, at=at, tenant=tenant)

    def _bundle(self) -> Snapshot:
        agents = tuple(builders.agent(name, *PLACES[name], self._keys[name]) for name in PLACES)
        keys = []
        for tenant in self.tenants:
            self.api_keys[tenant.id], record = builders.key(tenant.id)
            keys.append(builders.replaced(record, roles=self.roles))
        bundle = builders.bundle(
            tenants=self.tenants,
            models=self.models,
            keys=tuple(keys),
            agents=agents,
            hub_key=self._keys["hub"].opener.public_key,
            issued=self.clock.wall(),
        )
        return Snapshot(bundle)

    def _make_models(self) -> None:
        self._served = {**{n: {"backend": "noop", "noop": o} for n, o in NOOPS.items()}, **self.manifests}
        for name, told in self._served.items():
            path = self.folder / "models" / name / "1" / "manifest.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"name": name, "version": "1", "task": "generate", "files": {}, **told}))

    def _make_hub(self) -> Node:
        keys, registry, self.tasks = self._keys["hub"], Registry(), TaskGroup()
        bus = MemoryBus(self.broker)
        journal = Journal(self.folder / "hub.db", HUB, keys.signer, self.clock)
        journal.open()
        recorder = Recorder(journal, Digests(keys.at_rest), self.clock)
        self.dispatch = Dispatch(
            bus=bus,
            clock=self.clock,
            presence=self.presence,
            sessions=HubSessions(keys.signer, self.clock),
            snapshot=lambda: self.snap,
            home=builders.SITES[0].region,
            rng=random.Random(1),
        )
        parts = Parts(
            snapshot=lambda: self.snap,
            classifier=RequestClassifier(self.classifier),
            limits=Limits(self.clock),
            executor=self.dispatch,
            recorder=recorder,
            meters=Meters(registry),
            clock=self.clock,
            request_s=30.0,
            quiet_s=self.quiet_s,
        )
        self.forwarding = Forwarding(
            bus=bus,
            parts=parts,
            opener=keys.opener,
            snapshot=lambda: self.snap,
            clock=self.clock,
            tasks=self.tasks,
        )
        surface = Surface(parts)
        server = Server(surface.routes(), option="--port", on_refused=surface.on_refused)
        return Node("hub", bus, journal, parts, recorder, server, registry)

    async def _make_site(self, name: str) -> Node:
        if name == next(iter(PLACES)):
            await self.forwarding.listen()
        me, keys, state = AgentId(name), self._keys[name], self.folder / name
        files.make_private_folder(state)
        bus, registry = MemoryBus(self.broker), Registry()
        guard = Guard(
            state, me, SiteId(PLACES[name][0]), self._keys["hub"].signer.public_key, keys.at_rest, self.clock, lambda *_: None
        )
        guard.take(snapshot.sign(self.snap.bundle, self._keys["hub"].signer))
        repository = modelling.repository(self.folder / "models")
        assert not repository.mistakes, repository.mistakes
        cache = AnswerCache(state / "cache.db", keys.at_rest, self.clock, max_bytes=1 << 20)
        self._stack.callback(cache.close)
        journal = Journal(state / "journal.db", me, keys.signer, self.clock)
        journal.open()
        runner = Runner(guard=guard, repository=repository, cache=cache, journal=journal, clock=self.clock)
        line = Line()
        executor = SiteExecutor(
            me=me,
            guard=guard,
            repository=repository,
            runner=runner,
            link=line,  # type: ignore[arg-type]
            forwarder=Forwarder(bus, _Me(me, keys), self.clock),  # type: ignore[arg-type]
            clock=self.clock,
            faults=Faults(state / "faults.json", registry, self.clock),
        )
        recorder = Recorder(journal, Digests(keys.at_rest), self.clock, me=me, standing=executor.standing)
        parts = Parts(
            snapshot=lambda: guard.current,
            classifier=RequestClassifier(self.classifier),
            limits=Limits(self.clock),
            executor=executor,
            recorder=recorder,
            meters=Meters(registry),
            clock=self.clock,
            request_s=30.0,
            quiet_s=self.quiet_s,
            mode=lambda: executor.mode,
        )
        surface = Surface(parts)
        server = Server(surface.routes(), option="--http-port", on_refused=surface.on_refused)
        node = Node(name, bus, journal, parts, recorder, server, registry, runner=runner, guard=guard, link=line)
        await self._listen(node, me, AgentSessions(me, keys.opener, self._keys["hub"].signer.public_key, self.clock), runner)
        return node

    async def _listen(self, node: Node, me: AgentId, sessions: AgentSessions, runner: Runner) -> None:
        async def on_run(incoming: Incoming) -> None:
            session, run = sessions.open(incoming.data, Run)

            async def reply(message: codec.Message) -> None:
                await incoming.respond(session.seal(message))

            runner.start(run, reply)

        async def on_control(incoming: Incoming) -> None:
            match codec.decode(incoming.data, Ping, Cancel, Credit):
                case Ping(request):
                    await incoming.respond(codec.encode(Pong(request in runner.at_work)))
                case Cancel(request):
                    runner.cancel(request)
                case Credit(request, upto):
                    runner.granted(request, upto)

        await node.bus.subscribe(subjects.run(me), on_run)
        await node.bus.subscribe(subjects.control(me), on_control)


def _is_settled(node: Node) -> bool:
    opened = {entry.fields["request"] for entry in node.records(kinds.DECIDED)}
    closed = {entry.fields["request"] for entry in node.records(kinds.REQUEST)}
    return opened <= closed and not (node.runner and node.runner.at_work)


@dataclass
class _Me:
    """What the forwarder needs of an identity."""

    id: AgentId
    keys: keyring.Keyring
