"""The ledger for people: found, proved to a stranger, exported, witnessed, forwarded, erased, held, backed up."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support import running as support
from tests.support import system
from tests.support.hub import ask, at_hub, await_record, in_ledger

VERIFY = support.ROOT / "packaging" / "verify" / "verify.py"
KEEPING = """
  - id: keeper
    allowed_models: [quick]
    rate_limit: {requests_per_minute: 100000, tokens_per_minute: 10000000, concurrent: 64}
    retention: {days: 30, levels: {restricted: 3}, content: encrypted}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    folder = tmp_path_factory.mktemp("audit")
    configuration = folder / "tenants.yaml"
    configuration.write_text(support.CONFIGURATION.read_text() + KEEPING)
    place = system.Place(support.ONPREM.name, "on_premise", "frankfurt", api=True)
    made = system.System(folder / "run", [place], support.models(folder / "models"), configuration)
    made.environment = {"RINGFENCE_CHECKPOINT_S": "1"}
    asyncio.run(made.prepare("keeper"))
    made.start()
    asyncio.run(made.wait_for_hub())
    asyncio.run(made.wait_for_agents([place.name]))
    yield made
    made.stop_all()


def stranger(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The script as somebody runs it who has nothing of ours: another folder, no site packages."""
    return subprocess.run(
        [sys.executable, "-I", "-S", VERIFY, *map(str, arguments)], capture_output=True, text=True, cwd="/", check=False, timeout=60
    )


def signed(running: system.System, request: str) -> None:
    """Returns when a checkpoint covers the records of a request."""

    def covered() -> bool:
        done = support.command("ringfence", "audit", "prove", request, "-o", running.folder / "covered", "--state", running.hub)
        return done.returncode == 0

    support.eventually(covered, "a checkpoint covers it")


# --- search, tail, prove, export


def test_records_are_found_by_what_they_say(running: system.System) -> None:
    request = ask(running, "My social security number is 536-22-8726.")
    rows = await_record(running, request)
    assert {row["kind"] for row in rows} == {"request", "run"} and all(row["level"] == "restricted" for row in rows)
    assert "536-22-8726" not in json.dumps(rows)
    told = at_hub(running, "audit", "search", "--tenant", "keeper", "--kind", "run", "--where", "level=restricted", "--limit", 1)
    assert "restricted" in told and "These are the first 1" in told
    assert at_hub(running, "audit", "search", "--since", "2099-01-01", "--json") == ""
    one = ("audit", "search", "--tenant", "keeper", "--where", f"request={request}", "--json")
    (row,) = map(json.loads, at_hub(running, *one).splitlines())
    assert row["kind"] == "request" and row["outcome"] == "answered", "one row a request, with its outcome"
    every = [json.loads(line)["kind"] for line in at_hub(running, *one, "--all").splitlines()]
    assert {"request", "run"} <= set(every)
    newest = at_hub(running, "audit", "tail", "--tenant", "keeper", "-n", 2)
    assert len(newest.splitlines()) == 2
    for wrong, said in (
        (("--tenant", "nobody"), "no records of 'nobody'"), (("--since", "yesterday"), "--since yesterday"), (("--where", "x"), "field=value"),
    ):  # fmt: skip
        assert said in at_hub(running, "audit", "search", *wrong, code=2)


def test_edits_are_in_the_audit_log_too(running: system.System) -> None:
    at_hub(running, "keys", "create", "--tenant", "keeper", "--name", "auditee", "-q")
    found = support.eventually(
        lambda: [r for r in map(json.loads, at_hub(running, "audit", "search", "--kind", "edit", "--json").splitlines()) if r.get("principal") == "auditee"],
        "the edit is in the ledger",
    )  # fmt: skip
    assert found[0]["what"] == "key created" and found[0]["tenant"] == "keeper"


def test_a_stranger_with_the_public_key_checks_one_record(running: system.System, tmp_path: Path) -> None:
    request = ask(running, "hello")
    await_record(running, request)
    signed(running, request)
    told = at_hub(running, "audit", "prove", request, "-o", tmp_path)
    proof, record = next(tmp_path.glob("*.tlog-proof")), next(tmp_path.glob("*.record"))
    key = re.search(r"--key (\S+)", told)[1]  # type: ignore[index]
    assert proof.stat().st_size <= 2048
    done = stranger(proof, record, "--key", key)
    assert done.returncode == 0 and "1 records are in ringfence/ledger/keeper" in done.stdout, done.stderr
    other = tmp_path / "other.record"
    other.write_bytes(record.read_bytes()[:-1] + bytes([record.read_bytes()[-1] ^ 1]))
    lines = proof.read_text().splitlines(keepends=True)
    changed = {
        "another record": (proof.read_text(), other, key),
        "another place": (proof.read_text().replace(lines[1], "index 0\n"), record, key),
        "a larger tree": (proof.read_text().replace(f"\n{_size(proof)}\n", f"\n{_size(proof) + 1}\n"), record, key),
        "another key": (proof.read_text(), record, "A" * 43 + "="),
        "no signature": (proof.read_text().rsplit("\n\n", 1)[0] + "\n\n", record, key),
        "half a file": (proof.read_text()[:200], record, key),
        "nothing": ("", record, key),
    }
    for name, (text, shown, with_key) in changed.items():
        (tmp_path / "changed").write_text(text)
        refused = stranger(tmp_path / "changed", shown, "--key", with_key)
        assert refused.returncode == 1 and "NOT PROVED" in refused.stderr and "Traceback" not in refused.stderr, name


def _size(proof: Path) -> int:
    return int(proof.read_text().split("\n\n")[1].split("\n")[1])


@pytest.mark.parametrize("form", ["jsonl", "csv", "cloudevents"])
def test_an_export_is_checked_as_a_whole(running: system.System, tmp_path: Path, form: str) -> None:
    for _ in range(3):
        request = ask(running, "hello")
    await_record(running, request)
    signed(running, request)
    out = tmp_path / f"audit.{form}"
    told = at_hub(running, "audit", "export", "--tenant", "keeper", "--kind", "run", "--format", form, "-o", out)
    count = int(re.match(r"(\d+) records", told)[1])  # type: ignore[index]
    key = (running.hub / "hub-public-key.txt").read_text().strip()
    done = stranger(f"{out}.proof", out, "--key", key)
    assert done.returncode == 0 and done.stdout.startswith(f"{count} records"), done.stderr
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join([*lines[:-2], lines[-1]]))
    assert stranger(f"{out}.proof", out, "--key", key).returncode == 1, "one left out"
    assert "there are jsonl, csv and cloudevents" in at_hub(
        running, "audit", "export", "--tenant", "keeper", "--format", "xml", "-o", tmp_path / "x", code=2
    )
    assert not (tmp_path / "x").exists()


def test_nothing_missing_is_said_so(running: system.System) -> None:
    assert "Nothing is missing" in at_hub(running, "audit", "gaps")


# --- contents: retained, found, exported, held, erased


def test_what_a_tenant_retains_is_found_held_and_erased_everywhere(running: system.System, tmp_path: Path) -> None:
    site = json.loads((running.agent(support.ONPREM.name) / "status.json").read_text())["url"]
    first = ask(running, "Jane asks about her garden", **{"x-ringfence-subject": "jane"})
    second = ask(running, "Jane asks at the site", url=site, **{"x-ringfence-subject": "jane"})
    other = ask(running, "John asks", **{"x-ringfence-subject": "john"})
    for request in (first, second, other):
        await_record(running, request)
    told = tmp_path / "jane.json"
    at_hub(running, "audit", "subject", "jane", "--tenant", "keeper", "-o", told)
    told_of_jane = json.loads(told.read_text())["records"]
    told_kinds = sorted(str(row["kind"]) for row in told_of_jane if row["kind"] in ("request", "run"))
    assert told_kinds == ["request", "request", "run", "run"], "what ran for her is there too"
    found = {row["request"]: row["contents"] for row in told_of_jane if row["kind"] == "request"}
    assert found[first]["prompt"] == "Jane asks about her garden" and found[second]["prompt"] == "Jane asks at the site"
    assert other not in found and found[first]["answer"]
    assert oct(told.stat().st_mode)[-3:] == "600"

    held = re.match(
        r"(hold_\w+)", at_hub(running, "audit", "hold", "--tenant", "keeper", "--subject", "jane", "--reason", "case 7")
    )[1]  # type: ignore[index]
    erase = ("audit", "erase", "--tenant", "keeper", "--subject", "jane", "--reason", "GDPR 17")
    assert "case 7) stops this: nothing was changed" in at_hub(running, *erase, code=2)
    assert held in at_hub(running, "audit", "holds")
    at_hub(running, "audit", "lift", held)
    assert "no hold" in at_hub(running, "audit", "lift", held, code=2)

    named = sum(row["kind"] in ("decided", "request") for row in told_of_jane)
    assert named == 4, "the decision and the outcome of each of her two requests name her"
    assert f"The contents of {named} records are destroyed" in at_hub(running, *erase)
    assert "Nothing is retained of that subject" in at_hub(running, *erase, code=2)
    support.eventually(
        lambda: support.command("ringfence", "audit", "erasures", "--state", running.hub).returncode == 0,
        "every site has confirmed",
    )
    at_hub(running, "audit", "subject", "demo-app", "--tenant", "keeper", "-o", told)
    found = {row["request"]: row["contents"] for row in json.loads(told.read_text())["records"] if row["kind"] == "request"}
    assert found[first] == found[second] == "erased" and found[other]["prompt"] == "John asks"
    assert "Nothing is known of 'nobody'" in at_hub(
        running, "audit", "subject", "nobody", "--tenant", "keeper", "-o", tmp_path / "x", code=2
    )
    assert "intact" in at_hub(running, "audit", "verify")
    rows = map(json.loads, at_hub(running, "audit", "search", "--tenant", "keeper", "--kind", "erasure", "--json").splitlines())
    assert [row["reason"] for row in rows] == ["GDPR 17"]
    with sqlite3.connect(running.agent(support.ONPREM.name) / "journal.db") as journal:
        (left,) = journal.execute("select count(*) from contents").fetchone()
    assert left == 0, "the site has destroyed its own"


def test_bad_erasures_change_nothing(running: system.System) -> None:
    for wrong, said in (
        ((), "either --subject or --record"), (("--subject", "a", "--record", "1"), "either"), (("--record", "x"), "the number"),
        (("--record", "999999"), "Nothing is retained of record 999999"),
    ):  # fmt: skip
        assert said in at_hub(running, "audit", "erase", "--tenant", "keeper", "--reason", "r", *wrong, code=2)


# --- witness and SIEM


def start(*arguments: object, environment: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], str]:
    """A long-running command of ours, and its first line."""
    process = subprocess.Popen(
        [support.SCRIPTS / str(arguments[0]), *map(str, arguments[1:])], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_witness_cosigns_what_grows_and_refuses_what_was_rewritten(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    made = system.System(tmp_path / "run", [support.ONPREM], support.models(tmp_path / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    key = tmp_path / "hub.key"
    import base64

    from sync.crypto import keyring

    key.write_text(base64.b64encode(keyring.load(made.hub / "hub-keys.json").signer.public_key).decode())
    witness, line = start(
        "ringfence", "audit", "witness", "--state", folder, "--hub-key", key, "--name", "w.example/1", "--port", 0
    )
    collector = Collector()
    syslog = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []
    threading.Thread(target=_take_syslog, args=(syslog, received), daemon=True).start()
    made.environment = {
        "RINGFENCE_CHECKPOINT_S": "1", "RINGFENCE_WITNESSES": json.dumps([line]),
        "RINGFENCE_SIEM": json.dumps([f"otlp+http://127.0.0.1:{collector.port}/v1/logs", f"syslog+tcp://127.0.0.1:{syslog.getsockname()[1]}"]),
    }  # fmt: skip
    try:
        made.start()
        asyncio.run(made.wait_for_hub())
        asyncio.run(made.wait_for_agents([support.ONPREM.name]))
        request = ask(made, "hello")
        url = line.split(" ")[0]

        def seen() -> dict[str, str]:
            with urllib.request.urlopen(f"{url}/seen") as response:
                return json.loads(response.read())

        support.eventually(lambda: "ringfence/ledger/acme" in seen(), "the witness has signed")
        support.eventually(
            lambda: any("— w.example/1 " in note for note in _notes(made)), "the witness's signature is in the checkpoint"
        )
        support.eventually(lambda: request in collector.text(), "the record has come to the collector")
        support.eventually(lambda: request.encode() in b"".join(received), "the record has come by syslog")
        assert re.match(rb"\d+ <10[89]>1 20\S+ \S+ ringfence - \w+ \[ringfence@32473 tenant=", received[0])
        made.stop("hub")
        # The hub's owner rewrites its past, and signs it all anew.
        _rewrite(made.hub)
        made.port = 0
        made.start_hub()
        asyncio.run(made.wait_for_hub())
        asyncio.run(made.wait_for_agents([support.ONPREM.name]))
        ask(made, "again")
        support.eventually(lambda: "witness_refused" in at_hub_doctor(made), "the witness has refused")
    finally:
        made.stop_all()
        witness.terminate()
        witness.communicate()
        collector.close()
        syslog.close()


def at_hub_doctor(made: system.System) -> str:
    return support.command("ringfence", "doctor", "--state", made.hub).stdout


def _notes(made: system.System) -> list[str]:
    with sqlite3.connect(f"file:{made.hub / 'ringfence.db'}?mode=ro", uri=True) as database:
        return [
            note for (note,) in database.execute("select note from ledger_checkpoints where tenant = 'acme' order by size desc")
        ]


def _rewrite(hub: Path) -> None:
    from orchestrator.ledger import segments

    with sqlite3.connect(hub / "ringfence.db") as database:
        leaf, packed = database.execute(
            "select first_leaf, entries from ledger_segments where tenant = 'acme' order by first_leaf"
        ).fetchone()
        pairs = [(number, entry[:-1] + bytes([entry[-1] ^ 1])) for number, entry in segments.unpack(packed)]
        database.execute(
            "update ledger_segments set entries = ? where tenant = 'acme' and first_leaf = ?", (segments.pack(pairs), leaf)
        )


def _take_syslog(server: socket.socket, received: list[bytes]) -> None:
    while True:
        try:
            line, _ = server.accept()
        except OSError:
            return
        with line:
            while data := line.recv(65_536):
                received.append(data)


class Collector:
    """A receiver of OTLP logs."""

    def __init__(self) -> None:
        bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._bodies = bodies
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def text(self) -> str:
        return b"".join(self._bodies).decode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- retention


def test_records_whose_time_is_over_are_let_go_and_every_proof_holds(running: system.System) -> None:
    from orchestrator.records.retention import _over
    from orchestrator.store.database import Database
    from orchestrator.store.retention import SqlRetention
    from sync.bundle import snapshot
    from sync.kit.ids import TenantId
    from tests.support import builders

    request = ask(running, "My social security number is 536-22-8726.")
    await_record(running, request)
    later = time.time() + 4 * 86_400
    keeper = builders.tenant("keeper", retention=snapshot.Retention((30, 30, 30, 3)))

    async def expire() -> int:
        database = Database(running.hub / "ringfence.db")
        await database.open()
        try:
            gone, after, count = 0, 0, 0
            while after is not None:
                count, after = await SqlRetention(database).expire(
                    TenantId("keeper"), _over(keeper, later), later, at=later, after=after
                )
                gone += count
            return gone
        finally:
            await database.close()

    assert asyncio.run(expire()) >= 2
    assert in_ledger(running, request) == []
    told = at_hub(running, "audit", "verify")
    assert "intact" in told and "the hash alone is left" in told
    support.eventually(lambda: "retention" in at_hub(running, "audit", "search", "--kind", "retention"), "it is in the audit log")
