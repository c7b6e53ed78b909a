"""The command lines, with wrong input: one sentence, exit code 1, no traceback, nothing half-written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import running as support

DEMO = support.ROOT / "packaging/demo/tenants.yaml"


def ringfence(tmp_path: Path, *arguments: object, **environment: str):
    return support.command("ringfence", *arguments, cwd=tmp_path, **environment)


def agent(tmp_path: Path, *arguments: object, **environment: str):
    return support.command("ringfence-agent", *arguments, cwd=tmp_path, **environment)


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    assert ringfence(tmp_path, "apply", "-f", DEMO).returncode == 0
    return tmp_path


WRONG = {
    "apply a file that is not there": (("ringfence", "apply", "-f", "none.yaml"), "none.yaml cannot be read"),
    "apply to a hub that does not run": (("ringfence", "apply", "-f", DEMO, "--url", "http://127.0.0.1:9", "--key", "k"), "does not answer"),
    "a key for an unknown tenant": (("ringfence", "keys", "create", "--tenant", "x", "--name", "y"), "no tenant 'x'"),
    "a key with an unknown role": (("ringfence", "keys", "create", "--tenant", "acme-bank", "--name", "y", "--role", "king"), "king"),
    "revoke a key that is not there": (("ringfence", "keys", "revoke", "0123456789"), "no key"),
    "revoke an agent that is not there": (("ringfence", "agents", "revoke", "x"), "no agent 'x'"),
    "explain for an unknown tenant": (("ringfence", "explain", "--tenant", "x", "hello"), "no tenant 'x'"),
    "explain with a wrong level": (("ringfence", "explain", "--tenant", "acme-bank", "--level", "x", "hello"), "public, internal"),
    "explain with a model of others": (("ringfence", "explain", "--tenant", "acme-bank", "--model", "cloud-only", "hello"), "may not use"),
    "approve what is no request": (("ringfence", "agents", "approve", DEMO, "--zone", "on_premise", "--site", "frankfurt", "-o", "a"), "no request"),
    "an agent with a bad name": (("ringfence-agent", "enrol", "--request", "r", "--name", "A B"), "cannot name"),
    "an agent that has not asked": (("ringfence-agent", "run"), "ringfence agents invite"),
    "the status of no agent": (("ringfence-agent", "status"), "No agent has run"),
    "models that are not there": (("ringfence-agent", "models", "list", "--models", "none"), "does not exist"),
    "add a model that is not there": (("ringfence-agent", "models", "add", "none", "--name", "x"), "not a folder"),
    "verify a journal that is not there": (("ringfence-agent", "journal", "verify"), "ringfence agents invite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_sentence(name: str, configured: Path) -> None:
    arguments, said = WRONG[name]
    done = support.command(*arguments, cwd=configured)
    assert done.returncode == 2
    assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_wrong_document_names_its_lines_and_changes_nothing(configured: Path) -> None:
    bad = configured / "bad.yaml"
    bad.write_text(DEMO.read_text().replace("zones: [public_cloud]", "zones: [the_moon]"))
    done = ringfence(configured, "apply", "-f", bad)
    assert done.returncode == 2
    assert "bad.yaml, line 16: models.cloud-only.deployments.0.zones.0" in done.stderr, done.stderr
    assert "saint-mary" in ringfence(configured, "explain", "--tenant", "x", "y").stderr


def test_a_port_in_use_is_named_and_nothing_is_left_running(configured: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        http = ringfence(configured, "serve", "--port", port, "--nats-port", 0)
        nats = ringfence(configured, "serve", "--port", 0, "--nats-port", port)
    for done, option in ((http, "--port"), (nats, "--nats-port")):
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert str(port) in last and option in last, done.stderr
        assert "Traceback" not in done.stderr
    assert not (configured / "ringfence-state/hub-address.json").exists()


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for done in (
        ringfence(tmp_path, "serve", "--state", tmp_path / "file/x"),
        agent(tmp_path, "enrol", "--request", "r", "--name", "a", "--state", tmp_path / "file/x"),
    ):
        assert done.returncode == 2
        assert "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_an_agent_without_its_models_folder_says_so(configured: Path) -> None:
    assert agent(configured, "enrol", "--name", "edge-1", "--request", "r.json").returncode == 0
    admit = ("agents", "approve", "r.json", "--zone", "on_premise", "--site", "frankfurt", "-o", "a.json")
    assert ringfence(configured, *admit).returncode == 0
    assert agent(configured, "enrol", "--response", "a.json").returncode == 0
    done = agent(configured, "run", "--models", "none")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("The models folder none does not exist")


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = ringfence(tmp_path, "serve", RINGFENCE_HTTP_PORT="many")
    assert done.returncode == 2
    assert "RINGFENCE_HTTP_PORT" in done.stderr


def test_keys_are_listed_without_their_secret_and_revoked(configured: Path) -> None:
    key = ringfence(configured, "keys", "create", "--tenant", "acme-bank", "--name", "app", "--quiet").stdout.strip()
    listed = ringfence(configured, "keys", "list").stdout
    assert key[8:18] in listed and key not in listed
    assert ringfence(configured, "keys", "revoke", key[8:18]).returncode == 0
    assert key[8:18] not in ringfence(configured, "keys", "list").stdout


def test_help_names_every_command(tmp_path: Path) -> None:
    hub, edge = ringfence(tmp_path, "--help").stdout, agent(tmp_path, "--help").stdout
    assert all(word in hub for word in ("serve", "apply", "explain", "keys", "agents", "audit"))
    assert all(word in edge for word in ("enrol", "run", "status", "models", "journal"))


def test_an_agent_with_the_same_name_and_other_keys_is_not_admitted(configured: Path) -> None:
    for folder in ("one", "two"):
        assert agent(configured, "enrol", "--name", "edge-1", "--state", folder, "--request", f"{folder}.json").returncode == 0
    admit = ("--zone", "on_premise", "--site", "frankfurt", "-o")
    assert ringfence(configured, "agents", "approve", "one.json", *admit, "one.adm").returncode == 0
    assert ringfence(configured, "agents", "approve", "one.json", *admit, "one.adm").returncode == 0
    refused = ringfence(configured, "agents", "approve", "two.json", *admit, "two.adm")
    assert refused.returncode == 2 and "other keys" in refused.stderr
    wrong = agent(configured, "enrol", "--response", "one.adm", "--state", "two")
    assert wrong.returncode == 2 and "admission for this agent" in wrong.stderr
    assert "edge-1" in ringfence(configured, "agents", "list").stdout
    assert ringfence(configured, "agents", "revoke", "edge-1").returncode == 0
    assert "edge-1" not in ringfence(configured, "agents", "list").stdout
