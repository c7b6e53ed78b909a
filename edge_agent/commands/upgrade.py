"""ringfence-agent upgrade: to another release, on trial, and back by itself where that is not healthy."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import settings
from edge_agent import status as status_file
from edge_agent.commands.session import State, out
from edge_agent.release import orders, releases, trial
from edge_agent.release.releases import BadRelease, Releases, Trial
from edge_agent.settings import Settings
from sync.crypto import releases as signatures
from sync.kit import crashpoints
from sync.terminal import commands

KEY = "release-key.pem"
SYSTEMD = "systemctl restart ringfence-agent.service"
POLL_S = 0.2
BACK_S = 60.0
SMOKE_S = 60
_SMOKE = "from edge_agent import cli, settings; from edge_agent.commands import run; settings.read()"


def upgrade(
    release: Annotated[
        str | None,
        typer.Argument(
            help="A .deb, with its release's SHA256SUMS and SHA256SUMS.sig beside it; or a VERSION that is installed.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[int, typer.Option(help="Seconds in which it must show that it is healthy.", min=5, max=3600)] = 90,
    key: Annotated[
        Path | None, typer.Option(help="The public release key, in PEM; the package's own without.", show_default=False)
    ] = None,
    downgrade: Annotated[bool, typer.Option("--downgrade", help="Though it is older than the one that runs.")] = False,
    restart: Annotated[str, typer.Option(help="How the agent is started anew, where there is no systemd.")] = "",
    ordered: Annotated[
        bool, typer.Option("--ordered", help="The release that the hub has ordered and the agent has fetched.")
    ] = False,
    state: State = None,
) -> None:
    """Installs a release beside the one that runs, starts it, and goes back by itself where it does not become healthy.

    Healthy is: a model has run, a record is on the disk, the journal's chain holds, and the hub was heard if it was before. Exit code 1
    where the release before runs again.
    """
    chosen = settings.read(state=state)
    if chosen.home is None:
        raise BadRelease("This agent was not installed as a package: upgrade it as it was installed (pip), and start it anew.")
    found = Releases(chosen.home)
    if ordered:
        release = str(_take_order(found, chosen))
    _finish_what_was_begun(found, chosen)
    if release is None:
        raise BadRelease(f"Name a release's .deb, or a version: installed are {', '.join(found.installed)}.")
    version = _installed(found, release, key) if not releases.VERSION.fullmatch(release) else _known(found, release)
    if version == found.current:
        out.print(f"The release {version} runs already.")
        return
    if releases.is_older(version, found.current) and not downgrade:
        raise BadRelease(f"{version} is older than {found.current}, which runs: say --downgrade if that is meant.")
    _smoke(found, version)
    raise typer.Exit(_try(found, chosen, version, restart, within))


def _installed(found: Releases, release: str, key: Path | None) -> str:
    """The version of a package's release, which is put beside the others. Raises NotSigned, BadRelease."""
    package = Path(release)
    if not package.is_file():
        raise BadRelease(f"There is no file {release}; installed are {', '.join(found.installed)}.")
    path = key or found.home / KEY
    if not path.exists():
        raise signatures.NotSigned(f"There is no release key in {path}: name one with --key.")
    signatures.check(package, commands.read_file(path))
    return found.unpack(package)


def _take_order(found: Releases, chosen: Settings) -> Path:
    """The fetched package, where only root can change it from now on. The order is over, whatever comes of it."""
    folder = chosen.state / orders.FOLDER
    ordered, incoming = folder / orders.ORDER, found.home / "incoming"
    if not ordered.is_file():
        raise BadRelease("The hub has ordered no upgrade.")
    source = folder / orders.incoming(commands.read_file(ordered)[:100].decode("ascii", "replace"))
    ordered.unlink()
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(mode=0o700)
    for path in source.iterdir():
        if path.suffix == ".deb" or path.name in (signatures.SUMS, signatures.SIGNATURE):
            _copy(path, incoming / path.name)
    shutil.rmtree(source, ignore_errors=True)
    try:
        return next(incoming.glob("*.deb"))
    except StopIteration as error:
        raise BadRelease("What was fetched holds no package.") from error


def _copy(source: Path, target: Path) -> None:
    """A plain file of the agent's, as root: whose folder it is could have put a link or a pipe there. Raises BadRelease."""
    try:
        opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BadRelease(f"{source} is no plain file of a package.") from error
    with open(opened, "rb") as file:  # noqa: PTH123
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > releases.MAX_BYTES:
            raise BadRelease(f"{source} is no plain file of a package.")
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def _known(found: Releases, version: str) -> str:
    if version not in found.installed:
        raise BadRelease(f"The release {version} is not installed: there are {', '.join(found.installed)}. Name its .deb.")
    return version


def _smoke(found: Releases, version: str) -> None:
    """Whether the release starts at all, on this Python and with these settings. Raises BadRelease."""
    environment = {**os.environ, "PYTHONPATH": str(found.library(version)), "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - the release that was just checked
            ["/usr/bin/python3", "-c", _SMOKE], env=environment, capture_output=True, text=True, timeout=SMOKE_S, check=False
        )
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        said = type(error).__name__
    if said:
        raise BadRelease(f"The release {version} does not start here ({said[:200]}): nothing was changed.")


def _try(found: Releases, chosen: Settings, version: str, restart: str, within: int) -> int:
    for name in (trial.HEALTHY, trial.UNHEALTHY, trial.REPORT):
        (chosen.state / name).unlink(missing_ok=True)
    begun = found.begin(version, online=_mode(chosen) == "online")
    _restart(restart)
    out.print(f"{version} runs on trial, for at most {within} s …")
    deadline, why = time.monotonic() + within, f"it did not show its health within {within} s"
    while time.monotonic() < deadline:
        report = _report(chosen, version)
        if report and report["healthy"]:
            found.confirm()
            told = "; ".join(f"{name}: {value}" for name, value in dict(report["found"]).items())  # type: ignore[call-overload]
            out.print(f"[green]{version} is healthy[/] ({told}). {begun.before} stays for the way back.", soft_wrap=True)
            return 0
        if report:
            why = str(report["why"])
            break
        if found.current != version:
            why = "it could not be started"
            break
        time.sleep(POLL_S)
    return _back(found, chosen, begun, restart, why)


def _back(found: Releases, chosen: Settings, begun: Trial, restart: str, why: str) -> int:
    if found.trial is not None:
        found.go_back(begun)
    crashpoints.reach("upgrade.gone_back")
    _restart(restart)
    out.print(f"[red]{begun.to} is not healthy:[/] {why}. {begun.before} is started again.", soft_wrap=True)
    deadline = time.monotonic() + BACK_S
    while time.monotonic() < deadline:
        if _version(chosen) == begun.before:
            out.print(f"{begun.before} runs.")
            return 1
        time.sleep(POLL_S)
    out.print(f"{begun.before} has not said yet that it runs: look at 'ringfence-agent status' and the log.")
    return 1


def _finish_what_was_begun(found: Releases, chosen: Settings) -> None:
    """An upgrade that was cut off: passed, or undone."""
    begun = found.trial
    if begun is None:
        return
    healthy = chosen.state / trial.HEALTHY
    if found.current == begun.to and healthy.exists() and healthy.read_text() == begun.to:
        found.confirm()
    else:
        found.go_back(begun)


def _restart(command: str) -> None:
    told = command or (SYSTEMD if Path("/run/systemd/system").exists() else "")
    if not told:
        out.print("There is no systemd here: start the agent anew now, or name how with --restart.")
        return
    done = subprocess.run(shlex.split(told), capture_output=True, text=True, check=False)  # noqa: S603 - the administrator's own words
    if done.returncode:
        out.print(f"[yellow]'{told}' failed: {done.stderr.strip()[:200]}[/]")


def _report(chosen: Settings, version: str) -> dict[str, object] | None:
    try:
        told = json.loads((chosen.state / trial.REPORT).read_text())
    except (OSError, ValueError):
        return None
    return dict(told) if told.get("version") == version else None


def _mode(chosen: Settings) -> str:
    return str(status_file.read(chosen.state).get("mode", ""))


def _version(chosen: Settings) -> str:
    return str(status_file.read(chosen.state).get("version", ""))
