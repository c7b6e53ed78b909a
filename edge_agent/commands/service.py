"""ringfence-agent install | uninstall | logs | drain: the agent as a service of its machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import settings
from edge_agent import status as status_file
from edge_agent.commands.session import Models, State, out
from edge_agent.line.link import DRAIN
from sync.kit import errors, files

UNIT = "ringfence-agent.service"
SYSTEM, USER = Path("/etc/systemd/system"), Path(".config/systemd/user")
DRAINED_S = 300.0
_TEMPLATE = """[Unit]
Description=Ringfence agent: runs the models of this site and keeps its journal
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} run --state {state} --models {models}
Environment=ORT_DISABLE_TELEMETRY=1
Restart=always
RestartSec=2s
RestartPreventExitStatus=2
WatchdogSec=60s
TimeoutStartSec=120s
TimeoutStopSec=45s
UMask=0077
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
{more}
[Install]
WantedBy={target}
"""
_SANDBOX = """CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={state} {models}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
MemoryMax=80%
TasksMax=512
"""


def install(
    system: Annotated[bool, typer.Option("--system/--user", help="For the machine, as root; or for the user who is logged in.")],
    state: State = None,
    models: Models = None,
) -> None:
    """Makes a service of an agent that was installed with pip: a systemd unit, hardened as far as that kind can be. On Debian: the package."""
    chosen = settings.read(state=state, models=models)
    if chosen.home is not None:
        raise errors.Misconfigured(
            "This agent is a package, which has its unit: systemctl start ringfence-agent.", code="is_package"
        )
    command = Path(sys.argv[0]).absolute()
    where = {"state": chosen.state.absolute(), "models": chosen.models.absolute()}
    for folder in where.values():
        files.make_private_folder(folder)
    more = _SANDBOX.format(**where) if system else ""
    target = "multi-user.target" if system else "default.target"
    path = _unit(system)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.not_writable(path.parent, error) from error
    files.write_atomically(path, _TEMPLATE.format(command=command, target=target, more=more, **where).encode())
    _systemctl(system, "daemon-reload")
    out.print(
        f"{path} is there. Enrol the agent with --state {where['state']}, then: {_said(system, 'enable --now')}", soft_wrap=True
    )


def uninstall(
    purge: Annotated[
        bool, typer.Option("--purge", help="Keys and the audit journal too: what the hub has not got is gone.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Without asking.")] = False,
    state: State = None,
) -> None:
    """Stops the service and removes it; keys and the audit journal stay unless --purge is given. Asks first."""
    chosen = settings.read(state=state)
    units = [(system, _unit(system)) for system in (True, False) if _unit(system).exists()]
    if chosen.home is None and not units and not (purge and chosen.state.exists()):
        raise errors.Misconfigured("There is no service of an agent here.", code="not_installed")
    gone = f", and {chosen.state} with its keys and journal ({_waiting(chosen.state)})" if purge else "; its state stays"
    if not yes and not typer.confirm(f"Remove the agent's {'package' if chosen.home else 'service'}{gone}?"):
        raise typer.Exit(1)
    for system, path in units:
        _systemctl(system, "disable", "--now", UNIT)
        path.unlink()
        _systemctl(system, "daemon-reload")
    if chosen.home is not None:
        _run(["dpkg", "--purge" if purge else "--remove", "ringfence-agent"])
    if purge:
        chosen.keyring.unlink(missing_ok=True)
        shutil.rmtree(chosen.state, ignore_errors=True)
    out.print("The agent is removed." if purge else f"The agent is removed; {chosen.state} is kept.")


def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=1)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Goes on as they come, until Ctrl-C.")] = False,
) -> None:
    """The service's log, from the system's journal."""
    if shutil.which("journalctl") is None or not Path("/run/systemd/system").exists():
        raise errors.Misconfigured(
            "There is no journal of systemd here: the agent's log is on the standard error of whatever started it.",
            code="no_journal",
        )
    user = [] if os.geteuid() == 0 or not _unit(system=False).exists() else ["--user"]
    command = ["journalctl", *user, "-u", UNIT, "-o", "cat", "-n", str(lines), *(["-f"] if follow else [])]
    os.execvp(command[0], command)  # noqa: S606 - takes this process's place: its signals and its exit code are journalctl's


def drain(
    resume: Annotated[bool, typer.Option("--resume", help="Takes work again.")] = False,
    within: Annotated[float, typer.Option(help="Seconds to wait for the work in hand.", min=1)] = DRAINED_S,
    state: State = None,
) -> None:
    """Has the agent take no new work, and waits for what is in hand; the hub finds other places. Stays so until --resume, restarts too."""
    folder = settings.read(state=state).state
    if not folder.exists():
        raise errors.Misconfigured(f"There is no agent in {folder}.", code="no_identity")
    if resume:
        (folder / DRAIN).unlink(missing_ok=True)
        out.print("The agent takes work again.")
        return
    files.write_atomically(folder / DRAIN, b"")
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        told = status_file.read(folder)
        if not told:
            out.print("The agent does not run; when it starts, it takes no work until 'ringfence-agent drain --resume'.")
            return
        if told.get("draining") and not told.get("running"):
            out.print(f"Drained: nothing is at work; {told.get('journal_waiting')} records wait for the hub.")
            return
        time.sleep(0.2)
    raise errors.Retryable(f"Work is still in hand after {within:.0f} s; the agent takes no new one.", code="still_at_work")


def _waiting(state: Path) -> str:
    waiting = status_file.read(state).get("journal_waiting")
    return "how much waits for the hub is not known" if waiting is None else f"{waiting} records wait for the hub"


def _unit(system: bool) -> Path:
    return (SYSTEM if system else Path.home() / USER) / UNIT


def _said(system: bool, what: str) -> str:
    return f"systemctl {'' if system else '--user '}{what} ringfence-agent"


def _systemctl(system: bool, *arguments: str) -> None:
    if Path("/run/systemd/system").exists():
        _run(["systemctl", *([] if system else ["--user"]), *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the words are this file's
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise errors.Misconfigured(f"'{' '.join(command)}' failed: {told}", code="command_failed")
