"""The packages, as an administrator has them: built, installed with dpkg, begun and enrolled, run by a supervisor, upgraded, gone back,
revoked, removed. Needs root, and cleans up."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync.crypto import releases
from tests.support import packages, system
from tests.support import running as support
from tests.support.hub import ask

NAME, HUB, LEAF = "ringfence-agent", "ringfence-hub", "ringfence-leaf"
STATE, HOME = Path("/var/lib/ringfence"), Path("/opt/ringfence-agent")
UNITS = sorted((support.ROOT / "packaging" / "systemd").iterdir())
LARGEST = 60_000_000
MOST_EXPOSED = 2.0

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("dpkg-deb") is None, reason="needs root and dpkg"),
    pytest.mark.skipif(STATE.exists(), reason="this machine has a Ringfence of its own"),
    pytest.mark.timeout(600),
]


@dataclass(frozen=True)
class Built:
    """The packages, and the key that upgrades are signed by."""

    agent: Path
    hub: Path
    leaf: Path
    private: bytes


def contents(package: Path) -> tuple[str, str]:
    """The digests of a package's two archives, before they are compressed."""
    told = [
        subprocess.run(["dpkg-deb", what, package], capture_output=True, check=True).stdout
        for what in ("--ctrl-tarfile", "--fsys-tarfile")
    ]
    return hashlib.sha256(told[0]).hexdigest(), hashlib.sha256(told[1]).hexdigest()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The agent's twice, side by side: the same bytes. What is measured and looked over is compressed as it is for people."""
    private, public = releases.new_key()
    folder = tmp_path_factory.mktemp("built")
    (folder / "key.pub").write_bytes(public)
    builds, commands = [("agent", "first"), ("agent", "second"), ("hub", "hub"), ("leaf", "leaf")], []
    for part, name in builds:
        (folder / name).mkdir()
        compression = "xz" if name in {"first", "leaf"} else "none"
        key = ("--release-key", folder / "key.pub") if part == "agent" else ()
        command = [
            sys.executable,
            support.ROOT / "packaging/deb/build.py",
            part,
            "--out",
            folder / name,
            "--compression",
            compression,
            *key,
        ]
        commands.append(command)
    with ThreadPoolExecutor() as pool:
        for build in pool.map(lambda command: subprocess.run(command, capture_output=True, check=False, timeout=500), commands):
            assert build.returncode == 0, build.stderr.decode()[-2000:]
    made = {name: next((folder / name).glob("*.deb")) for _, name in builds}
    assert contents(made["first"]) == contents(made["second"]), "two builds differ"
    return Built(made["first"], made["hub"], made["leaf"], private)


@pytest.mark.parametrize(
    ("part", "own", "foreign"), [("agent", "edge_agent/cli.py", "orchestrator"), ("hub", "orchestrator/cli.py", "edge_agent")]
)
def test_it_is_small_and_holds_one_half_alone(built: Built, part: str, own: str, foreign: str) -> None:
    package = getattr(built, part)
    assert part != "agent" or package.stat().st_size <= LARGEST
    names = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert f"/lib/{own}" in names and f"/lib/{foreign}/" not in names and "direct_url.json" not in names
    assert f"./etc/ringfence/{part}.yaml" in names and f"./lib/systemd/system/ringfence-{part}.service" in names
    assert ".pth" not in names, "nothing runs when Python starts"


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian")
@pytest.mark.parametrize("part", ["agent", "leaf"])
def test_lintian_has_no_errors(built: Built, part: str) -> None:
    told = subprocess.run(
        ["lintian", "--tag-display-limit", "0", getattr(built, part)], capture_output=True, text=True, check=False
    )
    assert [line for line in told.stdout.splitlines() if line.startswith("E:")] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_good_and_hardened(unit: Path) -> None:
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "ringfence" in line and "is not executable" not in line]
    assert complaints == []
    if unit.name not in (f"{NAME}.service", f"{HUB}.service", "ringfence-leaf.service"):
        return
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=False
    ).stdout
    exposure = float(told.rsplit("exposure level for", 1)[1].split(":")[1].split()[0])
    assert exposure <= MOST_EXPOSED


@pytest.fixture
def installed(built: Built) -> Iterator[None]:
    """Both on this machine, and gone again afterwards."""
    done = subprocess.run(["dpkg", "-i", built.agent, built.hub, built.leaf], capture_output=True, text=True, check=False)
    try:
        assert done.returncode == 0, done.stderr
        yield
    finally:
        subprocess.run(["dpkg", "--purge", NAME, HUB, LEAF], capture_output=True, check=False)
        shutil.rmtree(STATE, ignore_errors=True)
        for user in (NAME, HUB):
            subprocess.run(["deluser", "--quiet", "--system", user], capture_output=True, check=False)


def run(command: str, *arguments: object, code: int = 0) -> str:
    """An installed command, with an empty environment."""
    done = subprocess.run(
        [f"/usr/bin/{command}", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/",
    )  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


class ServiceManager:
    """Stands in for systemd, by what the unit of a service says: its user, its credential, what runs before it, started again for ever."""

    def __init__(self, folder: Path, name: str, command: list[str], environment: dict[str, str]) -> None:
        folder.chmod(0o755)
        self._command = command
        self._name = name
        address = f"\0{name}-test-{os.getpid()}"
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(address)
        self._line.settimeout(60)
        self.log = folder / f"{name}.log"
        self._credentials = Path(tempfile.mkdtemp(prefix="ringfence-credentials-"))
        self._environment = {
            "PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": f"@{address[1:]}", "WATCHDOG_USEC": "600000", **environment,
        }  # fmt: skip
        self._stopping = False
        self.starts = 0
        self.pid = folder / f"{name}.pid"
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while not self._stopping:
            process = self._start()
            self.pid.write_text(str(process.pid))
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        user, folder = pwd.getpwnam(self._name), STATE / self._name.removeprefix("ringfence-")
        environment = dict(self._environment)
        if self._name == NAME:
            subprocess.run([HOME / "settle"], check=True)
            self._credentials.chmod(0o755)
            key = self._credentials / "agent-keys.json"
            shutil.copyfile(STATE / "keys/agent-keys.json", key)
            shutil.chown(key, self._name, self._name)
            key.chmod(0o400)
            environment |= {"CREDENTIALS_DIRECTORY": str(self._credentials), "RINGFENCE_AGENT_KEYS": str(key)}
        subprocess.run(
            ["chown", "-R", f"{self._name}:{self._name}", folder, *([STATE / "models"] if self._name == NAME else [])], check=True
        )
        self.starts += 1
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", stdout=log, stderr=log,
                umask=0o077, env=environment,
            )  # fmt: skip

    def hear(self, wanted: str) -> None:
        """Returns once the service has said so."""
        while self._line.recv(4096).decode() != wanted:
            pass

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(self.pid.read_text()), signal.SIGTERM)
        self._keeper.join(30)
        shutil.rmtree(self._credentials)
        self._line.close()


class Machine:
    """Hub and agent as packages on this machine, each under a stand-in for systemd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.managers: list[ServiceManager] = []
        self.hub = system.System.__new__(system.System)
        self.hub.folder, self.hub.places = folder, []

    def begin(self) -> str:
        """A new hub, with its first admin key; it runs. What 'hub init' said."""
        shutil.copyfile(support.CONFIGURATION, self.folder / "tenants.yaml")
        said = run("ringfence", "hub", "init", "-f", self.folder / "tenants.yaml", "--tenant", "acme")
        self.hub.admin_key = self.hub.api_key = next(word for word in said.split() if word.startswith("rf_live_"))
        ports = {f"RINGFENCE_{name}": str(system.free_port()) for name in ("HTTP_PORT", "NATS_PORT", "ENROL_PORT")}
        manager = self.manage(HUB, ["/usr/bin/ringfence", "serve"], {**ports, "RINGFENCE_CHECKPOINT_S": "1"})
        manager.hear("READY=1")
        manager.hear("WATCHDOG=1")
        self.hub.url = f"http://127.0.0.1:{ports['RINGFENCE_HTTP_PORT']}"
        return said

    def manage(self, name: str, command: list[str], environment: dict[str, str]) -> ServiceManager:
        made = ServiceManager(self.folder, name, command, environment)
        self.managers.append(made)
        return made

    def at_hub(self, *arguments: object, code: int = 0) -> str:
        return run("ringfence", *arguments, code=code)

    def serves(self) -> None:
        """A request goes to the agent, and its record comes back."""
        request = support.eventually(self._asked, "a request is served")
        support.eventually(
            lambda: self.at_hub("audit", "search", "--all", "--where", f"request={request}", "--json").count(request) >= 2,
            "its records are here",
        )

    def _asked(self) -> str:
        with contextlib.suppress(OSError):
            return ask(self.hub, "hello", model="guide")
        return ""

    def restart(self) -> Path:
        """What 'upgrade --restart' runs: the service's end, after which its manager starts it anew."""
        path = self.folder / "restart.sh"
        path.write_text(f"#!/bin/sh\nkill $(cat {self.folder / NAME}.pid)\n")
        path.chmod(0o755)
        return path

    def close(self) -> None:
        for manager in reversed(self.managers):
            manager.stop()


def repacked(built: Built, folder: Path, version: str, *, broken: bool = False) -> Path:
    """The built package's release as another version, signed; or one whose agent cannot keep its journal."""
    library = folder / "library"
    if not library.exists():
        subprocess.run(["dpkg-deb", "-x", built.agent, folder / "unpacked"], check=True)
        shutil.move(next((folder / "unpacked/opt/ringfence-agent/releases").iterdir()) / "lib", library)
    (metadata,) = library.glob("ringfence-*.dist-info/METADATA")
    lines = [f"Version: {version}" if line.startswith("Version: ") else line for line in metadata.read_text().splitlines()]
    metadata.write_text("\n".join(lines) + "\n")
    trial = library / "edge_agent/release/trial.py"
    whole = trial.read_text()
    if broken:
        trial.write_text(
            whole.replace(
                "await self.journal.append(", "raise OSError('the disk says no')\n                await self.journal.append("
            )
        )
    try:
        return packages.signed(packages.build(folder, version, library), built.private)
    finally:
        trial.write_text(whole)


def test_a_server_from_its_package_to_its_purge(built: Built, installed: None, tmp_path: Path) -> None:
    """Installed, enrolled by the pasted line, serving, upgraded, upgraded to a broken release and back, upgraded by the hub, revoked, purged."""
    assert "The settings are good: /etc/ringfence/agent.yaml" in run(NAME, "config", "check")
    assert "There is no agent in /var/lib/ringfence/agent" in run(NAME, "run", code=2)
    machine = Machine(tmp_path)
    try:
        assert "shown only now" in machine.begin()
        assert "There is a hub in /var/lib/ringfence/hub already" in machine.at_hub("hub", "init", code=2)
        machine.at_hub("models", "publish", support.BUILT / "guide" / "1")
        began = time.monotonic()
        line = machine.at_hub("agents", "invite", "--zone", "on_premise", "--site", "frankfurt", "--name", "branch-1", "--quiet")
        assert "This is 'branch-1' now, at the site 'frankfurt'" in run(*shlex.split(line))
        assert oct((STATE / "keys").stat().st_mode)[-3:] == "700" and not (STATE / "agent/agent-keys.json").exists()
        assert "is added" in run(NAME, "models", "add", "rf:guide")
        agent = machine.manage(NAME, [f"/usr/bin/{NAME}", "run"], {"RINGFENCE_AGENT_HTTP_PORT": "0"})
        agent.hear("READY=1")
        agent.hear("WATCHDOG=1")
        machine.serves()
        sys.stdout.write(f"from the pasted line to a served request, with a model fetched: {time.monotonic() - began:.1f} s\n")
        assert "branch-1" in run(NAME, "status") and "all chained and signed" in run(NAME, "doctor")
        assert "all chained and signed" in machine.at_hub("hub", "doctor")

        assert "is not signed" in run(NAME, "upgrade", built.agent, code=2)
        done = run(NAME, "upgrade", repacked(built, tmp_path, "0.2.0"), "--restart", machine.restart())
        assert "0.2.0 is healthy (inference: guide ran on CPUExecutionProvider" in done and "hub: heard" in done
        machine.serves()
        broken = repacked(built, tmp_path, "0.3.0", broken=True)
        done = run(NAME, "upgrade", broken, "--restart", machine.restart(), code=1)
        assert "0.3.0 is not healthy: the disk says no" in done and "0.2.0 runs." in done
        machine.serves()
        assert "all chained and signed" in run(NAME, "journal", "verify")

        for version, path, said in (
            ("0.4.0", repacked(built, tmp_path, "0.4.0"), ("Done: 1 agents run 0.4.0",)),
            ("0.3.0", broken, ("Stopped", "it was not healthy, and runs 0.4.0 again")),
        ):
            machine.at_hub("agents", "release", path, "--key", HOME / "release-key.pem")
            told = roll_out(machine, version)
            assert all(one in told for one in said), told
            machine.serves()
        assert '"version": "0.4.0"' in run(NAME, "status", "--json")

        machine.at_hub("agents", "revoke", "branch-1")
        support.eventually(lambda: "has revoked this agent" in run(NAME, "status"), "the agent says that it is revoked")
    finally:
        machine.close()
    assert all("Traceback" not in manager.log.read_text() for manager in machine.managers)
    removed = subprocess.run(["dpkg", "--purge", NAME, LEAF], capture_output=True, text=True, check=True)
    assert "is kept, it holds the audit journal" in removed.stderr
    assert (STATE / "agent" / "journal.db").exists() and not HOME.exists()
    assert not Path("/etc/ringfence/agent.yaml").exists() and not (STATE / "models").exists()


def roll_out(machine: Machine, version: str) -> str:
    """What the hub says of its rollout, while this machine does what the unit that watches for orders does."""
    rollout = subprocess.Popen(
        ["/usr/bin/ringfence", "agents", "upgrade", version, "--wave", "100%", "--within", "120"], stdout=subprocess.PIPE, text=True,
        env={"PATH": "/usr/bin:/bin"}, cwd="/",
    )  # fmt: skip
    order = STATE / "agent/upgrade/order"
    support.eventually(lambda: order.exists() or rollout.poll() is not None, "the order is there")
    done = subprocess.run(
        [f"/usr/bin/{NAME}", "upgrade", "--ordered", "--downgrade", "--restart", machine.restart()], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/",
    )  # fmt: skip
    said, _ = rollout.communicate(timeout=150)
    return f"{said} {done.stdout} {done.stderr}"


def test_a_machine_that_never_ran_it_is_left_as_it_was(installed: None) -> None:
    subprocess.run(["dpkg", "--purge", NAME, HUB, LEAF], capture_output=True, text=True, check=True)
    for left in (
        STATE,
        HOME,
        Path("/opt/ringfence-hub"),
        Path("/etc/ringfence"),
        Path(f"/usr/bin/{NAME}"),
        Path("/usr/bin/ringfence"),
    ):
        assert not left.exists(), left
    for user in (NAME, HUB):
        with pytest.raises(KeyError):
            pwd.getpwnam(user)
