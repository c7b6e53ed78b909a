"""The .deb, as an administrator has it: built, installed with dpkg, admitted, run by a supervisor, removed. Needs root, and cleans up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import system

from tests.support import running as support
from tests.support.hub import ask, at_hub, await_record

NAME = "ringfence-agent"
STATE = Path("/var/lib/ringfence")
UNIT = support.ROOT / "packaging" / "systemd" / f"{NAME}.service"
LARGEST = 60_000_000
MOST_EXPOSED = 2.0

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dpkg-deb") is None, reason="needs root and dpkg"),
    pytest.mark.skipif(STATE.exists(), reason="this machine has an agent of its own"),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built twice, side by side: the same bytes."""
    folders = [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")]
    builds = [
        subprocess.Popen(
            [sys.executable, support.ROOT / "packaging/deb/build.py", "agent", "--out", folder], stderr=subprocess.PIPE
        )
        for folder in folders
    ]
    for build in builds:
        _, told = build.communicate(timeout=300)
        assert build.returncode == 0, told.decode()[-2000:]
    made = [next(folder.glob("*.deb")) for folder in folders]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in made}) == 1, "two builds differ"
    return made[0]


def test_it_is_small_and_holds_one_half_alone(package: Path) -> None:
    assert package.stat().st_size <= LARGEST
    names = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert "/lib/edge_agent/cli.py" in names and "/lib/orchestrator/" not in names and "direct_url.json" not in names
    assert "./etc/ringfence/agent.yaml" in names and f"./lib/systemd/system/{NAME}.service" in names


def test_the_unit_is_good_and_hardened() -> None:
    verified = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if NAME in line and "is not executable" not in line]
    assert complaints == []
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", UNIT], capture_output=True, text=True, check=False
    ).stdout
    exposure = float(told.rsplit("exposure level for", 1)[1].split(":")[1].split()[0])
    assert exposure <= MOST_EXPOSED


@pytest.fixture
def installed(package: Path) -> Iterator[None]:
    """On this machine, and gone again afterwards."""
    done = subprocess.run(["dpkg", "-i", package], capture_output=True, text=True, check=False)
    try:
        assert done.returncode == 0, done.stderr
        yield
    finally:
        subprocess.run(["dpkg", "--purge", NAME], capture_output=True, check=False)
        shutil.rmtree(STATE, ignore_errors=True)
        subprocess.run(["deluser", "--quiet", "--system", NAME], capture_output=True, check=False)


def agent(*arguments: object, code: int = 0) -> str:
    """The installed command, with an empty environment."""
    done = subprocess.run([f"/usr/bin/{NAME}", *map(str, arguments)], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}, cwd="/")  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


class ServiceManager:
    """Stands in for systemd: starts the agent as its user, and hears what it says of itself."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.chmod(0o755)
        address = f"\0ringfence-test-{os.getpid()}"
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(address)
        self._line.settimeout(60)
        shutil.chown(STATE / "agent", NAME, NAME)
        for path in [*(STATE / "agent").rglob("*"), *(STATE / "models").rglob("*")]:
            shutil.chown(path, NAME, NAME)
        user = pwd.getpwnam(NAME)
        self.log = folder / "agent.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [f"/usr/bin/{NAME}", "run"], user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", stdout=log, stderr=log, umask=0o077,
                env={"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": f"@{address[1:]}", "WATCHDOG_USEC": "600000", **environment},
            )  # fmt: skip

    def hear(self, wanted: str) -> None:
        """Returns once the agent has said so."""
        while self._line.recv(4096).decode() != wanted:
            pass

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        self._line.close()


def test_it_is_installed_admitted_run_and_purged(installed: None, tmp_path: Path) -> None:
    assert "The settings are good: /etc/ringfence/agent.yaml" in agent("config", "check")
    assert "There is no agent in /var/lib/ringfence/agent" in agent("run", code=2)
    made = system.System(tmp_path / "run", [], support.models(tmp_path / "models"), support.CONFIGURATION)
    made.environment = {"RINGFENCE_CHECKPOINT_S": "1"}
    asyncio.run(made.prepare("acme"))
    manager = None
    try:
        made.start_hub()
        asyncio.run(made.wait_for_hub())
        line = at_hub(made, "agents", "invite", "--zone", "on_premise", "--site", "frankfurt", "--name", "branch-1", "--quiet")
        assert "This is 'branch-1' now, at the site 'frankfurt'" in agent(*shlex.split(line)[1:])
        at_hub(made, "models", "publish", support.BUILT / "guide" / "1")
        assert "is added" in agent("models", "add", "rf:guide")
        manager = ServiceManager(tmp_path, {"RINGFENCE_AGENT_HTTP_PORT": "0"})
        manager.hear("READY=1")
        manager.hear("WATCHDOG=1")
        made.processes["branch-1"] = manager.process
        asyncio.run(made.wait_for_agents(["branch-1"]))
        request = ask(made, "hello", model="guide")
        await_record(made, request)
        assert "branch-1" in agent("status")
        assert "all chained and signed" in agent("doctor")
        manager.stop()
        assert "Traceback" not in manager.log.read_text()
        removed = subprocess.run(["dpkg", "--purge", NAME], capture_output=True, text=True, check=True)
        assert "is kept, it holds the audit journal" in removed.stderr
        assert (STATE / "agent" / "journal.db").exists() and not Path("/opt/ringfence-agent").exists()
        assert not Path("/etc/ringfence/agent.yaml").exists() and not (STATE / "models").exists()
    finally:
        if manager is not None:
            manager.stop()
        made.stop_all()


def test_a_machine_that_never_ran_it_is_left_as_it_was(installed: None) -> None:
    subprocess.run(["dpkg", "--purge", NAME], capture_output=True, text=True, check=True)
    for left in (STATE, Path("/opt/ringfence-agent"), Path("/etc/ringfence"), Path(f"/usr/bin/{NAME}")):
        assert not left.exists(), left
    with pytest.raises(KeyError):
        pwd.getpwnam(NAME)
