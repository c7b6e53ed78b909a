"""Fault, moment, outcome: each on a system of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from sync.audit import rows
from sync.crypto import keyring
from sync.kit.ids import AgentId
from tests.support import running as support
from tests.support import system

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[system.System]:
    made = asyncio.run(support.start(tmp_path, support.ONPREM))
    yield made
    made.stop_all()


def ask(running: system.System, **options: object) -> str:
    with support.client(running) as app:
        answer = app.chat.completions.create(model="quick", messages=HELLO, extra_headers={"cache-control": "no-store"}, **options)  # type: ignore[call-overload]
        return answer.id.removeprefix("chatcmpl-")


def answers(running: system.System) -> bool:
    try:
        return bool(ask(running))
    except openai.APIError:
        return False


def ran(running: system.System) -> set[object]:
    return {fields["request"] for fields in support.ledger_fields(running, "run") if fields["outcome"] == "done"}


def test_kill_9_of_an_agent_during_a_stream(running: system.System) -> None:
    """The client gets an error event (how soon: docs/performance.md), the journal verifies on restart, and no acknowledged record is missing."""
    acknowledged = {ask(running) for _ in range(20)}
    agent = running.processes[support.ONPREM.name]
    with support.client(running) as app:
        stream = app.chat.completions.create(model="slow", messages=HELLO, stream=True)  # type: ignore[call-overload]
        pieces = iter(stream)
        next(pieces)
        next(pieces)
        os.kill(agent.pid, signal.SIGKILL)
        with pytest.raises(openai.APIError) as raised:
            for _ in pieces:
                pass
    assert raised.value.body["code"] == "agent_lost"
    lost = support.eventually(
        lambda: [f for f in support.ledger_fields(running, "request") if f["code"] == "agent_lost"], "the failure is in the ledger"
    )
    assert (lost[0]["outcome"], lost[0]["agent"]) == ("failed", support.ONPREM.name)
    agent.wait()
    verified = support.command("ringfence-agent", "journal", "verify", "--state", running.agent(support.ONPREM.name))
    assert verified.returncode == 0, verified.stderr
    running.start_agent(support.ONPREM.name)
    asyncio.run(running.wait_for_agents([support.ONPREM.name]))
    acknowledged.add(ask(running))
    support.eventually(lambda: acknowledged <= ran(running), "every acknowledged run is in the ledger")
    assert "intact" in support.command("ringfence", "audit", "verify", "--state", running.hub).stdout


def test_an_agent_that_is_told_to_stop_goes_on_with_its_work_and_refuses_more_at_once(running: system.System) -> None:
    """The client is told within a fraction of a second that it is draining, the stream at work goes on, and people see who is left out.

    Mutation: in the agent's `intake`, answer nothing while it is not accepting.
    """
    name, agent = support.ONPREM.name, running.processes[support.ONPREM.name]
    with support.client(running) as app:
        stream = app.chat.completions.create(model="slow", messages=HELLO, stream=True)  # type: ignore[call-overload]
        pieces = iter(stream)
        next(pieces)
        os.kill(agent.pid, signal.SIGTERM)
        codes = [_code_of(running) for _ in range(3)]
        assert "draining" in codes and set(codes) <= {"", "draining", "no_eligible_agent"}, codes
        for _ in range(50):
            assert next(pieces).choices[0].finish_reason is None
        stream.close()
    assert agent.wait(20) == 0
    listed = support.eventually(
        lambda: [r for r in map(json.loads, at_hub(running, "agents", "list", "--json").splitlines()) if r["left_out"]],
        "the list names who gets no work",
    )
    assert (listed[0]["id"], listed[0]["left_out"]) == (name, "silent")
    assert "gets no work: silent" in " ".join(at_hub(running, "doctor").split())


def at_hub(running: system.System, *arguments: object) -> str:
    return support.command("ringfence", *arguments, "--state", running.hub).stdout


def _code_of(running: system.System) -> str:
    """The error's code, or nothing where it was answered."""
    try:
        ask(running)
    except openai.APIStatusError as error:
        assert error.status_code == 503
        return str(error.code)
    return ""


def test_kill_9_of_the_broker(running: system.System) -> None:
    """Hub and agents come back by themselves, and nothing acknowledged is lost."""
    acknowledged = {ask(running) for _ in range(5)}
    broker = _pid_of_broker(running)
    os.kill(broker, signal.SIGKILL)
    support.eventually(lambda: answers(running), "requests are answered again")
    acknowledged.add(ask(running))
    support.eventually(lambda: acknowledged <= ran(running), "every acknowledged run is in the ledger")
    assert _pid_of_broker(running) != broker


def test_kill_9_of_the_hub(running: system.System) -> None:
    """It starts again where it stood: keys, bundle, journal and ledger."""
    acknowledged = {ask(running) for _ in range(5)}
    hub = running.processes["hub"]
    broker = _pid_of_broker(running)
    os.kill(hub.pid, signal.SIGKILL)
    hub.wait()
    support.eventually(lambda: not Path(f"/proc/{broker}").exists(), "the broker has ended with it")
    running.port = 0
    (running.hub / "hub-address.json").unlink()
    running.start_hub()
    asyncio.run(running.wait_for_hub())
    asyncio.run(running.wait_for_agents([support.ONPREM.name]))
    acknowledged.add(ask(running))
    asked = lambda: {f["request"] for f in support.ledger_fields(running, "request")}  # noqa: E731
    support.eventually(lambda: acknowledged <= asked(), "every acknowledged request is in the ledger")
    support.eventually(lambda: acknowledged <= ran(running), "every acknowledged run is in the ledger")
    assert "intact" in support.command("ringfence", "audit", "verify", "--state", running.hub).stdout


def test_invariant_2_a_dead_database_stops_edits_and_not_answers(running: system.System) -> None:
    for path in running.hub.glob("ringfence.db*"):
        # Not its index, which is mapped into the hub's memory: cut short, it would end the process, and that is another fault.
        if not path.name.endswith("-shm"):
            path.write_bytes(b"this is no database " * 1000)
    for _ in range(3):
        assert ask(running)
    request = urllib.request.Request(
        f"{running.url}/v1/admin/configuration", data=support.CONFIGURATION.read_bytes(), method="PUT",
        headers={"authorization": f"Bearer {running.admin_key}"},
    )  # fmt: skip
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 503
    assert json.load(refused.value)["error"]["code"] == "store_unavailable"
    assert ask(running)


@pytest.mark.parametrize("where", ["hub", "agent"])
def test_invariant_3_no_answer_goes_out_without_its_record(running: system.System, where: str) -> None:
    folder = running.hub if where == "hub" else running.agent(support.ONPREM.name)
    assert ask(running)
    database = sqlite3.connect(folder / "journal.db", timeout=10)
    database.execute("create trigger full before insert on entries begin select raise(abort, 'database or disk is full'); end")
    database.commit()
    with pytest.raises(openai.InternalServerError) as refused:
        ask(running)
    assert (refused.value.status_code, refused.value.code) == (503, "audit_unavailable")
    with support.client(running) as app, pytest.raises(openai.APIError) as cut:
        list(app.chat.completions.create(model="quick", messages=HELLO, stream=True, extra_headers={"cache-control": "no-store"}))  # type: ignore[call-overload]
    assert cut.value.code == "audit_unavailable" or cut.value.body["code"] == "audit_unavailable"
    database.execute("drop trigger full")
    database.commit()
    database.close()
    assert ask(running)


def test_invariant_4_nothing_acknowledged_is_lost_while_the_hub_is_away(running: system.System) -> None:
    """The agent keeps its records until the hub's receipt, over its own kill -9 too."""
    name = support.ONPREM.name
    acknowledged = {ask(running) for _ in range(10)}
    agent = running.processes[name]
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    keys = keyring.load(running.agent(name) / "agent-keys.json")
    assert rows.verify(running.agent(name) / "journal.db", AgentId(name), keys.signer.public_key).next > 10
    running.start_agent(name)
    support.eventually(lambda: acknowledged <= ran(running), "every acknowledged run is in the ledger")


def test_invariant_7_a_site_without_a_hub_starts_with_its_last_bundle(running: system.System) -> None:
    """Cold start while offline: the agent comes up with the bundle, the models and the journal on its disk, and catches up later."""
    name = support.ONPREM.name
    acknowledged = {ask(running)}
    running.stop(name)
    running.stop("hub")
    running.start_agent(name)
    status = running.agent(name) / "status.json"

    def offline_and_ready() -> bool:
        told = json.loads(status.read_text())
        return (
            told["pid"] == running.processes[name].pid
            and not told["linked"]
            and told["bundle_serial"] > 0
            and "quick" in told["models"]
        )

    support.eventually(offline_and_ready, "the agent is up without its hub")
    running.start_hub()
    asyncio.run(running.wait_for_hub())
    asyncio.run(running.wait_for_agents([name]))
    acknowledged.add(ask(running))
    support.eventually(lambda: acknowledged <= ran(running), "the agent has caught up")


def test_an_agent_that_is_stopped_and_not_dead_is_noticed_too(running: system.System) -> None:
    """SIGSTOP: the line stays up, nobody answers. The stream ends with an error all the same."""
    agent = running.processes[support.ONPREM.name]
    with support.client(running) as app:
        stream = app.chat.completions.create(model="slow", messages=HELLO, stream=True)  # type: ignore[call-overload]
        pieces = iter(stream)
        next(pieces)
        os.kill(agent.pid, signal.SIGSTOP)
        with pytest.raises(openai.APIError):
            for _ in pieces:
                pass
    os.kill(agent.pid, signal.SIGCONT)
    support.eventually(lambda: answers(running), "the agent gets work again")


def _pid_of_broker(running: system.System) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"nats-server") and str(running.hub).encode() in b" ".join(words):
                return int(entry.name)
    raise AssertionError("the broker does not run")
