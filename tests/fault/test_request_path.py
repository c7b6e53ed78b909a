"""The path of a request under faults of real processes: no hole, one outcome, everybody hears, and who is served is charged.

The tests share one system: each begins when everybody is at work.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.fleet import status
from orchestrator.fleet.presence import Reason
from sync.kit.faults import Fault
from sync.kit.ids import AgentId
from tests.support import running
from tests.support.request_path import (
    CARD,
    EDGE,
    HUB,
    OTHER,
    SITE,
    Client,
    Heard,
    Record,
    RequestPath,
    all_begun,
    all_over,
    client,
    question,
    until,
)

CUTS_S = (*(0.05, 0.5) * 4, 0.05, 2.0)
"""How long the line is away, each time."""
HEARS_OF_IT_S = 10.0
"""Seconds within which a client hears that its forwarded request is lost."""
LEAVERS = 40
STOPPED_S = 8.0
"""Seconds for which an agent is stopped: longer than a hub takes to give it up."""
SLOW_READERS, READ_BYTES, READ_EVERY_S = 8, 1024, 1.0
READ_AT_LEAST = 3 * READ_BYTES
"""Bytes that each slow reader takes: by then all that can be on its way to it is."""
MOST_GROWTH_KIB = 12 * 1024
DISK_MIB = 48
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
AHEAD_S = 150


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RequestPath]:
    made = RequestPath(tmp_path_factory.mktemp("path"), SITE, OTHER, EDGE)
    made.start()
    yield made
    made.close()


@pytest.fixture
def path(shared: RequestPath) -> RequestPath:
    """The system, with everybody at work, whatever the test before has done to it."""
    shared.await_agents()
    return shared


def at_hub(path: RequestPath, *arguments: object) -> str:
    return running.command("ringfence", *arguments, "--state", path.system.hub).stdout


async def served(asked: Client, count: int = 1) -> list[Heard]:
    """Ask until so many quick requests were answered, one after the other."""
    answered: list[Heard] = []

    async def once() -> None:
        heard = asked.ask("hello", model="quick", stream=False)
        await all_over([heard])
        answered.extend([heard] if heard.whole else [])

    async with asyncio.timeout(running.PATIENCE_S):
        while len(answered) < count:
            await once()
    return answered


# --- the line of a forwarded stream


def test_a_forwarded_stream_whose_line_is_cut_is_whole_or_ends_with_an_error(path: RequestPath) -> None:
    """However short the cut: the client has every letter and [DONE], or a part from the beginning and an error event.

    Mutation: in `Replies._check_chunk`, do not compare the sequence, and in `_checked` neither count nor digest.
    """
    asked = question(3.0)
    cut = asyncio.run(_cut_streams(path, asked))
    for heard in cut:
        assert heard.status == 200
        assert (heard.whole, heard.code) in ((True, ""), (False, "hub_lost")), heard
        assert heard.text == asked.upper() if heard.whole else asked.upper().startswith(heard.text), heard
    lost = [heard for heard in cut if not heard.whole]
    assert lost, "no cut has hit anything"
    for heard in lost:
        assert path.outcome(EDGE.name, heard.request).outcome == ("failed", "hub_lost")


async def _cut_streams(path: RequestPath, asked: str) -> list[Heard]:
    proxy, cut = path.proxies[EDGE.name], []
    async with client(path.at(EDGE), path.system.api_key) as edge:
        for number, cut_s in enumerate(CUTS_S):
            await served_over_the_hub(edge)
            heard = edge.ask(asked)
            await all_begun([heard], characters=6 + 3 * number)
            proxy.cut()
            await asyncio.sleep(cut_s)  # the fault itself takes so long
            proxy.mend()
            await all_over([heard])
            cut.append(heard)
    return cut


async def served_over_the_hub(edge: Client) -> None:
    """Return when a restricted request was answered at the edge."""
    async with asyncio.timeout(running.PATIENCE_S):
        while True:
            heard = edge.ask(CARD, model="quick", stream=False)
            await all_over([heard])
            if heard.whole:
                return
            await asyncio.sleep(0.05)  # its line is still away: it is asked again, and not kept busy


# --- the hub and a site are killed


@dataclass(frozen=True, slots=True)
class Killed:
    """What was at work when the hub and a site were killed; `at`: when that was."""

    at: float
    at_hub: Heard
    at_site: Heard
    forwarded: tuple[Heard, Heard]


@pytest.fixture(scope="module")
def killed(shared: RequestPath) -> Killed:
    """The hub and a site, killed at one moment in the middle of streams, and started again."""
    shared.await_agents()
    found = asyncio.run(_kill(shared))
    shared.restart("hub", SITE.name)
    return found


async def _kill(path: RequestPath) -> Killed:
    key = path.system.api_key
    async with client(path.at(None), key) as hub, client(path.at(SITE), key) as site, client(path.at(EDGE), key) as edge:
        await served_over_the_hub(edge)
        streams = hub.ask(question()), site.ask(question()), edge.ask(question())
        plain = edge.ask(question(), stream=False)
        await all_begun(streams)
        path.kill("hub", SITE.name)
        at = time.monotonic()
        await all_over([*streams, plain])
    return Killed(at, streams[0], streams[1], (streams[2], plain))


def test_kill_9_of_who_admitted_a_stream_leaves_one_decision_and_one_outcome(path: RequestPath, killed: Killed) -> None:
    """Mutation: in `Recorder.begin`, close nothing."""
    assert killed.at_hub.text and not killed.at_hub.whole
    assert killed.at_site.text and not killed.at_site.whole
    path.check_once(HUB, killed.at_hub.request, "interrupted", "interrupted")
    path.check_once(SITE.name, killed.at_site.request, "interrupted", "interrupted")
    forwarded = [record.fields["request"] for record in path.records() if record.fields.get("via") == EDGE.name]
    for heard in killed.forwarded:
        assert heard.request in forwarded or not heard.request
        if heard.request:
            path.check_once(HUB, heard.request, "interrupted", "interrupted")
            path.check_once(EDGE.name, heard.request, "failed", "hub_lost")
    path.check_intact()
    journal = running.command("ringfence-agent", "journal", "verify", "--state", path.system.agent(SITE.name))
    assert journal.returncode == 0, journal.stderr


def test_a_forwarded_request_whose_hub_is_killed_is_told_within_seconds(path: RequestPath, killed: Killed) -> None:
    for heard in killed.forwarded:
        assert (heard.whole, heard.code) == (False, "hub_lost")
    took_s = [heard.over_at - killed.at for heard in killed.forwarded]
    assert max(took_s) < HEARS_OF_IT_S


def test_a_forwarded_request_whose_line_stays_away_is_told_within_seconds(path: RequestPath) -> None:
    """It is cut until they have heard."""
    heard, took_s = asyncio.run(_cut_for_long(path))
    assert [(one.whole, one.code) for one in heard] == [(False, "hub_lost")] * 2
    assert max(took_s) < HEARS_OF_IT_S
    for one in heard:
        assert path.outcome(EDGE.name, one.request).outcome == ("failed", "hub_lost")


async def _cut_for_long(path: RequestPath) -> tuple[list[Heard], list[float]]:
    proxy = path.proxies[EDGE.name]
    async with client(path.at(EDGE), path.system.api_key) as edge:
        await served_over_the_hub(edge)
        heard = [edge.ask(question(8.0)), edge.ask(question(8.0), stream=False)]
        await all_begun(heard[:1])
        proxy.cut()
        began = time.monotonic()
        try:
            await all_over(heard)
        finally:
            proxy.mend()
    return heard, [one.over_at - began for one in heard]


def test_a_hub_that_is_told_to_stop_finishes_what_sites_sent_on(path: RequestPath) -> None:
    """Mutation: in `Hub.stop`, do not drain `forwarding`."""
    asked = question()
    hub = path.system.processes["hub"]
    heard = asyncio.run(_stop_hub(path, asked))
    assert [(one.whole, one.code, one.text) for one in heard] == [(True, "", asked.upper())] * len(heard), heard
    assert hub.wait(30) == 0
    path.restart("hub")
    for one in heard[1:]:
        path.check_once(EDGE.name, one.request, "answered", "")
        path.check_once(HUB, one.request, "answered", "")


async def _stop_hub(path: RequestPath, asked: str) -> list[Heard]:
    key = path.system.api_key
    async with client(path.at(None), key) as hub, client(path.at(EDGE), key) as edge:
        await served_over_the_hub(edge)
        heard = [hub.ask(asked), edge.ask(asked), edge.ask(asked), edge.ask(asked, stream=False), edge.ask(asked, stream=False)]
        await all_begun(heard[:3])
        os.kill(path.system.processes["hub"].pid, signal.SIGTERM)
        await all_over(heard)
    return heard


# --- clients that leave


def test_clients_that_leave_at_any_moment_have_one_outcome_each(path: RequestPath) -> None:
    """At the hub, at a site, and at one that sends on; streamed and not; half of them as the last piece comes.

    Mutation: in `Exchange._conclude`, record again where there is a recording already, and in `Recorder.outcome` close
    nothing: one of the two alone is caught by the other.
    """
    traces = asyncio.run(_leave(path, random.Random(13)))
    found: list[Record] = []

    def are_closed() -> bool:
        found[:] = [record for record in path.records() if record.fields.get("trace") in traces]
        return _asked_of(found, "decided") <= _asked_of(found, "request")

    running.eventually(are_closed, "every decision has an outcome")
    # What was recorded later is there: then a second outcome would be, too.
    asyncio.run(_ask_everywhere(path))
    running.eventually(are_closed, "every decision has an outcome")
    outcomes = [(record.author, record.fields["request"]) for record in found if record.kind == "request"]
    decisions = [(record.author, record.fields["request"]) for record in found if record.kind == "decided"]
    assert sorted(set(outcomes)) == sorted(outcomes) and sorted(set(decisions)) == sorted(decisions)
    assert len({request for _, request in outcomes}) > LEAVERS * 3 // 4, "too few were at work when they left"
    assert "cancelled" in {record.fields["outcome"] for record in found if record.kind == "request"}
    path.check_intact()


def _asked_of(records: list[Record], kind: str) -> set[tuple[str, object]]:
    return {(record.author, record.fields["request"]) for record in records if record.kind == kind}


async def _leave(path: RequestPath, rng: random.Random) -> set[str]:
    key, traces = path.system.api_key, [f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01" for _ in range(LEAVERS)]
    async with client(path.at(None), key) as hub, client(path.at(SITE), key) as site, client(path.at(EDGE), key) as edge:
        await served_over_the_hub(edge)
        leaving = [
            _leave_one(
                (hub, site, edge, hub)[number % 4],
                trace,
                stream=number % 3 > 0,
                after_s=rng.uniform(0.05, 1.3),
                at_end=number % 2 > 0,
            )
            for number, trace in enumerate(traces)
        ]
        await asyncio.gather(*leaving)
    return set(traces)


async def _leave_one(asked: Client, trace: str, *, stream: bool, after_s: float, at_end: bool) -> None:
    text = question(1.0)
    heard, task = asked.begin(text, stream=stream, trace=trace)
    if at_end and stream:
        await until(lambda: len(heard.text) >= len(text) or heard.over_at, f"the last piece comes: {heard}")
    else:
        await asyncio.wait([task], timeout=after_s)
    task.cancel()
    await asyncio.wait([task])


async def _ask_everywhere(path: RequestPath) -> None:
    for place, author in ((None, HUB), (SITE, SITE.name), (EDGE, EDGE.name)):
        async with client(path.at(place), path.system.api_key) as asked:
            (heard,) = await served(asked)
        await asyncio.to_thread(path.outcome, author, heard.request)


@pytest.mark.parametrize("place", [None, SITE], ids=["hub", "site"])
def test_who_leaves_before_the_end_is_charged_all_the_same(path: RequestPath, place: object) -> None:
    """Mutation: in `Exchange._conclude`, settle nothing where there is an error."""
    left = asyncio.run(_leave_until_refused(path, path.at(place)))  # type: ignore[arg-type]
    author = HUB if place is None else SITE.name
    for heard in left:
        record = path.outcome(author, heard.request)
        assert record.fields["outcome"] == "cancelled" and record.fields["estimated"], record
        assert int(str(record.fields["completion_tokens"])) >= len(heard.text) // 4, record


async def _leave_until_refused(path: RequestPath, url: str) -> list[Heard]:
    """Leave one stream after the other, until the tenant's tokens are used up. One pays for some 70 of its 150 a minute."""
    left: list[Heard] = []
    async with client(url, path.thrifty) as thrifty:
        async with asyncio.timeout(running.PATIENCE_S):
            while True:
                heard, task = thrifty.begin(question(1.5), max_tokens=10)
                await until(lambda heard=heard: len(heard.text) > 60 or heard.over_at, "some of it comes")
                if "at work already" in heard.sentence:
                    continue  # the one before is being left
                if heard.over_at:
                    assert (heard.status, heard.code) == (429, "rate_limit_exceeded")
                    assert "tokens a minute" in heard.sentence
                    return left
                task.cancel()
                await asyncio.wait([task])
                left.append(heard)
                assert len(left) < 6, "who leaves pays nothing"


# --- an agent that is stopped


def test_a_stopped_agent_is_passed_over_and_does_not_begin_what_others_have_done(path: RequestPath) -> None:
    """Mutation: in `stages._run_at`, do not note who was tried; in `Replies.close`, cancel nothing."""
    stopped, heard = asyncio.run(_stop_first_agent(path))
    other = {SITE.name: OTHER.name, OTHER.name: SITE.name}[stopped]
    assert all(one.whole for one in heard), heard
    tried = {one.request: path.outcome(HUB, one.request).fields["tried"] for one in heard}
    passed_over = [request for request, agents in tried.items() if len(agents) == 2]  # type: ignore[arg-type]
    assert passed_over, tried
    for request in passed_over:
        assert tried[request] == ((stopped, "on_premise", "agent_lost"), (other, "on_premise", "")), tried[request]
    path.await_caught_up(stopped)
    ran = [one for one in path.records(*passed_over) if (one.author, one.kind) == (stopped, "run")]
    assert all(one.fields["outcome"] in ("start_deadline", "cancelled") for one in ran), ran
    assert not any(one.fields["completion_tokens"] for one in ran), ran


async def _stop_first_agent(path: RequestPath) -> tuple[str, list[Heard]]:
    """Stop the agent that would get the next request, and ask; return its name, and what was heard."""
    async with client(path.at(None), path.system.api_key) as hub:
        await served(hub)
        name = (await hub.plan(CARD, model="slow"))[0]
        process = path.system.processes[name]
        os.kill(process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            heard = [hub.ask(question(0.3), stream=number % 2 > 0) for number in range(8)]
            await all_over(heard)
            await until(lambda: time.monotonic() > stopped + STOPPED_S, "it was stopped for long enough")
        finally:
            os.kill(process.pid, signal.SIGCONT)
    return name, heard


# --- slow clients


def test_slow_clients_cost_little_and_nobody_waits_for_them(path: RequestPath) -> None:
    """Eight clients read 1 KB/s of streams of 7 MB. Mutations: in `Dispatch.begin`, `window = 0`; no `SEND_BUFFER`."""
    asyncio.run(_read_slowly(path))


async def _read_slowly(path: RequestPath) -> None:
    system, names = path.system, ("hub", SITE.name, OTHER.name)
    async with client(path.at(None), system.api_key) as hub:
        # What is loaded for the first such stream, and stays, is no slow client's doing.
        asked_for = {SITE.name, OTHER.name}
        async with asyncio.timeout(running.PATIENCE_S):
            while asked_for:
                await all_over([heard := hub.ask("go on", model="flood")])
                assert heard.whole, heard.code
                asked_for.discard(heard.agent)
        before = {name: _rss_kib(system.processes[name].pid) for name in names}
        readers = [_Slow(path.at(None), system.api_key) for _ in range(SLOW_READERS)]
        reading = [asyncio.create_task(reader.read()) for reader in readers]
        answered = 0
        while min(reader.taken for reader in readers) < READ_AT_LEAST:
            answered += len(await served(hub, 10))
            assert not any(task.done() for task in reading), "a slow reader was cut off"
        grown = {name: _rss_kib(system.processes[name].pid) - kib for name, kib in before.items()}
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    assert answered >= 30
    assert max(grown.values()) < MOST_GROWTH_KIB, grown


class _Slow:
    """A client that takes a little of a long stream now and then."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self.taken = 0
        """Bytes so far."""

    async def read(self) -> None:
        """Read until cancelled."""
        host, port = self._url.removeprefix("http://").split(":")
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * READ_BYTES)
        line.connect((host, int(port)))
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        body = json.dumps({"model": "flood", "stream": True, "messages": [{"role": "user", "content": "go on"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {self._key}\r\n"
        head += f"cache-control: no-store\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        with line:
            await loop.sock_sendall(line, head.encode() + body)
            while data := await loop.sock_recv(line, READ_BYTES):
                self.taken += len(data)
                await asyncio.sleep(READ_EVERY_S)


def _rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


# --- an agent whose clock is wrong


@pytest.mark.skipif(not LIBFAKETIME.exists(), reason="needs Debian's package faketime")
def test_an_agent_whose_clock_is_off_gets_no_work_and_is_named(path: RequestPath) -> None:
    """Mutation: in `Presence.here`, do not ask whether the clock is off."""
    path.system.stop(OTHER.name)
    path.system.own[OTHER.name] = {
        "LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": f"+{AHEAD_S}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    path.system.start_agent(OTHER.name)
    try:
        fleet, name = path.system.hub / "fleet.json", AgentId(OTHER.name)
        left_out = lambda: (status.read(fleet, time.time()) or {}).get(name)  # noqa: E731
        running.eventually(lambda: (found := left_out()) and found.reason is Reason.CLOCK, "the hub leaves it out")
        doctor = " ".join(at_hub(path, "doctor").split())
        assert f"agent {name} it gets no work: clock off by" in doctor, doctor
        assert f"fault {Fault.AGENT_CLOCK.value}" in doctor, doctor
        rows = [json.loads(line) for line in at_hub(path, "agents", "list", "--json").splitlines()]
        assert "clock off by" in {row["id"]: row["left_out"] for row in rows}[name], rows
        heard = asyncio.run(_ask_restricted(path, 10))
        for one in heard:
            assert path.outcome(HUB, one.request).fields["tried"] == ((SITE.name, "on_premise", ""),)
    finally:
        path.system.stop(OTHER.name)
        path.system.own.pop(OTHER.name)
        path.restart(OTHER.name)


async def _ask_restricted(path: RequestPath, count: int) -> list[Heard]:
    async with client(path.at(None), path.system.api_key) as hub:
        heard = [hub.ask(CARD, model="quick", stream=False) for _ in range(count)]
        await all_over(heard)
    assert all(one.whole for one in heard), heard
    return heard


# --- a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", mounted], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to mount")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def test_a_hub_whose_disk_is_full_gives_out_nothing_and_writes_late_what_it_owes(disk: Path, tmp_path: Path) -> None:
    """Mutation: in `Recorder.outcome`, keep nothing that is late; in `_write_ahead`, go on where the record is refused."""
    made = RequestPath(tmp_path / "path", SITE)
    shutil.copytree(made.system.hub, disk / "state")
    shutil.rmtree(made.system.hub)
    made.system.hub.symlink_to(disk / "state")
    made.start()
    try:
        begun = asyncio.run(_fill_and_ask(made, disk))
        for heard in begun:
            record = made.outcome(HUB, heard.request)
            assert record.outcome == ("failed", "audit_unavailable") and record.fields["late"], record
        made.check_intact()
    finally:
        made.close()


async def _fill_and_ask(made: RequestPath, disk: Path) -> list[Heard]:
    """Fill the disk while streams are at work, and make room again; return those that lost their record."""
    async with client(made.at(None), made.system.api_key) as hub:
        begun = [hub.ask(question(2.5)) for _ in range(3)]
        await all_begun(begun)
        filler = _fill(disk)
        refused: list[Heard] = []
        while not all(one.over_at for one in begun):
            heard = hub.ask("hello", model="quick", stream=len(refused) % 2 > 0)
            await all_over([heard])
            if not heard.whole:
                refused.append(heard)
                assert (heard.status, heard.code, heard.text) == (503, "audit_unavailable", ""), heard
        assert refused, "the disk was not full"
        assert all((one.whole, one.code) == (False, "audit_unavailable") for one in begun), begun
        filler.unlink()
        await served(hub)
    return begun


def _fill(disk: Path) -> Path:
    """Take all the room that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler
