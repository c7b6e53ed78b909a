"""A runner with models that compute nothing or are another server's, and the reader of one run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from edge_agent.inference.opening import Resources
from edge_agent.work.cache import AnswerCache
from edge_agent.work.guard import Guard
from edge_agent.work.runner import Runner
from sync.audit import chain
from sync.audit.journal import Journal
from sync.bundle import snapshot
from sync.crypto import keyring
from sync.kit.clock import Clock
from sync.kit.ids import AgentId, RequestId, SiteId
from sync.wire import codec
from sync.wire.messages import Accepted, Chunk, Done, Failed, Run
from tests.support import builders, modelling

ME, SITE = AgentId("onprem"), SiteId("frankfurt")
WAIT_S = 30.0
"""Seconds after which what does not come has failed: far more than anything here takes."""


@asynccontextmanager
async def runner(
    folder: Path, keys: keyring.Keyring, clock: Clock, models: Mapping[str, Mapping[str, object]], *, egress: tuple[str, ...] = ()
) -> AsyncIterator[Runner]:  # fmt: skip
    """Yield a runner over models with these manifests."""
    for name, told in models.items():
        path = folder / "models" / name / "1" / "manifest.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"name": name, "version": "1", "task": "generate", "files": {}, **told}))
    guard = Guard(folder, ME, SITE, keys.signer.public_key, keys.at_rest, clock, lambda *_: None)
    guard.take(snapshot.sign(builders.bundle(), keys.signer))
    repository = modelling.repository(folder / "models", resources=Resources(egress=egress))
    assert not repository.mistakes, repository.mistakes
    cache = AnswerCache(folder / "cache.db", keys.at_rest, clock, max_bytes=1 << 20)
    journal = Journal(folder / "journal.db", ME, keys.signer, clock)
    journal.open()
    made = Runner(guard=guard, repository=repository, cache=cache, journal=journal, clock=clock)
    try:
        yield made
    finally:
        await made.stop(0.0)
        await repository.close()
        journal.close()
        cache.close()


def records(made: Runner) -> list[Mapping[str, object]]:
    """Return the fields of the runs that the journal has."""
    entries = [chain.decode(data) for data in made._journal.read(0, 1000)]
    return [entry.fields for entry in entries if entry.kind == "run"]


class Reader:
    """Reads the replies to one run. It grants what it has taken where `grants` is set, as a quick client does."""

    def __init__(self, made: Runner, *, grants: bool = False) -> None:
        self._runner = made
        self._grants = grants
        self._came = asyncio.Event()
        self.messages: list[codec.Message] = []
        self.ends: list[Done | Failed] = []
        """The last replies: there should be one."""
        self.taken = 0

    def start(self, run: Run) -> asyncio.Task[None]:
        """Have the runner begin a run; return its task."""
        self._request = run.request
        self._runner.start(run, self._reply)
        return self._runner.at_work[run.request]

    async def end(self) -> Done | Failed:
        """Return the last reply, once it is there."""
        async with asyncio.timeout(WAIT_S):
            while not self.ends:
                self._came.clear()
                await self._came.wait()
        return self.ends[0]

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when something is so. Others run meanwhile."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0)

    @property
    def text(self) -> str:
        return "".join(message.text for message in self.messages if isinstance(message, Chunk))

    async def _reply(self, message: codec.Message) -> None:
        assert not self.ends, "something was said after the last word"
        if not isinstance(message, Accepted):
            self.messages.append(message)
        if isinstance(message, (Done, Failed)):
            self.ends.append(message)
        if isinstance(message, Chunk):
            self.taken += len(codec.pack((message.choice, message.text, message.scores)))
            if self._grants:
                self._runner.granted(self._request, self.taken)
        self._came.set()


class Flood:
    """An OpenAI-compatible server that streams `size` bytes of text in pieces of `piece`, as fast as it is read."""

    def __init__(self, *, size: int, piece: int = 1000, usage: object = None) -> None:
        self._size = size
        self._usage = usage
        self._event = _event({"choices": [{"index": 0, "delta": {"content": "x" * piece}}]})
        self.piece = piece
        self.written = 0
        self.ended = False
        """Whether the handler has ended, for whichever reason."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            while self.written < self._size:
                await response.write(self._event)
                self.written += self.piece
            last: dict[str, object] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
            await response.write(_event({**last, "usage": self._usage} if self._usage else last) + b"data: [DONE]\n\n")
        finally:
            self.ended = True
        return response


@asynccontextmanager
async def serving(flood: Flood) -> AsyncIterator[int]:
    """Yield the port on which a flood is served."""
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", flood.handle)])
    site = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await site.setup()
    await web.TCPSite(site, "127.0.0.1", 0).start()
    try:
        yield site.addresses[0][1]
    finally:
        await site.cleanup()


def upstream(port: int) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the manifest of a server on this machine, and the egress rule that admits it."""
    return {"backend": "upstream", "upstream": {"url": f"http://127.0.0.1:{port}/v1"}}, (f"127.0.0.1:{port}@127.0.0.0/8",)


def run(name: str = "req_1", **fields: object) -> Run:
    """Return a run of a hub that knows version 2 of the wire."""
    return builders.run(request=RequestId(name), **{"left_s": 60.0, **fields})


def _event(told: object) -> bytes:
    return b"data: " + json.dumps(told).encode() + b"\n\n"
