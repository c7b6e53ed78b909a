"""A hub, two agents at one site and an edge that sends on, with clients that see each piece of an answer as it comes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from orchestrator.access import keys as access
from orchestrator.ledger import segments
from orchestrator.store.administration import SqlKeys
from orchestrator.store.database import Database
from sync.audit import chain
from tests.support import running, system
from tests.support.flood import Flood
from tests.support.proxy import Proxy
from tests.support.sites import Cuttable

SITE = system.Place("frankfurt-onprem", "on_premise", "frankfurt", api=True)
OTHER = system.Place("frankfurt-two", "on_premise", "frankfurt")
EDGE = system.Place("virginia-edge", "public_cloud", "virginia", api=True)
HUB = "_hub"
"""How the hub's own records are signed."""
CARD = "My card is 4111 1111 1111 1111."
"""What makes a request restricted: then it runs on premises only."""
NOOP: dict[str, dict[str, object]] = {
    "quick": {},
    # It answers the question in capitals, three letters a piece: a hole shows wherever it is.
    "slow": {"echo": True, "every_ms": 20},
}
CONFIGURATION = """
version: 1
models:
  quick: {task: generate, deployments: [{folder: quick, zones: [on_premise, public_cloud]}]}
  slow: {task: generate, deployments: [{folder: slow, zones: [on_premise, public_cloud]}]}
  flood: {task: generate, deployments: [{folder: flood, zones: [on_premise]}]}
sites:
  frankfurt: {region: eu-central-1, jurisdiction: eu}
  virginia: {region: us-east-1, jurisdiction: us}
tenants:
  - id: acme
    allowed_models: [quick, slow, flood]
    rate_limit: {requests_per_minute: 100000, tokens_per_minute: 10000000, concurrent: 256}
  - id: thrifty
    allowed_models: [slow]
    rate_limit: {requests_per_minute: 100000, tokens_per_minute: 150, concurrent: 1}
"""
THRIFTY = "thrifty"
PIECE_S = 0.02
HEARS_S = 20.0
"""Seconds that a test waits for the end of an answer, beyond the time that the answer itself takes."""


def question(seconds: float = 4.0) -> str:
    """Return a restricted question that the model `slow` takes about so long to answer: no two places in it are alike."""
    text = CARD
    for number in range(int(seconds / PIECE_S)):
        if len(text) >= 3 * seconds / PIECE_S:
            break
        text += f" w{number}"
    return text


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the ledger."""

    author: str
    kind: str
    fields: dict[str, object]

    @property
    def outcome(self) -> tuple[object, object]:
        """Its outcome and code."""
        return self.fields.get("outcome"), self.fields.get("code")


@dataclass(slots=True)
class Heard:
    """What a client has heard of an answer so far. `code`: of an error, as a body or as an event."""

    status: int = 0
    request: str = ""
    agent: str = ""
    text: str = ""
    code: str = ""
    sentence: str = ""
    whole: bool = False
    events: int = 0
    over_at: float = 0.0
    """When its end was heard, in monotonic seconds; 0 while it is not."""


class RequestPath(Cuttable):
    """The system. Keys: of the tenant acme, and of the tenant thrifty in `thrifty`."""

    def __init__(self, folder: Path, *places: system.Place) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        document = folder / "tenants.yaml"
        document.write_text(CONFIGURATION)
        self._flood = Flood()
        self.system = system.System(folder / "run", list(places), models(folder / "models", self._flood), document)
        self.proxies = {EDGE.name: Proxy(self.system.nats_port)} if EDGE in places else {}
        for name, proxy in self.proxies.items():
            self.system.own[name] = {"RINGFENCE_AGENT_BROKER_URL": proxy.url}
        self.system.environment = {"RINGFENCE_CHECKPOINT_S": "1", "RINGFENCE_AGENT_EGRESS": self._flood.egress}
        self.thrifty = asyncio.run(self._prepare())

    def start(self) -> None:
        """Start everything, and return when it is ready. Raises NotReady."""
        try:
            self.system.start()
            asyncio.run(self.system.wait_for_hub())
            self.await_agents()
        except system.NotReady:
            self.close()
            raise

    def close(self) -> None:
        """End everything."""
        super().close()
        self._flood.close()

    def await_agents(self) -> None:
        """Return when every agent gets work, and the edge sends on."""
        asyncio.run(self.system.wait_for_agents([place.name for place in self.system.places]))
        if EDGE in self.system.places:
            self.await_mode(EDGE, "online")

    def kill(self, *names: str) -> None:
        """End processes by SIGKILL, all at one moment."""
        for name in names:
            os.kill(self.system.processes[name].pid, signal.SIGKILL)
        for name in names:
            self.system.processes.pop(name).wait()

    def restart(self, *names: str) -> None:
        """Start processes that have ended, and return when the hub is there."""
        for name in names:
            if name == "hub":
                (self.system.hub / "hub-address.json").unlink(missing_ok=True)
                self.system.start_hub()
            else:
                (self.system.agent(name) / "status.json").unlink(missing_ok=True)
                self.system.start_agent(name)
        if "hub" in names:
            asyncio.run(self.system.wait_for_hub())

    def at(self, place: system.Place | None) -> str:
        """Return the address of a site's API, or of the hub's."""
        return self.url(place) if place is not None else self.system.url

    def records(self, *requests: str) -> list[Record]:
        """Return what the ledger has of these requests; of all where none is named."""
        with sqlite3.connect(f"file:{self.system.hub / 'ringfence.db'}?mode=ro", uri=True) as database:
            rows = database.execute("select entries from ledger_segments").fetchall()
        database.close()
        entries = (chain.decode(data) for (packed,) in rows for _, data in segments.unpack(packed))
        found = (Record(entry.author, entry.kind, entry.fields) for entry in entries)
        return [one for one in found if not requests or one.fields.get("request") in requests]

    def outcome(self, author: str, request: str) -> Record:
        """Return the one outcome that this author has recorded of a request, once it is in the ledger."""
        look = lambda: [one for one in self.records(request) if one.author == author and one.kind == "request"]  # noqa: E731
        found = running.eventually(look, f"{author} has recorded how {request} ended")
        assert len(found) == 1, found
        return found[0]

    def check_once(self, author: str, request: str, outcome: str, code: str) -> None:
        """Check that this author has one decision and one outcome of the request, and that this is the outcome."""
        found = self.outcome(author, request)
        assert found.outcome == (outcome, code)
        decided = [one for one in self.records(request) if one.author == author and one.kind == "decided"]
        assert len(decided) == 1, decided

    def await_caught_up(self, name: str) -> None:
        """Return when all that this agent has recorded until now is in the ledger. Raises AssertionError."""
        now, path = time.time(), self.system.agent(name) / "status.json"

        def caught_up() -> bool:
            told = json.loads(path.read_text())
            return told["at"] > now + 1 and told["linked"] and not told["running"] and not told["journal_waiting"]

        running.eventually(caught_up, f"{name} has brought all its records")

    def check_intact(self) -> None:
        """Check that the ledger verifies, and that nobody is said to have left anything out."""
        told = running.command("ringfence", "audit", "verify", "--state", self.system.hub)
        assert "intact" in told.stdout, told.stdout + told.stderr
        told = running.command("ringfence", "audit", "gaps", "--state", self.system.hub)
        assert told.returncode == 0, told.stdout + told.stderr

    async def _prepare(self) -> str:
        await self.system.prepare("acme")
        issued = access.issue(THRIFTY, "app", "user")
        database = Database(self.system.hub / "ringfence.db")
        await database.open()
        await SqlKeys(database).add(issued.record, at=time.time())
        await database.close()
        return issued.text


def models(folder: Path, flood: Flood) -> Path:
    """Return a folder of models: `quick` and `slow` compute nothing, `flood` is another server."""
    known = {name: {"backend": "noop", "noop": options} for name, options in NOOP.items()} | {"flood": flood.manifest}
    for name, how in known.items():
        target = folder / name / "1"
        target.mkdir(parents=True)
        told = {"name": name, "version": "1", "task": "generate", "files": {}, **how}
        (target / "manifest.json").write_text(json.dumps(told))
    return folder


class Client:
    """Asks one API, and keeps what it hears of each answer."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._asked: list[asyncio.Task[None]] = []

    def ask(self, text: str, *, model: str = "slow", stream: bool = True, trace: str = "", **options: object) -> Heard:
        """Send a request; what comes is noted in what is returned."""
        return self.begin(text, model=model, stream=stream, trace=trace, **options)[0]

    def begin(
        self, text: str, *, model: str = "slow", stream: bool = True, trace: str = "", **options: object
    ) -> tuple[Heard, asyncio.Task[None]]:
        """Send a request; to cancel the task is to leave."""
        heard = Heard()
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], **options}
        headers = {"cache-control": "no-store"} | ({"traceparent": trace} if trace else {})
        task = asyncio.create_task(self._read(heard, body, headers))
        self._asked.append(task)
        return heard, task

    async def plan(self, text: str, *, model: str) -> list[str]:
        """Return the agents that would get such a request, in order."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        async with self._http.post(f"{self._url}/v1/decisions", json=body) as response:
            return list((await response.json())["plan"])

    async def leave_all(self) -> None:
        """Leave what is still at work."""
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    async def _read(self, heard: Heard, body: dict[str, object], headers: dict[str, str]) -> None:
        try:
            async with self._http.post(f"{self._url}/v1/chat/completions", json=body, headers=headers) as response:
                heard.status, heard.request = response.status, response.headers.get("x-request-id", "")
                heard.agent = response.headers.get("x-ringfence-agent", "")
                if response.content_type == "text/event-stream":
                    async for line in response.content:
                        _note_event(heard, line.decode().strip())
                else:
                    told = await response.json()
                    _note_error(heard, told)
                    if response.status == 200:
                        heard.text, heard.whole = told["choices"][0]["message"]["content"], True
        except aiohttp.ClientError as error:
            heard.code = heard.code or f"connection: {type(error).__name__}"
        finally:
            heard.over_at = time.monotonic()


def _note_event(heard: Heard, line: str) -> None:
    if line == "data: [DONE]":
        heard.whole = True
    elif line.startswith("data: "):
        event = json.loads(line.removeprefix("data: "))
        heard.events += 1
        _note_error(heard, event)
        heard.text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


def _note_error(heard: Heard, told: dict[str, dict[str, str]]) -> None:
    if "error" in told:
        heard.code, heard.sentence = told["error"]["code"], told["error"]["message"]


@asynccontextmanager
async def client(url: str, key: str) -> AsyncIterator[Client]:
    """Give a client of an API, and leave everything that it has asked at the end."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}, connector=connector, timeout=timeout) as http:
        made = Client(http, url)
        try:
            yield made
        finally:
            await made.leave_all()


async def until(look: Callable[[], object], what: str, within_s: float = HEARS_S) -> None:
    """Return when `look` gives something true. Raises AssertionError after `within_s`."""
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(0.005)


async def all_over(heard: Sequence[Heard], within_s: float = HEARS_S) -> None:
    """Return when the end of every answer was heard."""
    await until(lambda: all(one.over_at for one in heard), f"every answer ends: {heard}", within_s)


async def all_begun(heard: Sequence[Heard], characters: int = 6) -> None:
    """Return when some text of every streamed answer has come."""
    await until(lambda: all(len(one.text) >= characters or one.over_at for one in heard), f"every answer begins: {heard}")
    assert not any(one.over_at for one in heard), heard
