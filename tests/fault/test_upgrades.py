"""Upgrades: what is refused, and the power that goes at each step. The releases are stand-ins; `settle` and the command are the real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.release.releases import Releases
from sync.crypto import releases as signatures
from sync.kit.crashpoints import VARIABLE
from tests.support import packages
from tests.support import running as support

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg")
SETTLE = support.ROOT / "packaging/deb/agent/settle"
OLD, NEW = "0.1.0", "0.2.0"


class Installed:
    """A machine on which the old release runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.state = folder / "opt", folder / "state"
        self.state.mkdir()
        self.private, public = signatures.new_key()
        shutil.copytree(packages.stub(folder), self.home / "releases" / OLD / "lib")
        (self.home / "current").symlink_to(f"releases/{OLD}")
        (self.home / "release-key.pem").write_bytes(public)
        self.releases = Releases(self.home)

    def package(self, version: str = NEW, *, fails: bool = False, **told: str) -> Path:
        path = packages.build(self.folder, version, packages.stub(self.folder, fails=fails), **told)
        return packages.signed(path, self.private)

    def upgrade(self, *arguments: object, health: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """The command; `health`: what the release that is started says of itself, by the file that it writes."""
        start = self.folder / "start.sh"
        start.write_text(f"#!/bin/sh\n{SETTLE} {self.home} {self.state}\n{health}\n")
        start.chmod(0o755)
        return support.command(
            "ringfence-agent", "upgrade", *arguments, "--state", self.state, "--restart", start, "--within", 5,
            RINGFENCE_AGENT_HOME=str(self.home), **environment,
        )  # fmt: skip

    def says(self, version: str, healthy: bool, why: str = "") -> str:
        """What a release on trial writes: only where it is the one that runs."""
        told = json.dumps({"version": version, "at": 0, "healthy": healthy, "why": why, "found": {"inference": "guide ran"}})
        status = json.dumps({"version": OLD, "at": time.time() + 3600})
        name = "healthy-release" if healthy else "unhealthy-release"
        return (
            f"case $(readlink {self.home}/current) in *{version})\n printf %s {version} >{self.state}/{name}\n"
            f" printf %s '{told}' >{self.state}/trial.json;;\n*) printf %s '{status}' >{self.state}/status.json;; esac"
        )

    def start(self, *, failed: bool = False) -> str:
        """What a start of the machine runs: the release that is then in place, which must be whole."""
        subprocess.run([SETTLE, *(["--failed"] if failed else []), self.home, self.state], check=True, capture_output=True)
        running = self.releases.current
        assert (self.home / "current" / "lib/edge_agent/cli.py").is_file(), f"{running} is not whole"
        return running


@pytest.fixture
def machine(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_a_healthy_release_stays_and_the_one_before_is_kept(machine: Installed) -> None:
    done = machine.upgrade(machine.package(), health=machine.says(NEW, True))
    assert done.returncode == 0 and "0.2.0 is healthy" in done.stdout and "guide ran" in done.stdout, done.stdout + done.stderr
    assert machine.start() == NEW and machine.releases.trial is None and machine.releases.installed == [OLD, NEW]
    again = machine.upgrade(NEW)
    assert again.returncode == 0 and "runs already" in again.stdout
    third = machine.upgrade(machine.package("0.3.0"), health=machine.says("0.3.0", True))
    assert third.returncode == 0 and machine.releases.installed == [NEW, "0.3.0"], "older ones than the one before go"
    back = machine.upgrade(NEW, "--downgrade", health=machine.says(NEW, True))
    assert back.returncode == 0 and machine.start() == NEW


def test_a_release_that_is_not_healthy_makes_way(machine: Installed) -> None:
    done = machine.upgrade(machine.package(), health=machine.says(NEW, False, "the chain is broken"))
    assert done.returncode == 1 and "the chain is broken. 0.1.0 is started again" in " ".join(done.stdout.split())
    assert "0.1.0 runs." in done.stdout
    assert machine.start() == OLD and machine.releases.trial is None
    assert machine.releases.failed == NEW
    assert machine.upgrade(machine.package("0.3.0"), health=machine.says("0.3.0", True)).returncode == 0
    assert machine.releases.failed == "", "what is tried next is not what failed"


def test_a_release_that_says_nothing_makes_way(machine: Installed) -> None:
    done = machine.upgrade(machine.package(), health=machine.says("9.9.9", True))
    assert done.returncode == 1 and "did not show its health within 5 s" in done.stdout
    assert machine.start() == OLD


def test_a_release_that_does_not_start_here_changes_nothing(machine: Installed) -> None:
    done = machine.upgrade(machine.package(fails=True))
    assert done.returncode == 2 and "does not start here (this release is broken): nothing was changed" in done.stderr
    assert machine.start() == OLD and machine.releases.trial is None


def _tampered(machine: Installed) -> Path:
    path = machine.package()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def _without(name: str) -> Callable[[Installed], Path]:
    def make(machine: Installed) -> Path:
        path = machine.package()
        (path.parent / name).unlink()
        return path

    return make


def _of_another_key(machine: Installed) -> Path:
    return packages.signed(machine.package(), signatures.new_key()[0])


def _named_otherwise(machine: Installed) -> Path:
    path = machine.package()
    return path.rename(path.with_name("ringfence-agent_9.9.9_amd64.deb"))


def _sums_changed(machine: Installed) -> Path:
    path = machine.package()
    sums = path.parent / signatures.SUMS
    sums.write_text(sums.read_text() + "\n")
    return path


def _no_package(machine: Installed) -> Path:
    path = machine.package()
    path.write_bytes(b"nonsense")
    return packages.signed(path, machine.private)


REFUSED: dict[str, tuple[Callable[[Installed], Path], str]] = {
    "unsigned": (_without(signatures.SIGNATURE), "is not signed"),
    "without digests": (_without(signatures.SUMS), "is not signed"),
    "signed by another key": (_of_another_key, "is not signed by the release key"),
    "changed": (_tampered, "its SHA-256 differs"),
    "under another name": (_named_otherwise, "does not name ringfence-agent_9.9.9"),
    "with changed digests": (_sums_changed, "is not signed by the release key"),
    "older": (lambda machine: machine.package("0.0.9"), "say --downgrade"),
    "another package": (lambda machine: machine.package(package="nginx"), "is the package 'nginx'"),
    "for another machine": (lambda machine: machine.package(architecture="arm64"), "is for arm64"),
    "no package": (_no_package, "is no Debian package"),
    "not there": (lambda machine: machine.folder / "none.deb", "There is no file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_package_is_refused_and_nothing_is_left(machine: Installed, name: str) -> None:
    make, said = REFUSED[name]
    done = machine.upgrade(make(machine))
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert machine.start() == OLD and machine.releases.trial is None
    assert not list((machine.home / "releases").glob(".*")), "nothing half is left"


def test_a_package_that_leads_out_of_its_folder_takes_nothing_with_it(machine: Installed, tmp_path: Path) -> None:
    library = tmp_path / "sly"
    shutil.copytree(packages.stub(tmp_path), library)
    (library / "link").symlink_to("/etc")
    path = packages.signed(packages.build(tmp_path, NEW, library), machine.private)
    done = machine.upgrade(path, health=machine.says(NEW, True))
    assert done.returncode == 0, done.stderr
    assert not (machine.home / "releases" / NEW / "lib/link").exists()


MOMENTS = ("upgrade.unpacking", "upgrade.unpacked", "upgrade.trial", "upgrade.swapped", "upgrade.confirmed")


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_power_goes_in_an_upgrade_and_a_whole_release_starts(machine: Installed, moment: str) -> None:
    package = machine.package()
    died = machine.upgrade(package, health=machine.says(NEW, True), **{VARIABLE: moment})
    assert died.returncode == -9, died.stderr
    before = machine.start()
    assert before == (NEW if moment in ("upgrade.swapped", "upgrade.confirmed") else OLD)
    done = machine.upgrade(package, health=machine.says(NEW, True))
    assert done.returncode == 0, done.stderr
    assert machine.start() == NEW and machine.releases.trial is None


@pytest.mark.parametrize("moment", ["upgrade.back", "upgrade.gone_back"])
def test_the_power_goes_on_the_way_back_and_the_old_release_starts(machine: Installed, moment: str) -> None:
    died = machine.upgrade(machine.package(), health=machine.says("9.9.9", True), **{VARIABLE: moment})
    assert died.returncode == -9, died.stderr
    assert machine.start() == OLD and machine.releases.trial is None


def test_a_release_that_never_gets_well_is_left_after_three_starts(machine: Installed) -> None:
    """The command is gone with the power: the starts themselves find the way back."""
    died = machine.upgrade(machine.package(), **{VARIABLE: "upgrade.swapped"})
    assert died.returncode == -9
    assert [machine.start() for _ in range(4)] == [NEW, NEW, NEW, OLD]
    assert machine.releases.failed == NEW
    assert machine.start() == OLD and machine.releases.trial is None


def test_a_release_that_cannot_start_is_left_at_once(machine: Installed) -> None:
    assert machine.upgrade(machine.package(), **{VARIABLE: "upgrade.swapped"}).returncode == -9
    assert machine.start() == NEW
    assert machine.start(failed=True) == OLD


def test_a_trial_that_was_passed_in_the_meantime_stays(machine: Installed) -> None:
    assert machine.upgrade(machine.package(), **{VARIABLE: "upgrade.swapped"}).returncode == -9
    assert machine.start() == NEW
    (machine.state / "healthy-release").write_text(NEW)
    assert [machine.start() for _ in range(5)] == [NEW] * 5


def test_the_power_goes_in_the_middle_of_settling_and_the_next_start_settles(machine: Installed) -> None:
    """The link that is to be put in place lies there already: it was written, and then the power went."""
    assert machine.upgrade(machine.package(), **{VARIABLE: "upgrade.swapped"}).returncode == -9
    (machine.home / ".current.settle").symlink_to("releases/0.0.1")
    (machine.home / ".trial.new").write_text("fr")
    assert machine.start() == NEW
    assert machine.start(failed=True) == OLD
    assert not (machine.home / ".current.settle").is_symlink()


def test_a_damaged_trial_is_left_for_a_person(machine: Installed) -> None:
    (machine.home / "trial").write_text("from=$(reboot)\nto=\n")
    assert machine.start() == OLD
    done = machine.upgrade(machine.package())
    assert done.returncode == 2 and "is damaged" in done.stderr


def test_an_agent_that_is_no_package_is_told_how_it_is_upgraded(tmp_path: Path) -> None:
    done = support.command("ringfence-agent", "upgrade", "x.deb", "--state", tmp_path)
    assert done.returncode == 2 and "upgrade it as it was installed (pip)" in done.stderr
