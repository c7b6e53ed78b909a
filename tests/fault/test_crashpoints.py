"""kill -9 at each step of journal, publish, ingest, receipt, proof and seal: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.identity import identity
from sync.audit import chain, kinds, rows
from sync.audit.journal import Journal
from sync.audit.unfinished import close_unfinished
from sync.crypto import keyring, signing
from sync.kit.clock import SystemClock
from sync.kit.crashpoints import VARIABLE
from sync.kit.ids import AgentId
from tests.support import running as support
from tests.support import system

KILLED = -9
STEPS = Path(__file__).with_name("journal_steps.py")
REQUESTS = Path(__file__).with_name("request_steps.py")
SIGNER = signing.Signer(bytes(range(32)))
JOURNAL = [
    "journal.inserted", "journal.inserted:30", "journal.committed", "journal.committed:30", "journal.proved", "seal.begin", "seal.written",
    "seal.deleted", "seal.committed", "expire.rewritten", "expire.rewritten:2", "forget.signed",
]  # fmt: skip
OPEN = ["journal.opened", "journal.opened:20", "journal.closed", "journal.closed:2", "journal.closed:20", "journal.committed:30"]
AGENT = ["journal.inserted:3", "journal.committed:3", "outbox.made", "outbox.published", "receipt.came", "proof.came", "proof.checked", "journal.proved", "bundle.verified", "bundle.written", "erase.done"]  # fmt: skip
HUB = [
    "ingest.received", "ingest.verified", "ingest.inserted", "ingest.committed", "receipt.made", "receipt.sent", "consume.taken",
    "checkpoint.begin", "checkpoint.signed", "checkpoint.stored", "proof.asked", "edit.recorded", "journal.committed:2",
]  # fmt: skip


@pytest.mark.parametrize("moment", JOURNAL)
def test_a_journal_that_is_killed_has_all_that_it_acknowledged(moment: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    done = subprocess.run(
        [sys.executable, STEPS, path], capture_output=True, text=True, check=False, timeout=60, cwd=support.ROOT,
        env={VARIABLE: moment, "PYTHONPATH": str(support.ROOT)},
    )  # fmt: skip
    assert done.returncode == KILLED, done.stderr
    acknowledged = [int(line) for line in done.stdout.splitlines()]
    again = Journal(path, AgentId("agent-1"), SIGNER, SystemClock())
    again.open()
    if acknowledged:
        assert again.position.next > acknowledged[-1]
    held = again.position.next
    again.close()
    assert rows.verify(path, AgentId("agent-1"), SIGNER.public_key).next == held
    once_more = subprocess.run(
        [sys.executable, STEPS, path], capture_output=True, text=True, check=False, timeout=60, cwd=support.ROOT,
        env={"PYTHONPATH": str(support.ROOT)},
    )  # fmt: skip
    assert once_more.returncode == 0, once_more.stderr
    assert rows.verify(path, AgentId("agent-1"), SIGNER.public_key).next == held + 60


@pytest.mark.parametrize("moment", OPEN)
def test_each_request_that_was_begun_has_one_outcome_wherever_the_process_is_killed(moment: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    def live(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, REQUESTS, path], capture_output=True, text=True, check=False, timeout=60,
            cwd=support.ROOT, env={"PYTHONPATH": str(support.ROOT), **environment},
        )  # fmt: skip

    assert live().returncode == 0  # leaves some open, so that the next life begins with closing them
    told = []
    for _ in range(3):
        done = live(**{VARIABLE: moment})
        assert done.returncode == KILLED, done.stderr
        told += [line.split() for line in done.stdout.splitlines() if line.startswith(("begun ", "answered "))]
    again = Journal(path, AgentId("agent-1"), SIGNER, SystemClock())
    again.open()
    asyncio.run(close_unfinished(again))
    again.close()
    with sqlite3.connect(path) as database:
        rows_of = database.execute("select entry from entries order by sequence")
        entries = [chain.decode(entry) for (entry,) in rows_of]
        assert database.execute("select count(*) from unfinished").fetchone() == (0,)
    database.close()
    begun = [entry.fields["request"] for entry in entries if entry.kind == kinds.DECIDED]
    outcomes = {e.fields["request"]: e.fields["outcome"] for e in entries if e.kind == kinds.REQUEST}
    assert sorted(begun) == sorted(e.fields["request"] for e in entries if e.kind == kinds.REQUEST)
    for what, request in told:
        assert request in outcomes
        assert what == "begun" or outcomes[request] == "answered"
    assert rows.verify(path, AgentId("agent-1"), SIGNER.public_key).next == len(entries)


class Killable:
    """A hub and an agent, of which one is started to die at a named moment, and then again to live."""

    def __init__(self, folder: Path) -> None:
        self.system = system.System(folder / "run", [support.ONPREM], support.models(folder / "models"), support.CONFIGURATION)
        self.system.environment = {"RINGFENCE_CHECKPOINT_S": "0.5"}
        asyncio.run(self.system.prepare("acme"))
        self.acknowledged: list[str] = []
        self._at_hub: str | None = None
        self.system.start_hub()
        asyncio.run(self.system.wait_for_hub())
        self.start(support.ONPREM.name)
        self.wait()

    def start(self, name: str, moment: str | None = None) -> None:
        self.system.own[name] = {VARIABLE: moment} if moment else {}
        if name == "hub":
            (self.system.hub / "hub-address.json").unlink(missing_ok=True)
            self.system.start_hub()
        else:
            self.system.start_agent(name)

    def wait(self) -> None:
        asyncio.run(self.system.wait_for_hub())
        asyncio.run(self.system.wait_for_agents([support.ONPREM.name]))

    def ask(self) -> None:
        """Asks once; what is answered counts as acknowledged."""
        address = self.system.hub / "hub-address.json"
        if address.exists():
            self.system.url = json.loads(address.read_text())["url"]
        body = {"model": "quick", "messages": [{"role": "user", "content": "hello"}]}
        request = urllib.request.Request(f"{self.system.url}/v1/chat/completions", data=json.dumps(body).encode())
        request.add_header("authorization", f"Bearer {self.system.api_key}")
        request.add_header("cache-control", "no-store")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                if json.loads(response.read())["choices"]:
                    self.acknowledged.append(response.headers["x-request-id"])
        except (OSError, ValueError):
            time.sleep(0.05)  # the process is on its way down

    def die(self, name: str, provoke: Callable[[], None]) -> None:
        """Provokes until the process has been killed by its own hand."""
        process = self.system.processes[name]

        def died() -> bool:
            provoke()
            return process.poll() is not None

        support.eventually(died, f"{name} reaches the moment")
        assert process.returncode == KILLED, self.system.log(name).read_text()[-500:]

    def runs(self) -> list[object]:
        return [fields["request"] for fields in support.ledger_fields(self.system, "run") if fields["outcome"] == "done"]

    def check(self) -> None:
        """Everything that was acknowledged is in the ledger once, the ledger is intact, and so is the agent's journal."""
        wanted = set(self.acknowledged)
        support.eventually(lambda: wanted <= set(self.runs()), "every acknowledged run is in the ledger")
        runs = self.runs()
        assert len(runs) == len(set(runs)), "and none is there twice"
        verified = support.command("ringfence", "audit", "verify", "--state", self.system.hub)
        assert verified.returncode == 0, verified.stdout
        agent = self.system.agent(support.ONPREM.name)
        rows.verify(agent / "journal.db", AgentId(support.ONPREM.name), keyring.load(agent / identity.KEYS).signer.public_key)


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    made = Killable(tmp_path_factory.mktemp("killable"))
    yield made
    made.system.stop_all()


def provocation(made: Killable, moment: str) -> Callable[[], None]:
    """What leads to the moment: requests, or an edit, or an erasure."""
    if moment.startswith("bundle."):
        return lambda: _apply(made)
    if moment == "edit.recorded":
        return lambda: _make_key(made)
    if moment == "erase.done":
        return lambda: _erase(made)
    return made.ask


def _apply(made: Killable) -> None:
    support.command("ringfence", "apply", "-f", support.CONFIGURATION, "--state", made.system.hub)


def _make_key(made: Killable) -> None:
    support.command("ringfence", "keys", "create", "--tenant", "acme", "--name", "k", "--state", made.system.hub)


def _erase(made: Killable) -> None:
    """An order for the agent, as an erasure leaves it in the database."""
    from sync.wire import codec

    status = json.loads((made.system.agent(support.ONPREM.name) / "status.json").read_text())
    with sqlite3.connect(made.system.hub / "ringfence.db", timeout=10) as database:
        (epoch,) = database.execute(
            "select epoch from ledger_authors where author = ? order by heard_at desc", (support.ONPREM.name,)
        ).fetchone()
        database.execute(
            "insert or ignore into ledger_erasure_orders values ('era_1', ?, ?, ?, null)",
            (status["agent"], epoch, codec.pack([1, 2])),
        )


@pytest.mark.parametrize("moment", AGENT)
def test_an_agent_that_is_killed_loses_nothing(killable: Killable, moment: str) -> None:
    killable.system.stop(support.ONPREM.name)
    if moment.startswith("bundle."):
        _apply(killable)  # so that there is a newer bundle for it to take
    killable.start(support.ONPREM.name, moment)
    killable.die(support.ONPREM.name, provocation(killable, moment))
    killable.start(support.ONPREM.name)
    killable.wait()
    killable.ask()
    killable.check()


@pytest.mark.parametrize("moment", HUB)
def test_a_hub_that_is_killed_loses_nothing(killable: Killable, moment: str) -> None:
    killable.system.stop("hub")
    killable.start("hub", moment)
    killable.die("hub", provocation(killable, moment))
    killable.system.port = 0
    killable.start("hub")
    killable.wait()
    killable.ask()
    killable.check()


def test_there_are_as_many_moments_as_were_promised() -> None:
    assert len({moment.partition(":")[0] for moment in (*JOURNAL, *OPEN, *AGENT, *HUB)}) >= 25
