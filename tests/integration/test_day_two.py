"""What an administrator does with an agent that runs: looks, drains, installs it as a service, takes it away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import running as support
from tests.support.hub import ask
from tests.support.sites import SITE, Cuttable


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cuttable]:
    made = Cuttable(tmp_path_factory.mktemp("site"), SITE)
    yield made
    made.close()


def doctor(site: Cuttable, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = support.command(
        "ringfence-agent", "doctor", "--json", "--state", site.system.agent(SITE.name), RINGFENCE_AGENT_MODELS=str(site.system.models),
        **environment,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {line["what"]: line for line in json.loads(done.stdout)}


def test_doctor_looks_at_the_line_the_models_and_the_machine(site: Cuttable) -> None:
    site.await_mode(SITE, "online")
    code, lines = doctor(site, RINGFENCE_AGENT_BROKER_URL=site.proxies[SITE.name].url)
    assert code == 0, lines
    for what in (
        "broker: name",
        "broker: port",
        "broker: TLS",
        "broker: rights",
        "entrance: TLS",
        "clock",
        "certificate",
        "models",
        "engine",
    ):
        assert lines[what]["state"] == "pass", lines[what]
    assert "TLSv1.3" in lines["broker: TLS"]["found"] and "ran on CPUExecutionProvider" in lines["engine"]["found"]


WRONG: dict[str, tuple[dict[str, str], str, str]] = {
    "a name that is none": ({"RINGFENCE_AGENT_BROKER_URL": "tls://nowhere.invalid:4222"}, "broker: name", "DNS"),
    "a port that is closed": ({"RINGFENCE_AGENT_BROKER_URL": "tls://127.0.0.1:1"}, "broker: port", "firewall"),
    "a server that is no broker": (
        {"RINGFENCE_AGENT_BROKER_URL": "tls://127.0.0.1:HTTP"},
        "broker: TLS",
        "compare 'ringfence ca show'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_doctor_says_at_which_step_the_line_ends(site: Cuttable, name: str) -> None:
    environment, what, advice = WRONG[name]
    port = site.system.url.rsplit(":", 1)[1]
    code, lines = doctor(site, **{key: value.replace("HTTP", port) for key, value in environment.items()})
    assert code == 1 and lines[what]["state"] == "fail" and advice in lines[what]["advice"], lines
    assert lines["broker: rights"]["state"] == "fail"


def test_doctor_finds_a_model_whose_bytes_changed(site: Cuttable) -> None:
    path = next((site.system.models / "guide-embed").glob("*/model.onnx"))
    before = path.read_bytes()
    try:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        code, lines = doctor(site)
        assert code == 1 and lines["models"]["state"] == "fail" and "model.onnx" in lines["models"]["found"]
    finally:
        path.write_bytes(before)


def test_doctor_finds_what_python_would_run_at_each_start(site: Cuttable, tmp_path: Path) -> None:
    library = tmp_path / "current/lib"
    library.mkdir(parents=True)
    _, lines = doctor(site, RINGFENCE_AGENT_HOME=str(tmp_path))
    assert lines["start-up files"]["state"] == "pass"
    (library / "helpful.pth").write_text("import os; os.system('true')\n")
    code, lines = doctor(site, RINGFENCE_AGENT_HOME=str(tmp_path))
    assert code == 1 and "helpful.pth" in lines["start-up files"]["found"]


def test_status_tells_people_the_certificate_the_bundles_age_and_the_disk(site: Cuttable) -> None:
    told = support.command("ringfence-agent", "status", "--state", site.system.agent(SITE.name)).stdout
    rows = {row.split("  ")[0].strip(): row for row in told.splitlines() if row.strip()}
    assert "in 24.0 h" in rows["certificate expires"] or "in 23.9 h" in rows["certificate expires"]
    assert "h ago" in rows["bundle issued"] and "disk free mib" in rows and "online" in rows["mode"]


def test_an_agent_is_drained_and_taken_up_again(site: Cuttable) -> None:
    state = ("--state", site.system.agent(SITE.name))
    told = support.command("ringfence-agent", "drain", *state)
    assert told.returncode == 0 and "Drained: nothing is at work" in told.stdout, told.stderr
    assert site.ask(SITE)[0] == 503
    asyncio.run(site.system.wait_until_gone(SITE.name))
    assert support.command("ringfence-agent", "drain", "--resume", *state).returncode == 0
    asyncio.run(site.system.wait_for_agents([SITE.name]))
    support.eventually(lambda: site.ask(SITE)[0] == 200, "it serves again")
    ask(site.system, "hello")


def test_a_pip_installed_agent_becomes_a_service_and_is_removed(tmp_path: Path) -> None:
    """The unit is a good one, and its removal leaves the journal unless it is told otherwise."""
    state = ("--state", tmp_path / "state")
    done = support.command("ringfence-agent", "install", "--user", *state, "--models", tmp_path / "models", cwd=tmp_path)
    assert done.returncode == 0 and "enable --now" in done.stdout, done.stderr
    unit = tmp_path / ".config/systemd/user/ringfence-agent.service"
    assert f"run --state {tmp_path}/state" in unit.read_text()
    verified = subprocess.run(["systemd-analyze", "verify", "--user", unit], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if "ringfence" in line and "is not executable" not in line] == []
    removed = support.command("ringfence-agent", "uninstall", "--yes", *state, cwd=tmp_path)
    assert removed.returncode == 0 and "is kept" in removed.stdout and not unit.exists() and (tmp_path / "state").exists()
    purged = support.command("ringfence-agent", "uninstall", "--purge", "--yes", *state, cwd=tmp_path)
    assert purged.returncode == 0 and not (tmp_path / "state").exists()
    again = support.command("ringfence-agent", "uninstall", "--yes", *state, cwd=tmp_path)
    assert again.returncode == 2 and "no service of an agent here" in again.stderr


def test_a_purge_takes_nothing_that_lies_beside_the_keys(tmp_path: Path) -> None:
    shared, models = tmp_path / "shared", tmp_path / "models"
    shared.mkdir()
    for path in (shared / "agent-keys.json", shared / "of-somebody-else"):
        path.write_text("{}")
    state = ("--state", tmp_path / "state")
    options = {"RINGFENCE_AGENT_KEYS": str(shared / "agent-keys.json"), "RINGFENCE_AGENT_MODELS": str(models)}
    assert support.command("ringfence-agent", "install", "--user", *state, cwd=tmp_path, **options).returncode == 0
    purged = support.command("ringfence-agent", "uninstall", "--purge", "--yes", *state, cwd=tmp_path, **options)
    assert purged.returncode == 0, purged.stderr
    assert (
        [path.name for path in shared.iterdir()] == ["of-somebody-else"] and models.exists() and not (tmp_path / "state").exists()
    )


def test_uninstalling_asks_first(tmp_path: Path) -> None:
    assert support.command("ringfence-agent", "install", "--user", "--state", tmp_path / "state", cwd=tmp_path).returncode == 0
    done = subprocess.run(
        [support.SCRIPTS / "ringfence-agent", "uninstall", "--state", tmp_path / "state"], input="n\n", capture_output=True, text=True,
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Remove the agent's service" in done.stdout
    assert (tmp_path / ".config/systemd/user/ringfence-agent.service").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="writes a unit of the system")
def test_a_system_service_is_hardened(tmp_path: Path) -> None:
    unit = Path("/etc/systemd/system/ringfence-agent.service")
    if unit.exists():
        pytest.skip("this machine has an agent of its own")
    state = ("--state", tmp_path / "state")
    try:
        assert support.command("ringfence-agent", "install", "--system", *state, cwd=tmp_path).returncode == 0
        told = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=False
        ).stdout
        assert float(told.rsplit("exposure level for", 1)[1].split(":")[1].split()[0]) < 5, "it runs as root, but with little"
        assert support.command("ringfence-agent", "uninstall", "--yes", *state, cwd=tmp_path).returncode == 0
    finally:
        unit.unlink(missing_ok=True)


def test_the_log_is_said_to_be_elsewhere_where_there_is_no_journal() -> None:
    if Path("/run/systemd/system").exists():
        pytest.skip("there is one")
    done = support.command("ringfence-agent", "logs")
    assert done.returncode == 2 and "standard error of whatever started it" in done.stderr


def test_an_agent_that_never_was_is_not_drained(tmp_path: Path) -> None:
    done = support.command("ringfence-agent", "drain", "--state", tmp_path / "none")
    assert done.returncode == 2 and "no agent in" in done.stderr
