"""From a pasted line to an agent that serves; renewed, rotated, revoked. With a real hub, its broker, and real agents."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.authority import certificates
from sync.crypto import authority, keyring
from sync.kit.crashpoints import VARIABLE
from sync.kit.faults import Fault
from tests.support import running as support
from tests.support import system
from tests.support.hub import ask, at_hub, await_record

BRANCH = system.Place("branch-1", "on_premise", "frankfurt")


class Enrolling:
    """A running hub, and agents that come to it by their invitations."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.system = system.System(folder / "run", [], support.models(folder / "models"), support.CONFIGURATION)
        self.system.environment = {"RINGFENCE_CHECKPOINT_S": "1", **environment}
        asyncio.run(self.system.prepare("acme"))
        self.start_hub()

    def start_hub(self) -> None:
        (self.system.hub / "hub-address.json").unlink(missing_ok=True)
        self.system.start_hub()
        asyncio.run(self.system.wait_for_hub())

    def invite(self, *options: object, name: str = BRANCH.name) -> list[str]:
        """The arguments of the pasted line."""
        place = ("--site", "frankfurt", "--zone", "on_premise", "--region", "eu-central-1")
        line = at_hub(self.system, "agents", "invite", *place, "--name", name, "--quiet", *options)
        return shlex.split(line)[1:]

    def paste(self, line: list[str], name: str = BRANCH.name, code: int = 0, **environment: str) -> str:
        """What the server says where the line is pasted, on one line."""
        done = support.command("ringfence-agent", *line, "--state", self.state(name), **environment)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        if code == 2:
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def start(self, *places: system.Place) -> None:
        self.system.places += places
        for place in places:
            self.system.start_agent(place.name)
        asyncio.run(self.system.wait_for_agents([place.name for place in places]))

    def state(self, name: str = BRANCH.name) -> Path:
        return self.system.agent(name)

    def status(self, name: str = BRANCH.name) -> dict[str, object]:
        return json.loads((self.state(name) / "status.json").read_text())

    def agents(self) -> dict[str, dict[str, object]]:
        rows = [json.loads(line) for line in at_hub(self.system, "agents", "list", "--json").splitlines()]
        return {str(row["id"]): row for row in rows}

    def incidents(self, kind: Fault) -> int:
        with sqlite3.connect(f"file:{self.system.hub / 'ringfence.db'}?mode=ro", uri=True) as database:
            return int(database.execute("select count(*) from ledger_incidents where kind = ?", (kind.value,)).fetchone()[0])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Enrolling]:
    made = Enrolling(tmp_path)
    yield made
    made.system.stop_all()


def test_a_pasted_line_makes_an_agent_that_serves(hub: Enrolling) -> None:
    line = hub.invite("--tenant", "acme")
    said = hub.paste(line)
    assert "This is 'branch-1' now, at the site 'frankfurt' in eu-central-1, as on_premise, for acme." in said
    hub.start(BRANCH)
    await_record(hub.system, ask(hub.system, "hello"))
    assert hub.agents()["branch-1"]["tenants"] == ["acme"]
    for secret in (line[-1], line[-1].split("_")[2]):
        for path in hub.system.folder.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), f"the token is in {path}"
    assert "belongs to a hub: nothing was changed" in hub.paste(hub.invite(name="branch-2"), code=2)


def test_an_agent_for_one_tenant_gets_no_work_of_another(hub: Enrolling) -> None:
    hub.paste(hub.invite("--tenant", "rival"))
    hub.start(BRANCH)
    with pytest.raises(Exception, match="503"):
        ask(hub.system, "hello")


def test_of_two_that_show_one_token_at_once_exactly_one_comes_in(hub: Enrolling) -> None:
    line = hub.invite()

    def paste(name: str) -> tuple[int, str]:
        done = support.command("ringfence-agent", *line, "--state", hub.state(name))
        return done.returncode, done.stderr

    with ThreadPoolExecutor() as pool:
        ended = sorted(pool.map(paste, ("one", "two")))
    assert [code for code, _ in ended] == [0, 2], ended
    assert "was used before, by other keys" in ended[1][1]
    assert hub.agents()["branch-1"]["locked"] and hub.incidents(Fault.TOKEN_REUSED) == 1
    assert [(hub.state(name) / "agent-keys.json").exists() for name in ("one", "two")].count(True) == 1, (
        "nothing is left of the other"
    )
    doctor = support.command("ringfence", "doctor", "--state", hub.system.hub).stdout
    assert Fault.TOKEN_REUSED.value in doctor
    at_hub(hub.system, "agents", "unlock", "branch-1")
    assert not hub.agents()["branch-1"]["locked"]


@pytest.mark.parametrize("moment", ["certificate.trusted", "certificate.kept"])
def test_a_server_that_lost_power_in_enrolment_pastes_the_line_again(hub: Enrolling, moment: str) -> None:
    line = hub.invite()
    died = support.command("ringfence-agent", *line, "--state", hub.state(), **{VARIABLE: moment})
    assert died.returncode == -9
    assert "This is 'branch-1' now" in hub.paste(line)
    assert not hub.agents()["branch-1"]["locked"]
    hub.start(BRANCH)


def test_a_certificate_is_renewed_with_a_new_key_while_work_goes_on(tmp_path: Path) -> None:
    hub = Enrolling(tmp_path, RINGFENCE_CERTIFICATE_HOURS="0.002")
    try:
        hub.paste(hub.invite())
        first = (hub.state() / "certificate.pem").read_bytes()
        hub.start(BRANCH)
        second = support.eventually(lambda: _other(hub.state() / "certificate.pem", first), "the certificate is renewed")
        assert authority.key_of_certificate(second) != authority.key_of_certificate(first)
        ask(hub.system, "hello")
        support.eventually(lambda: time.time() > authority.certificate_times(first)[1], "the first has ended")
        # The broker is started anew: it lets in only by the certificate that counts now.
        hub.system.stop("hub")
        hub.start_hub()
        asyncio.run(hub.system.wait_for_agents([BRANCH.name]))
        ask(hub.system, "hello again")
    finally:
        hub.system.stop_all()


def _other(path: Path, than: bytes) -> bytes | None:
    found = path.read_bytes()
    return found if authority.key_of_certificate(found) != authority.key_of_certificate(than) else None


def test_an_agent_that_was_off_past_its_certificate_comes_back_by_itself(tmp_path: Path) -> None:
    hub = Enrolling(tmp_path, RINGFENCE_CERTIFICATE_HOURS="0.002")
    try:
        hub.paste(hub.invite())
        ends = authority.certificate_times((hub.state() / "certificate.pem").read_bytes())[1]
        support.eventually(lambda: time.time() > ends + 1, "the certificate has ended")
        hub.start(BRANCH)
        ask(hub.system, "hello")
    finally:
        hub.system.stop_all()


def test_an_agent_past_its_grace_is_told_to_be_invited_anew(tmp_path: Path) -> None:
    hub = Enrolling(tmp_path, RINGFENCE_CERTIFICATE_HOURS="0.002", RINGFENCE_CERTIFICATE_GRACE_DAYS="0")
    try:
        hub.paste(hub.invite())
        ends = authority.certificate_times((hub.state() / "certificate.pem").read_bytes())[1]
        support.eventually(lambda: time.time() > ends + 1, "the certificate has ended")
        hub.system.places.append(BRANCH)
        hub.system.start_agent(BRANCH.name)
        said = support.eventually(lambda: _refused(hub), "the agent says why it is kept out")
        assert "needs a new invitation" in said
        assert (hub.state() / "journal.db").exists(), "the site itself runs"
    finally:
        hub.system.stop_all()


def _refused(hub: Enrolling) -> str:
    path = hub.state() / "status.json"
    said = str(hub.status()["refused"]) if path.exists() else ""
    return said if "invitation" in said or "locked" in said else ""


def test_a_revoked_agent_is_cut_off_and_says_so(hub: Enrolling) -> None:
    hub.paste(hub.invite())
    hub.start(BRANCH)
    log = hub.system.log(BRANCH.name)
    at_hub(hub.system, "agents", "revoke", BRANCH.name)
    support.eventually(lambda: "bus_disconnected" in log.read_text(), "the line is cut")
    assert "revoked" in support.eventually(lambda: _refused(hub), "the agent says so")
    doctor = support.command("ringfence-agent", "doctor", "--state", hub.state())
    assert doctor.returncode == 1 and Fault.KEPT_OUT.value in doctor.stdout and "revoked" in doctor.stdout
    assert BRANCH.name not in hub.agents()
    hub.system.stop(BRANCH.name)
    shutil.rmtree(hub.state())
    assert "This is 'branch-1' now" in hub.paste(hub.invite()), "with new keys and a new invitation it may come back"


def test_a_locked_agent_comes_back_when_it_is_unlocked(hub: Enrolling) -> None:
    hub.paste(hub.invite())
    hub.start(BRANCH)
    at_hub(hub.system, "agents", "lock", BRANCH.name, "--reason", "stolen?")
    assert "stolen?" in support.eventually(lambda: _refused(hub), "the agent says why")
    asyncio.run(hub.system.wait_until_gone(BRANCH.name))
    at_hub(hub.system, "agents", "unlock", BRANCH.name)
    asyncio.run(hub.system.wait_for_agents([BRANCH.name]))
    ask(hub.system, "hello")
    support.eventually(lambda: not hub.status()["refused"], "and says no more that it is kept out")


def test_a_copy_of_an_agents_keys_locks_it_when_both_have_renewed(tmp_path: Path) -> None:
    hub = Enrolling(tmp_path, RINGFENCE_CERTIFICATE_HOURS="0.002")
    try:
        hub.paste(hub.invite())
        shutil.copytree(hub.state(), hub.state("copy"))
        hub.start(BRANCH)
        first = (hub.state("copy") / "certificate.pem").read_bytes()
        support.eventually(lambda: _other(hub.state() / "certificate.pem", first), "the true one has renewed")
        hub.system.places.append(system.Place("copy", "on_premise", "frankfurt"))
        hub.system.start_agent("copy")
        support.eventually(lambda: hub.incidents(Fault.KEYS_COPIED), "the hub has an alarm")
        assert "keys were copied" in str(hub.agents()["branch-1"]["locked"])
    finally:
        hub.system.stop_all()


def test_the_root_is_rotated_under_running_agents(tmp_path: Path) -> None:
    hub = Enrolling(tmp_path, RINGFENCE_CERTIFICATE_HOURS="0.003")
    try:
        hub.paste(hub.invite())
        hub.start(BRANCH)
        old = (hub.system.hub / "authority.json").read_bytes()
        assert "root and issuer are new" in at_hub(hub.system, "ca", "rotate", "--root")
        assert (hub.system.hub / "authority.json").read_bytes() != old
        assert "under way" in at_hub(hub.system, "ca", "rotate", "--root", code=2)
        support.eventually(lambda: (hub.state() / "trusted.pem").read_text().count("BEGIN") == 2, "the agent trusts both roots")
        hub.paste(hub.invite(name="branch-2"), name="branch-2")
        support.eventually(
            lambda: support.command("ringfence", "ca", "retire", "--state", hub.system.hub).returncode == 0,
            "the old one is retired",
        )
        support.eventually(lambda: (hub.state() / "trusted.pem").read_text().count("BEGIN") == 1, "and at the agent too")
        hub.system.stop("hub")
        hub.start_hub()
        asyncio.run(hub.system.wait_for_agents([BRANCH.name]))
        ask(hub.system, "hello")
        assert "rotation" not in at_hub(hub.system, "ca", "show")
    finally:
        hub.system.stop_all()


def test_the_old_root_counts_until_every_agent_has_the_new_one(hub: Enrolling) -> None:
    assert "no old root" in at_hub(hub.system, "ca", "retire", code=2)
    hub.paste(hub.invite())
    before = hub.invite(name="branch-2")
    at_hub(hub.system, "ca", "rotate", "--root")
    assert "have no certificate of the new root yet (branch-1)" in at_hub(hub.system, "ca", "retire", code=2)
    assert "This is 'branch-2' now" in hub.paste(before, name="branch-2"), "an invitation of before counts on"
    after = hub.invite(name="branch-3")
    at_hub(hub.system, "ca", "retire", "--force")
    assert "This is 'branch-3' now" in hub.paste(after, name="branch-3")
    told = {"agent invited", "agent admitted", "authority rotation", "old root retired"}
    support.eventually(
        lambda: told <= {fields["what"] for fields in support.ledger_fields(hub.system, "edit")}, "all of it is in the ledger"
    )


def test_a_hub_that_was_restored_lets_its_agents_renew(tmp_path: Path) -> None:
    """Its database is from before the agent's last renewals: newer certificates of its own are no copies."""
    hub = Enrolling(tmp_path, RINGFENCE_CERTIFICATE_HOURS="0.002")
    try:
        hub.paste(hub.invite())
        database = hub.system.hub / "ringfence.db"
        hub.system.stop("hub")
        kept = database.read_bytes()
        hub.start_hub()
        hub.start(BRANCH)
        first = (hub.state() / "certificate.pem").read_bytes()
        second = support.eventually(lambda: _other(hub.state() / "certificate.pem", first), "it has renewed")
        hub.system.stop("hub")
        for path in hub.system.hub.glob("ringfence.db*"):
            path.unlink()
        database.write_bytes(kept)
        hub.start_hub()
        support.eventually(lambda: _other(hub.state() / "certificate.pem", second), "it renews at the restored hub")
        assert not hub.agents()["branch-1"]["locked"]
    finally:
        hub.system.stop_all()


def test_the_hubs_own_certificates_are_files_that_only_it_reads(hub: Enrolling) -> None:
    for name in (certificates.SERVER, certificates.HUB):
        assert oct((hub.system.hub / "tls" / name).stat().st_mode)[-3:] == "600"
    kept = json.loads((hub.system.hub / "authority.json").read_text())
    assert kept["wrapper"] == "hub" and "PRIVATE" not in json.dumps(kept), "the authority's keys are sealed"
    other = keyring.load_or_create(hub.folder / "other.json")
    assert other.at_rest
