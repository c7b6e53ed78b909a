"""The installed releases of this agent, side by side: which one runs, which one is tried, and the way back.

releases/VERSION holds one each; `current` names the one that runs, and is changed in one step; `trial` says that it is not trusted
yet. `settle`, the package's own script, reads the same files before each start, so that the way back needs nothing of what fails.

Invariants, each with a test of its words:
- at every moment `current` leads to a whole release: what is unpacked gets its name only when it is whole and on the disk;
- a trial is written down before `current` is changed, and ends by a health that the release itself has shown, or by the way back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sync.kit import crashpoints, errors, files

PACKAGE = "ringfence-agent"
VERSION = re.compile(r"[0-9][0-9A-Za-z.+~]{0,40}")
MAX_BYTES = 2 << 30
UNPACK_S = 600


class BadRelease(errors.Misconfigured):
    """The file is no release of this agent that can be installed here."""

    code = "bad_release"


@dataclass(frozen=True, slots=True)
class Trial:
    """A release that runs and is not trusted yet. `starts`: how often it was; `online`: whether the one before heard its hub."""

    before: str
    to: str
    starts: int
    online: bool


class Releases:
    """`home`: where the package put them, as /opt/ringfence-agent."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def current(self) -> str:
        """The version that runs. Raises BadRelease where this agent was not installed as a package."""
        try:
            return (self.home / "current").readlink().name
        except OSError as error:
            raise BadRelease(
                f"There are no releases in {self.home}: this agent is no package; upgrade it as it was installed (pip)."
            ) from error

    @property
    def installed(self) -> list[str]:
        """The versions that are there, by the time at which they came."""
        found = [path for path in (self.home / "releases").glob("*") if VERSION.fullmatch(path.name)]
        return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    @property
    def trial(self) -> Trial | None:
        try:
            told = dict(line.split("=", 1) for line in (self.home / "trial").read_text().split())
            return Trial(told["from"], told["to"], int(told["starts"]), told["online"] == "yes")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            raise BadRelease(f"{self.home / 'trial'} is damaged: look which release runs, then remove it.") from error

    @property
    def failed(self) -> str:
        """The version that was tried last and was not healthy, or empty."""
        try:
            return (self.home / "failed").read_text()[:64]
        except OSError:
            return ""

    def library(self, version: str) -> Path:
        return self.home / "releases" / version / "lib"

    def unpack(self, package: Path) -> str:
        """Puts a package's release beside the others, whole or not at all; its version. Raises BadRelease."""
        version = describe(package)
        target, beside = self.home / "releases" / version, self.home / "releases" / f".{version}.part"
        if target.exists():
            return version
        shutil.rmtree(beside, ignore_errors=True)
        try:
            _extract(package, f"opt/{PACKAGE}/releases/{version}", beside)
            crashpoints.reach("upgrade.unpacking")
            _compile(beside)
            os.sync()
            beside.rename(target)
            files.sync_folder(target.parent)
        except OSError as error:
            raise files.not_writable(target.parent, error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        crashpoints.reach("upgrade.unpacked")
        return version

    def begin(self, version: str, *, online: bool) -> Trial:
        """Has the next start run another release, on trial. `online`: whether this one hears its hub."""
        (self.home / "failed").unlink(missing_ok=True)
        made = Trial(self.current, version, 0, online)
        text = f"from={made.before}\nto={made.to}\nstarts=0\nonline={'yes' if online else 'no'}\n"
        files.write_atomically(self.home / "trial", text.encode())
        crashpoints.reach("upgrade.trial")
        self._point(version)
        crashpoints.reach("upgrade.swapped")
        return made

    def confirm(self) -> None:
        """The trial is over, and was passed. The release before it stays; older ones go."""
        trial = self.trial
        files.remove(self.home / "trial")
        crashpoints.reach("upgrade.confirmed")
        for version in self.installed:
            if trial is not None and version not in (trial.before, trial.to):
                shutil.rmtree(self.home / "releases" / version)

    def go_back(self, trial: Trial) -> None:
        """Has the next start run the release before the trial, and say which one was not healthy."""
        files.write_atomically(self.home / "failed", trial.to.encode())
        self._point(trial.before)
        crashpoints.reach("upgrade.back")
        files.remove(self.home / "trial")

    def _point(self, version: str) -> None:
        beside = self.home / ".current.new"
        beside.unlink(missing_ok=True)
        beside.symlink_to(f"releases/{version}")
        beside.replace(self.home / "current")
        files.sync_folder(self.home)


def describe(package: Path) -> str:
    """The version in a package for this agent and machine. Raises BadRelease."""
    fields = ("Package", "Version", "Architecture")
    told = dict(line.split(": ", 1) for line in _dpkg("-f", package, *fields).decode().splitlines() if ": " in line)
    if told.get("Package") != PACKAGE:
        raise BadRelease(f"{package} is the package '{told.get('Package')}', and not {PACKAGE}.")
    version = told.get("Version", "")
    if not VERSION.fullmatch(version):
        raise BadRelease(f"{package} has no version that can be one.")
    here = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607
    if told.get("Architecture") != here:
        raise BadRelease(f"{package} is for {told.get('Architecture')}, and this machine is {here}.")
    return version


def is_older(version: str, than: str) -> bool:
    """Whether a version comes before another, by Debian's own order."""
    done = subprocess.run(["dpkg", "--compare-versions", version, "lt", than], check=False, timeout=10)  # noqa: S603, S607
    return done.returncode == 0


def _extract(package: Path, wanted: str, into: Path) -> None:
    """The files below one folder of a package; nothing else of it, and no link, device or name that leads out."""
    beginning, size = PurePosixPath(wanted), 0
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: S603, S607
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    path = PurePosixPath(member.name.removeprefix("./"))
                    if beginning not in path.parents or ".." in path.parts or not (member.isfile() or member.isdir()):
                        continue
                    size += member.size
                    if size > MAX_BYTES:
                        raise BadRelease(f"{package} unpacks to over {MAX_BYTES >> 30} GiB.")
                    _put(tar, member, into / path.relative_to(beginning))
        except (tarfile.TarError, EOFError) as error:
            raise BadRelease(f"{package} is damaged or cut off.") from error
        process.communicate(timeout=UNPACK_S)
    if process.returncode or not (into / "lib").is_dir():
        raise BadRelease(f"{package} is damaged, or holds no release.")


def _compile(folder: Path) -> None:
    """As the package's own installation does: else each start would compile all of it. Without it, it starts too."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(  # noqa: S603 - Debian's own Python, on what was checked
            ["/usr/bin/python3", "-m", "compileall", "-q", "-j", "0", folder], capture_output=True, timeout=UNPACK_S, check=False
        )


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """One file or folder of an archive, under a name that was looked at. Debian 12's tarfile has no filters yet."""
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is not None:
        with target.open("xb") as file:
            shutil.copyfileobj(source, file)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _dpkg(*arguments: object) -> bytes:
    try:
        done = subprocess.run(["dpkg-deb", *map(str, arguments)], capture_output=True, check=True, timeout=60)  # noqa: S603, S607
    except FileNotFoundError as error:
        raise BadRelease("There is no dpkg here: upgrade this agent as it was installed (pip).") from error
    except subprocess.SubprocessError as error:
        raise BadRelease(f"{arguments[1]} is no Debian package, or is damaged.") from error
    return done.stdout
