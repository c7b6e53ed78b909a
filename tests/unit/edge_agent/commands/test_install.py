"""What an installed agent needs around it: a file of settings, and a service manager that hears that it lives."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from edge_agent import settings
from edge_agent.release.trial import NotHealthy, Trial
from sync.audit.journal import Journal
from sync.crypto.keyring import Keyring
from sync.kit import errors
from sync.kit.clock import ManualClock
from sync.kit.ids import AgentId
from sync.kit.supervision import Supervisor
from tests.support import running

PACKAGED = running.ROOT / "packaging" / "deb" / "agent" / "agent.yaml"


# --- the file of settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "agent.yaml"
    monkeypatch.setenv(settings.CONFIG, str(made))
    return made


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("threads: 3\ncache_mib: 1\nhttp_host: 10.0.0.1\n")
    monkeypatch.setenv("RINGFENCE_AGENT_CACHE_MIB", "2")
    monkeypatch.setenv("RINGFENCE_AGENT_HTTP_HOST", "10.0.0.2")
    chosen = settings.read(http_host="10.0.0.3")
    assert (chosen.threads, chosen.cache_mib, chosen.http_host) == (3, 2, "10.0.0.3")


def test_the_packaged_file_is_good_as_it_is_and_with_every_line_taken_in(file: Path) -> None:
    text = PACKAGED.read_text()
    file.write_text(text)
    assert settings.read().state == Path("/var/lib/ringfence/agent")
    lines = [line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()]
    file.write_text("\n".join(lines))
    assert settings.read().backlog_hours == "22:00-06:00"
    left_out = {"worker_mib", "providers", "provider_fallback", "home"}
    named = {line.split(":")[0] for line in lines if line and not line.startswith("#")}
    assert named | left_out == set(settings.Settings.model_fields)


WRONG = {
    "a key that is none": ("thraeds: 3", "there is no setting 'thraeds'"),
    "a value that is none": ("threads: many", "'threads' in the file"),
    "a list": ("- threads", "no mapping"),
    "a sentence": ("threads", "no mapping"),
    "half of it": ("egress: [", "line 1"),
    "a tag that would run something": ("threads: !!python/object/apply:os.system [ls]", "is not YAML"),
    "a megabyte": ("#" * 100_000, "over 65536 bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told_with_its_name_and_what_is_wrong(file: Path, name: str) -> None:
    text, said = WRONG[name]
    file.write_text(text)
    with pytest.raises(errors.Misconfigured) as told:
        settings.read()
    assert said in str(told.value)


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="cannot be read"):
        settings.read()


# --- the service manager


async def fine() -> None:
    """All is well."""


async def stuck() -> None:
    raise TimeoutError


@pytest.fixture
def manager(tmp_path: Path):
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.bind(str(tmp_path / "notify"))
    line.setblocking(False)
    yield line, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"}
    line.close()


async def test_it_lives_only_while_its_parts_answer(manager) -> None:
    line, environment = manager
    loop = asyncio.get_running_loop()
    telling = asyncio.create_task(Supervisor(environment, fine).keep_telling())
    assert await asyncio.wait_for(loop.sock_recv(line, 100), 10) == b"WATCHDOG=1"
    telling.cancel()
    while True:
        try:
            line.recv(100)
        except BlockingIOError:
            break
    asked = asyncio.Event()

    async def dead() -> None:
        asked.set()
        await stuck()

    telling = asyncio.create_task(Supervisor(environment, dead).keep_telling())
    await asyncio.wait_for(asked.wait(), 10)
    telling.cancel()
    with pytest.raises(BlockingIOError):
        line.recv(100)


def test_a_service_manager_that_does_not_read_stops_nothing(manager) -> None:
    supervisor = Supervisor(manager[1], fine)
    for _ in range(1000):  # far more than its queue holds
        supervisor.say("WATCHDOG=1")


async def test_without_a_service_manager_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}):
        supervisor = Supervisor(environment, fine)
        supervisor.say("READY=1")
        telling = asyncio.create_task(supervisor.keep_telling())
        await asyncio.sleep(0)
        assert not telling.done()
        telling.cancel()


# --- a release on trial


async def test_a_release_that_fails_in_a_way_that_nobody_foresaw_is_not_healthy(tmp_path: Path, keys: Keyring) -> None:
    clock = ManualClock()
    journal = Journal(tmp_path / "journal.db", AgentId("edge"), keys.signer, clock)
    broken: Any = None  # what a release whose parts do not fit together has where its models should be
    tried = Trial(
        "0.2.0", False, tmp_path, broken, journal, tmp_path / "journal.db", AgentId("edge"), keys.signer.public_key, broken, clock
    )
    with pytest.raises(NotHealthy, match="did not pass its trial: AttributeError"):
        await tried.run()
    assert (tmp_path / "unhealthy-release").read_text() == "0.2.0" and not (tmp_path / "healthy-release").exists()
    assert not json.loads((tmp_path / "trial.json").read_text())["healthy"]
